"""What is stored stays, once; what is erased goes, from everywhere; nobody sees another's."""

import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sa = pytest.importorskip("sqlalchemy")

from alembic.autogenerate import compare_metadata  # noqa: E402
from alembic.migration import MigrationContext  # noqa: E402
from store.databases import NO_MEMORY, latest  # noqa: E402

from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.event_ids import with_event_ids  # noqa: E402
from tailor.errors import DataError, StoreError  # noqa: E402
from tailor.store import (  # noqa: E402
    catalogue,
    keys,
    retention,
    users,
)
from tailor.store import engine as engine_module  # noqa: E402
from tailor.store.datasets import stored_dataset  # noqa: E402
from tailor.store.engine import Lookup, Outage, connect, held, reading, writing  # noqa: E402
from tailor.store.events import add_events, count_events  # noqa: E402
from tailor.store.impressions import ListLog, ServedList, write_lists  # noqa: E402
from tailor.store.loading import load_dataset  # noqa: E402
from tailor.store.migrating import migrate  # noqa: E402
from tailor.store.models import (  # noqa: E402
    PREDICTS,
    RECOMMENDS,
    add_model,
    current_model,
    list_models,
    previous_model,
    roll_back,
    serve_model,
    served_versions,
    tenants,
)
from tailor.store.schema import items, metadata  # noqa: E402
from tailor.store.subjects import subject_of  # noqa: E402
from tailor.store.writer import UnavailableError, Writer  # noqa: E402


def event(event_id, user="ann", item="tea", time_ms=1_000, **more):
    return {"event_id": event_id, "user_id": user, "item_id": item, "time_ms": time_ms, **more}


def events(engine, *rows, tenant="shop"):
    with writing(engine) as connection:
        return add_events(connection, tenant, rows, 5_000)


def read(engine, job, *given):
    with reading(engine) as connection:
        return job(connection, *given)


def write(engine, job, *given, **named):
    with writing(engine) as connection:
        return job(connection, *given, **named)


def test_a_lookup_that_fails_says_so_as_any_reading_does_and_leaves_a_sound_connection(engine):
    wrong = Lookup(
        sa.select(sa.literal_column("no_such_column")).select_from(metadata.tables["events"])
    )
    with pytest.raises(sa.exc.DBAPIError) as failed:
        wrong.rows(engine)
    assert not failed.value.params
    with pytest.raises(KeyError):
        Lookup(sa.select(sa.literal(1))).rows(_broken(engine))
    events(engine, event("1"))
    with writing(engine) as connection:
        add_events(connection, "shop", [event("2")], 5_000)
        connection.rollback()
    assert len(latest(engine, "shop", "ann")[2]) == 1  # whoever writes still has a transaction


def _broken(engine):
    """The engine, whose connections cannot be read from."""

    class Driver:
        def __setattr__(self, name, value):
            pass

        def execute(self, *_):
            raise KeyError("execute")

    class Pooled:
        driver_connection = Driver()

        def __init__(self):
            self.real = engine.raw_connection()
            self.invalidate, self.close = self.real.invalidate, self.real.close

    class Engine:
        dialect = engine.dialect
        raw_connection = staticmethod(Pooled)

    return Engine()


def test_an_event_counts_once_however_often_it_is_sent(engine):
    assert events(engine, event("1"), event("2"), event("1")) == {"1", "2"}
    assert events(engine, event("2", item="other"), event("3")) == {"3"}
    assert read(engine, count_events, "shop") == (3, read(engine, count_events, "shop")[1])
    assert [one for one, _ in latest(engine, "shop", "ann")[2]] == ["tea"] * 3


def test_a_history_is_in_the_order_of_time_then_of_arrival_and_only_the_latest_are_read(engine):
    events(
        engine,
        event("c", item="third", time_ms=3),
        event("a", item="first", time_ms=1),
        event("b", item="second", time_ms=3),
    )
    assert latest(engine, "shop", "ann")[2] == [("first", 1), ("third", 3), ("second", 3)]
    assert latest(engine, "shop", "ann", 2)[2] == [("third", 3), ("second", 3)]


def test_tenants_share_nothing(engine):
    events(engine, event("1"), tenant="a")
    events(engine, event("1", item="own"), tenant="b")
    assert latest(engine, "b", "ann")[2] == [("own", 1_000)]
    write(engine, catalogue.upsert_items, "a", [{"item_id": "tea", "title": "Tea"}])
    assert (
        read(engine, catalogue.item, "b", "tea") is None
        and read(engine, catalogue.version, "b") == 0
    )
    assert write(engine, users.erase, "a", "ann")["rows"]["events"] == 1
    assert latest(engine, "b", "ann")[2] == [("own", 1_000)]


