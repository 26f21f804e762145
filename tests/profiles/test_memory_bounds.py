"""What a write costs, however much was said before; and what of it counts."""

import random
from dataclasses import replace

import pytest

sa = pytest.importorskip("sqlalchemy")

from profiles.stated import NOW_MS, Stated, chat  # noqa: E402

from tailor.profiles import memory as memory_module  # noqa: E402
from tailor.profiles.memory import Memory  # noqa: E402
from tailor.profiles.propositions import (  # noqa: E402
    DAY_MS,
    EDITED,
    INFERRED,
    Draft,
    state_hash,
)
from tailor.profiles.revision import MOST_COUNTED, believed, changes  # noqa: E402

ANN, BOB = "ann", "bob"


@pytest.fixture
def memory(engine):
    return Memory(engine, "shop", (Stated(),), clock=lambda: NOW_MS)


def draft(number, weight=1.0, act="say", sign=1, predicate="likes", item="tea"):
    slot = "fact" if predicate == "lives in" else "preference"
    name = f"o{number}{act}{weight}"
    return Draft(name, slot, predicate, item, sign, weight, number * DAY_MS, act=act)


# the pure function


def test_of_each_rank_the_latest_count_and_none_displaces_another():
    stated = [draft(number) for number in range(3)]
    inferred = [draft(10 + number, INFERRED) for number in range(5 * MOST_COUNTED)]
    (tea,) = believed([*inferred, *stated])
    assert {d.observation_id for d in stated} <= set(tea.support)
    assert len(tea.support) == 3 + MOST_COUNTED
    assert tea.alpha == pytest.approx(1 + 3 + MOST_COUNTED * INFERRED)
    latest = {d.observation_id for d in inferred[-MOST_COUNTED:]}
    assert latest <= set(tea.support)
    confirmed = draft(1, EDITED, "confirm")
    (tea,) = believed([confirmed, *(draft(number) for number in range(2, 4 * MOST_COUNTED))])
    assert tea.status == "confirmed"


def test_what_counts_depends_on_no_order_not_even_at_one_moment():
    drafts = [replace(draft(number), occurred_ms=5) for number in range(3 * MOST_COUNTED)]
    expected = state_hash(believed(drafts))
    rng = random.Random(1)
    for _ in range(5):
        rng.shuffle(drafts)
        assert state_hash(believed([*drafts, *drafts[:40]])) == expected
    # other names order them otherwise
    assert state_hash(believed(drafts, lambda name: name[::-1])) != expected


