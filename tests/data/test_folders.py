"""A folder is there whole or not at all, whatever happens while it is written."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tailor.data.folders import PARTIAL, replaced_by, written_aside
from tailor.errors import DataError, ModelError

ODD_NAMES = [
    "plain",
    "with space",
    "[abc]",
    "a*",
    "?",
    "ü-日本",
    "trailing-1",
    ".hidden",
    "x.partial-7",
    "-dash",
]


def write(target: Path, text: str = "new", **kw) -> None:
    with written_aside(target, **kw) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "file").write_text(text)


def content(target: Path) -> str:
    return (target / "sub" / "file").read_text()


def fail(writing: AbstractContextManager[Path], error: type[BaseException]) -> None:
    with writing as aside:
        (aside / "half" if aside.is_dir() else aside).write_text("half")
        raise error("no")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_another_process(code: str, *args: object) -> subprocess.Popen:
    start = (
        "import sys, os, time\nfrom pathlib import Path\nfrom tailor.data.folders import"
        " written_aside\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_written_overwritten_and_cleaned_up(tmp_path, name):
    left = tmp_path / f".{name}{PARTIAL}{dead_pid()}"
    left.mkdir()
    write(tmp_path / name, "old")
    write(tmp_path / name, "new", overwrite=True)
    assert content(tmp_path / name) == "new"
    assert names(tmp_path) == [name]


def test_the_leftovers_of_another_target_are_not_touched(tmp_path):
    pid = dead_pid()
    others = [
        tmp_path / f".abc{PARTIAL}{pid}",
        tmp_path / f".a{PARTIAL}backup",
        tmp_path / f".a{PARTIAL}1-of-mine",
    ]
    for other in others:
        other.mkdir()
    write(tmp_path / "a*")
    write(tmp_path / "a")
    assert all(other.exists() for other in others)


KILLED = """
with written_aside(sys.argv[1], overwrite=True) as aside:
    (aside / "file").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("existed", [False, True])
def test_a_kill_in_the_middle_leaves_no_half_target_and_the_next_write_cleans_up(tmp_path, existed):
    target = tmp_path / "data"
    if existed:
        write(target, "old")
    process = in_another_process(KILLED, target)
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert target.exists() == existed
    assert len(names(tmp_path)) == 1 + existed
    if existed:
        assert content(target) == "old"
    write(target, "new", overwrite=True)
    assert content(target) == "new"
    assert names(tmp_path) == ["data"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    """The old folder stands under its hidden name then: the next write must not take it for
    rubbish.
    """
    target = tmp_path / "data"
    write(target, "old")
    target.rename(tmp_path / f".data{PARTIAL}old-{dead_pid()}")
    with pytest.raises(RuntimeError):
        fail(written_aside(target, overwrite=True), RuntimeError)
    assert content(target) == "old"
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, DataError, OSError])
def test_overwriting_keeps_the_old_one_when_the_block_fails(tmp_path, error):
    target = tmp_path / "data"
    write(target, "old")
    expected = DataError if error is OSError else error
    with pytest.raises(expected):
        fail(written_aside(target, overwrite=True), error)
    assert content(target) == "old"
    assert names(tmp_path) == ["data"]


def test_what_is_there_is_not_overwritten_unasked(tmp_path):
    write(tmp_path / "data", "old")
    with (
        pytest.raises(ModelError, match="overwrite"),
        written_aside(tmp_path / "data", error=ModelError),
    ):
        pytest.fail("the block must not run")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file"), written_aside(tmp_path / "file", overwrite=True):
        pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "mine"


SLOW = """
from tailor.errors import DataError
with_overwrite = sys.argv[3] == "overwrite"
try:
    with written_aside(sys.argv[1], overwrite=with_overwrite) as aside:
        (aside / "one").write_text(sys.argv[2])
        print("writing", flush=True)
        time.sleep(.3)
        (aside / "two").write_text(sys.argv[2])
    print("done")
except DataError as error:
    print("refused", error)
"""


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_processes_at_once_leave_one_whole_folder(tmp_path, overwrite):
    """Without overwrite the first one to finish stays; the other is told so instead of replacing
    it.
    """
    target = tmp_path / "data"
    both = [
        in_another_process(SLOW, target, text, "overwrite" if overwrite else "no") for text in "ab"
    ]
    for one in both:
        assert one.stdout.readline() == "writing\n"
    said = [one.communicate()[0] for one in both]
    assert (target / "one").read_text() == (target / "two").read_text()
    assert names(tmp_path) == ["data"]
    if not overwrite:
        assert sorted(text.split()[0] for text in said) == ["done", "refused"]
        winner = "ab"[[text.startswith("done") for text in said].index(True)]
        assert (target / "one").read_text() == winner


def test_two_threads_at_once_do_not_write_into_one_folder(tmp_path):
    inside = threading.Barrier(2, timeout=20)
    refused = []

    def make(text: str) -> None:
        try:
            with written_aside(tmp_path / "data") as aside:
                (aside / text).write_text(text)
                inside.wait()
                time.sleep(0.05)
        except DataError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=make, args=(text,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert len(names(tmp_path / "data")) == 1
    assert names(tmp_path) == ["data"]


FULL = """
import resource
from tailor.data.dataset import Dataset
from tailor.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
n = 100_000
data = Dataset.from_events({"user_id": [str(at) for at in range(n)], "item_id": [str(at * 7919) for at in range(n)]})
try:
    data.save(sys.argv[1])
except DataError as error:
    print("refused", error)
"""


def test_a_disk_that_takes_no_more_is_a_data_error_and_leaves_nothing(tmp_path):
    said, errors = in_another_process(FULL, tmp_path / "data").communicate()
    assert said.startswith("refused"), errors
    assert "data" in said
    assert names(tmp_path) == []


def test_a_flush_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write(tmp_path / "data")
    assert names(tmp_path) == []


def test_a_folder_that_may_not_be_written_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write(tmp_path / "file" / "data")


def test_parents_are_made(tmp_path):
    write(tmp_path / "a" / "b" / "data")
    assert content(tmp_path / "a" / "b" / "data") == "new"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_replaced_file_is_the_new_or_the_old_one(tmp_path, name):
    path = tmp_path / name
    with replaced_by(path) as aside:
        aside.write_text("old")
    with pytest.raises(RuntimeError):
        fail(replaced_by(path), RuntimeError)
    assert path.read_text() == "old"
    assert names(tmp_path) == [name]
