"""Who makes and changes a database, who only opens it, and what is said of one that cannot be."""

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

pytest.importorskip("alembic")

from store.databases import engine, postgres, url  # noqa: F401

from tailor.cli import serving
from tailor.cli.main import app
from tailor.errors import StoreError
from tailor.retrieval.popularity import Popularity
from tailor.store.engine import connect, held, writing
from tailor.store.keys import list_keys
from tailor.store.migrating import alone, migrate, newest, revision
from tailor.testing.data import tiny_data

OPENING = [
    ["keys", "list"],
    ["keys", "revoke", "x"],
    ["refit", "Popularity"],
    ["store", "export", "out"],
    ["store", "erase", "ann"],
    ["store", "rekey"],
    ["store", "prune", "--events", "3"],
    ["store", "sweep"],
    ["estimate", "model"],
]
MAKING = [["keys", "make", "x"], ["store", "load", "data"]]


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words):
    done = run(*words)
    assert isinstance(done.exception, StoreError), (done.output, done.exception)
    return str(done.exception)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data().save(tmp_path / "data")
    Popularity().fit(tiny_data()).save(tmp_path / "model")
    return tmp_path


def age(engine, number="0006"):  # noqa: F811
    """Let the tables be of an older version."""
    with writing(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :n"), {"n": number})


@pytest.mark.parametrize("words", OPENING, ids=" ".join)
def test_a_command_makes_no_database(words, folder):
    assert "is not there" in refused(*words, "--database", "shop.db")
    assert sorted(path.name for path in folder.iterdir()) == ["data", "model"]


@pytest.mark.parametrize("words", OPENING + MAKING, ids=" ".join)
def test_a_command_changes_no_older_database(words, folder):
    made = connect("shop.db")
    migrate(made)
    age(made)
    text = refused(*words, "--database", "shop.db")
    assert "tailor store migrate" in text and revision(made) == "0006"
    made.dispose()


@pytest.mark.parametrize("words", MAKING, ids=" ".join)
def test_the_first_command_may_make_the_database(words, folder):
    assert run(*words, "--database", "shop.db").exit_code == 0
    assert revision(connect("shop.db")) == newest()


def test_no_migration_beside_a_server(folder):
    made = connect("shop.db")
    migrate(made)
    age(made)
    with held(made):
        assert "is being served already" in refused("store", "migrate", "--database", "shop.db")
    assert revision(made) == "0006"


@pytest.mark.slow
def test_no_migration_beside_a_server_of_postgresql(postgres, folder):  # noqa: F811
    made = fresh(postgres, "beside")
    migrate(made)
    address = made.url.render_as_string(hide_password=False)
    with held(made), held(made):  # two servers
        assert "revision" in run("store", "migrate", "--database", address).output
        age(made)
        assert "stop every server" in refused("store", "migrate", "--database", address)
    age(made, newest())
    assert run("store", "migrate", "--database", address).exit_code == 0
    made.dispose()


def fresh(postgres, name):  # noqa: F811
    """An engine of a new database."""
    server = connect(postgres)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.dispose()
    return connect(postgres.replace("/postgres?", f"/{name}?"))


FIRST = (
    "import sys; from tailor.cli import serving; from tailor.store.engine import connect;"
    "from tailor.store.migrating import migrate; input(); engine = connect(sys.argv[1]);"
    "migrate(engine); serving._make_first_key(engine, 'shop', None)"
)


def start_two(address, folder):
    """Two first starts at the same moment; return what they print and their exit codes."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


def test_two_first_starts_at_once_come_up_with_a_single_key(folder):
    outputs = start_two("shop.db", folder)
    assert sum("First start" in text for text in outputs) == 1
    made = connect("shop.db")
    with writing(made) as connection:
        assert revision(made) == newest() and len(list_keys(connection)) == 1


@pytest.mark.slow
def test_two_first_starts_on_an_empty_postgresql_come_up(postgres, folder):  # noqa: F811
    made = fresh(postgres, "two")
    outputs = start_two(made.url.render_as_string(hide_password=False), folder)
    assert sum("First start" in text for text in outputs) == 1
    with writing(made) as connection:
        assert revision(made) == newest() and len(list_keys(connection)) == 1
    made.dispose()


def test_many_threads_make_a_database_together(url):  # noqa: F811
    errors = []

    def make():
        mine = connect(url)
        try:
            migrate(mine)
        except Exception as error:
            errors.append(error)
        mine.dispose()

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and revision(connect(url)) == newest()


def test_a_command_waits_for_a_migration_that_runs(engine, url):  # noqa: F811
    age(engine)
    ready = threading.Event()

    def finish():
        with alone(engine):
            ready.set()
            age(engine, newest())

    thread = threading.Thread(target=finish)
    with alone(engine):
        thread.start()
        assert not ready.wait(0.1)
    thread.join()
    with serving.open_store(url):
        pass


def test_a_store_without_its_keys_is_not_opened(folder):
    migrate(connect("shop.db"))
    (folder / "shop.keys.db").unlink()
    assert "key store" in refused("keys", "list", "--database", "shop.db")


def test_a_damaged_file_is_one_line_with_the_remedy(served, folder):
    made = connect("shop.db")
    migrate(made)
    with made.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    made.dispose()
    whole = (folder / "shop.db").read_bytes()
    half = len(whole) // 8192 * 4096
    damaged = {
        "middle": whole[:half] + b"\xff" * 8192 + whole[half + 8192 :],
        "cut": whole[:half],
        "header": b"\xff" * 100 + whole[100:],
        "schema": whole[:100] + b"\xff" * 3_000 + whole[3_100:],
    }
    for content in damaged.values():
        (folder / "shop.db").write_bytes(content)
        for words in (["serve"], ["store", "migrate"]):
            text = refused(*words, "--database", "shop.db")
            assert "tailor store restore" in text and "\n" not in text


# the first key


@pytest.fixture
def served(monkeypatch):
    """`tailor serve` that ends where it would listen."""
    worker = pytest.importorskip("tailor.service.worker")
    monkeypatch.setattr(worker, "serve", lambda *_: None)
    monkeypatch.setattr(worker, "refuse_taken", lambda *_: None)
    return run


def key_in(path):
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    return Path(path).read_text().strip()


def keys_of(database):
    with writing(connect(database)) as connection:
        return list_keys(connection)


def test_without_a_terminal_the_first_key_goes_into_a_file_of_its_owner(served, folder):
    done = served("serve", "--database", "shop.db")
    assert done.exit_code == 0 and "shop.first-key" in done.output and "tailor_" not in done.output
    assert key_in("shop.first-key").startswith("tailor_")
    assert "first-key" not in served("serve", "--database", "shop.db").output


def test_a_terminal_shows_the_first_key_and_no_file_is_left(served, folder, monkeypatch):
    monkeypatch.setattr(serving.sys, "stdout", type("Terminal", (), {"isatty": lambda _: True})())
    engine = connect("shop.db")  # noqa: F811
    migrate(engine)
    said = []
    monkeypatch.setattr("tailor.cli.showing.say", lambda *lines: said.extend(lines))
    serving._make_first_key(engine, "shop", None)
    assert any("tailor_" in line for line in said) and not list(folder.glob("*first-key*"))


def test_the_file_of_the_first_key_can_be_named(served, folder):
    (folder / "secret").write_text("an older file that all may read")
    (folder / "secret").chmod(0o644)
    assert "secret" in served("serve", "--database", "shop.db", "--first-key", "secret").output
    assert key_in("secret").startswith("tailor_")


def test_a_key_that_cannot_be_handed_over_is_not_made(served, folder):
    text = refused("serve", "--database", "shop.db", "--first-key", "no/such/folder/key")
    assert "--first-key" in text and keys_of("shop.db") == []
    assert served("serve", "--database", "shop.db").exit_code == 0 and len(keys_of("shop.db")) == 1
