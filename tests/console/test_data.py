"""The page Data: uploads are read first and sent after, with bad rows named and nothing twice."""

import gzip
import os
import signal
import threading
import time
from dataclasses import replace

import psutil
import pytest

pytest.importorskip("nicegui")

from console.conftest import _untold_of_pytest, free_port

from tailor.console.imports import (
    Hints,
    ImportJob,
    batches,
    body_of,
    keyed,
    parse_columns,
)
from tailor.console.pages.data import (
    diagnosis_text,
    end_text,
    missing_rows,
    most_bytes,
    progress_text,
    table_row,
)
from tailor.errors import DataError, ServiceError

EVENTS = """customer,sku,timestamp,action
ann,mug,2026-11-01 10:00:00,buy
bob,tea,2026-11-02 10:00:00,view
ann,,2026-11-02 10:00:00,view
eve,tea,yesterday,view
"""
MARKUP = "<img src=x onerror=alert(1)>"


class Taking:
    """A service that takes everything; the first answers may fail."""

    def __init__(self, errors=()):
        self.errors = list(errors)
        self.ids = []

    def send_events(self, rows):
        if self.errors:
            raise self.errors.pop(0)
        new = [row["event_id"] for row in rows if row["event_id"] not in self.ids]
        self.ids += new
        return {"accepted": len(new), "duplicates": [""] * (len(rows) - len(new)), "rejected": []}

    def put_items(self, rows):
        self.ids += [row["item_id"] for row in rows]
        return len(rows)


def a_job(tmp_path, text, name="events.csv", table="events"):
    folder = tmp_path / str(time.monotonic_ns())
    folder.mkdir()
    job = ImportJob(name, table, folder)
    job.file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return job


def read(job, **hints):
    job.read("key of the tenant", Hints(**hints))
    return job


def test_a_dry_run_names_columns_rows_and_bad_lines(tmp_path):
    job = read(a_job(tmp_path, EVENTS))
    assert job.state == "read", job.problem
    assert job.checked.columns["user_id"] == "customer"
    assert (job.checked.rows, job.checked.rejected) == (2, 2)
    assert [row["line"] for row in job.checked.rejects] == [4, 5]
    assert sum(job.checked.reasons.values()) == 2


def test_rows_are_sent_once_however_often_the_file_comes(tmp_path):
    service = Taking()
    first = read(a_job(tmp_path, EVENTS))
    first.send(service)
    assert (first.state, first.accepted, first.duplicates) == ("done", 2, 0)
    assert not first.folder.exists()
    again = read(a_job(tmp_path, gzip.compress(EVENTS.encode()), "again.csv.gz"))
    again.send(service)
    assert (again.state, again.accepted, again.duplicates) == ("done", 0, 2)
    assert "2 were there already" in end_text(again)


def test_made_ids_tell_nothing_without_the_key_of_the_tenant():
    assert keyed("e-1", "a") == keyed("e-1", "a") != keyed("e-1", "b")


def test_a_service_that_is_away_is_waited_for_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("tailor.console.imports.WAIT_S", 0.01)
    service = Taking([ServiceError("away", 0), ServiceError("busy", 503)])
    job = read(a_job(tmp_path, EVENTS))
    job.send(service)
    assert (job.state, job.accepted, job.is_waiting) == ("done", 2, False)


def test_a_refusal_stops_and_the_rest_can_be_sent(tmp_path):
    service = Taking([ServiceError("this key may not", 403)])
    job = read(a_job(tmp_path, EVENTS))
    job.send(service)
    assert job.state == "failed" and "This key may not" in job.problem
    job.send(service)
    assert (job.state, job.accepted) == ("done", 2)


def test_a_cancelled_import_stops_and_deletes_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tailor.console.imports.WAIT_S", 0.05)
    job = read(a_job(tmp_path, EVENTS))
    thread = threading.Thread(target=job.send, args=(Taking([ServiceError("away", 0)] * 999),))
    thread.start()
    while not job.is_waiting:
        time.sleep(0.01)
    job.cancel()
    thread.join(10)
    assert job.state == "cancelled" and not job.folder.exists()
    waiting = read(a_job(tmp_path, EVENTS))
    waiting.cancel()
    assert waiting.state == "cancelled" and not waiting.folder.exists()


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (bytes(range(256)) * 50, "picture.png", "utf-8"),
        (b"", "empty.csv", "empty.csv"),
        (b"PAR1 no table", "broken.parquet", "broken.parquet"),
        (b"<html><body>no table</body></html>", "page.csv", "no rows"),
        (b"colour,size\nred,small\n", "sizes.csv", "Columns:"),
        (b"customer,sku\nann,mug\n", "untimed.csv", "has no times"),
        (b"\x1f\x8b no gzip", "broken.csv.gz", "broken.csv.gz"),
    ],
)
def test_a_file_that_is_no_table_of_events_says_why(tmp_path, content, name, problem):
    job = read(a_job(tmp_path, content, name))
    assert job.state == "failed" and problem in job.problem
    assert str(tmp_path) not in job.problem


def test_columns_can_be_named_and_the_file_read_again(tmp_path):
    job = read(a_job(tmp_path, "who;thing;at\nann;mug;1793527200\n"))
    assert job.state == "failed"
    read(job, columns="user_id=who, item_id=thing, time_ms=at", time_unit="s")
    assert job.state == "read" and job.checked.rows == 1
    read(job, columns="nonsense")
    assert job.state == "failed" and "write them as in" in job.problem
    with pytest.raises(DataError, match="write them as in"):
        parse_columns("user_id=")
    assert parse_columns(" ") == {}


