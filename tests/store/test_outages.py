"""An outage is told once when it begins and once when it ends; addresses show no password."""

import logging
import shutil
import sqlite3
from pathlib import Path

import pytest

sa = pytest.importorskip("sqlalchemy")

from store.databases import engine, postgres, url  # noqa: E402, F401
from typer.testing import CliRunner  # noqa: E402

from tailor.cli.main import app  # noqa: E402
from tailor.errors import StoreError  # noqa: E402
from tailor.store.engine import address_of, connect, find_damage, reading, writing  # noqa: E402
from tailor.store.events import read_stamp  # noqa: E402
from tailor.store.migrating import migrate  # noqa: E402
from tailor.store.outages import Outages  # noqa: E402
from tailor.store.schema import marks  # noqa: E402
from tailor.store.writer import UnavailableError, Writer  # noqa: E402


@pytest.fixture
def lines(caplog):
    """What is logged, as (message, fields)."""
    caplog.set_level(logging.INFO, logger="tailor.store")
    return lambda: [(record.getMessage(), record.__dict__) for record in caplog.records]


@pytest.fixture
def store(tmp_path):
    """A SQLite store."""
    made = connect(f"{tmp_path}/shop.db")
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def writer(store):
    made = Writer(store)
    made.outages._clock = Clock()
    yield made
    made.close()


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def write(writer, rows=1):
    def job(connection):
        values = [{"name": f"m{i}", "value": "x" * 500} for i in range(rows)]
        connection.execute(sa.insert(marks).prefix_with("OR REPLACE"), values)

    writer.do(job)


def refuse(writer, times=1, rows=1):
    for _ in range(times):
        with pytest.raises(UnavailableError):
            write(writer, rows)


def test_an_outage_has_two_lines_however_many_are_refused(lines):
    clock = Clock()
    outages = Outages(clock)
    for _ in range(500):
        outages.note_failure("read", 'no socket "/var/run/secret/place/.s.5432", folder=/srv/x')
        clock.now_s += 0.01
        outages.note_success("read")  # now and then a request gets through
    clock.now_s += 1
    outages.note_success("read")
    outages.note_success("read")
    (began, first), (ended, last) = lines()
    assert (began, ended) == ("the store cannot be read", "the store can be read again")
    assert last["refused"] == 500 and last["lasted_s"] == 6.0
    assert "/var" not in first["cause"] and "/srv" not in first["cause"]


def test_parts_have_outages_of_their_own(lines):
    outages = Outages(Clock())
    outages.note_failure("written", "full")
    outages.note_success("read")
    assert outages.cause("written").startswith("full") and outages.cause("read") == ""
    outages.note_success("written")
    assert outages.cause("written") == "" and len(lines()) == 1


def test_the_cause_is_that_of_the_last_failure(lines):
    outages = Outages(Clock())
    outages.note_failure("written", "the file of the key store is gone")
    outages.note_failure("written", "database is locked: /srv/x")
    assert outages.cause("written").startswith("database is locked: (path); since")
    assert len(lines()) == 1


def test_a_full_disk_is_told_and_its_end_too(writer, store, lines):
    limit = {"pages": 0}

    @sa.event.listens_for(store, "checkout")
    def fill(connection, *_):
        # SQLite says then what it says of a full disk
        pages = connection.execute("PRAGMA main.page_count").fetchone()[0]
        connection.execute(f"PRAGMA main.max_page_count = {limit['pages'] or pages}")

    refuse(writer, times=5, rows=2_000)
    assert "full" in writer.outages.cause("written")
    limit["pages"] = 1_000_000
    writer.outages._clock.now_s += 60
    write(writer, 2_000)
    (began, first), (ended, last) = lines()
    assert "cannot be written" in began and "full" in first["cause"]
    assert "written again" in ended and (last["refused"], last["lasted_s"]) == (5, 60.0)


