"""`tailor doctor` names what is wrong and what to do."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from tailor.cli import doctor
from tailor.cli.main import app


def looked(*words):
    done = CliRunner().invoke(app, ["doctor", "--json", *words])
    return done.exit_code, {one["what"]: one for one in json.loads(done.output)}


def test_without_a_store_nothing_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, found = looked()
    assert code == 0 and found["Python"]["good"] and "is not there" in found["store"]["found"]


def test_an_extra_that_is_missing_comes_with_the_line_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "EXTRAS", {"serve": ("nothing_of_this_name",)})
    assert looked()[1]["extra serve"]["remedy"] == 'pip install "tailor-engine[serve]"'


def test_a_disk_that_is_nearly_full_is_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    code, found = looked()
    assert code == 1 and not found["free disk here"]["good"]


def test_the_store_and_its_model_are_looked_at(tmp_path, monkeypatch):
    sa = pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    from tailor.retrieval.popularity import Popularity
    from tailor.service.batcher import saved_digest
    from tailor.store.engine import connect, writing
    from tailor.store.migrating import migrate, newest
    from tailor.store.models import add_model, serve_model
    from tailor.testing.data import tiny_data

    monkeypatch.chdir(tmp_path)
    engine = connect("shop.db")
    migrate(engine)
    folder = Popularity().fit(tiny_data()).save(tmp_path / "model")
    with writing(engine) as connection:
        version = add_model(connection, "shop", str(folder), saved_digest(folder))
    assert "none put in place" in looked("--database", "shop.db")[1]["model of shop"]["found"]
    with writing(engine) as connection:
        serve_model(connection, "shop", version)
    code, found = looked("--database", "shop.db")
    assert (
        code == 0
        and found["store"]["found"] == f"sqlite, revision {newest()}"
        and "version 1" in found["model of shop"]["found"]
    )
    assert (
        found["people's keys"]["good"]
        and "not under a master key" in found["people's keys"]["found"]
    )
    with monkeypatch.context() as patch:
        patch.setenv("TAILOR_MASTER_KEY", "x" * 40)
        code, found = looked("--database", "shop.db")
        assert code == 1 and "another master key" in found["people's keys"]["remedy"]
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
    assert "migrate" in looked("--database", "shop.db")[1]["tables"]["remedy"]
    with writing(engine) as connection:
        connection.execute(
            sa.text("UPDATE alembic_version SET version_num = :newest"), {"newest": newest()}
        )
    shutil.rmtree(folder)
    code, found = looked("--database", "shop.db")
    assert code == 1 and "no saved model" in found["model of shop"]["remedy"]
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    code, found = looked("--database", "broken.db")
    assert code == 1 and not found["store"]["good"]


def test_a_damaged_store_is_not_called_well(tmp_path, monkeypatch):
    pytest.importorskip("alembic")
    from tailor.store.engine import connect, overwrite_deleted
    from tailor.store.migrating import migrate

    monkeypatch.chdir(tmp_path)
    engine = connect("shop.db")
    migrate(engine)
    overwrite_deleted(engine)
    engine.dispose()
    whole = (tmp_path / "shop.db").read_bytes()
    half = len(whole) // 2 // 4096 * 4096
    (tmp_path / "shop.db").write_bytes(whole[:half] + b"\xff" * 8192 + whole[half + 8192 :])
    code, found = looked("--database", "shop.db")
    assert (
        code == 1
        and not found["store"]["good"]
        and "tailor store restore" in found["store"]["remedy"]
    )


def test_a_store_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    pytest.importorskip("alembic")
    import sqlite3

    from tailor.store.engine import connect, held
    from tailor.store.migrating import migrate

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tailor.store.engine.WAIT_S", 0.01)
    migrate(connect("shop.db"))
    assert looked("--database", "shop.db")[1]["writing"]["good"]
    other = sqlite3.connect("shop.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    code, found = looked("--database", "shop.db")
    assert code == 1 and "locked" in found["writing"]["found"]
    other.close()
    with held(connect("shop.db")):
        (tmp_path / "shop.db").unlink()
        code, found = looked("--database", "shop.db")
    assert code == 1 and "is gone" in found["store"]["found"]


def test_the_disks_of_store_keys_and_models_are_looked_at(tmp_path, monkeypatch):
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)
    for name in ("here", "stores", "models"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "stores")
    full = {tmp_path / "stores", tmp_path / "models"}

    class Usage:
        def __init__(self, path):
            self.free = 0 if path.resolve() in full else 2**40

    monkeypatch.setattr(doctor.shutil, "disk_usage", Usage)
    monkeypatch.setenv("TAILOR_SERVED_MODELS", str(tmp_path / "models" / "later"))
    monkeypatch.chdir(tmp_path / "here")
    code, found = looked("--database", "../link/shop.db")
    assert code == 1 and found["free disk here"]["good"]
    for part in ("the database", "people's keys", "the models"):
        assert not found[f"free disk of {part}"]["good"]


@pytest.mark.parametrize(
    "address", ["postgresql://me:secret@127.0.0.1:1/x", "Postgres//me:secret@x"]
)
def test_no_password_is_shown(address, tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.chdir(tmp_path)
    code, found = looked("--database", address)
    assert code == 1 and not found["store"]["good"] and "secret" not in json.dumps(found)


ODD_ROWS = "UPDATE items SET more = '{more}' WHERE item_id = 'cup'"
ODD_STORES = [
    ("shop.db", ODD_ROWS.format(more="{bad"), "items", "cup of shop"),
    ("shop.db", ODD_ROWS.format(more="[1, 2]"), "items", "cup of shop"),
    ("shop.db", ODD_ROWS.format(more='"x"'), "items", "cup of shop"),
    ("shop.db", "UPDATE items SET item_id = CAST(x'ff' AS TEXT)", "items", "UTF-8"),
    ("shop.db", "UPDATE marks SET value = 'x' WHERE name = 'changes'", "people's keys", "Value"),
    ("shop.db", "DELETE FROM marks WHERE name = 'changes'", "people's keys", "KeyError"),
    ("shop.db", "DROP TABLE items", "tables", "without items"),
    ("shop.db", "ALTER TABLE models DROP COLUMN note", "tables", "without models.note"),
    ("shop.keys.db", "DROP TABLE erased", "tables", "without personal.erased"),
    ("shop.keys.db", "DROP TABLE subjects", "tables", "without personal.subjects"),
    ("shop.db", "INSERT INTO alembic_version VALUES ('0007')", "store", "cannot be read"),
]


@pytest.mark.parametrize(("file", "change", "subject", "state"), ODD_STORES)
def test_a_store_that_was_changed_by_hand_is_a_finding(
    file, change, subject, state, tmp_path, monkeypatch
):
    pytest.importorskip("alembic")
    import sqlite3
    from contextlib import closing

    from tailor.store.catalogue import upsert_items
    from tailor.store.engine import connect, writing
    from tailor.store.migrating import migrate

    monkeypatch.chdir(tmp_path)
    engine = connect("shop.db")
    migrate(engine)
    with writing(engine) as connection:
        upsert_items(connection, "shop", [{"item_id": "cup", "more": {"a": 1}}])
    engine.dispose()
    assert looked("--database", "shop.db")[0] == 0
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(change)
        connection.commit()
    code, found = looked("--database", "shop.db")
    assert code == 1 and not found[subject]["good"] and found[subject]["remedy"]
    assert state in found[subject]["found"]


def test_links_in_a_circle_are_a_finding(tmp_path, monkeypatch):
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.db").symlink_to("other.db")
    (tmp_path / "other.db").symlink_to("shop.db")
    code, found = looked("--database", "shop.db")
    assert code == 0 and "is not there" in found["store"]["found"]
