"""The page of the pipeline: its funnel, its settings, refits, and lists before a switch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailor.client import Client
from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.funnel import draw_funnel
from tailor.console.session import Session, is_away
from tailor.console.side_by_side import SideBySide, version_options
from tailor.errors import ServiceError

CHECK_S = 0.7  # after the last key, until the text is checked
LOOK_S = 1.5  # between two looks at a refit that runs
WATCH_S = 8.0  # between two looks whether another version answers
MOST_K = 50
MOST_TOML = 100_000  # characters that the service takes
MOST_TYPED = 150_000  # characters that the page takes: more would not get through to the console
RECENT = 5  # refits that are listed
EDITOR_STYLE = "height: 22rem; font-family: monospace; font-size: .85rem; white-space: pre"


@page("/pipeline", title="Pipeline", icon="account_tree", role="read", order=40)
async def pipeline(session: Session) -> None:
    """Show how lists are made, and let administrators change it."""
    with widgets.section("How a list is made"):
        Funnel(session)
    if not session.may("admin"):
        return
    models = await session.ask(lambda client: client.models())
    refits = await session.ask(lambda client: client.refits())
    serving = serving_version(models)
    if serving is None:
        text, problem = "", 'No model answers yet: write a pipeline, such as class = "Popularity".'
    else:
        details = await session.ask(lambda client: client.model(serving))
        text, problem = details["toml"], details["problem"]
    with widgets.section("Settings"):
        editor = Editor(session, models, text, serving, problem)
    with widgets.section("Refits"):
        jobs = Refits(session, refits)
    editor.on_fit = jobs.follow
    with widgets.section("Lists before you switch"):
        if version_options(models):
            preview = SideBySide(session, models)
            ui.link("Switch, or roll back: Models", "/models")
            jobs.on_done = preview.offer
        else:
            widgets.empty("There is no version yet", "Fit one above: it is listed here then.")


def serving_version(models: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the version that should answer with lists, None where there is none."""
    served = [m for m in models if m["kind"] == "recommends" and m["served_ms"] is not None]
    return None if not served else int(max(served, key=lambda m: m["served_ms"])["version"])


class Funnel:
    """Asks for a person's list with a trace, and draws its stages."""

    def __init__(self, session: Session) -> None:
        self.session = session
        with ui.row().classes("w-full gap-3 items-end"):
            self.person = ui.input("Person", placeholder="id; empty: a cold user")
            self.person.props("outlined dense").classes("grow").on("keydown.enter", self.show)
            self.k = ui.number("Items", value=10, min=1, max=MOST_K, precision=0)
            self.k.props("outlined dense").classes("w-24")
            self.filter = ui.input("Filter", placeholder="price <= 50")
            self.filter.props("outlined dense").classes("grow").on("keydown.enter", self.show)
            ui.button("Show the stages", on_click=self.show)
        self.result = ui.column().classes("w-full gap-3")
        with self.result:
            widgets.empty(
                "No list is traced yet",
                "Give a person and press the button: the stages of a real list are shown, and the"
                " list is not logged.",
            )

    async def show(self) -> None:
        """Ask for the list, and draw it."""
        user_id = (self.person.value or "").strip() or None
        condition = (self.filter.value or "").strip() or None
        k = int(self.k.value or 10)

        def ask(client: Client) -> dict[str, Any]:
            return client.recommend(user_id, k=k, trace=True, filter=condition)

        answer = await self.session.ask(ask)
        self.result.clear()
        with self.result:
            widgets.heading(f"{user_id or 'A cold user'}, answered by {answer['model']}", 3)
            draw_funnel(answer["trace"])
            for note in answer["notes"]:
                ui.label(note).classes("text-sm")
            with ui.expansion(f"The list: {len(answer['items'])} items").classes("w-full"):
                widgets.item_list(answer["items"])


