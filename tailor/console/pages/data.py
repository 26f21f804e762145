"""The page Data: what is stored, imports of files, checks and diagnosis."""

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from nicegui import events, ui

from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.imports import Hints, ImportJob, Table
from tailor.console.session import Login, Session, is_away
from tailor.errors import ServiceError

MEGABYTE = 2**20
UPLOAD_MB = "TAILOR_UPLOAD_MB"  # largest upload
DEFAULT_MB = 500
LOOK_S = 0.5  # between two looks at an import
DIAGNOSIS_S = 1.0  # between two looks at a diagnosis
ENDINGS = ".csv,.tsv,.txt,.json,.jsonl,.parquet,.gz,.zip"
KINDS = {"events": "Events: who did what, and when", "items": "Items: ids, titles, prices"}
UNITS = {
    "": "as the column tells",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "day-first": "dates, day first",
    "month-first": "dates, month first",
}
ENCODINGS = ["utf-8", "latin-1", "cp1252", "utf-16"]
TABLE_COLUMNS = [
    ("name", "Table"),
    ("rows", "Rows"),
    ("first", "From (UTC)"),
    ("last", "To (UTC)"),
    ("repeats", "Repeats"),
]
STEPS = {"reading": "Reading", "sending": "Sending"}
_jobs: "WeakKeyDictionary[Login, ImportJob]" = WeakKeyDictionary()
_folder = tempfile.TemporaryDirectory(prefix="tailor-uploads-")  # deleted with the process


@page("/data", title="Data", icon="storage", role="admin", order=70)
async def data(session: Session) -> None:
    """Show what is stored, import files, and say what is wrong with the data."""
    answer = await session.ask(lambda client: client.stored_data())
    _show_tables(answer)
    _Import(session, str(answer["id_key"]))
    await _Diagnosis(session).begin()


# ---- what is stored


def _show_tables(answer: Mapping[str, Any]) -> None:
    with widgets.section("What is stored"):
        if not any(table["rows"] for table in answer["tables"]):
            widgets.empty("Nothing is stored yet", "Import a file below, or send events.")
            return
        rows = [table_row(table) for table in answer["tables"]]
        widgets.table(TABLE_COLUMNS, rows, key="name")
        ui.label(
            "Repeats: the share of the latest 100,000 events in which a person does something with"
            " an item again."
        ).classes("text-sm")
        missing = missing_rows(answer["tables"])
        if missing:
            widgets.heading("Missing values", 3)
            widgets.table(
                [("name", "Column"), ("missing", "Rows without a value")],
                missing,
                key="name",
                per_page=10,
            )
        if answer["actions"]:
            bars = [
                (row["action"] or "no action", row["events"], None, None)
                for row in answer["actions"]
            ]
            widgets.bar_chart("Events by action", bars)


def table_row(table: Mapping[str, Any]) -> dict[str, str]:
    """Return a table as a row."""
    has_times = table["first_ms"] is not None
    return {
        "name": table["name"],
        "rows": f"{table['rows']:,}",
        "first": widgets.when(table["first_ms"]) if has_times else "",
        "last": widgets.when(table["last_ms"]) if has_times else "",
        "repeats": "" if table["repeats"] is None else f"{table['repeats']:.1%}",
    }


