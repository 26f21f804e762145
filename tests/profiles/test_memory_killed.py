"""Killed at any moment, a memory holds whole verbs and nothing half."""

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
from tailor.store.engine import reading  # noqa: E402
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
    import os

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
