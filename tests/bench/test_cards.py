"""Cards: made again they are the same to the last bit; one byte, one setting or another random
state is noticed and named.
"""

import json
import platform
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tailor.bench import cards as cards_module
from tailor.bench import verifying
from tailor.bench.cards import (
    cards_in,
    changed_files,
    id_of,
    inputs_of,
    read_card,
    report_of,
    run_suite,
)
from tailor.bench.leaderboard import boards, compare_cards
from tailor.bench.suites import FOLDER, read_suite, split_of, suite_names
from tailor.bench.verifying import verify
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import DataError, MissingExtraError, ModelError
from tailor.testing.data import tiny_data

SUITE = """
about = "tiny"
seeds = [0, 1]
baseline = "popular"
[data]
folder = "DATA"
name = "tiny"
[split]
by = "last"
[protocol]
k = [5]
[methods.popular]
class = "retrieval.popularity.Popularity"
[methods.visits]
class = "retrieval.covisitation.CoVisitation"
window = 5
[waiting]
dreams = "not built"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a data set, a suite and its cards."""
    folder = tmp_path_factory.mktemp("bench")
    tiny_data(users=40, items=20, events=6).save(folder / "DATA")
    (folder / "tiny.toml").write_text(SUITE.replace("DATA", str(folder / "DATA")))
    run_suite(read_suite(folder / "tiny.toml"), folder / "runs")
    return folder


@pytest.fixture
def bench(made, tmp_path) -> Path:
    """A copy that a test may spoil; the data set stands at the same place."""
    shutil.copytree(made, tmp_path / "bench")
    return tmp_path / "bench"


def card_of(bench: Path, label: str = "visits", seed: int = 0):
    (found,) = [
        card
        for card in cards_in(bench / "runs")
        if card.label == label and card.inputs["seed"] == seed
    ]
    return found


def test_a_card_holds_all_that_is_promised(bench):
    card = card_of(bench)
    assert {path.name for path in card.folder.iterdir()} == {
        "README.md",
        "environment.txt",
        "machine.json",
        "data.json",
        "config.json",
        "random_state",
        "run.log",
        "per_user.npz",
        "results.csv",
        "diagnosis.json",
        "card.json",
    }
    assert len(cards_in(bench / "runs")) == 4 and not changed_files(card)
    report = report_of(card)
    line = next(
        line
        for line in (card.folder / "results.csv").read_text().splitlines()
        if ",removed,NDCG@5," in line
    )
    assert (
        float(line.split(",")[3]) == report.mean("visits", "NDCG@5") and line.split(",")[6] == "40"
    )
    assert (
        "numpy==" in (card.folder / "environment.txt").read_text()
        and (card.folder / "random_state").read_text() == "0\n"
    )


def test_made_again_it_is_the_same_to_the_last_bit(bench):
    assert verify(card_of(bench)) == []


def test_a_suite_that_was_stopped_goes_on_where_it_was(bench):
    times = {
        card.folder: (card.folder / "card.json").stat().st_mtime_ns
        for card in cards_in(bench / "runs")
    }
    shutil.rmtree(card_of(bench, "popular", 1).folder)
    (card_of(bench, "visits", 1).folder / "results.csv").write_text("spoilt\n")
    run_suite(read_suite(bench / "tiny.toml"), bench / "runs")
    again = {
        card.folder: (card.folder / "card.json").stat().st_mtime_ns
        for card in cards_in(bench / "runs")
    }
    assert {
        folder.name.rsplit("-", 1)[0] for folder, at in again.items() if times.get(folder) != at
    } == {"popular-1", "visits-1"}


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("results.csv", "40", "41", "results.csv was changed after the run"),
        (
            "config.json",
            '"window": 5',
            '"window": 7',
            "config.json: method.window: 7 and 5 when it was run",
        ),
        ("config.json", '"NDCG"', '"MRR"', "protocol.metrics: ['HR', 'MRR'] and ['HR', 'NDCG']"),
        ("random_state", "0", "3", "random_state: 3 and 0 when it was run"),
        (
            "data.json",
            '"by": "last"',
            '"by": "ratio"',
            "data.json: split.by: 'ratio' and 'last' when it was run",
        ),
        ("run.log", "fit", "FIT", "run.log was changed"),
    ],
)
def test_what_was_changed_is_named(bench, name, old, new, says):
    path = card_of(bench).folder / name
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    said = verify(card_of(bench))
    assert any(line == f"{name} was changed after the run" for line in said) and any(
        says in line for line in said
    ), said


