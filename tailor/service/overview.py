"""The overview of a tenant: counts, days, coverage, freshness, models, latency, alerts."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from pydantic import Field

from tailor.service import responses
from tailor.service.alerts import alerts_of
from tailor.service.day_figures import Day, TenantDays
from tailor.service.remembered import Remembered
from tailor.service.responses import Answer, Count, TimeMs
from tailor.service.routing import service_router
from tailor.service.state import Service
from tailor.store.catalogue import last_change_ms
from tailor.store.days import (
    Totals,
    count_answered,
    count_events_since,
    count_totals,
    last_event_ms,
)
from tailor.store.engine import now_ms
from tailor.store.experiments import running_experiment
from tailor.store.keys import Caller
from tailor.store.models import RECOMMENDS, list_models, served_versions

MOST_DAYS = 31
MOST_EVENTS = 1_000_000  # since the model was made; more are not counted
MOST_MODELS = 20  # in the list of refits
Share = Annotated[float, Field(ge=0, le=1)]
MODEL_FIELDS = ("version", "kind", "note", "made_ms", "served_ms")


class Counts(Answer):
    """Counts of what is stored."""

    people: Count = Field(description="People with an entry in the key store.")
    items: Count = Field(description="Items that may be answered.")
    blocked: Count = Field(description="Items that are deleted or taken down.")
    events: Count = Field(description="Events.")
    lists: Count = Field(description="Lists that were answered and logged.")


class OverviewDay(Answer):
    """Figures of a day (UTC)."""

    start_ms: TimeMs
    events: Count = Field(description="Events that happened.")
    lists: Count = Field(description="Lists that were shown.")
    chosen: Count = Field(description="Lists with a choice, on that day or the next one.")
    people: Count = Field(description="People who did something or were shown a list.")
    coverage: Share | None = Field(
        description="Share of the items that was shown; null without items."
    )


class Freshness(Answer):
    """Times of the latest event, item and model."""

    last_event_ms: TimeMs | None = Field(description="Time of the last event; null: none.")
    last_item_change_ms: TimeMs | None = Field(
        description="When an item was last written or blocked; null: not known."
    )
    model_made_ms: TimeMs | None = Field(
        description="When the model was made that recommends; null: there is none."
    )
    events_since_model: Count = Field(
        description="Events after that, a million at most; all events without a model."
    )


class ShownRefit(Answer):
    """A version of a model."""

    version: Annotated[int, Field(ge=1)] = Field(description="Number of the version.")
    kind: Literal["recommends", "predicts", "reranks"] = Field(description="What it does.")
    note: str = Field(description="Words from its registration.")
    made_ms: TimeMs
    served_ms: TimeMs | None = Field(description="Since when it answers; null: it never did.")
    answers: bool = Field(description="Whether it is the version of its kind in place.")


class LatencyMinute(Answer):
    """Answers of a minute."""

    time_ms: TimeMs
    requests: Count = Field(description="Requests of the tenant.")
    median_ms: float = Field(description="Half of them took no longer; right within a tenth.")
    p99_ms: float = Field(description="99 of 100 took no longer; right within a tenth.")
    refused: Count = Field(description="Answers with a status from 400 on.")
    errors: Count = Field(description="Answers with a status from 500 on.")


class Latency(Answer):
    """Answers of the worker that was asked."""

    since_ms: TimeMs = Field(description="When this worker started; 3 hours are remembered.")
    minutes: list[LatencyMinute] = Field(description="Minutes with requests, the oldest first.")


class Alert(Answer):
    """A state that somebody should look at."""

    name: str = Field(description="Its kind, such as no_events.")
    level: Literal["error", "warning", "hint"] = Field(
        description="error: answers or data are lost now; warning: look; hint: a next step."
    )
    text: str = Field(description="The state, in a sentence.")
    remedy: str = Field(description="What to do.")


class OverviewAnswer(Answer):
    """The state of a tenant."""

    made_ms: TimeMs = Field(description="When counts, days, freshness and refits were read.")
    counts: Counts
    coverage: Share | None = Field(description="Share of the items that these days showed.")
    days: list[OverviewDay] = Field(description="Days, the oldest first; the last is today.")
    freshness: Freshness
    refits: list[ShownRefit] = Field(description="Versions, the latest made first; at most 20.")
    latency: Latency
    alerts: list[Alert] = Field(description="Alerts, errors first.")


class Stored(NamedTuple):
    """Figures of the store that are remembered."""

    counts: dict[str, int]
    days: list[dict[str, Any]]
    coverage: float | None
    freshness: dict[str, Any]
    refits: list[dict[str, Any]]
    experiment: dict[str, Any] | None
    answered: dict[str, int]
    """People answered since the experiment began, by version."""


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the routes; `admin` is a dependency that gives the caller."""
    api = service_router("running it")
    reader = _Reader(service)
    remembered = Remembered(reader.read)
    service.on_stop(remembered.close)

    @api.get("/v1/overview", responses=responses.answers(OverviewAnswer))
    def overview(
        days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = 14, who: Caller = Depends(admin)
    ) -> dict[str, Any]:
        """Return counts, a row for each day, coverage, freshness, models, latency and alerts.

        Counts are remembered for ten seconds, longer where counting takes more than half a second.
        Latency is that of the worker that was asked.
        """
        stored, made_ms = remembered.get(who.tenant, days)
        time_ms = now_ms()
        rings = service.latency
        return {
            "made_ms": made_ms,
            "counts": stored.counts,
            "coverage": stored.coverage,
            "days": stored.days,
            "freshness": stored.freshness,
            "refits": stored.refits,
            "latency": {
                "since_ms": rings.started_ms,
                "minutes": rings.minutes(who.tenant, time_ms / 1000),
            },
            "alerts": alerts_of(service, who.tenant, stored, time_ms),
        }

    return api


