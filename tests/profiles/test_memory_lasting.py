"""A memory keeps its word under migration, load, pauses, races, interruptions and other clients."""

import json
from dataclasses import asdict, replace

import pytest

sa = pytest.importorskip("sqlalchemy")

from profiles.stated import Stated  # noqa: E402

from tailor.profiles import memory as memory_module  # noqa: E402
from tailor.profiles import withdrawing  # noqa: E402
from tailor.profiles.memory import Memory, UnknownError  # noqa: E402
from tailor.profiles.propositions import DAY_MS, Draft, Observation  # noqa: E402
from tailor.store import memory as store_memory  # noqa: E402
from tailor.store.engine import writing  # noqa: E402
from tailor.store.users import erase  # noqa: E402

ANN = "ann"
NOW_MS = 1_700_000_000_000


class Clock:
    """A clock that tests set."""

    now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def memory(engine, clock):
    return Memory(engine, "shop", (Stated(),), clock=clock)


def chat(text, days=0.0, **more):
    return Observation("chat", text, NOW_MS - int(days * DAY_MS), **more)


def texts(propositions):
    return sorted(proposition.text for proposition in propositions)


# drafts of an older version


def test_what_was_rejected_before_a_migration_stays_rejected(engine, memory, monkeypatch):
    monkeypatch.setattr(store_memory, "SAME", 0)
    memory.observe(ANN, chat("bought tea", 9))
    memory.reject(ANN, memory.timeline(ANN)[0].proposition_id)
    memory.observe(ANN, [chat("bought tea", -number / 10_000) for number in range(1, 140)])
    with writing(engine) as connection:  # as `migrate` leaves those of revision 0009
        connection.execute(sa.update(store_memory.support).values(rank=-1))
    memory.observe(ANN, chat("bought tea", -0.02))
    assert [p.status for p in memory.timeline(ANN)] == ["rejected"]
    assert memory.replay(ANN).agrees
    assert store_memory.support.c.rank.server_default.arg == "-1"


def test_retracted_versions_are_read_by_no_write(engine, memory, monkeypatch):
    for number in range(5):
        memory.observe(ANN, chat("likes tea", 5 - number))
    fetched = []
    original = store_memory.MemoryRows._rows_left

    def count(*given):
        for row in original(*given):
            fetched.append(row)
            yield row

    monkeypatch.setattr(store_memory.MemoryRows, "_rows_left", count)
    memory.observe(ANN, chat("likes tea"))
    assert len(fetched) == 6 + 1  # drafts, and the one version that is believed
