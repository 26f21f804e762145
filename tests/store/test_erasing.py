"""An erasure holds up nobody, and says how far it is: rows, residues, and SQLite's logs."""

import sqlite3
from contextlib import closing

import pytest

sa = pytest.importorskip("sqlalchemy")

from store.databases import NO_MEMORY  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from tailor.cli.main import app  # noqa: E402
from tailor.store import erasables, retention, schema, subjects, users  # noqa: E402
from tailor.store.engine import (  # noqa: E402
    connect,
    is_overwriting_due,
    key_file,
    now_ms,
    overwrite_deleted,
    reading,
    writing,
)
from tailor.store.erasables import ERASABLES  # noqa: E402
from tailor.store.erased import REMEMBERED  # noqa: E402
from tailor.store.erasing import Scan, erase_person  # noqa: E402
from tailor.store.events import add_events  # noqa: E402
from tailor.store.impressions import ServedList, write_lists  # noqa: E402
from tailor.store.migrating import migrate  # noqa: E402

ANN = "ann.of.the.hills@example.org"


def read(engine, job, *given):
    with reading(engine) as connection:
        return job(connection, *given)


def write(engine, job, *given):
    with writing(engine) as connection:
        return job(connection, *given)


def served(request_id, user=ANN, text=None, items=("tea", "cup")):
    shown = tuple((item_id, 1.0, 1.0) for item_id in items)
    return ServedList("shop", request_id, user, now_ms(), "search", text, "m@1", shown)


def events(*ids, user=ANN):
    return [
        {"event_id": event_id, "user_id": user, "item_id": "tea", "time_ms": 1_000 + number}
        for number, event_id in enumerate(ids)
    ]


def fill(engine, lists=50, count=120):
    write(engine, write_lists, [served(f"r{i:03}", text="words") for i in range(lists)])
    write(engine, write_lists, [served(f"s{i:03}", "bob", ANN) for i in range(7)])
    write(engine, add_events, "shop", events(*map(str, range(count))), 5)
    write(engine, add_events, "shop", events("other", user="bob"), 5)
    write(engine, users.upsert_user, "shop", ANN, {"country": "NO"})


def test_no_transaction_of_an_erasure_deletes_many_rows_and_the_receipt_counts_all(engine):
    fill(engine)
    transactions = []

    def slice_by_slice(job):
        with writing(engine) as connection:
            deleted = []

            def count(_, cursor, statement, *__):
                if statement.startswith("DELETE"):
                    deleted.append(cursor.rowcount)

            sa.event.listen(connection, "after_cursor_execute", count)
            result = job(connection)
        transactions.append(sum(deleted))
        return result

    receipt = erase_person(slice_by_slice, "shop", ANN)
    assert len(transactions) >= 3
    assert max(transactions) <= 3 * erasables.LISTS + erasables.EVENTS + 3
    erased = {"impressions": 100, "requests": 50, "events": 120, "people": 1}
    assert receipt["rows"] == {**erased, **NO_MEMORY}
    assert not any(read(engine, users.export, "shop", ANN).values())
    assert len(read(engine, users.export, "shop", "bob")["requests"]) == 7
    assert sum(read(engine, subjects.count_orphans).values()) == 0
    again = events(*map(str, range(120)))
    assert write(engine, users.ingest_events, "shop", again, now_ms())[0] == set()


def test_an_erasure_broken_off_between_two_transactions_is_finished_by_the_next(engine):
    fill(engine)
    transactions = []

    def killed(job):
        if len(transactions) == 2:
            raise RuntimeError("power cut")
        transactions.append(job)
        return write(engine, job)

    with pytest.raises(RuntimeError, match="power cut"):
        erase_person(killed, "shop", ANN)
    left = read(engine, users.export, "shop", ANN)
    assert 0 < len(left["requests"]) < 50 and len(left["impressions"]) == 2 * len(left["requests"])
    receipt = erase_person(lambda job: write(engine, job), "shop", ANN)
    assert receipt["rows"]["requests"] == len(left["requests"])
    assert not any(read(engine, users.export, "shop", ANN).values())


def test_more_events_than_are_remembered_stay_away_too(engine):
    ids = [f"e{i}" for i in range(REMEMBERED + 200)]
    write(engine, add_events, "shop", events(*ids), 5)
    erase_person(lambda job: write(engine, job), "shop", ANN)
    assert write(engine, users.ingest_events, "shop", events(*ids), now_ms())[0] == set()


def test_a_scan_in_slices_finds_what_a_scan_of_all_finds(engine, monkeypatch):
    fill(engine)
    write(engine, users.upsert_user, "shop", "bob", {"friends": ["x", {"best": ANN}]})
    write(engine, users.upsert_user, "shop", "eve", {ANN: 1})
    write(engine, users.upsert_user, "else", "bob", {"friend": ANN})
    write(engine, write_lists, [served(ANN, None, ANN), served("r", "eve", ANN + "!", (ANN, "x"))])
    write(engine, add_events, "shop", events(ANN, "x", user="eve"), 5)
    wanted = {"impressions": 3, "requests": 9, "events": 1, "people": 2, **NO_MEMORY}
    for rows in (1, 3, 10_000):
        monkeypatch.setattr(erasables, "SCAN_ROWS", rows)
        assert {
            place.name: read(engine, place.scan, "shop", ANN) for place in ERASABLES
        } == wanted, rows