def test_whoever_asks_what_changed_misses_nothing(engine):
    seen = write(
        engine,
        catalogue.upsert_items,
        "shop",
        [{"item_id": "a", "title": "A", "more": {"colour": "red"}}, {"item_id": "b", "price": 2.0}],
    )
    assert [row["item_id"] for row in read(engine, catalogue.items_since, "shop", 0)] == ["a", "b"]
    write(engine, catalogue.upsert_items, "shop", [{"item_id": "b", "price": 3.0}])
    write(engine, catalogue.block, "shop", "c", catalogue.TAKEN_DOWN)
    changed = read(engine, catalogue.items_since, "shop", seen)
    assert [(row["item_id"], row["price"], row["blocked"]) for row in changed] == [
        ("b", 3.0, None),
        ("c", None, "taken down"),
    ]
    assert read(engine, catalogue.version, "shop") == max(row["changed"] for row in changed)


def test_a_deleted_item_comes_back_when_written_and_one_taken_down_does_not(engine):
    tea = [{"item_id": "tea", "title": "Tea"}]
    write(engine, catalogue.upsert_items, "shop", tea)
    write(engine, catalogue.block, "shop", "tea", catalogue.DELETED)
    assert read(engine, catalogue.item, "shop", "tea")["title"] is None
    write(engine, catalogue.upsert_items, "shop", tea)
    assert read(engine, catalogue.item, "shop", "tea")["blocked"] is None
    write(engine, catalogue.block, "shop", "tea", catalogue.TAKEN_DOWN)
    write(engine, catalogue.upsert_items, "shop", tea)
    assert read(engine, catalogue.item, "shop", "tea")["blocked"] == "taken down"
    assert write(engine, catalogue.restore, "shop", "tea") and not write(
        engine, catalogue.restore, "shop", "tea"
    )
    assert read(engine, catalogue.item, "shop", "tea")["blocked"] is None


@pytest.mark.parametrize(
    "order", [(catalogue.DELETED, catalogue.TAKEN_DOWN), (catalogue.TAKEN_DOWN, catalogue.DELETED)]
)
def test_an_item_both_deleted_and_taken_down_needs_both_undone(engine, order):
    tea = [{"item_id": "tea", "title": "Tea"}]

    def both():
        write(engine, catalogue.upsert_items, "shop", tea)
        for why in order:
            write(engine, catalogue.block, "shop", "tea", why)

    both()
    assert write(engine, catalogue.restore, "shop", "tea")
    assert read(engine, catalogue.item, "shop", "tea")["blocked"] == "deleted"
    both()
    write(engine, catalogue.upsert_items, "shop", tea)
    assert read(engine, catalogue.item, "shop", "tea")["blocked"] == "taken down"
    assert write(engine, catalogue.restore, "shop", "tea")
    assert read(engine, catalogue.item, "shop", "tea")["blocked"] is None


def test_a_key_is_nowhere_in_the_store_and_opens_nothing_once_revoked(engine):
    key = write(engine, keys.make_key, "shop", "write", "site")
    assert read(engine, keys.caller, key) == keys.Caller("shop", "write", "site")
    assert read(engine, keys.caller, key + "x") is None
    for table in metadata.sorted_tables:
        assert key not in str(
            read(engine, lambda connection, table=table: connection.execute(sa.select(table)).all())
        )
    assert write(engine, keys.revoke, "shop", "site") == 1
    assert read(engine, keys.caller, key) is None
    with pytest.raises(StoreError, match="no role"):
        write(engine, keys.make_key, "shop", "boss", "x")
    for tenant in ("", "..", ".hidden", "a/b", "a" * 65, "a b"):
        with pytest.raises(StoreError, match="cannot name a tenant"):
            write(engine, keys.make_key, tenant, "read", "x")


def test_roles_hold_those_below():
    assert [keys.Caller("t", "write", "n").may(role) for role in keys.ROLES] == [True] * 3 + [False]


def served(request_id, user="ann", shown=(("tea", 1.0, 1.0), ("cup", 0.5, 1.0)), text=None):
    return ServedList("shop", request_id, user, 7, "recommendations", text, "m@1", shown)


def test_erasure_takes_everything_of_one_person_and_nothing_of_others(engine):
    events(
        engine, event("1", action="ann's words"), event("2", user="bob"), event("3", user="ann2")
    )
    write(engine, users.upsert_user, "shop", "ann", {"country": "NO"})
    write(engine, write_lists, [served("r1", text="green tea"), served("r2", "bob")])
    export = read(engine, users.export, "shop", "ann")
    assert {name: len(rows) for name, rows in export.items()} == {
        "impressions": 2,
        "requests": 1,
        "events": 1,
        "people": 1,
        **NO_MEMORY,
    }
    receipt = write(engine, users.erase, "shop", "ann")
    erased = {"impressions": 2, "requests": 1, "events": 1, "people": 1}
    assert receipt["rows"] == {**erased, **NO_MEMORY}
    assert not any(receipt["scanned"].values()) and not any(
        read(engine, users.export, "shop", "ann").values()
    )
    assert {
        name: len(rows) for name, rows in read(engine, users.export, "shop", "bob").items()
    } == {
        "impressions": 2,
        "requests": 1,
        "events": 1,
        "people": 0,
        **NO_MEMORY,
    }
    everything = "".join(
        str(
            read(engine, lambda connection, table=table: connection.execute(sa.select(table)).all())
        )
        for table in metadata.sorted_tables
    )
    assert (
        "green tea" not in everything
        and "'ann'" not in everything
        and "NO" not in everything.replace("NONE", "")
    )


