"""Test that records are whole, and valid while methods behave as measured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tailor.bench import claims
from tailor.bench.claims import (
    built_papers,
    claims_folder,
    end_sweep,
    environment,
    main_form,
    record_path,
    record_problems,
    renew,
    run_claim,
    statuses,
    sweep,
    sweeping,
    verdicts,
)
from tailor.bench.papers import papers_list, papers_table
from tailor.cli.bench import app
from tailor.core.run import Run
from tailor.data.folders import sha256_of
from tailor.errors import ModelError

ROOT = Path(__file__).parents[2]
SLUG = "planted-2026"
METHOD = '''
from dataclasses import dataclass
from tailor.core.methods import Paper
from tailor.retrieval.popularity import Popularity

PAPER = Paper("planted-2026", "Planted", "https://example.org", "it beats nothing")

@dataclass(eq=False)
class Planted(Popularity):
    """A method."""

    def _recommend(self, queries, k, candidates):
        return super()._recommend(queries, 1 * k, candidates)
'''
CLAIM = """
import numpy as np
from tailor.bench.claims import Claim

CHECKS = {"above chance": np.bool_(0.2 > 0.1)}

def measure(run):
    figures = {"HR@10": np.float32(0.25), "interval": np.array([0.1, 0.4])}
    return Claim(checks=CHECKS, figures=figures, seeds=[run.seed], data=["planted"])

def measure_long(run):
    return Claim({"far above chance": False}, {"HR@10": 0.2}, [run.seed], ["planted"])
"""


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository whose only paper is planted, a plug-in, with its claim program."""
    site = tmp_path / "site"
    info = site / "planted-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tailor.methods]\nplanted = planted_paper:Planted\n")
    (site / "planted_paper.py").write_text(METHOD)
    monkeypatch.delitem(sys.modules, "planted_paper", raising=False)
    monkeypatch.syspath_prepend(str(site))
    planted = built_papers()[SLUG]
    monkeypatch.setattr(claims, "built_papers", lambda: {SLUG: planted})
    monkeypatch.setattr("tailor.bench.papers.built_papers", lambda: {SLUG: planted})
    claims_folder(tmp_path).mkdir(parents=True)
    program(tmp_path).write_text(CLAIM)
    return tmp_path


def program(root: Path) -> Path:
    return claims_folder(root) / f"{SLUG}.py"


def method(root: Path) -> Path:
    return root / "site" / "planted_paper.py"


def states(root: Path) -> list[str]:
    return [f"{status.form} {status.state}" for status in statuses(root)]


def reason(root: Path) -> str:
    (status,) = statuses(root)
    return status.reason


def change_record(root: Path, **changes: Any) -> None:
    record = {**json.loads(record_path(root, SLUG).read_text()), **changes}
    text = json.dumps({name: value for name, value in record.items() if value is not ...})
    record_path(root, SLUG).write_text(text)


def run_cli(root: Path, *arguments: str):
    return CliRunner().invoke(app, ["claims", *arguments, "--root", str(root)])


@pytest.fixture
def repository(root) -> Path:
    """The planted repository as the command line takes it."""
    (root / "docs").mkdir()
    (root / "docs" / "papers.toml").write_text("")
    return root


# ---- measuring


def test_a_claim_that_held_is_recorded_with_everything_needed_to_doubt_it(root):
    record = run_claim(SLUG, root, Run(seed=3))
    assert record == json.loads(record_path(root, SLUG).read_text())
    assert record["verdict"] == "held"
    assert record["form"] == "quick"
    assert record["checks"] == {"above chance": True}
    assert record["seeds"] == [3]
    assert record["figures"]["HR@10"] == 0.25
    assert len(record["figures"]["interval"]) == 2
    assert {"machine", "commit", "date", "claim", "program_tree"} <= set(record)
    assert {"seconds", "processor_seconds"} <= set(record)
    assert list(record["behaviour"]["answers"]) == ["Planted"]
    assert len(record["behaviour"]["answers"]["Planted"]["lists"]) == 10
    assert "too_long" not in record
    assert states(root) == ["quick valid"]
    written = [path.name for path in claims_folder(root).iterdir() if path.is_file()]
    assert sorted(written) == [f"{SLUG}.json", f"{SLUG}.py"]


def test_the_long_form_has_a_record_of_its_own_and_stands_in_for_the_quick_one(root):
    assert run_claim(SLUG, root, Run(), "long")["form"] == "long"
    assert main_form(root, SLUG) == "long"
    assert states(root) == ["long valid"]
    run_claim(SLUG, root, Run())
    assert main_form(root, SLUG) == "quick"
    assert states(root) == ["quick valid", "long valid"]