class Counted(int):
    """A time that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other):
        type(self).comparisons += 1
        return int(self) < int(other)

    def __le__(self, other):
        type(self).comparisons += 1
        return int(self) <= int(other)


@pytest.mark.parametrize("predicate", ["likes", "lives in"])
def test_revising_takes_no_more_than_a_sort_however_often_a_mind_changes(predicate):
    def comparisons(size):
        Counted.comparisons = 0
        drafts = [
            replace(
                draft(0, sign=1 if number % 2 or predicate == "lives in" else -1),
                observation_id=f"o{number}",
                predicate=predicate,
                slot="fact" if predicate == "lives in" else "preference",
                object=f"place {number % 7}" if predicate == "lives in" else "tea",
                occurred_ms=Counted(2 * number * DAY_MS),
            )
            for number in range(size)
        ]
        assert len(believed(drafts)) == size
        return Counted.comparisons

    small, large = comparisons(MOST_COUNTED // 4), comparisons(MOST_COUNTED)
    assert large < 4 * small * 2


def test_changes_of_large_states_are_found_by_looking_once(monkeypatch):
    many = [p for number in range(2_000) for p in believed([draft(1, item=f"tea {number}")])]
    equal = type(many[0]).__eq__
    compared = []

    def count(self, other):
        compared.append(1)
        return equal(self, other)

    monkeypatch.setattr(type(many[0]), "__eq__", count)
    assert changes(many, many[1:]) == ((many[0],), ())
    assert len(compared) < 5 * len(many)


# the store


def test_a_write_reads_no_more_of_a_group_however_much_was_said_of_it(engine, memory, monkeypatch):
    opened = []
    rows = memory_module.MemoryRows
    original = rows._open
    monkeypatch.setattr(rows, "_open", lambda *a: opened.append(1) or original(*a))
    counts = []
    for start in (0, 1_000):
        for number in range(0, 1_000, 250):
            first = start + number
            memory.observe(ANN, [chat("likes tea", (3_000 - first - i) / 100) for i in range(250)])
        opened.clear()
        memory.observe(ANN, chat("likes tea", -start / 10_000))
        counts.append(len(opened))
    assert counts[1] == counts[0] <= 2 * MOST_COUNTED + 256 + 4
    assert memory.replay(ANN).agrees
    (tea,) = memory.believed(ANN)
    assert len(tea.support) == MOST_COUNTED


def test_what_counts_in_the_store_is_what_counts_in_a_replay_at_one_moment_too(memory):
    messages = [chat("likes tea", 3, source=f"s{number}") for number in range(700)]
    random.Random(2).shuffle(messages)
    for start in range(0, 700, 90):
        memory.observe(ANN, messages[start : start + 90])
    assert memory.replay(ANN).agrees
    for name in memory.believed(ANN)[0].support[:5]:
        memory.forget(ANN, name)
    assert memory.replay(ANN).agrees and len(memory.believed(ANN)[0].support) == MOST_COUNTED


def test_a_forgotten_proposition_takes_the_evidence_along_that_no_longer_counted(memory):
    memory.observe(ANN, [chat("likes tea", number / 100) for number in range(400)])
    memory.observe(ANN, chat("lives in Rome", 1))
    tea = next(p for p in memory.believed(ANN) if p.object == "tea")
    receipt = memory.forget(ANN, tea.proposition_id)
    assert receipt["forgotten"]["observations"] == 400
    assert [p.text for p in memory.timeline(ANN)] == ["lives in Rome"]
    assert memory.replay(ANN).agrees


def test_large_writes_are_several_transactions_each_of_which_is_whole(engine, memory, monkeypatch):
    monkeypatch.setattr(memory_module, "AT_ONCE", 10)
    monkeypatch.setattr(memory_module, "FORGOTTEN_AT_ONCE", 4)
    monkeypatch.setattr(memory_module, "DELETED_AT_ONCE", 20)
    jobs = []

    def write(job):
        from tailor.store.engine import writing

        with writing(engine) as connection:
            jobs.append(1)
            result = job(connection)
        assert Memory(engine, "shop", (Stated(),), clock=lambda: NOW_MS).replay(ANN).agrees
        return result

    sliced = replace(memory, write=write)
    observed = sliced.observe(ANN, [chat(f"likes tea {i}", i / 100) for i in range(35)])
    assert len(jobs) == 4 and len(observed.new) == 35 == len(observed.believed)
    jobs.clear()
    receipt = sliced.forget(ANN, query="tea 1")
    assert receipt["forgotten"]["observations"] == 1 and receipt["residue"] == 0
    exported = memory.export(ANN)
    assert len(sliced.import_(BOB, exported).new) == 34
    jobs.clear()
    receipt = sliced.forget(ANN, query="tea")
    assert receipt["forgotten"]["observations"] == 34 and len(jobs) == 9 + 1
    assert memory.timeline(ANN) == ()
    jobs.clear()
    receipt = replace(sliced, write=write).forget(BOB, all=True)
    assert receipt["forgotten"]["observations"] == 34 and len(jobs) == 4
    assert memory.export(BOB)["observations"] == []


def test_a_memory_that_was_forgotten_in_part_is_mended_by_the_next_reading(
    engine, memory, monkeypatch
):
    monkeypatch.setattr(memory_module, "DELETED_AT_ONCE", 20)
    memory.observe(ANN, [chat(f"likes tea {i}", i / 100) for i in range(30)])
    jobs = []

    def write(job):
        from tailor.store.engine import writing

        if len(jobs) == 2:
            raise RuntimeError("power cut")
        with writing(engine) as connection:
            jobs.append(1)
            return job(connection)

    with pytest.raises(RuntimeError, match="power cut"):
        replace(memory, write=write).forget(ANN, all=True)
    assert memory.replay(ANN).agrees
    memory.forget(ANN, all=True)
    assert memory.timeline(ANN) == () and memory.export(ANN)["observations"] == []