def test_items_keep_further_columns_and_markup_as_they_are(tmp_path):
    text = f"item_id,title,price,colour\nmug,{MARKUP},3.5,red\ntea,Tea,,\n"
    job = read(a_job(tmp_path, text, "items.csv", "items"))
    (rows,) = batches(job.folder / "rows.parquet", "items")
    assert rows == [
        {"item_id": "mug", "title": MARKUP, "price": 3.5, "more": {"colour": "red"}},
        {"item_id": "tea", "title": "Tea"},
    ]
    service = Taking()
    job.send(service)
    assert service.ids == ["mug", "tea"]
    assert body_of("items", {"item_id": "a", "price": float("nan")}) == {"item_id": "a"}


def test_progress_is_said_in_words(tmp_path):
    job = ImportJob("a.csv", "events", tmp_path)
    assert progress_text(job) == "reading the file"
    job.state, job.step, job.done, job.total = "sending", "sending events", 50, 200
    job.began_s = time.monotonic() - 10
    assert progress_text(job) == "sending events: 50 of 200 events, about 30 s left"
    running = {"state": "running", "step": "shortcuts", "done": 2, "total": 8, "seconds_left": 65}
    assert diagnosis_text(running) == "Running: shortcuts (2 of 8), about 1 minute left"
    assert "memory" in diagnosis_text({"state": "failed", "problem": "too little memory"})


def test_tables_are_rows_and_columns_that_lack_values_come_first():
    table = {"name": "events", "rows": 1200, "first_ms": 0, "last_ms": 0, "repeats": 0.25}
    assert table_row(table)["repeats"] == "25.0%" and table_row(table)["rows"] == "1,200"
    columns = [{"name": "a", "missing": 0.1}, {"name": "b", "missing": 0.9}]
    rows = missing_rows([{**table, "columns": [*columns, {"name": "c", "missing": 0}]}])
    assert [row["name"] for row in rows] == ["events.b", "events.a"]


def test_the_largest_upload_is_a_setting(monkeypatch):
    monkeypatch.setenv("TAILOR_UPLOAD_MB", "3")
    assert most_bytes() == 3 * 2**20


# ---- in the browser


def choose(page, path):
    page.locator("input[type=file]").set_input_files(str(path))


@pytest.mark.slow
def test_a_file_is_uploaded_looked_at_and_sent(visitor, tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text(EVENTS.replace("mug", MARKUP))
    page = visitor.open("/data")
    choose(page, path)
    page.get_by_text("orders.csv: 2 rows can be sent").wait_for()
    page.get_by_text("2 rows are rejected").wait_for()
    with visitor.served.client() as client:
        before = client.overview()["counts"]["events"]
        page.get_by_role("button", name="Send 2 events").click()
        page.get_by_text("orders.csv: 2 events taken in.").wait_for()
        time.sleep(11)
        assert client.overview()["counts"]["events"] == before + 2


@pytest.mark.slow
def test_a_picture_is_refused_with_a_reason(visitor, tmp_path):
    path = tmp_path / "picture.csv"
    path.write_bytes(bytes(range(256)) * 100)
    page = visitor.open("/data")
    choose(page, path)
    page.get_by_role("alert").filter(has_text="utf-8").wait_for()
    page.get_by_role("button", name="Take another file").click()
    page.get_by_text("was cancelled").wait_for()


@pytest.mark.slow
def test_a_large_upload_goes_to_the_disk_and_one_past_the_limit_is_refused(
    visitor, tmp_path, monkeypatch
):
    monkeypatch.setenv("TAILOR_UPLOAD_MB", "100")
    with _untold_of_pytest(visitor.served.url, free_port()) as address:
        process = psutil.Process().children()[-1]
        served = replace(visitor.served, console=address)
        alone = replace(visitor, served=served)
        page = alone.open("/data")
        path = tmp_path / "large.csv"
        path.write_bytes(b"\x80" * (101 * 2**20))
        choose(page, path)
        page.get_by_text("it is larger than 100 MB").wait_for()
        path.write_bytes(b"\x80" * (90 * 2**20))  # refused as soon as it is read
        before = process.memory_info().rss
        choose(page, path)
        page.get_by_role("alert").filter(has_text="utf-8").wait_for(timeout=60_000)
        assert process.memory_info().rss - before < 60 * 2**20


@pytest.mark.slow
def test_an_import_waits_for_a_service_that_is_away_and_goes_on(visitor, tmp_path):
    lines = [f"u{n % 50},i{n},{1_793_000_000 + n}" for n in range(12_000)]
    path = tmp_path / "long.csv"
    path.write_text("\n".join(["user_id,item_id,timestamp", *lines]))
    page = visitor.open("/data")
    choose(page, path)
    page.get_by_text("12,000 rows can be sent").wait_for()
    os.kill(visitor.served.process, signal.SIGSTOP)  # it takes connections and says nothing
    try:
        page.get_by_role("button", name="Send 12,000 events").click()
        time.sleep(3)
    finally:
        os.kill(visitor.served.process, signal.SIGCONT)
    visitor.go(page, "/papers")  # it goes on while the reader looks elsewhere
    visitor.go(page, "/data")
    page.get_by_text("long.csv: 12,000 events taken in.").wait_for(timeout=120_000)


@pytest.mark.slow
def test_the_data_are_checked_and_diagnosed(visitor):
    page = visitor.open("/data")
    page.get_by_role("button", name="Check the data").click()
    page.get_by_text("Result of").wait_for(timeout=90_000)
    page.get_by_text("Solved by a shortcut").wait_for()