class _Reader:
    """Reads the figures of tenants; one thread uses it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._days: dict[str, TenantDays] = {}

    def read(self, tenant: str, days: int) -> Stored:
        """Return what is stored of a tenant, and its last days."""
        service = self._service
        time_ms = now_ms()
        rows = service.catalogue(tenant).rows
        blocked = sum(bool(row["blocked"]) for row in rows.values())
        totals = service.read(lambda connection: count_totals(connection, tenant))
        tenant_days = self._days.setdefault(tenant, TenantDays())
        counted = tenant_days.read(service.read, tenant, days, time_ms)
        coverage, shares = tenant_days.coverage(counted, rows)
        freshness, refits = service.read(lambda connection: _models(connection, tenant, time_ms))
        experiment, answered = service.read(
            lambda connection: _experiment(connection, tenant, counted[0].start_ms)
        )
        return Stored(
            _counts(totals, len(rows) - blocked, blocked),
            [_day(day, share) for day, share in zip(counted, shares, strict=True)],
            coverage,
            freshness,
            refits,
            experiment,
            answered,
        )


def _counts(totals: Totals, items: int, blocked: int) -> dict[str, int]:
    return {**totals._asdict(), "items": items, "blocked": blocked}


def _day(day: Day, coverage: float | None) -> dict[str, Any]:
    return {"start_ms": day.start_ms, **day.counts._asdict(), "coverage": coverage}


def _models(
    connection: sa.Connection, tenant: str, time_ms: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the freshness of a tenant, and its versions."""
    rows = list_models(connection, tenant)
    placed = {
        versions[-1]
        for kind in {row["kind"] for row in rows}
        if (versions := served_versions(connection, tenant, kind))
    }
    model = next((r for r in rows if r["kind"] == RECOMMENDS and r["version"] in placed), None)
    made_ms = None if model is None else model["made_ms"]
    freshness = {
        "last_event_ms": last_event_ms(connection, tenant, time_ms),
        "last_item_change_ms": last_change_ms(connection, tenant),
        "model_made_ms": made_ms,
        "events_since_model": count_events_since(connection, tenant, made_ms or 0, MOST_EVENTS),
    }
    latest = sorted(rows, key=lambda row: row["made_ms"], reverse=True)[:MOST_MODELS]
    return freshness, [_refit(row, row["version"] in placed) for row in latest]


def _refit(row: Mapping[str, Any], answers: bool) -> dict[str, Any]:
    return {**{name: row[name] for name in MODEL_FIELDS}, "answers": answers}


def _experiment(
    connection: sa.Connection, tenant: str, since_ms: int
) -> tuple[dict[str, Any] | None, dict[str, int]]:
    """Return the running experiment, and how many people each version answered in its time."""
    experiment = running_experiment(connection, tenant)
    if experiment is None:
        return None, {}
    began_ms = max(experiment["started_ms"], since_ms)
    return experiment, count_answered(connection, tenant, began_ms)
