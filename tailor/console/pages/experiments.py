"""The page of experiments: what came of each, start and stop, and estimates before one."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailor.client import Client
from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.session import Session
from tailor.console.side_by_side import version_options
from tailor.errors import ServiceError

MOST_ARMS = 10
BUSY, AGAIN_S, MOST_TRIES = 503, 2.0, 30  # an estimate that is still being worked out
USUAL_LISTS = 2_000


@page("/experiments", title="Experiments", icon="science", role="admin", order=47)
async def experiments(session: Session) -> None:
    """Show all experiments, and let one be started and stopped."""
    models = await session.ask(lambda client: client.models())
    rows = await session.ask(lambda client: client.experiments())
    running = next((row for row in rows if row["ended_ms"] is None), None)
    with widgets.section("Running now"):
        if running is None:
            widgets.empty(
                "No experiment runs",
                "Start one below: two versions or more, a share of users each.",
            )
        else:
            await Running(session, running["name"]).show()
    if running is None:
        with widgets.section("Start an experiment"):
            Starter(session, models)
    with widgets.section("Estimates before anybody sees a list"):
        Estimator(session, models)
    ended = [row for row in rows if row["ended_ms"] is not None]
    with widgets.section("Ended experiments"):
        if not ended:
            widgets.empty("None has ended yet", "Results stay here once you stop an experiment.")
            return
        columns = [
            ("name", "Name"),
            ("arms", "Versions"),
            ("action", "Success"),
            ("started", "Started (UTC)"),
            ("ended", "Ended (UTC)"),
        ]
        result = ui.column()

        async def open_result(row: Mapping[str, Any]) -> None:
            result.clear()
            with result:
                await Running(session, row["name"], is_over=True).show()

        widgets.table(columns, [_experiment_row(row) for row in ended], open_result, "name", 10)
        result.classes("w-full").move(target_index=-1)


def _experiment_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "arms": arms_text(row["arms"]),
        "action": row["action"] or "any choice",
        "started": widgets.when(row["started_ms"]),
        "ended": widgets.when(row["ended_ms"]),
    }


def arms_text(arms: Sequence[Mapping[str, Any]]) -> str:
    """Return versions and their shares, such as "1 (50 %), 2 (50 %)"."""
    total = sum(arm["share"] for arm in arms)
    return ", ".join(f"{arm['version']} ({arm['share'] / total:.0%})" for arm in arms)


class Running:
    """The results of an experiment so far, and the button that stops it."""

    def __init__(self, session: Session, name: str, is_over: bool = False) -> None:
        self.session = session
        self.name = name
        self.is_over = is_over
        self.body = ui.column().classes("w-full gap-3")

    async def show(self) -> None:
        """Show the results as of now."""

        def ask(client: Client) -> dict[str, Any]:
            return client.experiment(self.name)

        result = await self.session.ask(ask)
        self.body.clear()
        with self.body:
            widgets.heading(self.name, 3)
            ui.label(
                f"Versions {arms_text(result['arms'])}, since {widgets.when(result['started_ms'])}"
                f" UTC; success: {result['action'] or 'any choice'}"
            )
            ui.label(verdict(result)).classes("font-medium")
            widgets.bar_chart("Share of a person's lists with a success", rate_bars(result))
            widgets.table(RESULT_COLUMNS, result_rows(result))
            for note in result["notes"]:
                ui.label(note).props('role="note"')
            ui.label(
                "Decide before how many people it takes: who looks every day and stops at the"
                " first small p finds differences where there are none."
            ).classes("text-sm")
            if not self.is_over:
                with ui.row():
                    ui.button("Look again", on_click=self.show).props("outline")
                    ui.button("Stop it", on_click=self.stop).props("color=negative")

    async def stop(self) -> None:
        """End the experiment, once that is confirmed."""
        question = f"Stop {self.name}? The version in place answers everybody again."
        if not await widgets.confirmed(question, "Stop it"):
            return
        await self.session.ask(lambda client: client.end_experiment(self.name))
        ui.navigate.to("/experiments")


RESULT_COLUMNS = [
    ("version", "Version"),
    ("people", "People"),
    ("lists", "Lists"),
    ("chosen", "With a success"),
    ("rate", "Rate"),
    ("interval", "95 % interval"),
    ("difference", "Against the first"),
    ("p", "p (Welch)"),
]


def result_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the arms of an experiment as rows of a table."""
    rows = []
    for arm in result["results"]:
        against = arm["against_first"]
        rows.append(
            {
                "id": arm["version"],
                "version": arm["version"],
                "people": f"{arm['people']:,}",
                "lists": f"{arm['lists']:,}",
                "chosen": f"{arm['chosen']:,}",
                "rate": rate_text(arm["rate"]),
                "interval": span_text(arm["interval"]),
                "difference": "" if against is None else difference_text(against),
                "p": "" if against is None else f"{against['p']:.2g}",
            }
        )
    return rows