def test_a_locked_store_is_told_and_found_free_without_a_request(writer, store, lines):
    @sa.event.listens_for(store, "checkout")
    def hurry(connection, *_):
        connection.execute("PRAGMA busy_timeout = 1")

    other = sqlite3.connect(store.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refuse(writer, times=3)
    writer.outages._clock.now_s += 7
    assert "locked; since 7 s" in writer.trouble()
    assert isinstance(writer._probe.exception(10), UnavailableError)  # refused: still locked
    other.execute("ROLLBACK")
    writer.outages._clock.now_s += 7  # quiet for long enough that the next success ends it
    assert "locked" in writer.trouble()
    writer._probe.result(10)
    assert writer.trouble() == ""
    assert [text for text, _ in lines()] == [
        "the store cannot be written",
        "the store can be written again",
    ]


def test_what_would_go_into_a_deleted_file_is_refused(writer, store, lines, tmp_path):
    write(writer)
    shutil.move(tmp_path / "shop.db", tmp_path / "moved.db")
    refuse(writer, times=3)
    for _ in range(3):
        with pytest.raises(sa.exc.OperationalError, match="is gone"):
            read_stamp(store, "shop")
        with pytest.raises(sa.exc.OperationalError, match="is gone"), reading(store):
            pass
    assert not (tmp_path / "shop.db").exists()
    shutil.move(tmp_path / "moved.db", tmp_path / "shop.db")
    writer.outages._clock.now_s += 2
    write(writer)
    read_stamp(store, "shop")
    assert [text for text, _ in lines()] == [
        "the store cannot be written",
        "the store cannot be read",
        "the store can be written again",
        "the store can be read again",
    ]


def test_a_key_store_that_is_gone_is_not_made_anew(writer, store, tmp_path):
    (tmp_path / "shop.keys.db").unlink()
    refuse(writer)
    assert not (tmp_path / "shop.keys.db").exists()


def test_a_damaged_file_is_an_outage_to_callers(store, tmp_path):
    with writing(store) as connection:
        connection.execute(
            sa.insert(marks), [{"name": f"m{i}", "value": "x" * 900} for i in range(900)]
        )
    with store.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.dispose()
    assert find_damage(store) == ""
    store.dispose()
    path = tmp_path / "shop.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(sa.exc.OperationalError, match="malformed"), reading(store) as connection:
        connection.execute(sa.select(marks)).all()
    with pytest.raises(sa.exc.OperationalError, match="malformed"):
        read_stamp(store, "shop")
    assert "malformed" in find_damage(store) or "btree" in find_damage(store).lower()


# passwords in addresses

PASSWORDS = ["p@ss", "p:ss", "p/ss", "100%", "50%25", "a b+c", "ü§", "?#&=", "p@s:s/w%rd", "'\"\\"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_goes_through_an_address_and_through_a_worker_s(password):
    written = sa.URL.create("postgresql", "me", password, "db.example", 5433, "shop")
    made = connect(written.render_as_string(hide_password=False))
    again = connect(made.url.render_as_string(hide_password=False))  # as workers get it
    assert made.url.password == again.url.password == password
    assert made.dialect.create_connect_args(made.url)[1]["password"] == password
    assert again.url == made.url and password not in address_of(made)
    assert address_of(made).endswith("@db.example:5433/shop")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:se@cret@db.example/shop",
        "postgresql://me:se@cret/x@db.example/shop",
        "postgresql://me:se@cret:x@db.example/shop",
        "postgresql://me:secret@db.example:port/shop",
        "postgresql://me:secret%FF@db.example/shop",
        "postgresql:/me:secret@db.example/shop",
        "postgresql//me:secret@db.example/shop",
        "postgres:me:secret@db.example/shop",
        "sqlite://me:secret@host/shop.db",
        "mysql://me:secret@host/shop",
    ],
)
def test_an_address_that_cannot_be_read_shows_no_part_of_a_password(address):
    with pytest.raises(StoreError) as refused:
        connect(address)
    text = f"{refused.value}{refused.value.__cause__}"
    assert "cret" not in text and ("sqlite:///" in text or "not known" in text)


def test_options_that_hold_a_secret_are_not_shown():
    made = connect("postgresql://me@/shop?host=db.example&password=secret&sslpassword=secret2")
    assert "secret" not in address_of(made) and "db.example" in address_of(made)


def with_password(admin, password):
    """Let the role `me` have this password; return the address with it."""
    with admin.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS me")
        quoted = connection.execute(sa.select(sa.func.quote_literal(password))).scalar_one()
        statement = f"CREATE ROLE me LOGIN PASSWORD {quoted}"
        connection.connection.driver_connection.execute(statement)
    return admin.url.set(username="me", password=password).render_as_string(hide_password=False)


@pytest.mark.slow
def test_postgresql_takes_an_encoded_password_and_no_error_names_one(postgres):  # noqa: F811
    admin = connect(postgres)
    rules = Path(admin.url.query["host"]) / "data" / "pg_hba.conf"
    old_rules = rules.read_text()
    rules.write_text(f"local all me scram-sha-256\n{old_rules}")
    try:
        with admin.begin() as connection:
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        for password in PASSWORDS:
            made = connect(with_password(admin, password))
            with made.connect():
                pass
            made.dispose()
        wrong = with_password(admin, "secret%41x").replace("secret%2541x", "secret%41x")
        done = CliRunner().invoke(app, ["keys", "list", "--database", wrong])
        text = str(done.exception)
        assert isinstance(done.exception, StoreError) and "%40" in text and "\n" not in text
        assert "secret" not in text
    finally:
        rules.write_text(old_rules)
        with admin.begin() as connection:
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        admin.dispose()
