"""Without the extra `serve` the commands say what is missing."""

import socket

import pytest
from typer.testing import CliRunner

from tailor.cli import serving
from tailor.cli.main import app
from tailor.errors import MissingExtraError, StoreError


@pytest.mark.parametrize(
    "words", [["serve"], ["refit"], ["keys", "list"], ["keys", "make", "x"], ["store", "migrate"], ["store", "erase", "x"]]
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serving, "NEEDED", ("nothing_of_this_name",))
    done = CliRunner().invoke(app, words)
    assert (
        isinstance(done.exception, MissingExtraError)
        and "nothing_of_this_name" in str(done.exception)
        and "tailor-engine[serve]" in str(done.exception)
    )
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_and_one_that_cannot_be_written_are_refused(monkeypatch, tmp_path):
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    done = CliRunner().invoke(app, ["store", "migrate", "--database", "broken.db"])
    assert isinstance(done.exception, StoreError) and "cannot be used" in str(done.exception)
    done = CliRunner().invoke(app, ["store", "migrate", "--database", "no/such/folder/x.db"])
    assert isinstance(done.exception, StoreError) and "make it first" in str(done.exception)


def test_a_port_that_is_taken_is_named(monkeypatch, tmp_path):
    pytest.importorskip("uvicorn")
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["serve", "--port", port])
    assert isinstance(done.exception, StoreError) and f"127.0.0.1:{port}" in str(done.exception)