class Editor:
    """The text of a pipeline, which is checked as it is written.

    The text stays whatever happens to the service, and says from which version it began.
    """

    def __init__(
        self,
        session: Session,
        models: Sequence[Mapping[str, Any]],
        text: str,
        version: int | None,
        problem: str | None,
    ) -> None:
        self.session = session
        self.began_from = version
        self.began_with = text
        self.on_fit: Any = None
        self._told_of = version
        self.origin = ui.label(origin_text(version))
        if problem:
            ui.label(problem).props('role="alert"').classes("text-negative")
        with ui.row().classes("w-full items-center gap-2") as self.other:
            self.other_text = ui.label("").props('role="status"')
            ui.button("Begin from it", on_click=self._begin_from_other).props("flat dense")
        self.other.visible = False
        self.text = ui.textarea("Pipeline (TOML)", value=text, on_change=self._on_change)
        self.text.props(f'outlined spellcheck="false" maxlength={MOST_TYPED}')
        self.text.props["input-style"] = EDITOR_STYLE
        self.text.classes("w-full")
        self.problems = ui.column().classes("w-full gap-1").props('aria-live="polite"')
        self._buttons(models)
        self._timer = ui.timer(CHECK_S, self.check, active=False)
        self._watcher = ui.timer(WATCH_S, self._watch)

    def _buttons(self, models: Sequence[Mapping[str, Any]]) -> None:
        with ui.row().classes("w-full gap-3 items-end"):
            self.note = ui.input("Note", placeholder="shown in the list of models")
            self.note.props("outlined dense maxlength=200").classes("grow")
            self.fit_button = ui.button("Fit it", on_click=self.fit)
            ui.button("Save as a file", on_click=self._save).props("flat")
            options = version_options(models)
            if options:
                self.source = ui.select(options, label="Begin from a version")
                self.source.props("outlined dense").classes("min-w-48 max-w-full")
                self.source.on_value_change(self._begin_from_chosen)
        ui.label("A new version answers nobody until you switch to it.").classes("text-sm")

    @property
    def is_changed(self) -> bool:
        """Return whether the text is another than it began with."""
        return bool((self.text.value or "") != self.began_with)

    def _on_change(self) -> None:
        self._timer.active = False
        self._timer.active = True

    async def check(self) -> bool:
        """Check the text, show what is wrong, and return whether it can be fitted."""
        self._timer.active = False
        text = self.text.value or ""
        if len(text) > MOST_TOML:
            self._show_problems([too_long(text)])
            return False
        result = await self.session.ask(lambda client: client.check_pipeline(text))
        if text != (self.text.value or ""):
            return False  # changed meanwhile: it is checked again
        if result["good"]:
            self._show_parts(result["parts"])
        else:
            self._show_problems(result["problems"])
        return bool(result["good"])

    def _show_problems(self, problems: Sequence[Mapping[str, Any]]) -> None:
        self.problems.clear()
        with self.problems:
            for problem in problems:
                self._show_problem(problem)

    def _show_problem(self, problem: Mapping[str, Any]) -> None:
        line = problem["line"]
        with ui.row().classes("w-full items-baseline gap-2 no-wrap"):
            if line is not None:
                button = ui.button(f"Line {line}", on_click=lambda: self._select(int(line)))
                button.props("outline dense no-caps color=negative").classes("shrink-0 px-2")
            ui.label(problem_text(problem)).classes("text-negative")

    def _select(self, line: int) -> None:
        """Mark a line of the text in the browser."""
        start, stop = line_range(self.text.value or "", line)
        ui.run_javascript(
            "const area = document.querySelector('main textarea'); area.focus();"
            f" area.setSelectionRange({start}, {stop});"
        )

    def _show_parts(self, parts: Mapping[str, Any]) -> None:
        self.problems.clear()
        with self.problems:
            ui.label("It can be fitted.")
            with ui.expansion("Its parts").classes("w-full").props("dense"):
                _show_part(parts, 0)

    async def fit(self) -> None:
        """Start a refit of the text, once it is good."""
        if not await self.check():
            ui.notify("Mend the text first.", type="warning")
            return
        text, note = self.text.value, self.note.value or ""
        self.fit_button.disable()
        try:
            job = await self.session.ask(lambda client: client.start_refit(toml=text, note=note))
        finally:
            self.fit_button.enable()
        ui.notify("The refit has begun.", type="positive")
        if self.on_fit is not None:
            await self.on_fit(job)

    def _save(self) -> None:
        widgets.download("pipeline.toml", self.text.value or "")

    async def _watch(self) -> None:
        """Tell where another version answers than the one that the text began from."""
        try:
            models = await self.session.ask(lambda client: client.models())
        except ServiceError as error:
            if is_away(error):
                return  # the banner says so
            self._watcher.deactivate()  # such as for a revoked key: once is enough
            raise
        version = serving_version(models)
        if version is None or version == self._told_of:
            return
        self._told_of = version
        self.other_text.text = (
            f"Version {version} answers now. Your text began from version {self.began_from} and"
            " stays as it is."
        )
        self.other.visible = version != self.began_from

    async def _begin_from_other(self) -> None:
        if self._told_of is not None:
            await self._begin_from(self._told_of)

    async def _begin_from_chosen(self) -> None:
        if self.source.value is not None:
            await self._begin_from(int(self.source.value))
            self.source.value = None

    async def _begin_from(self, version: int) -> None:
        """Put the settings of a version in place of the text, once that is confirmed."""
        details = await self.session.ask(lambda client: client.model(version))
        if details["problem"]:
            ui.notify(details["problem"], type="negative", close_button="Close")
            return
        question = f"Put the settings of version {version} in place of your text?"
        if self.is_changed and not await widgets.confirmed(question, "Replace"):
            return
        self.began_from, self.began_with = version, details["toml"]
        self.text.value = details["toml"]
        self.origin.text = origin_text(version)
        self.other.visible = False