def rate_text(rate: float | None) -> str:
    """Return a share in per cent, a dash for None."""
    return "–" if rate is None else f"{rate:.1%}"


def span_text(interval: Sequence[float] | None) -> str:
    """Return an interval of shares, empty for None."""
    return "" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def difference_text(against: Mapping[str, Any]) -> str:
    """Return a difference of shares with its interval."""
    low, high = against["interval"]
    return f"{against['difference']:+.1%} ({low:+.1%} to {high:+.1%})"


def rate_bars(result: Mapping[str, Any]) -> list[tuple[str, float, float | None, float | None]]:
    """Return a bar for each arm, with its interval where there is one."""
    bars = []
    for arm in result["results"]:
        low, high = arm["interval"] or (None, None)
        bars.append((f"Version {arm['version']}", arm["rate"] or 0.0, low, high))
    return bars


def verdict(result: Mapping[str, Any]) -> str:
    """Return in words what an experiment tells so far."""
    if any("not split as the shares say" in note for note in result["notes"]):
        return "Do not believe the rates: people are not split as the shares say."
    texts = []
    first = result["results"][0]["version"]
    for arm in result["results"][1:]:
        against = arm["against_first"]
        if against is None:
            return "Too few people yet to tell."
        low, high = against["interval"]
        word = "is not told apart from"
        if low > 0:
            word = "does better than"
        elif high < 0:
            word = "does worse than"
        texts.append(f"Version {arm['version']} {word} version {first}.")
    return " ".join(texts)


class Starter:
    """The form that starts an experiment."""

    def __init__(self, session: Session, models: Sequence[Mapping[str, Any]]) -> None:
        self.session = session
        self.options = version_options([model for model in models if not model["failure"]])
        if len(self.options) < 2:
            widgets.empty(
                "An experiment needs two versions", "Fit another one on the page Pipeline."
            )
            return
        with ui.row().classes("w-full gap-3"):
            self.name = ui.input("Name").props("outlined dense maxlength=200").classes("grow")
            self.action = ui.input("Action that is a success", placeholder="buy; empty: any choice")
            self.action.props("outlined dense").classes("grow")
        self.arms: list[tuple[Any, Any]] = []
        self.arm_rows = ui.column().classes("w-full gap-2")
        for version in list(self.options)[:2]:
            self.add_arm(version)
        with ui.row():
            ui.button("Another version", on_click=lambda: self.add_arm(None)).props("flat")
            ui.button("Start", on_click=self.start)

    def add_arm(self, version: int | None) -> None:
        """Add a row for a version and its share."""
        if len(self.arms) >= MOST_ARMS:
            ui.notify(f"At most {MOST_ARMS} versions.", type="warning")
            return
        number = len(self.arms) + 1
        label = "Version that the others are compared with" if number == 1 else f"Arm {number}"
        with self.arm_rows, ui.row().classes("w-full gap-3"):
            choice = ui.select(self.options, label=label, value=version)
            choice.props("outlined dense clearable").classes("grow min-w-48")
            share = ui.number(f"Share of arm {number}", value=1, min=0.01, max=1000)
            share.props("outlined dense").classes("w-40")
        self.arms.append((choice, share))

    async def start(self) -> None:
        """Start the experiment, once that is confirmed."""
        arms = [
            {"version": int(choice.value), "share": float(share.value or 1)}
            for choice, share in self.arms
            if choice.value is not None
        ]
        problem = start_problem(self.name.value or "", arms)
        if problem:
            ui.notify(problem, type="warning")
            return
        question = (
            f"Start {self.name.value}: versions {arms_text(arms)} answer shares of the users?"
        )
        if not await widgets.confirmed(question, "Start"):
            return
        name, action = self.name.value.strip(), (self.action.value or "").strip() or None
        await self.session.ask(lambda client: client.start_experiment(name, arms, action))
        ui.navigate.to("/experiments")


