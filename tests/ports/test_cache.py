"""The cache on disk: nothing is made twice, nothing damaged is believed, nothing erased stays."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from tailor.errors import ModelError
from tailor.ports.cache import FILE, TURN, Cache


def made(contents):
    return [one.encode("utf-8", "surrogatepass") * 3 for one in contents]


def test_only_what_is_missing_is_made_and_each_only_once(tmp_path):
    cache, calls = Cache(tmp_path / "deep" / "cache"), []

    def work(missing):
        calls.append(missing)
        return made(missing)

    assert cache.make("m", ["a", "b", "a"], work) == [b"aaa", b"bbb", b"aaa"]
    assert cache.make("m", ["b", "c", "\ud800", ""], work) == made(["b", "c", "\ud800", ""])
    assert cache.make("m", [], work) == []
    assert calls == [["a", "b"], ["c", "\ud800", ""]]
    assert cache.get("other maker", ["a"]) == [None] and len(cache) == 5


def test_what_fails_while_being_made_leaves_nothing_and_frees_the_turn(tmp_path):
    def fail(missing):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).make("m", ["a"], fail)
    assert Cache(tmp_path).make("m", ["a"], made) == [b"aaa"]


@pytest.mark.parametrize("keep", [0, 10, 100, 5000, 0.5, 0.9])
def test_a_file_cut_off_anywhere_counts_as_absent(tmp_path, keep):
    texts = "[f'text {n}' * 20 for n in range(300)]"
    assert in_new_process(tmp_path, f"cache.make('m', {texts}, made) == made({texts})") == "True"
    path = tmp_path / FILE
    size = path.stat().st_size
    assert size > 5000 and not (tmp_path / f"{FILE}-wal").exists()
    os.truncate(path, int(size * keep) if isinstance(keep, float) else keep)
    contents = [f"text {n}" * 20 for n in range(300)]
    assert Cache(tmp_path).make("m", contents, made) == made(contents)
    assert in_new_process(tmp_path, f"cache.get('m', {texts}) == made({texts})") == "True"


def test_nonsense_in_the_file_and_a_flipped_bit_count_as_absent(tmp_path):
    cache = Cache(tmp_path)
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    assert cache.make("m", ["a"], made) == [b"aaa"]
    cache.put("m", ["long"], [b"x" * 50_000])
    in_new_process(tmp_path, "file.execute('PRAGMA wal_checkpoint(TRUNCATE)')")
    raw = bytearray((tmp_path / FILE).read_bytes())
    at = raw.index(b"x" * 1000) + 500
    raw[at] ^= 1
    (tmp_path / FILE).write_bytes(raw)
    assert in_new_process(tmp_path, "cache.get('m', ['long', 'a'])") == "[None, b'aaa']"


def in_new_process(folder, expression):
    code = (
        "import sys; from pathlib import Path; from tailor.ports.cache import Cache, FILE\n"
        "made = lambda contents: [one.encode('utf-8', 'surrogatepass') * 3 for one in contents]\n"
        f"cache = Cache(Path(sys.argv[1])); file = cache._connection(FILE)\nprint({expression})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_processes_and_threads_together_make_nothing_twice(tmp_path):
    code = (
        "import sys, os; from pathlib import Path; from tailor.ports.cache import Cache\nfolder ="
        " Path(sys.argv[1])\ndef work(missing):\n    with (folder / 'log').open('a') as log:"
        " log.write(''.join(f'{one}\\n' for one in missing))\n    return [one.encode() for one in"
        " missing]\nfor start in range(0, 200, 10):\n    texts = [str(n) for n in range(start,"
        " start + 20)]\n    assert Cache(folder).make('m', texts, work) == [one.encode() for one in"
        " texts]\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]

    threads = [
        threading.Thread(
            target=exec,
            args=(
                code.replace("import sys, os; ", "").replace("sys.argv[1]", repr(str(tmp_path))),
                {},
            ),
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0, 0]
    made_here = (tmp_path / "log").read_text().split()
    assert sorted(made_here) == sorted({str(n) for n in range(210)}), (
        "something was made twice, or not at all"
    )


def test_a_process_killed_while_making_frees_the_turn_and_leaves_nothing_half(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from tailor.ports.cache import Cache\n"
        "def work(missing):\n    print('working', flush=True); time.sleep(60)\n"
        "Cache(Path(sys.argv[1])).make('m', ['a', 'b'], work)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline().strip() == "working"
    other.send_signal(signal.SIGKILL)
    other.wait()
    # a turn that is still held would be waited for longer than the suite allows a test
    assert Cache(tmp_path).make("m", ["a", "b"], made) == made(["a", "b"])


def test_what_is_forgotten_is_overwritten_for_every_maker(tmp_path):
    cache = Cache(tmp_path)
    for maker in ("one", "two"):
        cache.put(maker, ["mine", "yours"], [b"SECRET-of-mine" * 40, b"yours"])
    assert cache.holds(b"SECRET")
    assert cache.forget(["mine", "never stored"]) == 2
    assert cache.get("one", ["mine", "yours"]) == [None, b"yours"] and not cache.holds(b"SECRET")
    assert not any(b"SECRET" in path.read_bytes() for path in tmp_path.iterdir()), (
        "the bytes are still on disk"
    )
    cache.clear()
    assert len(cache) == 0


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="name another"):
        Cache(tmp_path / "file" / "cache").get("m", ["a"])


def test_a_damaged_file_of_turns_is_replaced(tmp_path):
    cache = Cache(tmp_path)
    (tmp_path / TURN).write_bytes(b"no database at all " * 500)
    assert cache.make("m", ["a"], made) == made(["a"]) and cache.make("m", ["b"], made) == made(
        ["b"]
    )


def test_a_turn_that_does_not_come_is_an_error_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("tailor.ports.cache.WAIT_S", 0.05)
    other = sqlite3.connect(tmp_path / TURN, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ModelError, match="another process"):
        Cache(tmp_path).make("m", ["a"], made)
    other.close()
