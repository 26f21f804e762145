"""Who was erased stays erased: after restores, under new keys, with clocks that were wrong."""

import shutil
import sqlite3

import pytest

sa = pytest.importorskip("sqlalchemy")

from alembic import command  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from tailor.cli.main import app  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.store import erased, migrating, subjects, users  # noqa: E402
from tailor.store.encryption import Seal  # noqa: E402
from tailor.store.engine import connect, key_file, now_ms, reading, writing  # noqa: E402
from tailor.store.erasing import Scan, erase_person  # noqa: E402
from tailor.store.impressions import ServedList, write_lists  # noqa: E402
from tailor.store.loading import load_dataset  # noqa: E402
from tailor.store.migrating import migrate  # noqa: E402

YEAR_MS = 365 * 86_400_000
T = 1_700_000_000_000  # long past


def event(event_id, user="ann", time_ms=T):
    return {"event_id": event_id, "user_id": user, "item_id": "tea", "time_ms": time_ms}


def read(engine, job, *given):
    with reading(engine) as connection:
        return job(connection, *given)


def write(engine, job, *given):
    with writing(engine) as connection:
        return job(connection, *given)


def send(engine, *rows):
    """The ids of the events that are taken in."""
    return write(engine, users.ingest_events, "shop", rows, now_ms())[0]


def erase(engine, user="ann"):
    return write(engine, users.erase, "shop", user)


def known(engine, user="ann"):
    return read(engine, subjects.subject_of, "shop", user) is not None


def store(tmp_path, *words):
    done = CliRunner().invoke(app, ["store", *words, "--database", f"{tmp_path}/store.db"])
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.output.split())