def test_a_scan_begins_after_the_commit_and_its_receipt_says_how_far_it_is(engine, monkeypatch):
    fill(engine)
    receipt = erase_person(lambda job: write(engine, job), "shop", ANN)
    assert receipt["scan"] == "running" and receipt["scanned"] == {"keys": 0}
    assert users.receipt_holds(receipt, receipt["public_key"])
    scan = Scan(engine, lambda job: write(engine, job), "shop", receipt["receipt_id"])
    scan.stop.set()
    monkeypatch.setattr(erasables, "SCAN_ROWS", 3)
    assert not scan.run(ANN)
    assert read(engine, users.read_receipt, "shop", receipt["receipt_id"])["scan"] == "running"
    with monkeypatch.context() as patch:
        patch.setattr(users, "now_ms", lambda: now_ms() + 3_600_000)
        silent = read(engine, users.read_receipt, "shop", receipt["receipt_id"])
    assert silent["scan"] == "broken off"
    scan.stop.clear()
    assert scan.run(ANN)
    done = read(engine, users.read_receipt, "shop", receipt["receipt_id"])
    assert done["scan"] == "done" and users.receipt_holds(done, receipt["public_key"])
    assert done["scanned"] == {
        "impressions": 0,
        "requests": 7,
        "events": 0,
        "people": 0,
        **NO_MEMORY,
        "keys": 0,
    }


def plans(engine, statements):
    """The plans by which the database would run these statements with their parameters."""
    how = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with reading(engine) as connection:
        if engine.dialect.name != "sqlite":
            connection.exec_driver_sql("ANALYZE")
        return [
            "\n".join(str(row) for row in connection.exec_driver_sql(how + text, values).all())
            for text, values in statements
        ]


def test_a_persons_rows_are_found_by_an_index(engine):
    write(engine, write_lists, [served(f"s{i:04}", f"u{i % 300}") for i in range(3_000)])
    write(engine, add_events, "shop", events(*map(str, range(3_000)), user="bob"), 5)
    write(engine, users.upsert_user, "shop", ANN, {})
    write(engine, write_lists, [served("mine")])
    statements = []

    def keep(_, __, statement, values, *___):
        if statement.startswith("DELETE FROM") or "FROM requests" in statement:
            statements.append((statement, values))

    sa.event.listen(engine, "before_cursor_execute", keep)
    erase_person(lambda job: write(engine, job), "shop", ANN)
    sa.event.remove(engine, "before_cursor_execute", keep)
    tables = ("impressions", "requests", "events", "people")
    of_tables = [one for one in statements if any(f" {name}" in one[0] for name in tables)]
    assert len(of_tables) >= 4
    for plan in plans(engine, of_tables):
        assert "SCAN" not in plan and "Seq Scan on impressions" not in plan, plan
        assert "Seq Scan on requests" not in plan and "Seq Scan on events" not in plan, plan


def test_slices_of_a_scan_read_no_more_than_their_rows(tmp_path, monkeypatch):
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    fill(engine)
    statements = []

    def keep(_, __, statement, values, *___):
        statements.append((statement, values))

    monkeypatch.setattr(erasables, "SCAN_ROWS", 5)
    sa.event.listen(engine, "before_cursor_execute", keep)
    for place in ERASABLES:
        read(engine, place.scan, "shop", "nobody of that name")
    sa.event.remove(engine, "before_cursor_execute", keep)
    later = [one for one in statements if "rowid > " in one[0] or "number > " in one[0]]
    assert len(later) > 20
    for plan in plans(engine, later):
        assert "rowid>" in plan, plan
    engine.dispose()


# SQLite's logs


@pytest.fixture
def shop(tmp_path):
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    fill(engine)
    overwrite_deleted(engine)
    yield engine
    engine.dispose()


def names(tmp_path, *secrets):
    """The files in which one of these texts is."""
    return {
        file.name
        for file in tmp_path.iterdir()
        if any(secret in file.read_bytes() for secret in secrets)
    }


