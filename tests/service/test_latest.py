"""A person's latest events are as of now, whoever wrote them and whoever took them away, however
they are remembered.
"""

import random
import threading

import pytest

sa = pytest.importorskip("sqlalchemy")

from store.databases import latest  # noqa: E402

from tailor.service import history_cache  # noqa: E402
from tailor.service.history_cache import NO_HISTORY, HistoryCache, HistoryReader  # noqa: E402
from tailor.store import retention, users  # noqa: E402
from tailor.store.engine import connect, writing  # noqa: E402
from tailor.store.events import add_events, latest_events  # noqa: E402


def add(engine, *events, tenant="shop"):
    """(event id, user, item, time) each, from wherever."""
    rows = [
        dict(zip(("event_id", "user_id", "item_id", "time_ms"), one, strict=True)) for one in events
    ]
    with writing(engine) as connection:
        add_events(connection, tenant, rows, 5_000)


@pytest.fixture
def other(url):
    """Another process's engine, as far as the database can tell."""
    made = connect(url)
    yield made
    made.dispose()


@pytest.fixture
def known(engine):
    return HistoryReader(engine, HistoryCache())


def test_what_others_write_stands_in_the_next_answer_in_the_order_of_time(engine, other, known):
    add(other, ("1", "ann", "tea", 10), ("2", "ann", "cup", 30), ("3", "bob", "pot", 5))
    assert (
        known.read("shop", "ann")[1].events
        == [("tea", 10), ("cup", 30)]
        == known.read("shop", "ann")[1].events
    )
    add(other, ("4", "ann", "late", 20), ("5", "bob", "jug", 6))
    add(other, ("6", "ann", "tie", 30), ("4", "ann", "twice", 99))
    add(other, ("own", "ann", "theirs", 7), tenant="else")
    assert known.read("shop", "ann")[1].events == [
        ("tea", 10),
        ("late", 20),
        ("cup", 30),
        ("tie", 30),
    ]
    assert known.read("shop", "bob")[1].events == [("pot", 5), ("jug", 6)] and known.read(
        "else", "ann"
    )[1].events == [("theirs", 7)]
    assert known.read("shop", "eve") == (0, NO_HISTORY) == known.read("shop", None)
    add(other, ("7", "eve", "new", 1))
    assert known.read("shop", "eve")[1].events == [("new", 1)]


def test_what_others_take_away_is_gone_from_the_next_answer(engine, other, known):
    add(engine, *((str(i), user, f"item {i}", i) for i, user in enumerate(("ann", "bob") * 5)))
    assert len(known.read("shop", "ann")[1].events) == len(known.read("shop", "bob")[1].events) == 5
    with writing(other) as connection:
        users.erase(connection, "shop", "ann")
    assert (
        known.read("shop", "ann")[1].events == [] and len(known.read("shop", "bob")[1].events) == 5
    )
    add(other, ("again", "ann", "fresh", 50))
    assert known.read("shop", "ann")[1].events == [("fresh", 50)]
    retention.prune(other, 86_400_000 + 5, 1, None)
    assert [time_ms for _, time_ms in known.read("shop", "bob")[1].events] == [5, 7, 9]


def test_the_last_event_taken_away_and_another_with_its_number(engine, other, known):
    add(engine, ("1", "bob", "tea", 1), ("2", "ann", "cup", 2))
    assert known.read("shop", "bob")[1].events == [("tea", 1)] and known.read("shop", "ann")[
        1
    ].events == [("cup", 2)]
    with writing(other) as connection:
        users.erase(connection, "shop", "ann")
    add(other, ("3", "bob", "pot", 3))
    assert (
        known.read("shop", "bob")[1].events == [("tea", 1), ("pot", 3)]
        and known.read("shop", "ann")[1].events == []
    )


def test_an_import_is_not_followed_event_by_event(engine, other, known, monkeypatch):
    monkeypatch.setattr(history_cache, "MOST_ADDED", 10)
    monkeypatch.setattr(history_cache, "MOST_EVENTS", 200)
    add(engine, ("first", "ann", "tea", 0))
    assert known.read("shop", "ann")[1].events == [("tea", 0)]
    add(other, *((str(i), "ann", f"item {i}", i + 1) for i in range(300)))
    assert known.read("shop", "ann")[1].events == [(f"item {i}", i + 1) for i in range(100, 300)]
    add(other, *((f"more {i}", "ann", f"more {i}", 1_000 + i) for i in range(5)))
    assert known.read("shop", "ann")[1].events == latest(other, "shop", "ann")[2]


def test_who_is_followed_is_not_asked_for_again_on_sqlite(engine, known, monkeypatch):
    add(engine, ("1", "ann", "tea", 1))
    known.read("shop", "ann")
    asked = []
    monkeypatch.setattr(
        history_cache, "latest_events", lambda *given: asked.append(given) or latest_events(*given)
    )
    known.read("shop", "ann")
    assert len(asked) == (engine.dialect.name != "sqlite")


def test_many_read_while_others_write_and_erase(engine, other, known):
    """Whoever has asked sees at least what was committed before, and in the end everything is as
    the store says.
    """
    names, ended, wrong = [f"u{i}" for i in range(6)], threading.Event(), []
    committed = dict.fromkeys(names, 0)  # events that a reader must see
    guard = {user: threading.Lock() for user in names}

    def write(seed):
        rng = random.Random(seed)
        for i in range(60):
            user = rng.choice(names)
            with guard[user]:
                if rng.random() < 0.1:
                    with writing(other) as connection:
                        users.erase(connection, "shop", user)
                    committed[user] = 0
                else:
                    add(other, (f"{seed}-{i}", user, f"{seed}-{i}", rng.randrange(1_000)))
                    committed[user] += 1

    def look(seed):
        rng = random.Random(seed)
        while not ended.is_set():
            user = rng.choice(names)
            with guard[user]:
                if len(known.read("shop", user)[1].events) != committed[user]:
                    wrong.append(user)

    readers = [threading.Thread(target=look, args=(i,)) for i in range(3)]
    writers = [threading.Thread(target=write, args=(i,)) for i in range(3)]
    for one in (*readers, *writers):
        one.start()
    for one in writers:
        one.join()
    ended.set()
    for one in readers:
        one.join()
    assert not wrong
    assert all(
        known.read("shop", user)[1].events == latest(other, "shop", user)[2] for user in names
    )
