"""Killed at any moment, a memory holds whole verbs and nothing half."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sa = pytest.importorskip("sqlalchemy")

from profiles.stated import Stated  # noqa: E402

from tailor.profiles.memory import Memory  # noqa: E402
from tailor.profiles.propositions import Observation  # noqa: E402
from tailor.store.engine import connect, reading, writing  # noqa: E402
from tailor.store.memory import rows_of  # noqa: E402
from tailor.store.subjects import count_orphans  # noqa: E402

TESTS = Path(__file__).parents[1]
FIRST_MS = 1_700_000_000_000
WORKER = """
import itertools
import random
import sys

from profiles.stated import Stated
from tailor.profiles.memory import Memory
from tailor.profiles.propositions import Observation
from tailor.store.engine import connect

url, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
memory = Memory(connect(url), "shop", (Stated(),))
for number in itertools.count():
    time_ms = 1_700_000_000_000 + 1_000 * number + seed
    pair = [Observation("chat", f"likes {verb} {seed} {number}", time_ms) for verb in ("a", "b")]
    memory.observe("ann", [*pair, Observation("chat", f"lives in town {number % 3}", time_ms)])
    timeline = memory.timeline("ann")
    print(number, flush=True)
    chosen = rng.choice([p for p in timeline if p.status in ("active", "confirmed")])
    verb = rng.choice(["confirm", "correct", "forget", "reject"])
    if verb == "correct":
        memory.correct("ann", chosen.proposition_id, f"value {number}")
    elif number > 3:
        getattr(memory, verb)("ann", chosen.proposition_id)
"""


@pytest.mark.slow
def test_kills_in_a_loop_leave_nothing_half(url, engine, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    rng = random.Random(5)
    acknowledged = 0
    for seed in range(8):
        worker = subprocess.Popen(
            [sys.executable, script, url, str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            env={**_environment(), "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        )
        first = worker.stdout.readline()  # it has begun
        assert first, "the worker ended by itself"
        time.sleep(rng.uniform(0.0, 0.6))
        worker.send_signal(signal.SIGKILL)
        acknowledged += len(worker.stdout.read().split()) + 1
        worker.wait()
        _check_whole(engine)
    assert acknowledged > 16


def _environment():
    return dict(os.environ)


def _check_whole(engine):
    memory = Memory(engine, "shop", (Stated(),))
    replayed = memory.replay("ann")
    assert replayed.agrees, replayed.difference
    exported = memory.export("ann")
    ids = {Observation(**value).observation_id for value in exported["observations"]}
    assert {draft["observation_id"] for draft in exported["drafts"]} <= ids
    for proposition in exported["propositions"]:
        assert {*proposition["support"], *proposition["against"]} <= ids
    with reading(engine) as connection:
        rows = rows_of(connection, "shop", "ann")
        assert rows.state.changed >= rows.state.forgotten
        assert not any(count_orphans(connection).values())


def say(text, days, **more):
    return Observation("chat", text, FIRST_MS - days * 86_400_000, **more)


def choose(memory, thing):
    return next(p.proposition_id for p in memory.timeline("ann") if p.object == thing)


VERBS = {
    "observe": lambda memory: memory.observe(
        "ann", [say("lives in Oslo", 1), say("denies likes tea", 1), say("likes salt", 1)]
    ),
    "wish": lambda memory: memory.observe("ann", say("Please don't remember that.", 1)),
    "confirm": lambda memory: memory.confirm("ann", choose(memory, "tea")),
    "correct": lambda memory: memory.correct("ann", choose(memory, "tea"), "cocoa"),
    "forget": lambda memory: memory.forget("ann", choose(memory, "tea")),
    "forget all": lambda memory: memory.forget("ann", all=True),
    "retain": lambda memory: memory.retain("ann", 2.5),
    "propose": lambda memory: memory.propose("ann"),
    "import": lambda memory: memory.import_("ann", memory.export("bob")),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_kill_before_any_write_of_a_verb_leaves_all_of_it_or_nothing(url, engine, verb):
    """The process is killed before its first write, then before its second, and so on."""
    memory = Memory(engine, "shop", (Stated(),), clock=lambda: FIRST_MS)
    memory.observe("bob", [say("likes salt", 4), say("lives in Rome", 3)])
    memory.observe("ann", [say("lives in Rome", 4), say("likes tea", 3), say("likes figs", 2)])
    before = _state(memory)
    killed = 0
    for number in range(1, 80):
        status = _run_and_kill(url, verb, number)
        _check_whole(engine)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        killed += 1
        if _state(memory) != before:
            # it was committed, and what came after is noted beside it
            assert verb.startswith("forget") or verb == "import"
            break
    assert killed >= 2
    VERBS[verb if verb in ("observe", "wish", "retain", "propose", "import") else "observe"](memory)
    _check_whole(engine)


def _state(memory):
    exported = memory.export("ann")
    return {name: exported[name] for name in ("observations", "drafts", "state_hash")}


def _run_and_kill(url, verb, number):
    """Run a verb in a process that is killed before its n-th write; return how that ended."""
    pid = os.fork()
    if pid == 0:
        try:
            _work_until(url, verb, number)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def _work_until(url, verb, number):
    engine = connect(url)
    writes = []

    def kill(connection, cursor, statement, *_):
        if not statement.startswith(("SELECT", "PRAGMA", "BEGIN", "SHOW")):
            writes.append(statement)
            if len(writes) == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def write(job):
        with writing(engine) as connection:
            result = job(connection)
            kill(None, None, "COMMIT")
        return result

    sa.event.listen(engine, "before_cursor_execute", kill)
    VERBS[verb](Memory(engine, "shop", (Stated(),), clock=lambda: FIRST_MS, write=write))