def test_a_quick_form_that_takes_too_long_says_so_and_is_named(root, monkeypatch):
    seconds = iter([0.0, 500.0])
    monkeypatch.setattr(claims, "processor_seconds", lambda: next(seconds))
    assert "480" in run_claim(SLUG, root, Run())["too_long"]
    assert states(root) == ["quick valid", "quick too long"]


def test_one_check_that_fails_is_not_reproduced_and_still_a_valid_record(root):
    program(root).write_text(CLAIM.replace("CHECKS = {", 'CHECKS = {"twice as good": False, '))
    assert run_claim(SLUG, root, Run())["verdict"] == "not reproduced"
    assert states(root) == ["quick valid"]


@pytest.mark.parametrize("checks", ["{}", '{"a": 0.03}', '{"a": None}', '{"a": "yes"}', "[True]"])
def test_a_claim_that_checks_nothing_did_not_hold(root, checks):
    program(root).write_text(CLAIM.replace('{"above chance": np.bool_(0.2 > 0.1)}', checks))
    with pytest.raises(ModelError, match="check"):
        run_claim(SLUG, root, Run())
    assert not record_path(root, SLUG).exists()


@pytest.mark.parametrize("text", ["x = 1\n", "def measure(run):\n    return 3\n"])
def test_a_program_that_measures_nothing_is_named(root, text):
    program(root).write_text(text)
    with pytest.raises(ModelError, match=SLUG):
        run_claim(SLUG, root, Run())


def test_a_program_without_a_long_form_is_named(root):
    program(root).write_text(CLAIM.partition("def measure_long")[0])
    with pytest.raises(ModelError, match="measure_long"):
        run_claim(SLUG, root, Run(), "long")


def test_a_failed_run_keeps_the_old_record_and_leaves_nothing_beside_it(root):
    run_claim(SLUG, root, Run())
    before = record_path(root, SLUG).read_bytes()
    for broken in ("1 / 0", CLAIM.replace("np.float32(0.25)", "object()")):
        program(root).write_text(broken)
        with pytest.raises((ZeroDivisionError, TypeError, ModelError)):
            run_claim(SLUG, root, Run())
    assert record_path(root, SLUG).read_bytes() == before
    suffixes = {path.suffix for path in claims_folder(root).iterdir() if path.is_file()}
    assert suffixes == {".py", ".json"}


def test_an_unknown_paper_and_a_missing_program_are_named(root):
    with pytest.raises(ModelError, match='Did you mean "planted-2026"'):
        run_claim("plantd-2026", root, Run())
    program(root).unlink()
    with pytest.raises(ModelError, match="is missing"):
        run_claim(SLUG, root, Run())


# ---- records that cannot be used