def origin_text(version: int | None) -> str:
    """Return which version a text began from."""
    return "A new pipeline." if version is None else f"These are the settings of version {version}."


def problem_text(problem: Mapping[str, Any]) -> str:
    """Return a problem of a pipeline and its remedy in one line."""
    remedy = f". {problem['remedy']}" if problem["remedy"] else ""
    return f"{problem['problem']}{remedy}"


def line_range(text: str, line: int) -> tuple[int, int]:
    """Return where a line, counted from 1, begins and ends in a text."""
    lines = text.split("\n")
    number = min(max(line, 1), len(lines))
    start = sum(len(before) + 1 for before in lines[: number - 1])
    return start, start + len(lines[number - 1])


def too_long(text: str) -> dict[str, Any]:
    """Return the problem of a text that the service would refuse."""
    return {
        "line": None,
        "problem": f"it has {len(text):,} characters, at most {MOST_TOML:,} are possible",
        "remedy": "leave comments out",
    }


def _show_part(part: Mapping[str, Any], depth: int) -> None:
    """Show a part of a pipeline and those within it."""
    with ui.column().classes("w-full gap-0").style(f"padding-left: {min(depth, 4)}rem"):
        ui.label(part["name"]).classes("font-medium")
        for text in (part["summary"], part["settings"]):
            if text:
                ui.label(text).classes("text-sm")
    for inner in part["parts"]:
        _show_part(inner, depth + 1)