def test_a_setting_changed_in_the_card_itself_gives_another_id_and_other_values(bench):
    path = card_of(bench).folder / "card.json"
    path.write_text(path.read_text().replace('"window": 5', '"window": 1'))
    said = verify(read_card(path.parent))
    assert any("the id does not follow" in line for line in said) and any(
        "users have other values" in line for line in said
    )


def test_one_byte_of_the_data_is_noticed(bench, made, monkeypatch):
    other = tiny_data(users=40, items=20, events=6)
    events = other.events.with_columns(
        item_id=np.where(
            np.arange(len(other.events)) == 7, "thing-019", other.events["item_id"].to_numpy()
        )
    )
    Dataset({**other.tables, "events": events}).save(bench / "DATA", overwrite=True)
    card = card_of(bench)
    moved = json.loads((card.folder / "card.json").read_text())
    assert moved["inputs"]["data"]["folder"] == str(made / "DATA")
    monkeypatch.setattr(
        verifying,
        "split_of",
        lambda data, split: split_of({**data, "folder": str(bench / "DATA")}, split),
    )
    said = verify(card)
    assert any(line.startswith("data: hash ") for line in said)


def test_values_changed_with_their_hash_are_still_noticed(bench):
    card = card_of(bench)
    with np.load(card.folder / "per_user.npz") as held:
        arrays = dict(held)
    arrays["visits|removed|NDCG@5"][3] += 1e-9
    np.savez_compressed(card.folder / "per_user.npz", **arrays)
    about = json.loads((card.folder / "card.json").read_text())
    about["files"]["per_user.npz"] = cards_module.sha256_of(card.folder / "per_user.npz")
    (card.folder / "card.json").write_text(json.dumps(about))
    assert verify(read_card(card.folder)) == [
        "NDCG@5, seen removed: 1 of 40 users have other values, by up to 1e-09"
    ]


def test_other_code_is_named(bench, monkeypatch):
    monkeypatch.setattr(verifying, "code_hash", lambda method: "other")
    (said,) = verify(card_of(bench))
    assert said.startswith(
        "code: Tailor's files, or those of a plug-in, have changed since (hash other"
    )


def test_a_changed_plug_in_is_measured_again_and_named(bench, monkeypatch):
    site = bench / "site"
    (site / "mine-1.0.dist-info").mkdir(parents=True)
    (site / "mine-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n"
    )
    (site / "mine-1.0.dist-info" / "entry_points.txt").write_text(
        "[tailor.methods]\nmine = planted_mine:Mine\n"
    )
    code = (
        "from tailor.retrieval.popularity import Popularity\n\n\nclass Mine(Popularity):\n   "
        " pass\n"
    )
    (site / "planted_mine.py").write_text(code)
    monkeypatch.syspath_prepend(str(site))
    text = (bench / "tiny.toml").read_text()
    (bench / "own.toml").write_text(
        text.replace('"retrieval.covisitation.CoVisitation"\nwindow = 5', '"mine"')
    )
    before = {card.label: card for card in run_suite(read_suite(bench / "own.toml"), bench / "own")}
    assert (
        verify(before["visits"]) == []
        and before["popular"].inputs["code"] == card_of(bench, "popular").inputs["code"]
    )
    (site / "planted_mine.py").write_text(code + "    # another idea\n")
    assert any(line.startswith("code: ") for line in verify(before["visits"]))
    after = {card.label: card for card in run_suite(read_suite(bench / "own.toml"), bench / "own")}
    assert after["visits"].id != before["visits"].id and after["popular"].id == before["popular"].id


def test_a_random_state_a_setting_and_the_data_are_part_of_the_id(made):
    suite = read_suite(made / "tiny.toml")
    split = split_of(suite.data, suite.split)
    ids = {
        id_of(inputs_of(suite, label, seed, split)) for label in suite.methods for seed in (0, 1)
    }
    assert len(ids) == 4
    inputs = inputs_of(suite, "visits", 0, split)
    assert (
        id_of({**inputs, "method": {**inputs["method"], "window": 4}})
        != id_of(inputs)
        == id_of(json.loads(json.dumps(inputs)))
    )