def start_problem(name: str, arms: Sequence[Mapping[str, Any]]) -> str:
    """Return what is missing to start an experiment, empty where nothing is."""
    if not name.strip():
        return "Give the experiment a name."
    versions = [arm["version"] for arm in arms]
    if len(versions) < 2:
        return "Choose two versions at least."
    return "" if len(set(versions)) == len(versions) else "Every arm needs a version of its own."


class Estimator:
    """The form that estimates what a version would have earned, by the log."""

    def __init__(self, session: Session, models: Sequence[Mapping[str, Any]]) -> None:
        self.session = session
        options = version_options(models)
        if not options:
            widgets.empty("There is no version yet", "Fit one on the page Pipeline.")
            return
        with ui.row().classes("w-full gap-3 items-end"):
            self.version = ui.select(options, label="Version", value=next(iter(options)))
            self.version.props("outlined dense").classes("min-w-48 max-w-full grow")
            self.reward = ui.input(
                "Condition of a success", placeholder="action = 'buy'; empty: any choice"
            )
            self.reward.props("outlined dense").classes("grow")
            self.most = ui.number("Lists", value=USUAL_LISTS, min=1, max=20_000, precision=0)
            self.most.props("outlined dense").classes("w-28")
            self.button = ui.button("Estimate", on_click=self.estimate)
        self.cancel_button = ui.button("Stop waiting", on_click=self._stop_waiting).props("flat")
        self.cancel_button.visible = False
        self.body = ui.column().classes("w-full gap-3")
        self._is_waiting = False

    def _stop_waiting(self) -> None:
        self._is_waiting = False

    async def estimate(self) -> None:
        """Ask for the estimate, again while it is being worked out, and show it."""
        self.button.disable()
        self.cancel_button.visible = self._is_waiting = True
        self.body.clear()
        with self.body:
            ui.spinner().props('aria-label="Estimating"')
        try:
            result = await self._wait_for_it()
        finally:
            self.body.clear()
            self.button.enable()
            self.cancel_button.visible = False
        with self.body:
            if result is None:
                ui.label("Not waited for. Asked again soon, the answer may be there.")
            else:
                _show_estimate(result)

    async def _wait_for_it(self) -> dict[str, Any] | None:
        """Return the estimate, None where it is not waited for any more."""
        version, reward = int(self.version.value), (self.reward.value or "").strip() or None
        most = int(self.most.value or USUAL_LISTS)
        for _ in range(MOST_TRIES):
            if not self._is_waiting:
                return None
            try:
                return await self.session.ask(lambda client: client.estimate(version, reward, most))
            except ServiceError as error:
                if error.status != BUSY or "estimate" not in str(error):
                    raise
            await asyncio.sleep(AGAIN_S)
        return None


def _show_estimate(result: Mapping[str, Any]) -> None:
    ui.label(f"Version {result['version']} {result['verdict']}.").classes("font-medium")
    widgets.bar_chart("Successes a list", value_bars(result))
    with ui.row().classes("gap-6"):
        widgets.figure("Lists", f"{result['requests']:,}")
        for name, field in (("Agrees", "agreement"), ("Covered", "covered")):
            widgets.figure(name, "–" if result[field] is None else f"{result[field]:.0%}")
        widgets.figure("Worth places", widgets.number(result["sample"]))
    for note in result["notes"]:
        ui.label(note).props('role="note"')


def value_bars(result: Mapping[str, Any]) -> list[tuple[str, float, float | None, float | None]]:
    """Return what was shown and the two estimates as bars with intervals."""
    names = {"logged": "What was shown", "dr": "Would earn", "ips": "Without a baseline"}
    return [
        (name, result[field]["mean"] or 0.0, result[field]["low"], result[field]["high"])
        for field, name in names.items()
    ]
