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


# under load


def test_no_text_is_searched_for_wishes_while_others_wait(engine, memory):
    searched = []
    held = []

    def write(job):
        with writing(engine) as connection:
            held.append(1)
            outcome = job(connection)
            held.pop()
        return outcome

    def asks(text):
        searched.append(len(held))
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(withdrawing, "asks_to_forget", asks)
        replace(memory, write=write).observe(ANN, [chat("likes tea", 1), chat("likes figs")])
    assert searched and not any(searched)


def test_transactions_are_bounded_by_drafts_too(engine, memory, monkeypatch):
    monkeypatch.setattr(memory_module, "DRAFTS_AT_ONCE", 3)
    jobs = []

    def write(job):
        jobs.append(1)
        with writing(engine) as connection:
            return job(connection)

    sliced = replace(memory, write=write)
    observed = sliced.observe(ANN, [chat(f"likes tea {n}", n) for n in range(8)])
    assert len(jobs) == 3 and len(observed.new) == 8
    jobs.clear()
    sliced.observe(ANN, [])
    assert len(jobs) == 1


def test_wishes_cost_the_same_however_many_there_were(engine, memory):
    statements = []
    sa.event.listen(engine, "after_cursor_execute", lambda *given: statements.append(given[2]))
    counts = []
    for count in (10, 90):
        where = f"s{count}"
        wishes = [chat("Don't remember that.", 1 + n / 1_000, source=where) for n in range(count)]
        memory.observe(ANN, wishes)
        statements.clear()
        memory.observe(ANN, chat("likes tea", 200, source=where))
        counts.append(len(statements))
    assert counts[0] == counts[1]
    assert memory.timeline(ANN) == ()


def test_a_message_that_stands_before_several_wishes_is_withdrawn_once(memory):
    memory.observe(ANN, chat("likes figs", 9))
    memory.observe(ANN, [chat("Don't remember that.", 3), chat("Do not store this.", 2)])
    memory.observe(ANN, [chat("likes tea", 5), chat("likes salt", 4), chat("likes rain", 1)])
    assert texts(memory.timeline(ANN)) == ["likes rain", "likes tea"]
    assert memory.replay(ANN).agrees


# pauses and retention


def test_a_wish_is_heeded_while_the_memory_is_paused(memory):
    memory.observe(ANN, [chat("likes tea", 3), chat("likes gin", 2)])
    memory.pause(ANN)
    outcome = memory.observe(ANN, [chat("likes figs", 1.5), chat("Don't remember that.", 1)])
    assert (outcome.paused, outcome.new, outcome.withdrawn) == (True, (), 1)
    memory.resume(ANN)
    assert texts(memory.timeline(ANN)) == ["likes tea"]


def test_recall_shows_nothing_past_its_retention_though_the_memory_is_open(memory, clock):
    memory.observe(ANN, [chat("likes tea", 0.9), chat("likes figs")])
    memory.retain(ANN, 1)
    assert memory.recall(ANN, "tea figs").items
    clock.now_ms += DAY_MS // 2
    found = memory.recall(ANN, "tea figs").items
    assert {item.text for item in found} == {"likes figs"}
