"""The pages of models: all versions with switch and rollback, and one version in full."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailor.client import Client
from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.session import Session
from tailor.console.side_by_side import version_label

KINDS = {
    "recommends": "Models that recommend",
    "predicts": "Models that predict",
    "reranks": "Models that rerank",
}
COLUMNS = [
    ("label", "Version"),
    ("state", "State"),
    ("note", "Note"),
    ("folder", "Folder"),
    ("made", "Made (UTC)"),
    ("served", "Answered since (UTC)"),
]
PER_PAGE = 10


@page("/models", title="Models", icon="layers", role="admin", order=45)
async def models(session: Session) -> None:
    """Show all versions, and let one of them answer."""
    rows = await session.ask(lambda client: client.models())
    if not rows:
        widgets.empty("No model yet", "Fit one on the page Pipeline, or run `tailor refit`.")
        return
    for model in rows:
        if model["failure"]:
            with ui.card().props("flat bordered").classes("w-full tailor-card"):
                ui.label(f"Version {model['version']} cannot be loaded: {model['failure']}").props(
                    'role="alert"'
                ).classes("text-negative")
    for kind, title in KINDS.items():
        of_kind = [model for model in rows if model["kind"] == kind]
        if of_kind:
            with widgets.section(title):
                Switcher(session, kind, of_kind)


class Switcher:
    """The versions of a kind, and the buttons that change which of them answers."""

    def __init__(self, session: Session, kind: str, versions: Sequence[Mapping[str, Any]]) -> None:
        self.session = session
        self.kind = kind
        rows = [_version_row(model) for model in versions]
        self.table = widgets.table(COLUMNS, rows, _open_version, "version", PER_PAGE)
        with ui.row().classes("w-full gap-3 items-end"):
            options = {model["version"]: version_label(model) for model in versions}
            self.choice = ui.select(options, label="Version")
            self.choice.props("outlined dense").classes("min-w-48 max-w-full grow")
            ui.button("Let it answer", on_click=self.switch)
            ui.button("Roll back", on_click=self.roll_back).props("outline")
        ui.label("Rolling back lets the version from before answer again.").classes("text-sm")

    async def switch(self) -> None:
        """Let the chosen version answer, once that is confirmed."""
        version = self.choice.value
        if version is None:
            ui.notify("Choose a version first.", type="warning")
            return
        question = f"Let version {version} answer from now on, for everybody?"
        if await widgets.confirmed(question, "Let it answer"):
            await self._place(lambda client: client.serve_model(int(version)))

    async def roll_back(self) -> None:
        """Let the version from before answer again, once that is confirmed."""
        if await widgets.confirmed("Let the version from before answer again?", "Roll back"):
            await self._place(lambda client: client.roll_back(self.kind))

    async def _place(self, job: Any) -> None:
        """Change which version answers, and show it; what was refused shows the new state too."""
        try:
            placed = await self.session.ask(job)
            ui.notify(f"{placed['model']} answers now.", type="positive")
            for note in placed.get("notes", []):
                ui.notify(note, type="warning", multi_line=True, close_button="Close")
        finally:
            await self._refresh()

    async def _refresh(self) -> None:
        rows = await self.session.ask(lambda client: client.models())
        versions = [model for model in rows if model["kind"] == self.kind]
        self.table.rows = [_version_row(model) for model in versions]
        self.choice.set_options({model["version"]: version_label(model) for model in versions})


def _open_version(row: Mapping[str, Any]) -> None:
    ui.navigate.to(f"/models/{int(row['version'])}")


def _version_row(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": model["version"],
        "label": str(model["version"]),
        "folder": model["folder"],
        "state": state_text(model),
        "note": model["note"],
        "made": widgets.when(model["made_ms"]),
        "served": widgets.when(model["served_ms"]),
    }


def state_text(model: Mapping[str, Any]) -> str:
    """Return whether a version answers, and why not."""
    if model["answers"]:
        return "answers"
    if model["failure"]:
        return "cannot be loaded"
    return "loaded" if model["loaded"] else "at rest"


@page("/models/{version}", title="Model", role="admin")
async def model(session: Session, version: int) -> None:
    """Show one version in full."""

    def ask(client: Client) -> dict[str, Any]:
        return client.model(version)

    details = await session.ask(ask)
    with ui.row().classes("gap-4"):
        ui.link("All models", "/models")
        ui.link("Its quality", f"/quality?version={int(version)}")
    with widgets.section(f"Version {details['version']} {details['method']}".strip()):
        if details["problem"]:
            ui.label(details["problem"]).props('role="alert"').classes("text-negative")
        with ui.row().classes("gap-6"):
            widgets.figure("State", state_text(details))
            widgets.figure("Made", widgets.when(details["made_ms"]))
            widgets.figure("Answered since", widgets.when(details["served_ms"]))
        ui.label(details["note"])
    if details["problem"]:
        widgets.empty("The rest cannot be read", "Fit it again, or let another version answer.")
        return
    with widgets.section("Settings"):
        _text_block(details["toml"], "Settings as TOML")
        name = f"version-{int(version)}.toml"
        ui.button("Save as a file", on_click=lambda: widgets.download(name, details["toml"])).props(
            "flat"
        )
    for title, value in (("Fit report", "fit_report"), ("Trained on", "trained_on")):
        with widgets.section(title):
            _show_values(details[value])
    if details["card"]:
        with widgets.section("Model card"), ui.expansion("Show the card").classes("w-full"):
            _text_block(details["card"], "Model card")


def _text_block(text: str, name: str) -> None:
    """Show a text as it is, with its own scroll bars that the keyboard reaches."""
    with (
        ui.element("div")
        .classes("w-full overflow-auto")
        .style("max-height: 24rem")
        .props(f'tabindex=0 role="region" aria-label="{name}"')
    ):
        ui.label(text).style("white-space: pre; font-family: monospace; font-size: .85rem")


def _show_values(values: Mapping[str, Any]) -> None:
    """Show nested values as rows of name and value."""
    rows = [
        {"id": str(number), "name": name, "value": value}
        for number, (name, value) in enumerate(flat_values(values))
    ]
    if rows:
        columns = [("name", "Name"), ("value", "Value")]
        widgets.table(columns, rows, per_page=25)
    else:
        ui.label("Nothing is written down.")


def flat_values(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested values as (path, text) pairs; long lists are shortened."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += flat_values(value, f"{path} / ")
        elif value is not None:
            rows.append((path, value_text(value)))
    return rows


def value_text(value: Any) -> str:
    """Return a value of a report as a text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return widgets.number(value)
    if isinstance(value, list) and len(value) > 8:
        return f"{value[0]} ... {value[-1]} ({len(value)} values)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