def test_a_receipt_is_signed_and_a_changed_one_is_not(engine):
    receipt = write(engine, users.erase, "shop", "ann")
    assert users.receipt_holds(receipt, receipt["public_key"])
    assert not users.receipt_holds({**receipt, "rows": {"events": 9}}, receipt["public_key"])
    assert not users.receipt_holds(receipt, "00" * 32)
    assert write(engine, users.erase, "shop", "ann")["public_key"] == receipt["public_key"]
    assert receipt["subject"] != write(engine, users.erase, "shop", "bob")["subject"]


def test_a_scan_finds_an_id_in_any_column_and_no_longer_word(engine):
    write(engine, users.upsert_user, "shop", "bob", {"friends": ["ann", "eve%"]})
    events(engine, event("1", user="ann12"))
    stores = {one.name: one for one in users.ERASABLES}
    assert read(engine, stores["people"].scan, "shop", "ann") == 1
    assert read(engine, stores["people"].scan, "shop", "eve%") == 1
    assert read(engine, stores["people"].scan, "shop", "ev__") == 0
    assert read(engine, stores["events"].scan, "shop", "ann") == 0


def test_what_was_erased_while_it_waited_to_be_written_is_not_written(engine):
    write(engine, users.erase, "shop", "ann")
    # at 7 ms, long before the erasure
    write(engine, write_lists, [served("before"), served("other", "bob")])
    assert not any(read(engine, users.export, "shop", "ann").values())
    assert read(engine, users.export, "shop", "bob")["requests"]


def test_a_request_that_is_there_stays_as_it_is(engine):
    write(engine, write_lists, [served("r"), served("r", "bob", (("x", 1.0, 1.0),))])
    write(
        engine,
        write_lists,
        [served("r", "bob", (("a", 1.0, 1.0), ("b", 1.0, 1.0), ("c", 1.0, 1.0)))],
    )
    assert [row["item_id"] for row in read(engine, users.export, "shop", "ann")["impressions"]] == [
        "tea",
        "cup",
    ]
    assert not read(engine, users.export, "shop", "bob")["requests"]


def test_the_last_model_put_in_place_answers_and_the_one_before_can_come_back(engine):
    assert read(engine, current_model, "shop") is None
    first, second = (
        write(engine, add_model, "shop", "/a", "da"),
        write(engine, add_model, "shop", "/b", "db"),
    )
    assert (first, second, write(engine, add_model, "shop", "/moved", "da")) == (1, 2, 1)
    for version in (1, 2, 1):
        write(engine, serve_model, "shop", version)
    assert [row["version"] for row in read(engine, list_models, "shop")] == [1, 2]
    assert read(engine, current_model, "shop")["folder"] == "/moved"
    assert read(engine, tenants) == ["shop"]
    with pytest.raises(StoreError, match="no model version 9"):
        write(engine, serve_model, "shop", 9)


def serve_all(engine, *versions):
    for version in versions:
        write(engine, serve_model, "shop", version)


def test_rollbacks_go_back_through_what_was_put_in_place(engine):
    for digest, kind in (("a", RECOMMENDS), ("b", RECOMMENDS), ("c", RECOMMENDS), ("p", PREDICTS)):
        write(engine, add_model, "shop", f"/{digest}", digest, kind=kind)
    serve_all(engine, 1, 2, 1, 1, 4, 3)

    def before(kind=RECOMMENDS):
        row = read(engine, previous_model, "shop", kind)
        return None if row is None else row["version"]

    assert read(engine, served_versions, "shop", RECOMMENDS) == [1, 2, 1, 3]
    passed = []
    while (version := before()) is not None:
        write(engine, roll_back, "shop", version)
        passed.append(version)
        assert read(engine, current_model, "shop")["version"] == version
    assert passed == [1, 2, 1] and before(PREDICTS) is None
    assert read(engine, current_model, "shop", PREDICTS)["version"] == 4
    serve_all(engine, 3)
    assert before() == 1
    with pytest.raises(StoreError, match="meanwhile"):  # somebody else rolled back
        write(engine, roll_back, "shop", 2)
    with pytest.raises(StoreError, match="no model version 9"):
        write(engine, roll_back, "shop", 9)
    assert read(engine, served_versions, "shop", RECOMMENDS) == [1, 3]


def test_the_order_of_an_earlier_tailor_is_that_of_served_ms(engine):
    for digest in "abc":
        write(engine, add_model, "shop", f"/{digest}", digest)
    serve_all(engine, 1, 2)
    with writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM marks WHERE name = 'served recommends of shop'")
    assert read(engine, served_versions, "shop", RECOMMENDS) == [1, 2]
    write(engine, roll_back, "shop", 1)
    with writing(engine) as connection:  # it goes on beside this one
        connection.exec_driver_sql("UPDATE models SET served_ms = 9000000000000 WHERE version = 3")
    assert read(engine, served_versions, "shop", RECOMMENDS) == [1, 3]
    assert read(engine, previous_model, "shop")["version"] == 1
    with writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM models WHERE version = 1")
    assert read(engine, previous_model, "shop") is None


