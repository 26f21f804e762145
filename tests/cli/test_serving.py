"""Without the extra `serve` the commands say what is missing."""

import socket

import pytest
from typer.testing import CliRunner

from tailor.cli import serving
from tailor.cli.main import app
from tailor.errors import MissingExtraError, StoreError


@pytest.mark.parametrize(
    "words",
    [
        ["serve"],
        ["refit"],
        ["keys", "list"],
        ["keys", "make", "x"],
        ["store", "migrate"],
        ["store", "erase", "x"],
    ],
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


def test_a_file_that_is_no_database_and_one_that_cannot_be_written_are_refused(
    monkeypatch, tmp_path
):
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    done = CliRunner().invoke(app, ["store", "migrate", "--database", "broken.db"])
    assert isinstance(done.exception, StoreError) and "cannot be used" in str(done.exception)
    done = CliRunner().invoke(app, ["store", "migrate", "--database", "no/such/folder/x.db"])
    assert isinstance(done.exception, StoreError) and "make it first" in str(done.exception)


@pytest.mark.parametrize(
    "words",
    [
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--rate", "-3"],
        ["--port", "0"],
        ["--port", "70000"],
        ["--workers", "0"],
    ],
)
def test_numbers_that_nobody_could_be_served_by_are_refused(words, monkeypatch, tmp_path):
    monkeypatch.setattr(pytest.importorskip("tailor.service.worker"), "serve", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["serve", *words])
    assert (
        isinstance(done.exception, StoreError)
        and words[0] in str(done.exception)
        and not list(tmp_path.iterdir())
    )


def test_a_rate_below_one_lets_somebody_pass(monkeypatch, tmp_path):
    worker = pytest.importorskip("tailor.service.worker")
    seen = []
    monkeypatch.setattr(
        worker, "make_app", lambda service: seen.append(service.settings) or service.writer.close()
    )
    monkeypatch.setattr(worker, "_log_json_lines", lambda: None)
    monkeypatch.setenv("TAILOR_DATABASE", str(tmp_path / "x.db"))
    monkeypatch.setenv("TAILOR_RATE", "0.3")
    worker.app()
    assert seen[0].burst == 1


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
    # no key was shown that nobody will see again
    assert "Serving on" not in done.output and not (tmp_path / "tailor.db").exists()