def test_a_card_of_another_version_and_a_damaged_one_are_refused(bench):
    path = card_of(bench).folder / "card.json"
    about = json.loads(path.read_text())
    for text, says in (
        (json.dumps({**about, "schema": 2}), "card of version 2, this Tailor reads version 1"),
        ("{", "is damaged"),
        ("[]", "version None"),
        (json.dumps({"schema": 1}), "lacks id"),
    ):
        path.write_text(text)
        with pytest.raises(ModelError, match=says):
            read_card(path.parent)
    with pytest.raises(ModelError, match=r"no card\.json"):
        read_card(bench)
    with pytest.raises(ModelError, match="there is no card"):
        cards_in(bench / "DATA")


def test_a_failure_is_kept_as_a_card(bench, monkeypatch):
    def fails(*_):
        raise ModelError("no memory left for this")

    monkeypatch.setattr(cards_module, "measure", fails)
    (card,) = run_suite(read_suite(bench / "tiny.toml"), bench / "other", only=["popular"])[:1]
    assert (
        card.status == "failed: no memory left for this"
        and "no memory left" in (card.folder / "README.md").read_text()
    )
    with pytest.raises(ModelError, match="no result to make again"):
        verify(card)
    with pytest.raises(DataError, match="all cards are of failures"):
        boards(cards_in(bench / "other"))


def test_a_failure_is_tried_again_when_the_suite_is(bench, monkeypatch):
    def fails(*_):
        raise MissingExtraError("needs wings: pip install wings")

    with monkeypatch.context() as broken:
        broken.setattr(cards_module, "measure", fails)
        run_suite(read_suite(bench / "tiny.toml"), bench / "other", only=["popular"])
    first, _ = run_suite(read_suite(bench / "tiny.toml"), bench / "other", only=["popular"])
    assert first.status == "done"


def test_whatever_a_method_fails_with_costs_the_others_nothing(bench, monkeypatch):
    measured = cards_module.measure

    def fails(inputs, *more):
        if inputs["label"] == "popular":
            raise ZeroDivisionError("by hand")
        return measured(inputs, *more)

    monkeypatch.setattr(cards_module, "measure", fails)
    cards = run_suite(read_suite(bench / "tiny.toml"), bench / "other")
    assert [card.status for card in cards] == ["failed: ZeroDivisionError: by hand"] * 2 + [
        "done"
    ] * 2
    assert "in fails" in (cards[0].folder / "run.log").read_text(), (
        "where it failed stands in the log"
    )


def test_another_version_of_a_package_is_named(bench):
    card = card_of(bench)
    path = card.folder / "environment.txt"
    path.write_text(
        re.sub(r"(?m)^numpy==.*$", "numpy==1.0", path.read_text()).replace(
            "polars==", "polarbears=="
        )
    )
    about = json.loads((card.folder / "card.json").read_text())
    about["files"]["environment.txt"] = cards_module.sha256_of(path)
    about["machine"]["python"] = "3.9.1"
    (card.folder / "card.json").write_text(json.dumps(about))
    said = verify(read_card(card.folder))
    assert said == [
        f"environment: python {platform.python_version()}, then 3.9.1",
        f"environment: numpy {np.__version__}, then 1.0",
        f"environment: polars {version('polars')}, then not there",
    ]


def test_tests_are_of_a_random_state_that_all_methods_have(bench):
    shutil.rmtree(card_of(bench, "popular", 0).folder)
    (board,) = boards(cards_in(bench / "runs"), "popular")
    assert (
        len({card.inputs["seed"] for card in cards_in(bench / "runs") if card.label == "popular"})
        == 1
    )
    np.testing.assert_array_equal(
        board.report.results["visits", "removed"].per_user["NDCG@5"],
        report_of(card_of(bench, "visits", 1)).results["visits", "removed"].per_user["NDCG@5"],
    )
    assert board.random_state == 1
    shutil.rmtree(card_of(bench, "visits", 1).folder)
    with pytest.raises(DataError, match="no random state that all methods have"):
        boards(cards_in(bench / "runs"), "popular")


# --- tables
# ----------------------------------------------------------------------------------------------------------------------