def test_the_migrated_tables_are_those_of_the_schema(engine):
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert migrate(engine) == migrate(engine)


def test_tables_of_a_newer_version_are_refused(engine):
    write(
        engine,
        lambda connection: connection.exec_driver_sql(
            "UPDATE alembic_version SET version_num = '9999'"
        ),
    )
    with pytest.raises(StoreError, match="9999"):
        migrate(engine)


def test_jobs_that_wait_are_written_together_and_a_bad_one_takes_nothing_from_the_others(engine):
    writer, answers = Writer(engine), []

    def one(i):
        try:
            answers.append(
                writer.do(
                    lambda connection: add_events(
                        connection, "shop", [event(str(i), user=None if i == 7 else "ann")], 0
                    )
                )
            )
        except sa.exc.IntegrityError:
            answers.append("refused")

    threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert sorted(map(str, answers)) == sorted(
        ["refused", *(str({str(i)}) for i in range(40) if i != 7)]
    )
    assert read(engine, count_events, "shop")[0] == 39 and writer.commits <= 40
    with pytest.raises(UnavailableError, match="stopping"):
        writer.do(lambda connection: None)


def test_a_database_that_is_away_is_said_to_be_and_comes_back(engine, monkeypatch):
    writer, real = Writer(engine), engine.connect

    def away(*_):
        raise sa.exc.OperationalError("SELECT 'secret'", None, Exception("connection refused"))

    monkeypatch.setattr(engine, "connect", away, raising=False)
    with pytest.raises(UnavailableError, match="connection refused") as caught:
        writer.do(lambda connection: 1)
    assert "secret" not in str(caught.value)
    monkeypatch.setattr(engine, "connect", real, raising=False)
    assert writer.do(lambda connection: 1) == 1
    writer.close()


def test_nobody_waits_twice_for_a_machine_that_answers_nothing(monkeypatch):
    pytest.importorskip("psycopg")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        engine = connect(f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x")
        told = []
        for _ in range(3):
            with pytest.raises(sa.exc.OperationalError) as refused:
                engine.connect()
            told.append("nobody answers at the address" in str(refused.value))
    # the first waits for the machine, the others are told at once
    assert told == [False, True, True]


def test_a_machine_that_answers_again_is_noticed_and_one_that_refuses_is_asked_every_time(
    monkeypatch,
):
    monkeypatch.setattr(engine_module, "SILENT_S", 0.2)
    asked, state = [], ["silent"]

    class Dialect:
        loaded_dbapi = sqlite3

        @staticmethod
        def connect(database):
            asked.append(threading.current_thread())
            if state[0] != "well":
                time.sleep(0.4 if state[0] == "silent" else 0)
                raise sqlite3.OperationalError(state[0])
            return sqlite3.connect(database, check_same_thread=False)

    outage = Outage()

    def ask():
        return outage.connect(Dialect, None, (":memory:",), {})

    for _ in range(5):
        with pytest.raises(sqlite3.OperationalError):
            ask()
    assert asked.count(threading.current_thread()) == 1
    state[0] = "well"
    for _ in range(1_000):
        with suppress(sqlite3.OperationalError):
            ask().close()
            break
        time.sleep(0.02)
    ask().close()
    state[0], before = "refused", len(asked)
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="refused"):
            ask()
    assert len(asked) == before + 3


def test_a_connection_gives_up_a_machine_that_is_gone(engine):
    if engine.dialect.name == "sqlite":
        pytest.skip("a file has no machine of its own")
    with engine.connect() as connection:
        said = connection.connection.driver_connection.info.get_parameters()
    assert int(said["tcp_user_timeout"]) <= 10_000 and int(said["keepalives_idle"]) <= 10


class DeadlockError(Exception):
    """As the driver of PostgreSQL says it."""

    sqlstate = "40P01"


@pytest.mark.parametrize(("times", "ends"), [(1, "well"), (2, "well"), (3, "away")])
def test_a_transaction_that_was_ended_by_a_deadlock_is_made_again_whole(engine, times, ends):
    writer, left, begun = Writer(engine), [times], []

    def stopped(connection):
        begun.append("stopped")
        events_in(connection, "2")
        if left[0]:
            left[0] -= 1
            raise sa.exc.OperationalError("INSERT", None, DeadlockError("deadlock detected"))
        return "done"

    begins, waits = threading.Event(), threading.Event()
    first = writer.later(lambda connection: begins.set() or waits.wait(60))
    assert begins.wait(60)  # so that what follows stands in one transaction
    jobs = [
        writer.later(lambda connection: events_in(connection, "1")),
        writer.later(stopped),
        writer.later(lambda connection: 1 / 0),
    ]
    waits.set()
    assert first.result(60)
    if ends == "well":
        assert [jobs[0].result(60), jobs[1].result(60)] == [{"1"}, "done"]
        with pytest.raises(ZeroDivisionError):
            jobs[2].result(60)
    else:
        for job in jobs:
            with pytest.raises(UnavailableError, match="deadlock"):
                job.result(60)
    assert len(begun) == min(times + 1, 3) and read(engine, count_events, "shop")[0] == (
        2 if ends == "well" else 0
    )
    assert writer.do(lambda connection: events_in(connection, "3")) == {"3"}
    writer.close()


