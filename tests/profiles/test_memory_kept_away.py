"""What was forgotten, or was not to be remembered, comes back by no restore, repetition or delay."""

import gc
import itertools
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

sa = pytest.importorskip("sqlalchemy")

from profiles.stated import NOW_MS, Stated, chat  # noqa: E402

from tailor.errors import DataError  # noqa: E402
from tailor.profiles.memory import Memory  # noqa: E402
from tailor.store import users  # noqa: E402
from tailor.store.carrying import carry_over, read_replaced  # noqa: E402
from tailor.store.encryption import Seal  # noqa: E402
from tailor.store.engine import connect, key_file, reading, writing  # noqa: E402
from tailor.store.migrating import migrate  # noqa: E402
from tailor.store.schema import metadata, personal  # noqa: E402
from tailor.store.users import erase  # noqa: E402

ANN, BOB = "ann", "bob"
SECRET = "likes gambling in the old casino downtown"


@pytest.fixture
def memory(engine):
    return Memory(engine, "shop", (Stated(),), clock=lambda: NOW_MS)


def texts(propositions):
    return sorted(proposition.text for proposition in propositions)


def rows(engine, name):
    table = {**metadata.tables, **personal.tables}[name]
    with reading(engine) as connection:
        return list(connection.execute(sa.select(table)).mappings())


# sent again


def test_what_was_forgotten_stays_away_when_it_is_sent_again(memory):
    tea, figs = chat("likes tea", 2), chat("likes figs", 1)
    memory.observe(ANN, [tea, figs])
    exported = memory.export(ANN)
    memory.forget(ANN, tea.observation_id)
    again = memory.observe(ANN, [tea, figs, chat("likes salt")])
    assert (again.refused, again.repeats, len(again.new)) == (1, 1, 1)
    assert memory.import_(ANN, exported).refused == 1
    assert texts(memory.timeline(ANN)) == ["likes figs", "likes salt"]
    memory.forget(ANN, all=True)
    assert memory.observe(ANN, [tea, figs]).refused == 2 and memory.timeline(ANN) == ()
    later = replace(tea, occurred_ms=tea.occurred_ms + 1)  # said again is another observation
    assert memory.observe(ANN, later).new and memory.observe(BOB, tea).new
    assert memory.replay(ANN).agrees


def test_an_erasure_takes_the_notes_of_what_was_forgotten_along(engine, memory):
    memory.observe(ANN, [chat("likes tea", 2), chat("likes figs", 1)])
    memory.observe(BOB, chat("likes tea", 2))
    memory.forget(ANN, query="tea")
    memory.forget(BOB, query="tea")
    assert len(rows(engine, "personal.forgotten")) == 2
    with writing(engine) as connection:
        erase(connection, "shop", ANN)
    assert len(rows(engine, "personal.forgotten")) == 1


def test_what_is_past_its_retention_leaves_no_note(engine, memory):
    memory.observe(ANN, [chat("likes tea", 20), chat("likes figs", 1)])
    memory.retain(ANN, 10)
    assert texts(memory.timeline(ANN)) == ["likes figs"]
    assert rows(engine, "personal.forgotten") == []


# restored


@pytest.fixture
def store(tmp_path):
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    yield engine
    engine.dispose()


def copy_of(engine, folder, name):
    """Copy a store's file, or that of its keys, as `tailor store backup` does."""
    file = Path(engine.url.database)
    source = file if name == "store" else key_file(str(file))
    target = folder / f"copy of {name}.db"
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
    return target


def replace_by(copy, file):
    """Put a copy in a file's place, as a file of its own."""
    beside = file.with_suffix(".new")
    shutil.copy(copy, beside)
    beside.rename(file)


def put_back(engine, copy, keys=None):
    engine.dispose()
    gc.collect()  # a connection that is closed later would take the new files beside the store
    file = Path(engine.url.database)
    for path in file.parent.glob("store*-wal"):
        path.unlink()
    for path in file.parent.glob("store*-shm"):
        path.unlink()
    if keys is not None:
        replaced = read_replaced(key_file(str(file)), file)
        carry_over(replaced, keys, copy, Seal())
        replace_by(keys, Path(key_file(str(file))))
    replace_by(copy, file)
    return connect(f"sqlite:///{file}")


@pytest.mark.parametrize("with_keys", [False, True], ids=["store", "store and keys"])
def test_what_was_forgotten_comes_back_by_no_restore(store, tmp_path, with_keys):
    memory = Memory(store, "shop", (Stated(),), clock=lambda: NOW_MS)
    both = [chat("likes tea", 3), chat("likes tea", 2)]
    memory.observe(ANN, [*both, chat(SECRET, 1), chat("lives in Rome", 4)])
    memory.observe(BOB, chat(SECRET, 1))
    memory.save_profile(ANN, "text", SECRET)
    copies = [copy_of(store, tmp_path, name) for name in ("store", "keys")]
    memory.forget(ANN, query="gambling casino")
    memory.forget(ANN, both[0].observation_id)
    memory.observe(ANN, chat("likes salt"))
    restored = put_back(store, copies[0], copies[1] if with_keys else None)
    deleted = migrate(restored)
    assert deleted["observations"] == 2
    memory = Memory(restored, "shop", (Stated(),), clock=lambda: NOW_MS)
    assert texts(memory.timeline(ANN)) == ["likes tea", "lives in Rome"]
    assert memory.replay(ANN).agrees and memory.saved_profile(ANN, "text") is None
    (tea,) = (p for p in memory.timeline(ANN) if p.object == "tea")
    assert tea.support == (both[1].observation_id,)
    assert memory.residue(ANN, SECRET) == 0 and memory.recall(ANN, "casino").items == ()
    assert texts(memory.timeline(BOB)) == [SECRET]
    assert memory.observe(ANN, chat(SECRET, 1)).refused == 1
    assert not any(migrate(restored).values())
    restored.dispose()