def test_what_a_reader_holds_in_the_logs_is_said_to_be_there_until_it_is_not(shop, tmp_path):
    key = read(shop, subjects.subject_of, "shop", ANN).key
    with closing(sqlite3.connect(key_file(f"{tmp_path}/store.db"))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subjects").fetchone()
        write(shop, users.upsert_user, "shop", "carl", {})  # the log is not empty
        receipt = erase_person(lambda job: write(shop, job), "shop", ANN)
        assert receipt["overwritten"] is False
        assert not overwrite_deleted(shop) and is_overwriting_due(shop)
        assert names(tmp_path, key)
        found = CliRunner().invoke(app, ["doctor", "--database", f"{tmp_path}/store.db"])
        assert "still in the database's logs" in " ".join(found.output.split())
        reader.execute("COMMIT")
    assert overwrite_deleted(shop) and not is_overwriting_due(shop)
    assert names(tmp_path, key, ANN.encode()) == set()
    after = read(shop, users.read_receipt, "shop", receipt["receipt_id"])
    assert after["overwritten"] is True and users.receipt_holds(after, receipt["public_key"])
    assert not users.receipt_holds({**receipt, "overwritten": True}, receipt["public_key"])


def test_what_is_deleted_while_logs_are_overwritten_is_due_anew(shop, monkeypatch):
    from tailor.store import engine as engine_module

    real = engine_module._truncate_logs

    def meanwhile(engine):
        done = real(engine)
        write(engine, users.erase, "shop", "bob")
        return done

    erase_person(lambda job: write(shop, job), "shop", ANN)
    monkeypatch.setattr(engine_module, "_truncate_logs", meanwhile)
    assert overwrite_deleted(shop) and is_overwriting_due(shop)
    monkeypatch.setattr(engine_module, "_truncate_logs", real)
    assert overwrite_deleted(shop) and not is_overwriting_due(shop)


def test_savepoints_of_a_writer_keep_nothing_in_files(shop):
    with writing(shop) as connection:
        assert connection.exec_driver_sql("PRAGMA temp_store").scalar_one() == 2
    with reading(shop) as connection:
        connection.execute(sa.text("SELECT 1"))
        assert connection.exec_driver_sql("PRAGMA temp_store").scalar_one() == 1


def test_people_without_rows_and_a_new_master_key_leave_a_mark_too(shop, tmp_path):
    from tailor.store.encryption import Seal

    write(shop, users.upsert_user, "shop", "gone", {})
    write(shop, lambda connection: connection.exec_driver_sql("DELETE FROM people"))
    assert not is_overwriting_due(shop)
    assert retention.prune_users(shop) == 1 and is_overwriting_due(shop)
    assert overwrite_deleted(shop)
    write(shop, subjects.rekey, Seal("another master key of 32 characters"))
    assert is_overwriting_due(shop)


# receipts


def test_every_field_of_a_receipt_is_signed(engine):
    receipt = write(engine, users.erase, "shop", ANN)
    public = receipt["public_key"]
    assert users.receipt_holds(receipt, public) and users.receipt_holds(receipt, public.upper())
    for name, value in receipt.items():
        changed = {"version": 1, "rows": {"events": 9}, "scanned": {"keys": 1}}.get(name, "0" * 64)
        assert not users.receipt_holds({**receipt, name: changed}, public), name
        left = {key: part for key, part in receipt.items() if key != name}
        assert not users.receipt_holds(left, public), (name, value)
    assert not users.receipt_holds({**receipt, "more": 1}, public)
    assert not users.receipt_holds({**receipt, "signature": None}, public)
    assert not users.receipt_holds({}, public) and not users.receipt_holds(receipt, "no hex")


def test_a_receipt_of_an_earlier_version_holds_as_it_did(engine):
    import base64

    key = write(engine, users.signing_key)
    signed = {"receipt_id": "r", "tenant": "shop", "subject": "s", "time_ms": 5, "rows": {"a": 1}}
    signature = base64.b64encode(key.sign(users.canonical(signed))).decode()
    public = users.public_key(key)
    receipt = {**signed, "scanned": {"a": 0}, "signature": signature, "public_key": public}
    assert users.receipt_holds(receipt, public)
    assert not users.receipt_holds({**receipt, "rows": {"a": 2}}, public)
    assert not users.receipt_holds({**receipt, "public_key": "00" * 32}, public)
    # what earlier versions never said was not signed by them
    assert not users.receipt_holds({**receipt, "overwritten": True}, public)
    assert not users.receipt_holds({**receipt, "version": 2}, public)


# retention


def test_what_is_old_is_looked_for_outside_of_the_writers_transactions(engine, monkeypatch):
    fill(engine)
    monkeypatch.setattr(retention, "BATCH", 20)
    searches = []

    def keep(connection, _, statement, *__):
        if statement.startswith("SELECT") and connection.get_execution_options().get("writes"):
            searches.append(statement)

    sa.event.listen(engine, "before_cursor_execute", keep)
    later_ms = now_ms() + 2 * retention.DAY_MS
    counts = retention.prune(engine, later_ms, 1, 1)
    assert retention.prune_users(engine) == 1  # bob, of whom nothing is left
    sa.event.remove(engine, "before_cursor_execute", keep)
    assert counts == {"events": 121, "requests": 57}
    assert not [one for one in searches if "time_ms" in one or "LIMIT" in one]
    with reading(engine) as connection:
        for table in (schema.events, schema.requests, schema.impressions):
            assert connection.execute(sa.select(table)).all() == []