class Refits:
    """The refit that runs, with its progress, and those before it."""

    def __init__(self, session: Session, refits: Sequence[Mapping[str, Any]]) -> None:
        self.session = session
        self.on_done: Any = None
        self.running_id: str | None = None
        self.running = ui.column().classes("w-full gap-2")
        with self.running:
            self._make_running()
        self.recent = ui.column().classes("w-full")
        self._timer = ui.timer(LOOK_S, self.look, active=False)
        self._show_recent(refits)
        current = [job for job in refits if job["state"] == "running"]
        if current:
            self._begin(current[0])

    def _make_running(self) -> None:
        self.stage = ui.label("").props('role="status"')
        self.bar = ui.linear_progress(0.0, show_value=False, size="1rem")
        self.bar.props('rounded aria-label="Progress of the refit"')
        self.lines = ui.column().classes("w-full gap-0")
        ui.button("Cancel the refit", on_click=self.cancel).props("outline color=negative")
        self.running.visible = False

    async def follow(self, job: Mapping[str, Any]) -> None:
        """Follow a refit that has begun."""
        self._begin(job)

    def _begin(self, job: Mapping[str, Any]) -> None:
        self.running_id = str(job["id"])
        self.running.visible = True
        self._show_progress(job)
        self._timer.active = True

    async def look(self) -> None:
        """Look how far the refit is."""
        job_id = self.running_id
        if job_id is None:
            return
        try:
            job = await self.session.ask(lambda client: client.refit(job_id))
        except ServiceError as error:
            if is_away(error):
                return  # the banner says so; the next look may be answered
            self._timer.deactivate()
            raise
        if job["state"] == "running":
            self._show_progress(job)
            return
        self._timer.active = False
        self.running_id = None
        self.running.visible = False
        ui.notify(ended_text(job), type="positive" if job["state"] == "done" else "warning")
        await self._refresh(job)

    async def _refresh(self, job: Mapping[str, Any]) -> None:
        self._show_recent(await self.session.ask(lambda client: client.refits()))
        if job["version"] is not None and self.on_done is not None:
            models = await self.session.ask(lambda client: client.models())
            self.on_done(models, job["version"])

    def _show_progress(self, job: Mapping[str, Any]) -> None:
        self.stage.text = stage_text(job)
        self.bar.value = progress_of(job)
        self.lines.clear()
        with self.lines:
            for line in job.get("lines", [])[-4:]:
                ui.label(line).classes("text-sm")

    async def cancel(self) -> None:
        """Cancel the refit that runs."""
        job_id = self.running_id
        if job_id is None or not await widgets.confirmed("Cancel this refit?", "Cancel the refit"):
            return
        await self.session.ask(lambda client: client.cancel_refit(job_id))
        await self.look()

    def _show_recent(self, refits: Sequence[Mapping[str, Any]]) -> None:
        self.recent.clear()
        with self.recent:
            if not refits:
                widgets.empty("No refit yet", "Change the settings above and press Fit it.")
                return
            columns = [
                ("begun", "Begun (UTC)"),
                ("state", "State"),
                ("version", "Version"),
                ("note", "Note"),
                ("started_by", "By"),
                ("why", "What came of it"),
            ]
            widgets.table(columns, [_refit_row(job) for job in refits[:RECENT]])


def _refit_row(job: Mapping[str, Any]) -> dict[str, Any]:
    version = "" if job["version"] is None else str(job["version"])
    return {**job, "begun": widgets.when(job["begun_ms"]), "version": version}


def progress_of(job: Mapping[str, Any]) -> float:
    """Return how far a refit is, from 0 to 1: stages count the same."""
    if not job["steps"]:
        return 0.0
    share = job["done"] / job["total"] if job["total"] else 0.0
    return round(min(1.0, (job["step"] - 1 + min(share, 1.0)) / job["steps"]), 3)


def stage_text(job: Mapping[str, Any]) -> str:
    """Return what a refit does now, and how long it will take."""
    if not job["steps"]:
        return "Starting"
    left = "" if job["left_s"] is None else f", about {left_text(job['left_s'])} left"
    return f"Step {job['step']} of {job['steps']}: {job['stage']}{left}"


def left_text(seconds: float) -> str:
    """Return a time that is left, rounded up."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    return f"{math.ceil(seconds / 60)} min"


def ended_text(job: Mapping[str, Any]) -> str:
    """Return how a refit ended."""
    if job["state"] == "done":
        return f"Version {job['version']} is fitted. It answers once you switch to it."
    return f"The refit {job['state']}: {job['why']}" if job["why"] else f"It {job['state']}."
