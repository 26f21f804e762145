"""Claims: a record is written whole, says what was measured, and goes stale with its file."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tailor.bench.claims import (
    built_papers,
    claims_folder,
    end_sweep,
    environment,
    run_claim,
    stale_records,
    sweep,
    sweeping,
    verdicts,
)
from tailor.bench.papers import papers_table
from tailor.cli.bench import app
from tailor.core.run import Run
from tailor.errors import ModelError

ROOT = Path(__file__).parents[2]
SLUG = "planted-2026"
METHOD = """
from dataclasses import dataclass
from tailor.core.methods import Paper
from tailor.retrieval.popularity import Popularity

PAPER = Paper("planted-2026", "Planted", "https://example.org", "it beats nothing")

@dataclass(eq=False)
class Planted(Popularity):
    pass
"""
CLAIM = """
import numpy as np
from tailor.bench.claims import Claim

def measure(run):
    return Claim(checks={"above chance": np.bool_(0.2 > 0.1)}, figures={"HR@10": np.float32(0.25), "interval": np.array([0.1, 0.4])},
                 seeds=[run.seed], data=["planted"])
"""


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository with one planted paper, installed as a plug-in, and its claim program."""
    site = tmp_path / "site"
    info = site / "planted-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tailor.methods]\nplanted = planted_paper:Planted\n")
    (site / "planted_paper.py").write_text(METHOD)
    monkeypatch.delitem(sys.modules, "planted_paper", raising=False)
    monkeypatch.syspath_prepend(str(site))
    folder = claims_folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / f"{SLUG}.py").write_text(CLAIM)
    return tmp_path


def problems(root: Path) -> list[str]:
    return [line for line in stale_records(root) if line.startswith(f"{SLUG}:")]


def changed(root: Path, **changes: Any) -> None:
    path = claims_folder(root) / f"{SLUG}.json"
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not ...}))


def test_a_claim_that_held_is_recorded_with_everything_needed_to_doubt_it(root):
    record = run_claim(SLUG, root, Run(seed=3))
    assert record == json.loads((claims_folder(root) / f"{SLUG}.json").read_text())
    assert (
        record["verdict"] == "held"
        and record["checks"] == {"above chance": True}
        and record["seeds"] == [3]
    )
    assert record["figures"]["HR@10"] == 0.25 and len(record["figures"]["interval"]) == 2
    assert {"machine", "commit", "date", "method_hash", "program_hash", "seconds", "claim"} <= set(
        record
    )
    assert problems(root) == []
    assert [
        path.name
        for path in claims_folder(root).iterdir()
        if path.suffix != ".py" and path.is_file()
    ] == [f"{SLUG}.json"]


def test_one_check_that_fails_is_not_reproduced_and_still_a_valid_record(root):
    program = claims_folder(root) / f"{SLUG}.py"
    program.write_text(CLAIM.replace("checks={", 'checks={"twice as good": False, '))
    assert run_claim(SLUG, root, Run())["verdict"] == "not reproduced"
    assert problems(root) == []


@pytest.mark.parametrize("checks", ["{}", '{"a": 0.03}', '{"a": None}', '{"a": "yes"}', "[True]"])
def test_a_claim_that_checks_nothing_did_not_hold(root, checks):
    program = claims_folder(root) / f"{SLUG}.py"
    program.write_text(CLAIM.replace('{"above chance": np.bool_(0.2 > 0.1)}', checks))
    with pytest.raises(ModelError, match="check"):
        run_claim(SLUG, root, Run())
    assert not (claims_folder(root) / f"{SLUG}.json").exists()


@pytest.mark.parametrize("program", ["x = 1\n", "def measure(run):\n    return 3\n"])
def test_a_program_that_measures_nothing_is_named(root, program):
    (claims_folder(root) / f"{SLUG}.py").write_text(program)
    with pytest.raises(ModelError, match=SLUG):
        run_claim(SLUG, root, Run())


def test_a_failed_run_keeps_the_old_record_and_leaves_nothing_beside_it(root):
    run_claim(SLUG, root, Run())
    before = (claims_folder(root) / f"{SLUG}.json").read_bytes()
    for broken in ("1 / 0", CLAIM.replace("np.float32(0.25)", "object()")):
        (claims_folder(root) / f"{SLUG}.py").write_text(broken)
        with pytest.raises((ZeroDivisionError, TypeError, ModelError)):
            run_claim(SLUG, root, Run())
    assert (claims_folder(root) / f"{SLUG}.json").read_bytes() == before
    assert {path.suffix for path in claims_folder(root).iterdir() if path.is_file()} == {
        ".py",
        ".json",
    }


def test_an_unknown_paper_and_a_missing_program_are_named(root):
    with pytest.raises(ModelError, match='Did you mean "planted-2026"'):
        run_claim("plantd-2026", root, Run())
    (claims_folder(root) / f"{SLUG}.py").unlink()
    with pytest.raises(ModelError, match="is missing"):
        run_claim(SLUG, root, Run())


def test_a_missing_record_is_noticed(root):
    assert problems(root) == [f"{SLUG}: no record; run `tailor bench claims {SLUG}`"]


def test_a_changed_method_or_program_makes_the_record_stale(root):
    run_claim(SLUG, root, Run())
    for path in (root / "site" / "planted_paper.py", claims_folder(root) / f"{SLUG}.py"):
        text = path.read_text()
        path.write_text(text + "\n# changed\n")
        assert len(problems(root)) == 1 and "changed" in problems(root)[0]
        path.write_text(text)
    assert problems(root) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "great"},
        {"verdict": ...},
        {"figures": {}},
        {"figures": ...},
        {"checks": {}},
        {"checks": ...},
        {"method_hash": ...},
        {"program_hash": ...},
        {"seeds": []},
        {"slug": "another"},
    ],
    ids=str,
)
def test_an_incomplete_record_is_noticed(root, changes):
    run_claim(SLUG, root, Run())
    changed(root, **changes)
    assert len(problems(root)) == 1 and "incomplete" in problems(root)[0]


