"""Routes of the stored data: tables with their figures, checks and diagnosis."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from pydantic import Field

from tailor.service import responses
from tailor.service.diagnosing import Diagnoses
from tailor.service.remembered import Remembered
from tailor.service.responses import Answer, Count, Notes, TimeMs
from tailor.service.routing import service_router
from tailor.service.state import Service
from tailor.store.encryption import Seal
from tailor.store.keys import Caller
from tailor.store.table_figures import TableFigures, count_actions, count_repeats, table_figures

OWN_COLUMNS = ("title", "text", "categories", "price")  # of items
MOST_COLUMNS = 50  # further columns of items that are shown, the most frequent ones
IMPORT = "\0import"  # stands for the user in the key of made ids; no id is this
Share = Annotated[float, Field(ge=0, le=1)]


class ColumnFigures(Answer):
    """A column that may lack values."""

    name: str = Field(description="Name of the column.")
    missing: Share = Field(description="Share of the rows without a value.")


class StoredTable(Answer):
    """Figures of a table."""

    name: str = Field(description="events, items, users, requests, impressions or observations.")
    rows: Count = Field(description="Rows.")
    columns: list[ColumnFigures] = Field(description="Columns that may lack values.")
    first_ms: TimeMs | None = Field(description="Its earliest time; null: it has no times.")
    last_ms: TimeMs | None = Field(description="Its latest time; null: it has no times.")
    repeats: Share | None = Field(
        description=(
            "Of events: the share that repeats a user and an item, among the latest 100,000; null"
            " for other tables."
        )
    )


class ActionCount(Answer):
    """An action of events."""

    action: str | None = Field(description="The action; null: none was sent.")
    events: Count = Field(description="Events with it.")


class StoredData(Answer):
    """Figures of the stored tables."""

    made_ms: TimeMs = Field(description="When it was counted.")
    tables: list[StoredTable] = Field(description="Tables.")
    actions: list[ActionCount] = Field(description="The 20 most frequent actions.")
    id_key: str = Field(
        description="A key for the ids of imported events that have none: equal events, equal ids."
    )


class DataFinding(Answer):
    """Something that is wrong with the data, or odd."""

    name: str = Field(description="Its kind, such as exact_duplicates.")
    wrong: bool = Field(description="True: results on these data are not true; false: look at it.")
    table: str = Field(description="The table it is about.")
    count: Count = Field(description="Rows, or what `says` counts.")
    says: str = Field(description="The finding in words.")
    remedy: str = Field(description="What to do.")
    examples: list[Any] = Field(description="Up to three; none that show what a person did.")


class DataFloor(Answer):
    """A shortcut: how far it gets without any learning."""

    name: str = Field(description="Its name.")
    hit: Share = Field(description="Share of people whose last item is among its first ten.")
    low: float = Field(description="Lower end of the 95 % interval.")
    high: float = Field(description="Upper end.")
    ndcg: float = Field(description="NDCG@10.")
    users: Count = Field(description="People it was measured on.")


class DataDiagnosis(Answer):
    """Findings and figures of what a refit would read, as of `tailor data diagnose`."""

    name: str = Field(description="Name of the data set.")
    part: str = Field(description="Part of the split that was measured.")
    facts: dict[str, float | None] = Field(description="Figures; null where the data lack one.")
    floors: list[DataFloor] = Field(description="Shortcuts.")
    findings: list[DataFinding] = Field(description="Findings, wrong ones first.")
    stats: dict[str, Any] = Field(description="Sizes, quantiles, shares.")
    left_out: Count = Field(description="Events that do not count in a refit.")
    rule: str = Field(description="The rule of which events count; empty: by action and value.")
    notes: Notes
    seconds: float = Field(description="What the diagnosis took.")
    run_seconds: float = Field(description="The same with reading the store.")


class DiagnosisState(Answer):
    """The latest run of the diagnosis, and the latest result."""

    state: Literal["none", "running", "cancelling", "done", "failed", "cancelled"] = Field(
        description="Of the latest run; none: there was none."
    )
    begun_ms: TimeMs | None = Field(description="When it began.")
    ended_ms: TimeMs | None = Field(description="When it ended; null: it runs.")
    step: str = Field(description="What it does now.")
    done: Count = Field(description="Parts of the step that are done.")
    total: Count = Field(description="Parts of the step; 0: not known.")
    seconds_left: float | None = Field(
        description="What is left, by the run before; null where nobody knows."
    )
    problem: str | None = Field(description="Why it failed; null: it did not.")
    result: DataDiagnosis | None = Field(description="The latest result; null: none yet.")
    result_ms: TimeMs | None = Field(description="When that run began.")


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the routes; `admin` is a dependency that gives the caller."""
    api = service_router("running it")
    remembered = Remembered(lambda tenant: _read(service, tenant))
    service.on_stop(remembered.close)

    @api.get("/v1/data", responses=responses.answers(StoredData))
    def data(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return the tables with rows, times, shares of missing values and repeats.

        They are remembered for ten seconds, longer where counting takes more than half a second.
        """
        figures, made_ms = remembered.get(who.tenant)
        seal: Seal = service.engine.get_execution_options()["seal"]
        return {"made_ms": made_ms, **figures, "id_key": seal.name(who.tenant, IMPORT)}

    _add_diagnosis_routes(api, service, admin)
    return api


def _add_diagnosis_routes(api: APIRouter, service: Service, admin: Any) -> None:
    diagnoses = Diagnoses(service.engine, service.writer)
    service.on_stop(diagnoses.close)

    @api.get("/v1/data/diagnosis", responses=responses.answers(DiagnosisState))
    def diagnosis(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return the state of the latest run of the diagnosis, and the latest result."""
        return diagnoses.show(who.tenant)

    @api.post("/v1/data/diagnosis", responses=responses.answers(DiagnosisState))
    def begin(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Check and diagnose what is stored, in a process of its own.

        The answer comes after two seconds at most: ask with GET until the run has ended. Where a
        run goes on already, no other one begins.
        """
        diagnoses.begin(who.tenant)
        return diagnoses.show(who.tenant)

    @api.delete("/v1/data/diagnosis", responses=responses.answers(DiagnosisState))
    def cancel(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Cancel the run that goes on, where there is one; the latest result stays."""
        diagnoses.cancel(who.tenant)
        return diagnoses.show(who.tenant)


def _read(service: Service, tenant: str) -> dict[str, Any]:
    """Return the tables and actions of a tenant."""

    def job(connection: sa.Connection) -> tuple[Any, ...]:
        figures = table_figures(connection, tenant)
        return figures, count_repeats(connection, tenant), count_actions(connection, tenant)

    figures, (latest, repeats), actions = service.read(job)
    rows = service.catalogue(tenant).rows
    tables = {"events": figures.pop("events"), "items": _item_figures(rows), **figures}
    shares = {"events": repeats / latest if latest else 0.0}
    return {
        "tables": [_table(name, table, shares.get(name)) for name, table in tables.items()],
        "actions": [{"action": action, "events": count} for action, count in actions],
    }


def _item_figures(rows: Mapping[str, Mapping[str, Any]]) -> TableFigures:
    """Return the figures of the items that are not blocked."""
    items = [row for row in rows.values() if not row["blocked"]]
    missing = {name: _missing([row[name] for row in items]) for name in OWN_COLUMNS}
    counts: dict[str, int] = {}
    for row in items:
        for name in row["more"] or ():
            counts[name] = counts.get(name, 0) + 1
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_COLUMNS]
    return TableFigures(
        len(items), {**missing, **{name: 1 - counts[name] / len(items) for name in frequent}}
    )


def _missing(values: Sequence[Any]) -> float:
    return sum(value in (None, "", []) for value in values) / len(values) if values else 0.0


def _table(name: str, table: TableFigures, repeats: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "rows": table.rows,
        "columns": [{"name": column, "missing": share} for column, share in table.missing.items()],
        "first_ms": table.first_ms,
        "last_ms": table.last_ms,
        "repeats": repeats,
    }