def events_in(connection, event_id):
    return add_events(connection, "shop", [event(event_id)], 0)


def test_two_who_wait_for_each_other_both_end_well(engine, url):
    """The database ends one of them, which begins again."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    write(engine, catalogue.upsert_items, "shop", [{"item_id": "tea"}, {"item_id": "cup"}])
    writer, other, tries = Writer(engine), connect(url), []
    mine, theirs = threading.Event(), threading.Event()

    def held(connection, item_id):
        connection.execute(
            sa.update(items)
            .where(items.c.item_id == item_id)
            .values(price=items.c.price + 1, title="held")
        )

    def job(connection):
        tries.append(len(tries))
        held(connection, "tea")
        mine.set()
        assert theirs.wait(10)
        held(connection, "cup")
        return "done"

    def meanwhile():
        with writing(other) as connection:
            # so that it is not this one that is ended
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = '60s'")
            held(connection, "cup")
            theirs.set()
            assert mine.wait(10)
            held(connection, "tea")

    thread = threading.Thread(target=meanwhile)
    thread.start()
    assert writer.do(job) == "done" and tries[:2] == [0, 1]  # it may be ended once more
    thread.join()
    writer.close()
    other.dispose()


def test_served_lists_wait_for_a_database_that_is_away(engine, monkeypatch):
    writer = Writer(engine)
    log, real = ListLog(writer, every_s=0.02), writer.do
    monkeypatch.setattr(
        writer, "do", lambda job, timeout_s=1: (_ for _ in ()).throw(UnavailableError("away"))
    )
    log.add(served("r1"))
    threading.Event().wait(0.1)
    monkeypatch.setattr(writer, "do", real)
    log.close()
    writer.close()
    assert (
        log.lost == 0
        and read(engine, users.export, "shop", "ann")["requests"][0]["request_id"] == "r1"
    )


def test_a_data_set_goes_into_the_store_and_comes_out(engine):
    data = Dataset.from_events(
        {
            "user_id": ["a", "b", "a"],
            "item_id": ["x", "y", "z"],
            "time_ms": [10, 20, 30],
            "value": [1.0, None, 2.5],
        },
        {"item_id": ["x", "y", "z"], "title": ["X", None, "Zed"], "colour": ["red", None, "blue"]},
        name="small",
    )
    assert load_dataset(engine, "shop", data) == {
        "items": 3,
        "new items": 3,
        "changed items": 0,
        "events": 3,
        "new events": 3,
    }
    assert load_dataset(engine, "shop", data)["new events"] == 0
    out = stored_dataset(engine, "shop")
    assert out.events.select("user_id", "item_id", "time_ms", "value").equals(
        data.events.select("user_id", "item_id", "time_ms", "value")
    )
    assert out.item_table.sort("item_id")["colour"].to_list() == ["red", None, "blue"]
    write(engine, catalogue.block, "shop", "z", catalogue.TAKEN_DOWN)
    assert "z" not in stored_dataset(engine, "shop").catalogue
    with pytest.raises(DataError, match="no events yet"):
        stored_dataset(engine, "nobody")
    with pytest.raises(DataError, match="no times"):
        load_dataset(engine, "shop", Dataset.from_events({"user_id": ["a"], "item_id": ["x"]}))


def test_a_data_set_that_is_loaded_again_changes_nothing_that_happened_since(engine):
    """As at every restart of `tailor serve --data`: items that were written, deleted or taken down
    stay so, and who was erased stays away.
    """
    data = Dataset.from_events(
        {"user_id": ["ann", "bob", "ann"], "item_id": ["x", "y", "z"], "time_ms": [10, 20, 30]},
        {"item_id": ["x", "y", "z", "w"], "title": ["X", "Y", "Z", "W"]},
        name="small",
    )
    load_dataset(engine, "shop", data)
    write(engine, catalogue.upsert_items, "shop", [{"item_id": "w", "title": "Better words"}])
    write(engine, catalogue.block, "shop", "x", catalogue.DELETED)
    write(engine, catalogue.block, "shop", "y", catalogue.TAKEN_DOWN)
    write(engine, users.erase, "shop", "ann")
    before = read(engine, catalogue.items_since, "shop")
    assert load_dataset(engine, "shop", data) == {
        "items": 4,
        "new items": 0,
        "changed items": 0,
        "events": 3,
        "new events": 0,
    }
    assert read(engine, catalogue.items_since, "shop") == before
    assert not any(read(engine, users.export, "shop", "ann").values()) and not known(engine, "ann")
    assert load_dataset(engine, "else", data) == {
        "items": 4,
        "new items": 4,
        "changed items": 0,
        "events": 3,
        "new events": 3,
    }


DAYS = [
    {"user_id": ["ann", "bob", "ann"], "item_id": ["x", "x", "y"], "time_ms": [10, 20, 30]},
    {"user_id": ["bob", "ann", "cat"], "item_id": ["y", "x", "z"], "time_ms": [40, 10, 50]},
]


def events_loaded(engine, columns, name):
    return load_dataset(engine, "shop", Dataset.from_events(columns, name=name))["new events"]


@pytest.mark.parametrize("names", [("DATA", "DATA"), ("day1", "day2")])
def test_two_days_without_event_ids_both_arrive_whatever_the_folder(engine, names):
    assert events_loaded(engine, DAYS[0], names[0]) == 3
    # ann's first event is in both logs: once
    assert events_loaded(engine, DAYS[1], names[1]) == 2
    for day in DAYS:
        assert events_loaded(engine, day, "again") == 0
    both = {name: DAYS[1][name][::-1] + DAYS[0][name] for name in DAYS[0]}
    both = {name: values[:1] + values[2:] for name, values in both.items()}
    assert events_loaded(engine, both, "both days, in another order") == 0
    assert len(stored_dataset(engine, "shop").events) == 5


def test_a_late_event_in_the_middle_of_a_log_is_the_only_new_one(engine):
    assert events_loaded(engine, DAYS[0], "log") == 3
    late = {"user_id": ["bob"], "item_id": ["y"], "time_ms": [15]}
    longer = {name: DAYS[0][name][:1] + late[name] + DAYS[0][name][1:] for name in late}
    assert events_loaded(engine, longer, "log") == 1
    assert len(stored_dataset(engine, "shop").events) == 4


def test_equal_events_of_one_log_count_as_often_as_they_stand_there(engine):
    twice = {name: values[:1] * 2 for name, values in DAYS[0].items()}
    assert events_loaded(engine, twice, "log") == 2
    assert events_loaded(engine, twice, "log") == 0


def test_made_event_ids_do_not_tell_a_reader_of_the_table_whose_they_are(engine):
    events_loaded(engine, DAYS[0], "log")
    plain = with_event_ids(Dataset.from_events(DAYS[0]).events)["event_id"]
    assert not set(plain) & set(stored_dataset(engine, "shop").events["event_id"])


def shelf(engine):
    return {row["item_id"]: row for row in read(engine, catalogue.items_since, "shop")}


def test_a_changed_price_reaches_the_store_and_nothing_else_does(engine):
    columns = {"user_id": ["a"], "item_id": ["x"], "time_ms": [1]}
    items = {"item_id": list("wxyz"), "title": list("WXYZ"), "price": [1.0, 2.0, 3.0, 4.0]}
    load_dataset(engine, "shop", Dataset.from_events(columns, items))
    write(engine, catalogue.upsert_items, "shop", [{"item_id": "w", "title": "by a caller"}])
    write(engine, catalogue.block, "shop", "y", catalogue.DELETED)
    write(engine, catalogue.block, "shop", "z", catalogue.TAKEN_DOWN)
    dearer = items | {"price": [1.0, 2.5, 3.5, 4.5]}
    found = load_dataset(engine, "shop", Dataset.from_events(columns, dearer))
    assert (found["new items"], found["changed items"]) == (0, 2)
    rows = shelf(engine)
    assert rows["w"]["title"] == "by a caller" and rows["w"]["price"] is None
    assert rows["x"]["price"] == 2.5
    assert rows["y"]["blocked"] == catalogue.DELETED and rows["y"]["price"] is None
    assert rows["z"]["blocked"] == catalogue.TAKEN_DOWN and rows["z"]["price"] == 4.5
    # as at a restart: what a caller changed meanwhile stays
    write(engine, catalogue.upsert_items, "shop", [{"item_id": "x", "price": 9.0}])
    assert load_dataset(engine, "shop", Dataset.from_events(columns, dearer))["changed items"] == 0
    assert shelf(engine)["x"]["price"] == 9.0


def known(engine, user_id, tenant="shop"):
    """Whether the key store knows the person."""
    return read(engine, subject_of, tenant, user_id) is not None


def test_what_happened_before_an_erasure_is_not_taken_in_again(engine):
    events(engine, event("1"), event("2", "bob"))
    erased_ms = write(engine, users.erase, "shop", "ann")["time_ms"]
    sent = [
        event("1"),
        event("3", time_ms=erased_ms),
        event("4", time_ms=erased_ms + 1),
        event("5", "bob"),
        event("2", "bob"),
    ]
    assert write(engine, users.ingest_events, "shop", sent, 0) == ({"4", "5"}, {"1", "3"})
    assert [one["event_id"] for one in read(engine, users.export, "shop", "ann")["events"]] == ["4"]
    assert write(engine, users.ingest_events, "else", sent, 0) == (
        {"1", "2", "3", "4", "5"},
        set(),
    )
    write(engine, users.erase, "shop", "eve")  # of whom nothing was stored
    assert write(engine, users.ingest_events, "shop", [event("6", "eve")], 0) == (
        set(),
        {"6"},
    ) and not known(engine, "eve")


def test_who_is_erased_while_events_arrive_does_not_come_back_with_them(engine, url, monkeypatch):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    events(engine, event("1"))
    other = connect(url)

    def meanwhile(*given):
        with writing(other) as connection:
            users.erase(connection, "shop", "ann")
        return add_events(*given)

    monkeypatch.setattr(users, "add_events", meanwhile)
    with pytest.raises(UnavailableError, match="ask again"):
        write(engine, users.ingest_events, "shop", [event("2")], 0)
    assert not known(engine, "ann")
    other.dispose()


def test_every_commit_is_flushed_and_deleted_rows_are_overwritten(tmp_path):
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    with reading(engine) as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
    events(engine, event("1", action="a secret of hers"))
    write(engine, users.erase, "shop", "ann")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    assert b"a secret of hers" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in memory"),
        ("mysql://x/y", "not known"),
        ("sqlite:////no/such/folder/x.db", "is not there"),
        (":/:", "no address|not there|not known"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(url, says):
    with pytest.raises(StoreError, match=says):
        connect(url)


def test_a_file_that_is_served_is_refused_to_a_second_server(tmp_path):
    engine = connect(f"{tmp_path}/store.db")
    with held(engine), pytest.raises(StoreError, match="being served already"), held(engine):
        pass
    with held(engine):
        pass


KILLED = """
import sys
from tailor.store.engine import connect
from tailor.store.events import add_events
from tailor.store.migrating import migrate
from tailor.store.writer import Writer
engine = connect(sys.argv[1]); migrate(engine); writer = Writer(engine)
for i in range(10**6):
    ids = [f"{sys.argv[2]}-{i}-{j}" for j in range(5)]
    rows = [{"event_id": one, "user_id": "ann", "item_id": one, "time_ms": 1} for one in ids]
    writer.do(lambda connection: add_events(connection, "shop", rows, 0))
    print(i, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill_and_nothing_is_there_twice(url):
    rng = np.random.default_rng(0)
    for turn in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, url, str(turn)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        lines = [process.stdout.readline() for _ in range(int(rng.integers(5, 60)))]
        process.kill()
        said = [*lines, *process.stdout.readlines()]
        process.wait()
        acknowledged = {
            f"{turn}-{int(line)}-{j}"
            for line in said
            if line.strip().isdigit() and line.endswith("\n")
            for j in range(5)
        }
        engine = connect(url)
        stored = stored_dataset(engine, "shop").events
        engine.dispose()
        ids = stored["event_id"].to_list()
        assert acknowledged <= set(ids) and len(ids) == len(set(ids))
        whole = (
            stored.with_columns(pl.col("event_id").str.replace(r"-\d+$", "").alias("batch"))
            .group_by("batch")
            .len()
        )
        assert set(whole["len"]) == {5}  # a batch is there whole or not at all


def test_a_backup_of_a_served_file_can_be_read(tmp_path):
    from typer.testing import CliRunner

    from tailor.cli.main import app

    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    events(engine, event("1"))
    with held(engine):
        done = CliRunner().invoke(
            app,
            ["store", "backup", str(tmp_path / "copy.db"), "--database", f"{tmp_path}/store.db"],
            catch_exceptions=False,
        )
    assert done.exit_code == 0
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("SELECT event_id FROM events").fetchall() == [("1",)]


def test_a_backup_leaves_the_store_as_it_is_and_is_never_one_of_nothing(tmp_path):
    from typer.testing import CliRunner

    from tailor.cli.main import app

    def backup(*words, database="store.db"):
        return CliRunner().invoke(
            app,
            [
                "store",
                "backup",
                *(f"{tmp_path}/{one}" for one in words),
                "--database",
                f"{tmp_path}/{database}",
            ],
        )

    done = backup("copy.db", database="misspelt.db")
    assert (
        isinstance(done.exception, StoreError)
        and "misspelt.db is not there" in str(done.exception)
        and not list(tmp_path.iterdir())
    )
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    events(engine, event("1"))
    write(
        engine,
        lambda connection: connection.exec_driver_sql(
            "UPDATE alembic_version SET version_num = '0004'"
        ),
    )  # as an older Tailor left it
    engine.dispose()
    assert backup("copy.db").exit_code == 0
    for file in ("store.db", "copy.db"):
        with sqlite3.connect(tmp_path / file) as found:
            assert found.execute("SELECT version_num FROM alembic_version").fetchall() == [
                ("0004",)
            ], file
    with sqlite3.connect(tmp_path / "text.db") as other:
        other.execute("CREATE TABLE t (x)")
    (tmp_path / "text.db").write_bytes(b"this is no database" * 100)
    done = backup("copy2.db", database="text.db")
    assert isinstance(done.exception, StoreError) and "could not be copied" in str(done.exception)
    assert not [one for one in tmp_path.iterdir() if "copy2" in one.name]


def test_a_backup_is_put_back_over_what_a_killed_server_left(tmp_path):
    import shutil

    from typer.testing import CliRunner

    from tailor.cli.main import app

    def store(*words):
        return CliRunner().invoke(app, ["store", *words, "--database", f"{tmp_path}/killed.db"])

    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    events(engine, event("1"))
    words = [
        "store",
        "backup",
        f"{tmp_path}/copy.db",
        "--keys",
        f"{tmp_path}/copy.keys.db",
        "--database",
        f"{tmp_path}/store.db",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    events(engine, *(event(str(i), f"person-{i}") for i in range(2, 500)))
    for log in ("", "-wal", "-shm"):  # as a kill leaves them: the log is not in the file yet
        shutil.copy(tmp_path / f"store.db{log}", tmp_path / f"killed.db{log}")
        shutil.copy(tmp_path / f"store.keys.db{log}", tmp_path / f"killed.keys.db{log}")
    engine.dispose()
    assert (tmp_path / "killed.db-wal").stat().st_size
    (tmp_path / "text.db").write_bytes(b"this is no database" * 100)
    for wrong in ("copy.keys.db", "text.db", "misspelt.db"):
        done = store("restore", f"{tmp_path}/{wrong}")
        assert (
            isinstance(done.exception, StoreError)
            and wrong in str(done.exception)
            and (tmp_path / "killed.db-wal").exists()
        )
    other = connect(f"{tmp_path}/killed.db")
    with held(other):
        assert "served already" in str(store("restore", f"{tmp_path}/copy.db").exception)
    for more in ([], ["--keys", f"{tmp_path}/copy.keys.db"]):
        done = store("restore", f"{tmp_path}/copy.db", *more)
        assert done.exit_code == 0 and ("stay erased" in " ".join(done.output.split())) == bool(
            more
        )
        assert store("migrate").exit_code == 0
        with sqlite3.connect(tmp_path / "killed.db") as found:
            assert found.execute("SELECT event_id FROM events").fetchall() == [("1",)]
            assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_only_the_owner_may_read_people_s_keys(tmp_path):
    from typer.testing import CliRunner

    from tailor.cli.main import app

    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    events(engine, event("1"))
    words = [
        "store",
        "backup",
        f"{tmp_path}/copy.db",
        "--keys",
        f"{tmp_path}/copy.keys.db",
        "--database",
        f"{tmp_path}/store.db",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    found = {
        one.name: one.stat().st_mode & 0o077 for one in tmp_path.iterdir() if ".keys.db" in one.name
    }
    assert len(found) >= 2 and not any(found.values()), found


def test_what_is_older_than_asked_goes_and_nothing_else(engine, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    day = retention.DAY_MS
    now = 100 * day
    add = [event(str(i), time_ms=now - i * 10 * day) for i in range(8)]
    write(engine, add_events, "shop", add[:5], now)
    write(engine, add_events, "other", add[5:], now)
    lists = [
        ServedList(
            tenant,
            f"r{i}",
            "ann",
            now - i * 10 * day,
            "recommendations",
            None,
            "m@1",
            (("tea", 1.0, 1.0), ("cup", 0.5, 1.0)),
        )
        for tenant in ("shop", "other")
        for i in range(4)
    ]
    write(engine, write_lists, lists)

    def left(table):
        return read(
            engine,
            lambda connection: connection.execute(
                sa.select(sa.func.count()).select_from(metadata.tables[table])
            ).scalar_one(),
        )

    assert (
        retention.prune(engine, now, 35, 15, dry_run=True) == {"events": 4, "requests": 4}
        and left("events") == 8
    )
    assert retention.prune(engine, now, 35, 15) == {"events": 4, "requests": 4}
    assert (left("events"), left("requests"), left("impressions")) == (4, 4, 8)
    assert [item for item, _ in latest(engine, "shop", "ann")[2]] == ["tea"] * 4
    assert (
        retention.prune(engine, now, 35, None) == {"events": 0}
        and retention.prune(engine, now, None, None) == {}
    )


def test_batches_of_any_length_are_written_by_few_statements(tmp_path):
    """A connection keeps what it has prepared: a statement for every length grew the server by a
    megabyte every thousand lists.
    """
    engine, seen = connect(f"{tmp_path}/store.db"), set()
    migrate(engine)
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *_: seen.add(statement),
    )
    for n in range(1, 60):
        events(engine, *[event(f"{n}-{i}", user=f"u{n}-{i}") for i in range(n)])
        write(engine, write_lists, [served(f"{n}-{i}", f"u{n}-{i}") for i in range(n)])
    assert read(engine, count_events, "shop")[0] == 59 * 60 // 2
    assert len(seen) < 80
    engine.dispose()
