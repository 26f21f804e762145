"""A newcomer is led from the import to the server; what cannot be served is told early."""

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("alembic")

from tailor.cli.main import app
from tailor.errors import DataError, StoreError
from tailor.testing.data import tiny_data


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.output.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = tiny_data().events.select("user_id", "item_id", "time_ms")
    events.write_csv("timed.csv")
    events.drop("time_ms").write_csv("untimed.csv")
    for name in ("timed", "untimed"):
        run("data", "import", f"{name}.csv", "--out", name)
        run("data", "split", name, "--out", f"{name}-split")
    return tmp_path


def test_an_import_without_times_says_that_it_cannot_be_served(folder):
    text = run("data", "import", "untimed.csv", "--out", "again")
    assert "not served" in text and "--columns time_ms=COLUMN" in text
    assert "not served" not in run("data", "import", "timed.csv", "--out", "other")
    done = run("data", "import", "untimed.csv", "--out", "third", "--json")
    assert json.loads(done)["can_be_served"] is False


@pytest.mark.parametrize("words", [["store", "load", "untimed"], ["serve", "--data", "untimed"]])
def test_data_without_times_is_refused_before_a_database_is_made(words, folder, monkeypatch):
    worker = pytest.importorskip("tailor.service.worker")
    monkeypatch.setattr(worker, "refuse_taken", lambda *_: None)
    done = CliRunner().invoke(app, [*words, "--database", "shop.db"])
    assert isinstance(done.exception, DataError)
    assert "--columns time_ms=COLUMN" in str(done.exception)
    assert not list(folder.glob("shop*"))


def test_a_fit_leads_to_the_server(folder):
    text = run("fit", "Popularity", "--split", "timed-split", "--out", "model")
    assert "tailor evaluate model --split timed-split" in text
    assert f"tailor serve --model model --data {folder / 'timed'}" in text
    assert "tailor refit Popularity" in text
    text = run("fit", "Popularity", "--split", "untimed-split", "--out", "other")
    assert "tailor serve" not in text and "--columns time_ms=COLUMN" in text
    text = run(
        *("fit", "Popularity", "--split", "timed-split", "--out", "third", "--with-histories")
    )
    assert "without --with-histories" in text


TENANTS = ["../x", "a/b", "", ".hidden", "x" * 65, "a b", "a\n", "ä"]
COMMANDS = [
    ["keys", "make", "x"],
    ["keys", "revoke", "x"],
    ["store", "load", "timed"],
    ["store", "export", "out"],
    ["store", "erase", "ann"],
    ["refit", "Popularity"],
    ["estimate", "model"],
    ["serve"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_checks_the_name_of_a_tenant(words, folder):
    for tenant in TENANTS:
        done = CliRunner().invoke(app, [*words, "--tenant", tenant, "--database", "shop.db"])
        assert isinstance(done.exception, StoreError), (tenant, done.output, done.exception)
        assert "cannot name a tenant: up to 64 letters" in str(done.exception)
    assert not list(folder.glob("shop*"))


def test_every_option_of_a_tenant_is_checked():
    """Also of commands to come."""
    from typer.main import get_command

    def walk(command, path=""):
        yield path, command
        for name, part in getattr(command, "commands", {}).items():
            yield from walk(part, f"{path} {name}")

    checked = [
        path
        for path, command in walk(get_command(app))
        for option in command.params
        if option.name == "tenant" and option.callback is not None
    ]
    unchecked = [
        path
        for path, command in walk(get_command(app))
        for option in command.params
        if option.name == "tenant" and option.callback is None
    ]
    assert len(checked) >= len(COMMANDS) and unchecked == []