@pytest.mark.parametrize(
    "changes", [{"verdict": "not reproduced"}, {"checks": {"above chance": False}}], ids=str
)
def test_a_verdict_against_its_own_checks_is_noticed(root, changes):
    run_claim(SLUG, root, Run())
    changed(root, **changes)
    assert len(problems(root)) == 1 and "does not follow" in problems(root)[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_record_is_noticed_and_not_fatal(root, text):
    (claims_folder(root) / f"{SLUG}.json").write_text(text)
    assert len(problems(root)) == 1 and "incomplete" in problems(root)[0]


def test_a_record_whose_program_is_gone_is_noticed(root):
    run_claim(SLUG, root, Run())
    (claims_folder(root) / f"{SLUG}.py").unlink()
    assert len(problems(root)) == 1 and "program" in problems(root)[0]


def test_the_table_of_papers_shows_the_planted_verdict_and_refuses_an_unlisted_paper(root):
    (root / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "papers.toml", root / "docs" / "papers.toml")
    with pytest.raises((ModelError, ValueError), match=SLUG):
        papers_table(root)
    with (root / "docs" / "papers.toml").open("a") as file:
        file.write(
            f'\n[[papers]]\nslug = "{SLUG}"\nroom = "retrieval"\nkind = "method"\ntitle ='
            ' "Planted"\n'
        )
    row = f"| Planted | `{SLUG}` | retrieval | `planted_paper.Planted` |"
    assert f"{row} no record |" in papers_table(root)
    run_claim(SLUG, root, Run())
    assert f"{row} held |" in papers_table(root)


def test_the_table_lists_all_papers_once_and_is_what_the_documentation_holds():
    table = papers_table(ROOT)
    rows = [
        line
        for line in table.splitlines()
        if line.startswith("| ") and not line.startswith("| paper |")
    ]
    assert len(rows) == 136 == len({row.split("|")[2] for row in rows})
    written = ROOT / "docs" / "papers.md"
    if written.exists():
        assert written.read_text(encoding="utf-8") == table, "run `tailor bench papers`"


def test_every_built_paper_has_a_valid_record():
    if not built_papers():
        pytest.skip("no paper is built yet")
    assert stale_records(ROOT) == []


# --- a sweep over all
# --------------------------------------------------------------------------------------------------------------


def test_a_sweep_goes_on_where_it_was_and_begins_anew_when_told(root):
    left, done = sweep(root)
    assert SLUG in left and not done
    run_claim(SLUG, root, Run())
    left, done = sweep(root)  # as after Ctrl-C
    assert SLUG not in left and done == [SLUG]
    left, done = sweep(root, fresh=True)
    assert SLUG in left and not done
    end_sweep(root)
    assert not list(claims_folder(root).glob(".sweep*"))
    (claims_folder(root) / ".sweep.json").write_text("{")
    with pytest.raises(ModelError, match="begin again with --fresh"):
        sweep(root)


def test_a_record_that_went_stale_within_a_sweep_is_measured_again(root):
    sweep(root)
    run_claim(SLUG, root, Run())
    with (root / "site" / "planted_paper.py").open("a") as file:
        file.write("\n# changed meanwhile\n")
    left, done = sweep(root)
    assert SLUG in left and not done


def test_a_claim_that_fails_with_any_error_does_not_cost_a_sweep_the_others(root, monkeypatch):
    (root / "docs").mkdir()
    (root / "docs" / "papers.toml").write_text("")
    built = built_papers()
    # its program fails with an error that is none of ours, before the planted one is asked
    other = "aaa-planted"
    (claims_folder(root) / f"{other}.py").write_text(
        "def measure(run):\n    return {}['nothing']\n"
    )
    monkeypatch.setattr(
        "tailor.bench.claims.built_papers", lambda: {other: built[SLUG], SLUG: built[SLUG]}
    )
    done = CliRunner().invoke(app, ["claims", "--all", "--root", str(root)])
    assert done.exit_code == 1 and f"{other}: KeyError: 'nothing'" in done.output
    assert json.loads((claims_folder(root) / f"{SLUG}.json").read_text())["verdict"] == "held"
    assert (claims_folder(root) / ".sweep.json").exists(), "the sweep is not over"


def test_a_second_sweep_beside_one_that_runs_is_refused(root):
    with sweeping(root), pytest.raises(ModelError, match="another sweep"), sweeping(root):
        pass
    with sweeping(root):  # and the first one's end frees it
        pass


def test_the_commit_is_that_of_the_root_and_not_of_a_repository_around_it(tmp_path):
    inner = tmp_path / "venv" / "site-packages"
    inner.mkdir(parents=True)
    for words in (
        ["init", "-q"],
        [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "theirs",
        ],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert environment(tmp_path)["commit"] != "unknown"
    assert environment(inner)["commit"] == "unknown"


def test_the_verdicts_count_the_promises_that_came_out(root):
    assert next(row for row in verdicts(root) if row["paper"] == SLUG)["verdict"] == "no record"
    run_claim(SLUG, root, Run())
    row = next(row for row in verdicts(root) if row["paper"] == SLUG)
    assert (row["verdict"], row["promises"]) == ("held", "1 of 1")
