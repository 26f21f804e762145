"""A study file is whole up to its last trial, whatever happened to the process that wrote it."""

import json

import pytest

from tailor.bench.study import FILE, Study, Trial, open_study
from tailor.errors import ModelError

ABOUT = {
    "pipeline": {"class": "EASE"},
    "space": {"l2": {"low": 1.0, "high": 2.0}},
    "split": "abc",
    "metric": "NDCG@10",
    "seen": "removed",
    "seed": 0,
    "screen": None,
}


def trial(number, value=0.5, state="complete"):
    return Trial(
        number,
        state,
        {"l2": 1 / 3},
        1.25,
        value,
        value and value - 0.1,
        value and value + 0.1,
        None,
        ((1, 0.1), (2, 1 / 7)),
        "",
    )


@pytest.fixture
def folder(tmp_path):
    with open_study(tmp_path / "study", ABOUT) as file:
        file.add(trial(0))
        file.add(trial(1, None, "pruned"))
    return tmp_path / "study"


def test_what_was_added_comes_back_exactly(folder):
    with open_study(folder, ABOUT) as file:
        assert file.study.trials == [trial(0), trial(1, None, "pruned")]


@pytest.mark.parametrize("cut", [1, 20, 90])
def test_a_line_that_was_being_written_when_the_process_died_is_taken_away(folder, cut):
    path = folder / FILE
    before = path.read_bytes()
    path.write_bytes(before + json.dumps({"number": 2, "settings": "x" * 200}).encode()[:cut])
    with open_study(folder, ABOUT) as file:
        assert len(file.study.trials) == 2
        file.add(trial(2, 0.7))
    assert path.read_bytes().startswith(before)
    with open_study(folder, ABOUT) as file:
        assert file.study.best == trial(2, 0.7)


def test_a_first_line_cut_short_begins_anew(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / FILE).write_bytes(b'{"format": 1, "pipe')
    with open_study(folder, ABOUT) as file:
        file.add(trial(0))
    assert len((folder / FILE).read_text().splitlines()) == 2


@pytest.mark.parametrize("line", [b"{nonsense}\n", b"[1]\n", b"\xff\xfe\n", b'{"number": 1}\n'])
def test_a_damaged_line_in_the_middle_is_named(folder, line):
    path = folder / FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line + lines[1])
    with pytest.raises(ModelError, match="is damaged"), open_study(folder, ABOUT):
        pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("split", "abd"),
        ("metric", "HR@10"),
        ("pipeline", {"class": "EASE", "l2": 3.0}),
    ],
)
def test_another_study_in_the_folder_is_refused(folder, name, value):
    with (
        pytest.raises(ModelError, match=f"another {name}"),
        open_study(folder, {**ABOUT, name: value}),
    ):
        pass


def test_a_study_of_a_later_format_is_refused(folder):
    path = folder / FILE
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ModelError, match="format 2"), open_study(folder, ABOUT):
        pass


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="holds no study"), open_study(tmp_path, ABOUT):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_one_process_at_a_time(folder):
    with (
        open_study(folder, ABOUT),
        pytest.raises(ModelError, match="another process"),
        open_study(folder, ABOUT),
    ):
        pass
    with open_study(folder, ABOUT) as file:
        assert len(file.study.trials) == 2


def test_the_first_of_equals_is_the_best_and_none_is_an_error():
    assert Study(ABOUT, [trial(0), trial(1, 0.7), trial(2, 0.7)]).best.number == 1
    with pytest.raises(ModelError, match="no trial is complete"):
        _ = Study(ABOUT, [trial(0, None, "failed")]).best
