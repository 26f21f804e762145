"""`tailor refit --every` outlives what goes wrong, and SIGTERM ends it where nothing is cut."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("alembic")

from tailor.cli import stopping
from tailor.cli.main import app
from tailor.core.saving import load
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError, StoreError
from tailor.progress import silent
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.service import refit as refit_module
from tailor.service.batcher import saved_digest
from tailor.store.engine import connect, reading, writing
from tailor.store.loading import load_dataset
from tailor.store.migrating import migrate
from tailor.store.models import add_model, current_model, serve_model
from tailor.testing.data import tiny_data

ROOT = Path(__file__).parents[2]


class EnoughError(Exception):
    """Ends the loop of a test."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = connect("shop.db")
    migrate(engine)
    load_dataset(engine, "default", tiny_data())
    engine.dispose()
    return tmp_path


@pytest.fixture
def turns(monkeypatch):
    """`turns(words, between)` runs the loop; `between` are called one after another, instead of
    waiting.
    """

    def run(*words, between=()):
        steps = iter(between)

        def sleep(self, seconds):
            step = next(steps, None)
            if step is None:
                raise EnoughError
            step()

        monkeypatch.setattr(stopping.Stopping, "sleep", sleep)
        done = CliRunner().invoke(app, ["refit", *words, "--every", "1", "--database", "shop.db"])
        assert isinstance(done.exception, EnoughError), (done.output, done.exception)
        return done.stdout.splitlines(), done.stderr.splitlines()

    return run


def test_a_loop_outlives_a_store_that_is_away_locked_or_damaged(folder, turns, monkeypatch):
    monkeypatch.setattr("tailor.store.engine.WAIT_S", 0.01)
    whole = (folder / "shop.db").read_bytes()
    connections = []

    def lock():
        (folder / "away.db").rename(folder / "shop.db")
        connection = sqlite3.connect("shop.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connections.append(connection)

    def damage():
        connections.pop().close()
        (folder / "shop.db").write_bytes(b"\xff" * len(whole))

    out, errors = turns(
        *("Popularity", "--force", "--after", "0"),
        between=[
            lambda: (folder / "shop.db").rename(folder / "away.db"),
            lock,
            damage,
            lambda: (folder / "shop.db").write_bytes(whole),
        ],
    )
    assert "version 1 answers" in out[0] and len(errors) == 3, (out, errors)
    assert "is not there" in errors[0] and "locked" in errors[1]
    assert "not a database" in errors[2] and "version" in out[-1]
    assert all("the next one tries again" in line for line in errors)


def test_lines_of_json_keep_coming_one_a_turn(folder, turns, monkeypatch):
    real = refit_module.refit
    failures = iter([MemoryError("words of ann"), OSError(28, "No space left on device", "/srv/x")])

    def fail(*given):
        error = next(failures, None)
        if error is not None:
            raise error
        return real(*given)

    monkeypatch.setattr(refit_module, "refit", fail)
    out, errors = turns("Popularity", "--json", between=[lambda: None] * 3)
    lines = [json.loads(line) for line in out]
    assert len(lines) == 4 and not errors
    assert [line["swapped"] for line in lines] == [False, False, True, False]
    assert "MemoryError" in lines[0]["error"] and "ann" not in lines[0]["error"]
    assert lines[1]["error"] == "No space left on device"
    assert "0 events" in lines[3]["why"]  # a failing turn has taken no events away


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["NoSuchMethod"], ModelError),
        (["LogisticRegression"], ModelError),
        (["Popularity", "--only", "actoin = 3"], DataError),
        (["Popularity", "--tenant", "../x"], StoreError),
        (["Popularity", "--after", "-1"], StoreError),
        (["Popularity", "--every", "nan"], StoreError),
        (["Popularity", "--every", "0"], StoreError),
    ],
)
def test_wrong_options_end_the_loop_at_once(words, kind, folder):
    done = CliRunner().invoke(app, ["refit", "--every", "1", *words, "--database", "shop.db"])
    assert isinstance(done.exception, kind), (done.output, done.exception)


LOOP = """
import signal, sys, time
from pathlib import Path
from tailor.cli import main
from tailor.core.methods import Recommender
from tailor.retrieval.popularity import Popularity
from tailor.service import refit

where = sys.argv[1]
real_fit, real_save = Popularity.fit, refit._save_and_serve


def wait(self, *given):
    Path("begun").touch()
    for _ in range(600):
        time.sleep(0.02)


def save(*given):
    Path("begun").touch()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        time.sleep(0.02)
    version = real_save(*given)
    Path("registered").touch()
    return version


if where == "fit":
    Popularity.fit = wait
else:
    refit._save_and_serve = save
sys.argv = ["tailor", "refit", "Popularity", "--every", "60", "--database", "shop.db"]
main.run()
"""


@pytest.mark.parametrize("where", ["fit", "save"])
def test_sigterm_ends_a_fit_at_once_and_a_swap_after_it_is_whole(where, folder):
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, where],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    while not (folder / "begun").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGTERM and "Traceback" not in errors
    assert (folder / "registered").exists() == (where == "save")
    with reading(connect("shop.db")) as connection:
        assert (current_model(connection, "default") is not None) == (where == "save")


def test_a_signal_that_was_swallowed_ends_the_next_step(monkeypatch):
    asked = []
    monkeypatch.setattr(signal, "raise_signal", asked.append)
    with stopping.Stopping(silent) as held:
        held._is_asked = True  # as after an error in a callback, which Python swallows
        steps = held.progress(range(3), "fitting")
        next(steps)
    assert asked == [signal.SIGTERM]


# the first model


def test_the_first_refit_learns_everybody_s_last_events(folder):
    data = tiny_data()
    engine = connect("shop.db")
    given = CoVisitation().fit(last_out(data).train).save(folder / "given")
    with writing(engine) as connection:
        version = add_model(connection, "default", str(given), saved_digest(given), "given")
        serve_model(connection, "default", version)
    words = ["refit", "Popularity", "--database", "shop.db"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0 and "version 2 answers: the first refit" in first.output
    with reading(engine) as connection:
        note = current_model(connection, "default")["note"]
    assert note == f"refit on {len(data.events)} events"
    again = CliRunner().invoke(app, ["refit", "EASE", "--database", "shop.db"])
    assert "nothing to compare by" in again.output and "nothing changed" in again.output


def test_a_first_refit_without_any_model_learns_from_everything(folder):
    words = ["refit", "Popularity", "--database", "shop.db", "--json"]
    outcome = json.loads(CliRunner().invoke(app, words).stdout)
    assert outcome["swapped"] and outcome["events"] == len(tiny_data().events)
    assert Popularity is type(load(Path("models") / "default" / os.listdir("models/default")[0]))
