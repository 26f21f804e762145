"""`tailor start`: files in, a served model out, and no step done twice."""

import json
import sys

import polars as pl
import pytest
from typer.testing import CliRunner

from tailor.cli import starting
from tailor.cli.main import app
from tailor.core.saving import SavedModel
from tailor.errors import DataError
from tailor.testing.data import tiny_data


@pytest.fixture
def files(tmp_path):
    data = tiny_data()
    data.events.select("user_id", "item_id", "time_ms").write_csv(tmp_path / "events.csv")
    data.item_table.select(customer_title="title", item_id="item_id").write_csv(
        tmp_path / "items.csv"
    )
    return tmp_path


def start(files, *options, method="Popularity"):
    arguments = ["start", str(files / "events.csv"), "--items", str(files / "items.csv")]
    arguments += ["--columns", "items.title=customer_title", "--method", method]
    arguments += ["--out", str(files / "shop"), *options]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_one_command_makes_data_split_model_and_figures(files):
    result = start(files, "--no-serve")
    assert result.exit_code == 0
    assert "HR@10" in result.output and "popularity" in result.output
    assert "tailor serve --model model" in " ".join(result.output.split())
    saved = SavedModel.open(files / "shop" / "model")
    assert saved.method.name == "Popularity" and any(saved.titles.values())


def test_what_is_there_is_not_made_again(files):
    start(files, "--no-serve")
    written = {
        path: path.stat().st_mtime_ns for path in (files / "shop").rglob("*") if path.is_file()
    }
    result = start(files, "--no-serve")
    assert " ".join(result.output.split()).count("is there already") == 3
    note = files / "shop" / starting.SOURCES
    for path, when in written.items():
        assert path == note or path.stat().st_mtime_ns == when


def test_a_killed_fit_leaves_the_data_and_goes_on(files, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(starting, "fit_command", killed)
        start(files, "--no-serve")
    assert (files / "shop" / "split").exists() and not (files / "shop" / "model").exists()
    assert " ".join(start(files, "--no-serve").output.split()).count("is there already") == 2


@pytest.mark.parametrize("change", ["file", "method"])
def test_a_folder_of_other_files_or_settings_is_refused(files, change):
    start(files, "--no-serve")
    if change == "file":
        events = pl.read_csv(files / "events.csv")
        events[:-5].write_csv(files / "events.csv")
    with pytest.raises(DataError, match="was made from other files or settings"):
        start(files, "--no-serve", method="EASE" if change == "method" else "Popularity")


def test_missing_files_are_named_before_anything_is_made(files):
    (files / "items.csv").unlink()
    with pytest.raises(DataError, match=r"items\.csv is not there"):
        start(files, "--no-serve")
    assert not (files / "shop").exists()


def test_the_server_takes_the_place_of_the_command(files, monkeypatch):
    pytest.importorskip("fastapi")
    called = []
    monkeypatch.setattr(starting.os, "chdir", called.append)
    monkeypatch.setattr(starting.os, "execv", lambda *given: called.append(given))
    start(files, "--port", "8123")
    assert called[0] == files / "shop"
    program, arguments = called[1]
    assert program == sys.executable
    assert arguments[1:5] == ["-m", "tailor", "serve", "--model"] and arguments[-1] == "8123"
    assert json.loads((files / "shop" / starting.SOURCES).read_text())["pipeline"] == "Popularity"