def test_the_table_is_made_of_the_folders_alone(bench):
    shutil.rmtree(bench / "DATA")
    (board,) = boards(cards_in(bench / "runs"), "popular")
    assert {row.method for row in board.rows} == {"popular", "visits"} and all(
        len(row.means) == 2 for row in board.rows
    )
    assert [(one.a, one.b, one.seen, one.metric) for one in board.tests] == [
        ("popular", "visits", "removed", "HR@5"),
        ("popular", "visits", "removed", "NDCG@5"),
        ("popular", "visits", "kept", "HR@5"),
        ("popular", "visits", "kept", "NDCG@5"),
    ]
    with pytest.raises(DataError, match='no card of "best"'):
        boards(cards_in(bench / "runs"), "best")


def test_a_spoilt_card_does_not_reach_a_table(bench):
    (card_of(bench).folder / "results.csv").write_text("better\n")
    with pytest.raises(ModelError, match=r"results\.csv was changed"):
        boards(cards_in(bench / "runs"))


def test_two_settings_of_one_method_stand_apart(bench):
    text = (bench / "tiny.toml").read_text().replace("window = 5", "window = 2")
    (bench / "tiny.toml").write_text(text)
    run_suite(read_suite(bench / "tiny.toml"), bench / "runs", only=["visits"])
    (board,) = boards(cards_in(bench / "runs"))
    assert len(board.report.methods) == 3
    one, two = [
        card
        for card in cards_in(bench / "runs")
        if card.label == "visits" and card.inputs["seed"] == 0
    ]
    said = compare_cards(one, two)
    assert any(line.startswith("method.window: ") for line in said) and any(
        line.startswith("NDCG@5, seen removed: second - first") for line in said
    )


# --- suites
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_that_comes_along_can_be_read(name):
    suite = read_suite(name)
    assert suite.about and (suite.methods or suite.waiting)
    if not suite.methods:
        with pytest.raises(ModelError, match=f'nothing of the suite "{name}" is built yet'):
            run_suite(suite, Path("nowhere"), Run())


def test_the_suites_of_the_guide_are_there():
    assert (
        suite_names() == ["ctr", "item-forms", "memory", "rerank", "sequential", "smoke"]
        and FOLDER.is_dir()
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("about = ", "is no TOML"),
        ('abuot = "x"', 'no "abuot". Did you mean "about"'),
        ("[methods.a]\nclass = 'nothing.Nothing'", r"\[methods.a\]"),
        (SUITE.replace("window", "windwo"), 'no setting "windwo"'),
        (SUITE.replace('"popular"', '"best"'), 'baseline "best"'),
        (SUITE.replace("k = [5]", "kk = [5]"), r'\[protocol\] has no "kk".*Did you mean "k"'),
        (SUITE.replace("k = [5]", "k = [0]"), "k is .0."),
        (SUITE.replace("k = [5]", "k = ['5']"), "k is "),
        (SUITE.replace("k = [5]", "metrics = 'NDCG'"), "metrics is 'NDCG'"),
        (SUITE.replace('by = "last"', ""), "needs a line by"),
        (SUITE.replace("[split]\nby", "[split.x]\nby"), "needs a line by"),
        ("split = 'last'", "split is 'last'"),
        ("methods = 3", "methods is 3"),
        (SUITE.replace("seeds = [0, 1]", "seeds = [true]"), "seeds is .True"),
        (SUITE.replace("seeds = [0, 1]", "seeds = [-1]"), "seeds is .-1"),
        (
            SUITE.replace("methods.visits", 'methods."../visits"'),
            r'"\.\./visits".*name of a folder',
        ),
        (SUITE.replace("seeds = [0, 1]", "seeds = 3"), "seeds is 3"),
        ("[methods.a]\nclass = 'retrieval.popularity.Popularity'", "needs .data. and .split."),
    ],
)
def test_a_mistake_in_a_suite_is_named_with_its_file(tmp_path, text, says):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match=says) as error:
        read_suite(path)
    assert str(path) in str(error.value)
    with pytest.raises(ModelError, match='Did you mean "smoke"'):
        read_suite("smok")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"world": "mars"}, 'no world "mars"'),
        ({"world": "shop", "peple": 3}, "peple"),
        ({}, "needs world, folder or import"),
        ({"import": "a/b"}, "needs format and name"),
        ({"import": "a/b", "format": "csv", "name": "b"}, "set the variable TAILOR_DATA"),
    ],
)
def test_data_that_are_not_there_are_named(data, says):
    with pytest.raises(DataError, match=says):
        split_of(data, {"by": "last"})
