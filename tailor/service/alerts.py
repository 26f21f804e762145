"""Alerts of the overview: states that somebody should look at, with a remedy each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tailor.evaluation.significance import split_test
from tailor.service.state import Service

if TYPE_CHECKING:
    from tailor.service.overview import Stored

Level = Literal["error", "warning", "hint"]
LEVELS: tuple[Level, ...] = ("error", "warning", "hint")
HOUR_MS = 3_600_000
QUIET_MS = 24 * HOUR_MS  # without an event
BEHIND_S, MOST_WAITING = 5.0, 1_000  # of the writer
COVERED = 0.03  # share of the items that lists should show
ENOUGH_LISTS = 1_000  # of some days, before coverage is judged
ENOUGH_PEOPLE = 100  # of an experiment, before its split is judged
UNEVEN_P = 0.001  # as the results of an experiment judge
FEW_EVENTS = 1_000  # since the model was made, below which a refit brings little


@dataclass(frozen=True)
class _State:
    """A tenant at a moment, which alerts are looked for in."""

    service: Service
    tenant: str
    stored: "Stored"
    time_ms: int


def alerts_of(
    service: Service, tenant: str, stored: "Stored", time_ms: int
) -> list[dict[str, str]]:
    """Return the alerts of a tenant, errors first."""
    state = _State(service, tenant, stored, time_ms)
    alerts = [alert for find in FINDERS for alert in find(state)]
    return sorted(alerts, key=lambda alert: LEVELS.index(alert["level"]))


def _alert(name: str, level: Level, text: str, remedy: str) -> dict[str, str]:
    return {"name": name, "level": level, "text": text, "remedy": remedy}


def _events(state: _State) -> Iterator[dict[str, str]]:
    last_ms = state.stored.freshness["last_event_ms"]
    if last_ms is None:
        yield _alert(
            "no_data",
            "hint",
            "No event is stored yet.",
            "Send events to POST /v1/events, or import a file on the page Data.",
        )
    elif state.time_ms - last_ms > QUIET_MS:
        hours = (state.time_ms - last_ms) // HOUR_MS
        yield _alert(
            "no_events",
            "warning",
            f"The last event is {hours:,} hours old.",
            "Look whether your site still sends events, and what POST /v1/events answers it.",
        )


def _items(state: _State) -> Iterator[dict[str, str]]:
    if not state.stored.counts["items"] and state.stored.counts["events"]:
        yield _alert(
            "no_items",
            "warning",
            "No item is stored that may be answered.",
            "Write items with PUT /v1/items: without them there are no titles and no search.",
        )


def _models(state: _State) -> Iterator[dict[str, str]]:
    failures = state.service.model_registry.failures()
    for failure in failures:
        if failure["tenant"] == state.tenant:
            yield _alert(
                "model_failed",
                "error",
                f"{failure['what']} should answer and cannot: {failure['failure']}",
                "Switch to another version on the page Pipeline, or mend its folder.",
            )
    if state.stored.freshness["model_made_ms"] is None and state.stored.counts["events"]:
        yield _alert(
            "no_model",
            "warning",
            "No model recommends yet.",
            "Learn from what is stored: tailor refit counting.",
        )


def _age(state: _State) -> Iterator[dict[str, str]]:
    freshness = state.stored.freshness
    since, total = freshness["events_since_model"], state.stored.counts["events"]
    if freshness["model_made_ms"] is not None and since > max(FEW_EVENTS, total / 4):
        yield _alert(
            "old_model",
            "hint",
            f"{since:,} events happened since the model was made.",
            "Learn again: tailor refit, or tailor refit --every 60 for good.",
        )


def _writer(state: _State) -> Iterator[dict[str, str]]:
    writer = state.service.writer
    trouble = writer.outages.cause("written")
    if trouble:
        yield _alert(
            "no_writes",
            "error",
            f"The database cannot be written: {trouble}.",
            "Look at its disk and its connection; nothing is accepted until then.",
        )
    elif writer.behind_s > BEHIND_S or writer.waiting() > MOST_WAITING:
        yield _alert(
            "writer_behind",
            "warning",
            f"The writer is {writer.behind_s:.1f} s behind; {writer.waiting():,} jobs wait.",
            "Send events in larger batches, or give the database a faster disk.",
        )


def _lost_lists(state: _State) -> Iterator[dict[str, str]]:
    lost = state.service.list_log.lost
    if lost:
        yield _alert(
            "lists_lost",
            "warning",
            f"Lists that this worker answered and could not log: {lost:,}.",
            "Experiments and estimates lack them. Look at the log for the database's outages.",
        )


def _coverage(state: _State) -> Iterator[dict[str, str]]:
    stored = state.stored
    lists = sum(day["lists"] for day in stored.days)
    if stored.coverage is not None and stored.coverage < COVERED and lists >= ENOUGH_LISTS:
        yield _alert(
            "low_coverage",
            "warning",
            f"Only {stored.coverage:.1%} of the items were in a list of these days.",
            "Give places to chance (tailor serve --explore 0.03), or ask with `diversity`.",
        )


def _split(state: _State) -> Iterator[dict[str, str]]:
    experiment = state.stored.experiment
    if experiment is None:
        return
    people, shares = _arms(experiment, state.stored.answered)
    if people.sum() >= ENOUGH_PEOPLE and split_test(people, shares) < UNEVEN_P:
        counts = " and ".join(f"{count:,}" for count in people.tolist())
        yield _alert(
            "uneven_split",
            "warning",
            f'The arms of "{experiment["name"]}" were shown to {counts} people, which chance does'
            " not explain.",
            "Do not believe its rates. Look whether all workers have loaded all arms.",
        )


def _arms(experiment: dict[str, Any], answered: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the people (A,) that each arm answered, and the shares (A,) of the arms."""
    arms = experiment["arms"]
    people = np.array([answered.get(str(arm["version"]), 0) for arm in arms])
    return people, np.array([arm["share"] for arm in arms])


FINDERS: tuple[Callable[[_State], Iterator[dict[str, str]]], ...] = (
    _events,
    _items,
    _models,
    _age,
    _writer,
    _lost_lists,
    _coverage,
    _split,
)