def missing_rows(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the columns that lack values, those that lack most first."""
    columns = [
        (column["missing"], f"{table['name']}.{column['name']}")
        for table in tables
        for column in table["columns"]
        if table["rows"] and column["missing"]
    ]
    return [
        {"name": name, "missing": f"{share:.1%}"}
        for share, name in sorted(columns, key=lambda pair: (-pair[0], pair[1]))
    ]


# ---- imports


def most_bytes() -> int:
    """Return the size of the largest upload, in bytes."""
    return int(float(os.environ.get(UPLOAD_MB, DEFAULT_MB)) * MEGABYTE)


_CHOOSING = """
<div class="row items-center q-gutter-sm q-pa-sm">
  <q-btn outline no-caps label="Choose a file" @click="props.pickFiles" />
  <span v-if="props.isUploading" role="status">
    Uploading: {{ props.uploadProgressLabel }} of {{ props.uploadSizeLabel }}
  </span>
  <span v-else>or drop it here</span>
  <q-btn v-if="props.isUploading" flat no-caps label="Cancel" @click="props.abort" />
  <span style="display: none"><q-uploader-add-trigger /></span>
</div>
"""  # the header of the upload; the trigger holds the field of the file


class _Import:
    """The section of imports: a file to choose, its dry run, and how far sending is."""

    def __init__(self, session: Session, id_key: str) -> None:
        self._session = session
        self._id_key = id_key
        self._seen: tuple[Any, ...] = ()
        with widgets.section("Import a file"):
            self._body = ui.column().classes("w-full gap-3")
        self._timer = ui.timer(LOOK_S, self._look)
        self._draw()

    @property
    def _job(self) -> ImportJob | None:
        login = self._session.login
        return None if login is None else _jobs.get(login)

    def _look(self) -> None:
        """Draw again where the state has changed, else move the bar alone."""
        job = self._job
        state = () if job is None else (id(job), job.state, job.is_waiting)
        if state != self._seen:
            self._draw()
        elif job is not None and job.is_open:
            self._move(job)

    def _draw(self) -> None:
        job = self._job
        self._seen = () if job is None else (id(job), job.state, job.is_waiting)
        self._body.clear()
        with self._body:
            if job is None or job.state in ("done", "cancelled"):
                if job is not None:
                    _show_end(job)
                self._choose()
            elif job.is_open:
                self._progress(job)
            elif job.state == "read":
                self._show_dry_run(job)
            else:
                self._show_failure(job)

    def _choose(self) -> None:
        limit = most_bytes()
        ui.label(
            "CSV, JSON lines or Parquet, also packed by gzip, of at most"
            f" {limit / MEGABYTE:,.0f} MB. The file is read and checked first; nothing is sent"
            " before you say so."
        )
        kind = ui.radio(KINDS, value="events").props('aria-label="What the file holds"')
        upload = ui.upload(
            auto_upload=True,
            max_files=1,
            max_file_size=limit,
            on_upload=lambda event: self._take(event, kind.value),
            on_rejected=lambda: ui.notify(
                f"This file is not taken: it is larger than {limit / MEGABYTE:,.0f} MB, or no"
                f" table. Split it, or start the console with {UPLOAD_MB} set higher.",
                type="negative",
                multi_line=True,
                close_button="Close",
            ),
        )
        upload.classes("w-full").props(f'accept="{ENDINGS}" flat bordered')
        upload.add_slot("header", _CHOOSING)

    async def _take(self, event: events.UploadEventArguments, table: Table) -> None:
        """Keep an uploaded file on the disk and read it."""
        login = self._session.login
        if login is None:
            return
        if login in _jobs:
            _jobs[login].cancel()  # its file is deleted
        job = ImportJob(event.file.name, table, Path(tempfile.mkdtemp(dir=_folder.name)))
        login.endings.append(job.cancel)
        await event.file.save(job.file)
        _jobs[login] = job
        await self._read(job, Hints())

    async def _read(self, job: ImportJob, hints: Hints) -> None:
        job.state = "reading"
        self._draw()
        await asyncio.to_thread(job.read, self._id_key, hints)

    def _progress(self, job: ImportJob) -> None:
        with ui.row().classes("w-full items-center gap-4"):
            ui.label(f"{STEPS[job.state]} {job.name}").classes("font-medium")
            ui.button("Cancel", on_click=job.cancel).props("outline")
        self._bar = ui.linear_progress(show_value=False, size="12px").props(
            'aria-label="Progress of the import"'
        )
        self._words = ui.label().props('role="status"')
        if job.is_waiting:
            ui.label(
                "The service does not answer. The import goes on once it is back; nothing is"
                " counted twice."
            ).props('role="alert"')
        self._move(job)

    def _move(self, job: ImportJob) -> None:
        share = job.done / job.total if job.total else None
        self._bar.value = share or 0
        self._bar.props(remove="indeterminate") if share else self._bar.props("indeterminate")
        self._words.text = progress_text(job)

    def _show_dry_run(self, job: ImportJob) -> None:
        checked = job.checked
        assert checked is not None
        widgets.heading(f"{job.name}: {checked.rows:,} rows can be sent", 3)
        columns = [{"ours": ours, "theirs": theirs} for ours, theirs in checked.columns.items()]
        widgets.table([("ours", "Read as"), ("theirs", "Column of the file")], columns, key="ours")
        if checked.further:
            fate = "go along as attributes" if job.table == "items" else "are left out"
            ui.label(f"Other columns {fate}: {', '.join(checked.further[:30])}").classes("text-sm")
        for note in checked.notes:
            ui.label(note).classes("text-sm")
        _show_rejects(checked.rejected, checked.reasons, checked.rejects)
        _show_preview(checked.preview)
        with ui.row().classes("gap-2"):
            ui.button(f"Send {checked.rows:,} {job.table}", on_click=lambda: self._send(job))
            ui.button("Cancel", on_click=job.cancel).props("outline")
        self._hints(job)

    def _show_failure(self, job: ImportJob) -> None:
        ui.label(job.problem).props('role="alert"')
        with ui.row().classes("gap-2"):
            if job.checked is not None:
                ui.button("Send the rest", on_click=lambda: self._send(job))
            ui.button("Take another file", on_click=job.cancel).props("outline")
        self._hints(job)

    def _hints(self, job: ImportJob) -> None:
        """Offer to read the file again, with other columns."""
        with ui.expansion("Read it differently").classes("w-full"):
            columns = ui.input(
                "Columns", placeholder="user_id=customer, item_id=sku, time_ms=when"
            ).classes("w-full")
            with ui.row().classes("w-full gap-4 items-end"):
                unit = ui.select(UNITS, label="Unit of times", value="").classes("min-w-48")
                encoding = ui.select(ENCODINGS, label="Encoding", value="utf-8")
                encoding.classes("min-w-32")

                async def again() -> None:
                    hints = Hints(columns.value or "", str(unit.value), str(encoding.value))
                    await self._read(job, hints)

                ui.button("Read again", on_click=again).props("outline")

    async def _send(self, job: ImportJob) -> None:
        job.state = "sending"
        self._draw()
        login = self._session.login
        if login is not None:
            await asyncio.to_thread(job.send, login.client)


def progress_text(job: ImportJob) -> str:
    """Return how far an import is, in words."""
    if not job.total:
        return job.step
    unit = f" {job.table}" if job.state == "sending" else " parts"
    text = f"{job.step}: {job.done:,} of {job.total:,}{unit}"
    seconds = job.seconds_left()
    return text if seconds is None else f"{text}, about {widgets.ago(seconds)} left"


def end_text(job: ImportJob) -> str:
    """Return what came of an import, in words."""
    if job.state == "cancelled":
        sent = f" {job.accepted:,} {job.table} were sent before; they stay." if job.accepted else ""
        return f"The import of {job.name} was cancelled.{sent}"
    parts = [f"{job.accepted:,} {job.table} taken in"]
    if job.duplicates:
        parts.append(f"{job.duplicates:,} were there already")
    if job.refusals:
        parts.append(f"{sum(job.refusals.values()):,} refused")
    return f"{job.name}: {', '.join(parts)}."


def _show_end(job: ImportJob) -> None:
    ui.label(end_text(job)).props('role="status"').classes("font-medium")
    if job.refusals:
        rows = [
            {"reason": reason, "rows": f"{count:,}"} for reason, count in job.refusals.most_common()
        ]
        widgets.table([("reason", "Refused because"), ("rows", "Rows")], rows, key="reason")


def _show_rejects(
    count: int, reasons: Mapping[str, int], rejects: Sequence[Mapping[str, Any]]
) -> None:
    if not count:
        ui.label("No row was rejected.")
        return
    widgets.heading(f"{count:,} rows are rejected", 3)
    rows = [{"reason": reason, "rows": f"{n:,}"} for reason, n in reasons.items()]
    widgets.table([("reason", "Reason"), ("rows", "Rows")], rows, key="reason", per_page=10)
    with ui.expansion("The rejected rows").classes("w-full"):
        numbered = [{"id": number, **row} for number, row in enumerate(rejects)]
        widgets.table(
            [("line", "Line"), ("reason", "Reason"), ("raw", "Text")], numbered, per_page=10
        )


def _show_preview(rows: Sequence[Mapping[str, str]]) -> None:
    with ui.expansion(f"The first {len(rows)} rows as they were understood").classes("w-full"):
        names = list(rows[0]) if rows else []
        numbered = [{**row, "\0row": number} for number, row in enumerate(rows)]
        widgets.table([(name, name) for name in names], numbered, key="\0row")


# ---- checks and diagnosis


class _Diagnosis:
    """The section of checks: begin, cancel, how far it is, and the latest result."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shown_ms: int | None = -1
        self._timer: ui.timer | None = None

    async def begin(self) -> None:
        """Make the section, and look at a run that goes on."""
        with widgets.section("Check and diagnosis"):
            ui.label(
                "What is wrong with the stored events, what looks odd, and what a model can learn"
                " from them. It reads what a refit would read, in a process of its own."
            )
            with ui.row().classes("gap-2 items-center"):
                self._start = ui.button("Check the data", on_click=self._begin)
                self._stop = ui.button("Cancel", on_click=self._cancel).props("outline")
            self._bar = ui.linear_progress(show_value=False, size="12px").props(
                'aria-label="Progress of the diagnosis" indeterminate'
            )
            self._words = ui.label().props('role="status"')
            self._result = ui.column().classes("w-full gap-3")
        self._timer = ui.timer(DIAGNOSIS_S, self._look, active=False)
        await self._look()

    async def _look(self) -> None:
        try:
            self._draw(await self._session.ask(lambda client: client.diagnosis()))
        except ServiceError as error:
            if not is_away(error) or self._timer is None or not self._timer.active:
                raise  # else the banner says so, and the next look may be answered

    async def _begin(self) -> None:
        self._start.disable()
        self._words.text = "Beginning"
        self._draw(await self._session.ask(lambda client: client.begin_diagnosis()))

    async def _cancel(self) -> None:
        self._draw(await self._session.ask(lambda client: client.cancel_diagnosis()))

    def _draw(self, answer: Mapping[str, Any]) -> None:
        is_running = answer["state"] in ("running", "cancelling")
        self._start.set_enabled(not is_running)
        self._stop.visible = self._bar.visible = is_running
        self._words.text = diagnosis_text(answer)
        if self._timer is not None:
            self._timer.active = is_running
        if answer["result_ms"] != self._shown_ms:
            self._shown_ms = answer["result_ms"]
            self._result.clear()
            with self._result:
                _show_result(answer)


def diagnosis_text(answer: Mapping[str, Any]) -> str:
    """Return how the latest run stands, in words."""
    state = answer["state"]
    if state == "running":
        parts = f" ({answer['done']} of {answer['total']})" if answer["total"] > 1 else ""
        left = answer["seconds_left"]
        time_left = f", about {widgets.ago(left)} left" if left else ""
        return f"Running: {answer['step']}{parts}{time_left}"
    texts = {
        "none": "It has never run.",
        "cancelling": "It is being cancelled.",
        "cancelled": "The latest run was cancelled.",
        "failed": f"The latest run failed: {answer['problem']}",
        "done": "",
    }
    return texts.get(state, state)


def _show_result(answer: Mapping[str, Any]) -> None:
    result = answer["result"]
    if result is None:
        return
    stats = result["stats"]
    widgets.heading(f"Result of {widgets.when(answer['result_ms'])} UTC", 3)
    with ui.row().classes("w-full gap-x-8 gap-y-4"):
        for name in ("users", "items", "events"):
            widgets.figure(name.capitalize(), f"{stats[name]:,}")
        widgets.figure("Left out of a refit", f"{result['left_out']:,}")
        solved = result["facts"].get("solved by any shortcut")
        widgets.figure("Solved by a shortcut", "–" if solved is None else f"{solved:.1%}")
    for note in result["notes"]:
        ui.label(note).classes("text-sm")
    _show_findings(result["findings"])
    bars = [
        (floor["name"], 100 * floor["hit"], 100 * floor["low"], 100 * floor["high"])
        for floor in result["floors"]
    ]
    widgets.bar_chart("People whose last item a shortcut finds among ten", bars, "%")
    with ui.expansion("All figures").classes("w-full"):
        rows = [
            {"name": name, "value": widgets.number(value)}
            for name, value in result["facts"].items()
        ]
        widgets.table([("name", "Figure"), ("value", "Value")], rows, key="name")


def _show_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    if not findings:
        ui.label("Nothing is wrong with the data, and nothing looks odd.")
        return
    for finding in findings:
        icon = "error" if finding["wrong"] else "help"
        with ui.row().classes("w-full items-start gap-3 no-wrap"):
            ui.icon(icon, size="1.5rem").props("aria-hidden=true")
            with ui.column().classes("gap-0"):
                level = "Wrong" if finding["wrong"] else "Odd"
                ui.label(f"{level}: {finding['says']}").classes("font-medium")
                for example in finding["examples"]:
                    ui.label(f"such as {example}").classes("text-sm")
                ui.label(finding["remedy"]).classes("text-sm")