@pytest.fixture
def shop(tmp_path):
    """A store of two people, with a backup of it and of its keys."""
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    send(engine, event("1"), event("2", "bob"))
    store(tmp_path, "backup", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    yield engine
    engine.dispose()


def reopened(engine):
    engine.dispose()
    again = connect(engine.url.render_as_string(hide_password=False))
    migrate(again)
    return again


def test_who_was_erased_does_not_come_back_after_a_restore(shop, tmp_path):
    erase(shop)
    store(tmp_path, "restore", f"{tmp_path}/old.db")
    engine = reopened(shop)
    assert not known(engine)
    columns = {"user_id": ["ann", "bob"], "item_id": ["tea", "cup"], "time_ms": [T, T]}
    load_dataset(engine, "shop", Dataset.from_events(columns))  # as `serve --data` does
    assert send(engine, event("1"), event("2", "bob"), event("3")) == set()
    row = ServedList("shop", "r1", "ann", T, "search", "her words", "m", (("tea", 1.0, 1.0),))
    write(engine, write_lists, [row])
    assert not known(engine) and known(engine, "bob")
    assert send(engine, event("4", time_ms=now_ms() + 5)) == {"4"}
    engine.dispose()


@pytest.mark.parametrize("master", [None, "0123456789abcdef" * 4])
def test_an_older_key_store_put_back_learns_who_was_erased_since(
    shop, tmp_path, master, monkeypatch
):
    if master is not None:
        (tmp_path / "master").write_text(master)
        store(tmp_path, "rekey", f"{tmp_path}/master")
        monkeypatch.setenv("TAILOR_MASTER_KEY", master)
        shop.dispose()
        for name in ("old.db", "old.keys.db"):
            (tmp_path / name).unlink()
        store(tmp_path, "backup", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
        shop = connect(f"{tmp_path}/store.db")
    erase(shop)
    shop.dispose()
    said = store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    assert "1 people who were erased since stay erased" in said
    if master is None:
        assert b"ann" not in key_file(f"{tmp_path}/store.db").read_bytes()
    engine = reopened(shop)
    assert not known(engine) and known(engine, "bob")
    assert not any(read(engine, users.export, "shop", "ann").values())
    assert sum(read(engine, subjects.count_orphans).values()) == 0
    assert send(engine, event("1"), event("2", "bob")) == set()
    assert len(read(engine, users.export, "shop", "bob")["events"]) == 1
    engine.dispose()


def test_who_came_back_after_an_erasure_is_kept_when_keys_are_put_back(shop, tmp_path):
    erase(shop)
    assert send(shop, event("new", time_ms=now_ms() + 5)) == {"new"}
    for name in ("old.db", "old.keys.db"):
        (tmp_path / name).unlink()
    store(tmp_path, "backup", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    erase(shop, "bob")
    store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    engine = reopened(shop)
    rows = read(engine, users.export, "shop", "ann")["events"]
    assert [row["event_id"] for row in rows] == ["new"] and not known(engine, "bob")
    engine.dispose()


@pytest.mark.parametrize("state", ["lost", "damaged", "of an earlier version"])
def test_a_key_store_that_cannot_be_read_is_told_and_receipts_are_carried_over(
    shop, tmp_path, state
):
    erase(shop)
    shop.dispose()
    keys = key_file(f"{tmp_path}/store.db")
    if state == "of an earlier version":  # and of another time than the store's copy
        with sqlite3.connect(tmp_path / "old.keys.db") as copy:
            copy.execute("DROP TABLE erased")
            copy.execute("UPDATE secrets SET value = value - 1 WHERE name = 'changes'")
    else:
        keys.unlink()
        if state == "damaged":
            keys.write_bytes(b"this is no database" * 100)
    said = store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    assert "erase them anew" in said
    engine = reopened(shop)
    assert send(engine, event("1")) == set()
    engine.dispose()


def test_copies_of_an_earlier_version_bring_nobody_back(shop, tmp_path):
    """The receipts of the store's copy tell who was erased before it, and may have come back."""
    erase(shop, "bob")
    assert send(shop, event("new", "bob", time_ms=now_ms() + 5)) == {"new"}
    for name in ("old.db", "old.keys.db"):
        (tmp_path / name).unlink()
    store(tmp_path, "backup", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    with sqlite3.connect(tmp_path / "old.keys.db") as copy:
        copy.execute("DROP TABLE erased")
    erase(shop)
    said = store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    assert "1 people who were erased since stay erased" in said
    engine = reopened(shop)
    assert not known(engine) and not any(read(engine, users.export, "shop", "ann").values())
    assert [row["event_id"] for row in read(engine, users.export, "shop", "bob")["events"]] == [
        "new"
    ]
    assert send(engine, event("1")) == set()
    engine.dispose()


def test_a_new_master_key_keeps_who_was_erased(shop, tmp_path, monkeypatch):
    erase(shop)
    with writing(shop) as connection:
        subjects.rekey(connection, Seal("another master key of 32 characters"))
    shop.dispose()
    engine = connect(f"{tmp_path}/store.db", Seal("another master key of 32 characters"))
    migrate(engine)
    assert send(engine, event("1"), event("2", "bob")) == set()
    engine.dispose()


def test_the_digests_of_a_replaced_key_store_count_beside_its_own(shop, tmp_path):
    """As where the keys were lost, others were made, and an old copy comes back after all."""
    key_file(f"{tmp_path}/store.db").unlink()
    shop.dispose()
    store(tmp_path, "sweep", "--lose-people")
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    erase(engine, "bob")
    engine.dispose()
    store(tmp_path, "restore", f"{tmp_path}/old.db", "--keys", f"{tmp_path}/old.keys.db")
    engine = reopened(engine)
    assert send(engine, event("2", "bob"), event("9", "bob"), event("8")) == {"8"}
    assert not known(engine, "bob") and known(engine)
    engine.dispose()


def as_before(engine, revision="0007"):
    """Bring the tables of an empty store to a revision, with an erasure from then."""
    migrating.prepare(engine)
    with writing(engine) as connection:
        config = migrating._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        key = users.signing_secret(connection)
        connection.execute(sa.text("DROP TABLE personal.erased"))
        connection.execute(
            sa.text(
                "INSERT INTO erasures (tenant, receipt_id, time_ms, subject, rows) VALUES"
                " ('shop', 'r', :time_ms, :subject, '{}')"
            ),
            {"time_ms": T, "subject": erased.subject_digest(key, "shop", "ann")},
        )


def test_erasures_of_the_version_before_are_moved_to_the_key_store(url):
    engine = connect(url)
    as_before(engine)
    migrate(engine)
    with writing(engine) as connection:  # as a restore of an older store leaves it
        connection.execute(sa.text("DELETE FROM erasures"))
    assert send(engine, event("1"), event("2", time_ms=T + 1)) == {"2"}
    assert migrate(engine) == {} and migrating.revision(engine) == migrating.newest()
    engine.dispose()


def test_receipts_of_the_version_before_can_be_asked_for(url):
    engine = connect(url)
    as_before(engine)
    migrate(engine)
    receipt = read(engine, users.read_receipt, "shop", "r")
    assert receipt["scan"] == "unknown" and receipt["overwritten"] is None
    assert users.receipt_holds(receipt, receipt["public_key"])
    assert read(engine, users.read_receipt, "else", "r") is None
    engine.dispose()


def test_an_erasure_of_which_only_the_store_reached_the_disk_is_finished(shop, tmp_path):
    keys = key_file(f"{tmp_path}/store.db")
    with shop.connect() as connection:
        connection.exec_driver_sql("PRAGMA personal.wal_checkpoint(TRUNCATE)")
    shutil.copy(keys, tmp_path / "keys")
    erase(shop)
    with shop.connect() as connection:
        connection.exec_driver_sql("PRAGMA main.wal_checkpoint(TRUNCATE)")
    shop.dispose()
    shutil.copy(tmp_path / "keys", keys)
    engine = reopened(shop)
    assert not known(engine) and known(engine, "bob")
    assert send(engine, event("1"), event("3")) == set()
    engine.dispose()


# clocks


def at(monkeypatch, ahead_ms):
    """Let the clock of erasures run ahead."""
    monkeypatch.setattr(users, "now_ms", lambda: now_ms() + ahead_ms)


def test_a_clock_that_ran_ahead_locks_nobody_out_and_lets_nothing_back_in(engine, monkeypatch):
    now = now_ms()
    old = [event("1"), event("2", time_ms=now - 5_000), event("3", time_ms=now + 3_600_000)]
    send(engine, *old)
    at(monkeypatch, YEAR_MS)
    receipt = erase(engine)
    assert receipt["time_ms"] > now + YEAR_MS - 1
    at(monkeypatch, 0)
    assert send(engine, *old) == set()
    assert send(engine, event("new", time_ms=now)) == {"new"}
    erase(engine)  # once more, with the right clock
    assert send(engine, *old, event("new", time_ms=now)) == set()
    assert send(engine, event("newer", time_ms=now_ms() + 5)) == {"newer"}


def test_a_clock_that_was_behind_lets_nothing_back_in(engine, monkeypatch):
    old = [event(str(i), time_ms=now_ms() - i * 86_400_000) for i in range(1, 30)]
    send(engine, *old)
    at(monkeypatch, -YEAR_MS)
    erase(engine)
    at(monkeypatch, 0)
    assert send(engine, *old) == set()
    assert send(engine, event("new", time_ms=now_ms())) == {"new"}


def test_an_event_of_the_future_or_without_a_time_is_not_taken_in_twice(engine):
    ahead = event("ahead", time_ms=now_ms() + 80_000_000)
    untimed = event("untimed", time_ms=now_ms())
    send(engine, ahead, untimed)
    erase(engine)
    again = {**untimed, "time_ms": now_ms() + 5}  # the server gives it the time of now
    assert send(engine, ahead, again) == set()
    assert send(engine, event("other", time_ms=now_ms() + 70_000_000)) == {"other"}
    assert send(engine, {**ahead, "user_id": "bob"}) == {"ahead"}


@pytest.mark.parametrize(
    ("erasure", "time_ms", "is_refused"),
    [
        (erased.Erasure(T), T, True),
        (erased.Erasure(T), T + 1, False),
        (erased.Erasure(T + YEAR_MS), T, False),  # the clock was ahead
        (erased.Erasure(T + YEAR_MS), T + YEAR_MS, True),
        (erased.Erasure(T + YEAR_MS, T - 5), T - 5, True),
        (erased.Erasure(T + YEAR_MS, T - 5), T - 4, False),
        (erased.Erasure(T - YEAR_MS, T - 5), T - 5, True),  # the clock was behind
        (erased.Erasure(T - YEAR_MS, T + YEAR_MS), T, False),
        (erased.Erasure(T + 1_000), T, True),  # two machines' clocks differ by a second
    ],
)
def test_what_an_erasure_refuses_by_hand(erasure, time_ms, is_refused):
    assert erasure.refuses(time_ms, T + 10) == is_refused


# whom


def test_nobody_is_not_a_person_who_can_be_erased(engine):
    row = ServedList("shop", "r", None, now_ms(), "search", "a kettle", "m", ())
    write(engine, write_lists, [row])
    with pytest.raises(DataError, match="empty"):
        erase(engine, "")
    with pytest.raises(DataError, match="empty"):
        erase_person(lambda job: write(engine, job), "shop", "")
    with reading(engine) as connection:
        assert {one.user_id for one in subjects.all_subjects(connection, "shop")} == {""}


@pytest.mark.parametrize("user", ["%", "_", "a'b", "ü/ø", "data", "x" * 256, "\\u0061", "1"])
def test_people_of_any_id_are_erased_alone(engine, user):
    write(engine, users.upsert_user, "shop", user, {"a": 1})
    write(engine, users.upsert_user, "shop", user + "2"[: 256 - len(user)] or "y", {"a": 1})
    send(engine, event("1", user), event("2", "other"))
    receipt = erase_person(lambda job: write(engine, job), "shop", user)
    scan = Scan(engine, lambda job: write(engine, job), "shop", receipt["receipt_id"])
    assert scan.run(user) and not any(scan.residues.values())
    assert receipt["rows"]["events"] == 1 and not known(engine, user) and known(engine, "other")
    assert send(engine, event("1", user)) == set()