def test_a_restored_memory_is_mended_by_a_write_too_and_withdrawn_words_stay_away(store, tmp_path):
    memory = Memory(store, "shop", (Stated(),), clock=lambda: NOW_MS)
    memory.observe(ANN, [chat("likes tea", 3), chat(SECRET, 2), chat("likes tea", 2.5)])
    copy = copy_of(store, tmp_path, "store")
    wish = chat("Please don't remember that.", 1.9)
    memory.observe(ANN, wish)
    restored = put_back(store, copy)
    migrate(restored)
    memory = Memory(restored, "shop", (Stated(),), clock=lambda: NOW_MS)
    memory.observe(ANN, [chat("likes salt"), wish, chat(SECRET, 2)])
    assert texts(memory.timeline(ANN)) == ["likes salt", "likes tea"]
    assert memory.replay(ANN).agrees and memory.residue(ANN, SECRET) == 0
    restored.dispose()


def test_a_crash_between_the_commits_of_the_two_files_undoes_no_forgetting(store, tmp_path):
    memory = Memory(store, "shop", (Stated(),), clock=lambda: NOW_MS)
    memory.observe(ANN, [chat("likes tea", 3), chat(SECRET, 2)])
    copy = copy_of(store, tmp_path, "store")
    memory.forget(ANN, query="casino")
    after = put_back(store, copy)  # the key store alone was written
    migrate(after)
    assert texts(Memory(after, "shop", (Stated(),)).timeline(ANN)) == ["likes tea"]
    after.dispose()


# receipts


def test_receipts_of_forgetting_are_stored_and_say_what_is_left(engine, memory):
    memory.observe(ANN, [chat(SECRET, 2), chat(f"I said: {SECRET}", 1), chat("likes tea")])
    observation_id = memory.recall(ANN, "casino", most_sensitivity=3).items[0].observation_ids[0]
    receipt = memory.forget(ANN, observation_id)
    assert receipt["residue"] == 1  # it was said twice
    stored = memory.receipt(receipt["receipt_id"])
    assert stored == receipt and memory.receipt("none") is None
    assert receipt["overwritten"] is (True if engine.dialect.name == "sqlite" else None)
    with writing(engine) as connection:
        public = users.public_key(users.signing_key(connection))
    assert users.receipt_holds(stored, public) and ANN not in json.dumps(stored)
    other = Memory(engine, "rival", (Stated(),))
    assert other.receipt(receipt["receipt_id"]) is None
    # a receipt of forgetting is none of erasure: nobody is refused by it
    assert memory.observe(ANN, chat("likes figs", 5)).refused == 0


# wishes, in whatever order


FIRST = chat("likes tea", 3, source="s1")
SAID = chat(SECRET, 2, source="s1")
WISH = chat("Please don't remember that.", 1.9, source="s1")
LAST = chat("likes salt", 1, source="s1")
ELSEWHERE = chat("likes figs", 1.95, source="s2")


ORDERS = [
    order
    for three in itertools.permutations([FIRST, SAID, WISH])
    for order in ([ELSEWHERE, *three, LAST], [LAST, *three, ELSEWHERE])
]


@pytest.mark.parametrize("order", ORDERS)
def test_a_secret_is_not_kept_in_whatever_order_it_and_the_wish_arrive(memory, order):
    for message in order:
        memory.observe(ANN, message)
    # without the secret, the message before the wish seemed to be meant
    kept = {"likes figs", "likes salt"} | ({"likes tea"} if kept_first(order) else set())
    assert set(texts(memory.timeline(ANN))) == kept
    assert memory.residue(ANN, SECRET) == 0 and memory.replay(ANN).agrees
    assert memory.observe(ANN, SAID).refused == 1


def kept_first(order):
    """Whether the first message was never the last known one before the wish."""
    places = {message: place for place, message in enumerate(order)}
    return places[SAID] < max(places[WISH], places[FIRST])


def test_a_wish_that_was_heeded_takes_nothing_more_that_was_kept(memory):
    memory.observe(ANN, [FIRST, SAID, WISH])
    memory.forget(ANN, SAID.observation_id)  # its place among the messages goes too
    memory.observe(ANN, [chat("likes rain", 3.5, source="s1"), WISH])
    assert texts(memory.timeline(ANN)) == ["likes rain", "likes tea"]


def test_messages_of_one_moment_stand_in_the_order_in_which_they_came(memory):
    at_once = ["likes tea", SECRET, "Don't remember that.", "likes salt"]
    memory.observe(ANN, [chat(text) for text in at_once])
    assert texts(memory.timeline(ANN)) == ["likes salt", "likes tea"]


def test_another_speaker_and_an_assistant_take_nothing_back(memory):
    memory.observe(ANN, [chat("likes tea", 2), chat("Don't remember that.", 1, speaker="Eve")])
    assert texts(memory.timeline(ANN)) == ["likes tea"]
    memory.observe(ANN, chat("Don't remember that.", 0.5, speaker="assistant"))
    assert texts(memory.timeline(ANN)) == ["likes tea"]


def test_forgetting_takes_one_choice(memory):
    memory.observe(ANN, chat("likes tea"))
    with pytest.raises(DataError, match="one of"):
        memory.forget(ANN)