def test_a_missing_record_is_noticed(root):
    assert states(root) == ["quick missing"]
    assert f"tailor bench claims {SLUG}" in reason(root)


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "great"},
        {"verdict": ...},
        {"figures": {}},
        {"figures": ...},
        {"checks": {}},
        {"checks": ["above chance"]},
        {"checks": ...},
        {"seeds": []},
        {"slug": "another"},
    ],
    ids=str,
)
def test_an_incomplete_record_is_noticed(root, changes):
    run_claim(SLUG, root, Run())
    change_record(root, **changes)
    assert states(root) == ["quick damaged"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_record_is_noticed(root, text):
    record_path(root, SLUG).write_text(text)
    assert states(root) == ["quick damaged"]


@pytest.mark.parametrize(
    "changes", [{"verdict": "not reproduced"}, {"checks": {"above chance": False}}], ids=str
)
def test_a_verdict_against_its_own_checks_is_noticed(root, changes):
    run_claim(SLUG, root, Run())
    change_record(root, **changes)
    assert states(root) == ["quick contradictory"]


def test_a_record_whose_program_is_gone_is_noticed(root):
    run_claim(SLUG, root, Run())
    program(root).unlink()
    assert states(root) == ["quick damaged"]
    assert "program" in reason(root)


# ---- records that are held against behaviour


def test_comments_docstrings_and_moved_imports_leave_a_record_valid(root):
    run_claim(SLUG, root, Run())
    text = METHOD.replace('"""A method."""', '"""A method of the house."""  # it is planted')
    method(root).write_text(text.replace("tailor.core.methods import", "tailor.core.base import"))
    program(root).write_text(CLAIM.replace("measure(run):", "measure(run):  # quick"))
    assert states(root) == ["quick valid"]


def test_another_tree_with_the_same_answers_is_renewed(root):
    record = run_claim(SLUG, root, Run())
    method(root).write_text(METHOD.replace("1 * k", "k"))
    assert states(root) == ["quick renewable"]
    assert [status.slug for status in renew(root)] == [SLUG]
    assert states(root) == ["quick valid"]
    renewed = json.loads(record_path(root, SLUG).read_text())
    assert renewed["behaviour"]["tree"] != record["behaviour"]["tree"]
    renewed["behaviour"]["tree"] = record["behaviour"]["tree"]
    assert renewed == record
    assert renew(root) == []


def test_other_answers_make_a_record_stale_which_is_shown_and_not_renewed(repository, monkeypatch):
    root = repository
    run_claim(SLUG, root, Run())
    cls = planted_class()

    def one_item_less(self, queries, k, candidates):
        return super(cls, self)._recommend(queries, k - 1, candidates)

    monkeypatch.setattr(cls, "_recommend", one_item_less)
    assert states(root) == ["quick stale"]
    assert "answers differently: Planted, lists of" in reason(root)
    assert renew(root) == []
    checked = run_cli(root, "--check")
    assert checked.exit_code == 0
    assert checked.output.startswith(f"stale: {SLUG} (quick): ")
    assert run_cli(root, "--check", "--release").exit_code == 1


def planted_class() -> Any:
    return claims.built_papers()[SLUG].classes[0].cls


def test_a_method_that_fails_on_tiny_data_makes_its_record_stale(root, monkeypatch):
    def fail(self, queries, k, candidates):
        raise ZeroDivisionError("planted")

    run_claim(SLUG, root, Run())
    monkeypatch.setattr(planted_class(), "_recommend", fail)
    assert states(root) == ["quick stale"]
    assert "planted" in reason(root)


def test_a_changed_program_makes_the_record_of_its_form_stale(root):
    run_claim(SLUG, root, Run())
    run_claim(SLUG, root, Run(), "long")
    program(root).write_text(CLAIM.replace("np.float32(0.25)", "np.float32(0.35)"))
    assert states(root) == ["quick stale", "long valid"]
    program(root).write_text(CLAIM.replace('"HR@10": 0.2}', '"HR@10": 0.3}'))
    assert states(root) == ["quick valid", "long stale"]


def test_a_record_that_names_another_file_is_valid_and_renewed_by_its_slug(root):
    run_claim(SLUG, root, Run())
    change_record(root, method="retrieval.elsewhere.Planted")
    assert states(root) == ["quick valid"]
    renew(root)
    assert json.loads(record_path(root, SLUG).read_text())["method"] == "planted_paper.Planted"


def make_older(root: Path) -> None:
    """Turn the record into one of the older form, which holds hashes of bytes."""
    run_claim(SLUG, root, Run())
    hashes = {"method_hash": sha256_of(method(root)), "program_hash": sha256_of(program(root))}
    change_record(root, behaviour=..., program_tree=..., form=..., **hashes)


def test_a_record_of_the_older_form_is_marked_and_renewed_where_its_files_are_the_same(repository):
    root = repository
    make_older(root)
    assert states(root) == ["quick older form"]
    assert run_cli(root, "--check").exit_code == 0
    assert run_cli(root, "--check", "--release").exit_code == 1
    assert f"renewed: {SLUG}" in run_cli(root, "--renew").output
    assert states(root) == ["quick valid"]
    assert "method_hash" not in json.loads(record_path(root, SLUG).read_text())


def test_a_record_of_the_older_form_whose_files_changed_is_to_be_measured(root):
    make_older(root)
    method(root).write_text(METHOD + "\n# changed\n")
    assert renew(root) == []
    assert states(root) == ["quick older form"]


def test_unusable_records_fail_the_check(repository):
    assert run_cli(repository, "--check").exit_code == 1
    run_claim(SLUG, repository, Run())
    checked = run_cli(repository, "--check", "--release")
    assert checked.exit_code == 0
    assert "every built paper has a valid record" in checked.output
    change_record(repository, verdict="not reproduced")
    assert run_cli(repository, "--check").exit_code == 1


def test_a_study_answers_by_its_programs_own_figures(monkeypatch, tmp_path):
    paper = built_papers()["bars"]
    monkeypatch.setattr(claims, "built_papers", lambda: {"bars": paper})
    claims_folder(tmp_path).mkdir(parents=True)
    path = claims_folder(tmp_path) / "bars.py"
    path.write_text(CLAIM + '\ndef behave(run):\n    return {"AUC": 0.5, "front": "ease"}\n')
    record = run_claim("bars", tmp_path, Run())
    answers = {"values": {"AUC": "0.5"}, "texts": {"front": "ease"}}
    assert record["behaviour"]["answers"] == {"OpenBenchmark": answers}
    path.write_text(CLAIM)
    with pytest.raises(ModelError, match="behave"):
        run_claim("bars", tmp_path, Run())


# ---- the table of papers


def test_the_table_of_papers_shows_verdict_form_and_stale_and_refuses_an_unlisted_paper(root):
    (root / "docs").mkdir()
    listed = root / "docs" / "papers.toml"
    shutil.copy(ROOT / "docs" / "papers.toml", listed)
    with pytest.raises(ModelError, match=SLUG):
        papers_table(root, [])
    lines = [f'slug = "{SLUG}"', 'room = "retrieval"', 'kind = "method"', 'title = "Planted"']
    listed.write_text("\n".join([listed.read_text(), "[[papers]]", *lines]))
    row = f"| Planted | `{SLUG}` | retrieval | `planted_paper.Planted` |"
    assert f"{row} no record |  |" in papers_table(root, statuses(root))
    run_claim(SLUG, root, Run(), "long")
    assert f"{row}  | not reproduced |" in papers_table(root, statuses(root))
    run_claim(SLUG, root, Run())
    table = papers_table(root, statuses(root))
    assert f"{row} held | not reproduced |" in table
    assert "the claim of 1 held" in table
    change_record(root, program_tree="another")
    table = papers_table(root, statuses(root))
    assert f"{row} held, stale | not reproduced |" in table
    assert "1 of the records are stale" in table


def test_the_table_lists_all_papers_once_and_is_what_the_documentation_holds():
    table = papers_table(ROOT, [])
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 136
    assert len({row.split("|")[2] for row in rows}) == 136
    written = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").replace(", stale", "")
    assert [line for line in written.splitlines() if line.startswith("| ")][1:] == rows


def test_the_console_s_list_of_papers_is_what_the_records_say():
    """`tailor bench papers` writes it; records that have gone stale since make no difference."""
    written = json.loads((ROOT / "tailor" / "console" / "papers.json").read_text(encoding="utf-8"))
    current = papers_list(ROOT, [])
    assert len(current) == 136
    for paper in (*written, *current):
        paper.pop("state", None)
    assert written == json.loads(json.dumps(current))


def test_every_built_paper_has_a_usable_record():
    assert record_problems(ROOT) == []


@pytest.mark.slow
def test_all_records_are_held_against_their_methods_within_a_minute():
    started_s = claims.processor_seconds()
    unusable = [status for status in statuses(ROOT) if status.state in claims.FATAL]
    assert unusable == []
    assert claims.processor_seconds() - started_s < 60


# ---- a sweep over all


def test_a_sweep_goes_on_where_it_was_and_begins_anew_when_told(root):
    assert sweep(root) == ([SLUG], [])
    run_claim(SLUG, root, Run())
    assert sweep(root) == ([], [SLUG])  # as after Ctrl-C
    assert sweep(root, fresh=True) == ([SLUG], [])
    end_sweep(root)
    assert not list(claims_folder(root).glob(".sweep*"))
    (claims_folder(root) / ".sweep.json").write_text("{")
    with pytest.raises(ModelError, match="begin again with --fresh"):
        sweep(root)


def test_a_record_that_went_stale_within_a_sweep_is_measured_again(root):
    sweep(root)
    run_claim(SLUG, root, Run())
    program(root).write_text(CLAIM.replace("0.25", "0.26"))
    assert sweep(root) == ([SLUG], [])


def test_a_claim_that_fails_with_any_error_does_not_cost_a_sweep_the_others(
    repository, monkeypatch
):
    root = repository
    other = "aaa-planted"
    failing = "def measure(run):\n    return {}['nothing']\n"
    (claims_folder(root) / f"{other}.py").write_text(failing)
    planted = claims.built_papers()[SLUG]
    monkeypatch.setattr(claims, "built_papers", lambda: {other: planted, SLUG: planted})
    swept = run_cli(root, "--all")
    assert swept.exit_code == 1
    assert f"{other}: KeyError: 'nothing'" in swept.output
    assert json.loads(record_path(root, SLUG).read_text())["verdict"] == "held"
    assert (claims_folder(root) / ".sweep.json").exists(), "the sweep is not over"


def test_a_second_sweep_beside_one_that_runs_is_refused(root):
    with sweeping(root), pytest.raises(ModelError, match="another sweep"), sweeping(root):
        pass
    with sweeping(root):  # the first one's end frees it
        pass


def test_the_commit_is_that_of_the_root_and_not_of_a_repository_around_it(tmp_path):
    inner = tmp_path / "venv" / "site-packages"
    inner.mkdir(parents=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert environment(tmp_path)["commit"] != "unknown"
    assert environment(inner)["commit"] == "unknown"


def test_the_verdicts_count_the_promises_that_came_out(root):
    assert verdicts(root)[0]["verdict"] == "no record"
    run_claim(SLUG, root, Run())
    (row,) = verdicts(root)
    assert (row["verdict"], row["form"], row["promises"]) == ("held", "quick", "1 of 1")
