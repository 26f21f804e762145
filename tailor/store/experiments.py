"""Experiments: a stable hash of the user decides which model answers, and outcomes are counted."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import sqlalchemy as sa

from tailor.data.actions import speaks_against
from tailor.errors import StoreError
from tailor.store.engine import now_ms
from tailor.store.schema import events, experiments, models, requests
from tailor.store.subjects import all_subjects


def start(
    connection: sa.Connection,
    tenant: str,
    name: str,
    arms: Sequence[dict[str, Any]],
    action: str | None,
) -> None:
    """Begin an experiment with arms (version, share).

    Raises StoreError where another one runs, the name was used before, or a version is unknown.
    """
    before = list_experiments(connection, tenant)
    if any(experiment["name"] == name for experiment in before):
        raise StoreError(f'there was an experiment "{name}" already: give another name')
    running = [experiment["name"] for experiment in before if experiment["ended_ms"] is None]
    if running:
        raise StoreError(f'the experiment "{running[0]}" runs: end it first')
    statement = sa.select(models.c.version).where(models.c.tenant == tenant)
    versions = set(connection.execute(statement).scalars())
    for arm in arms:
        if arm["version"] not in versions:
            raise StoreError(f"there is no model version {arm['version']}")
    row = {
        "tenant": tenant,
        "name": name,
        "arms": [dict(arm) for arm in arms],
        "action": action,
        "started_ms": now_ms(),
    }
    connection.execute(sa.insert(experiments).values(row))


def end(connection: sa.Connection, tenant: str, name: str) -> bool:
    """End an experiment; return False where none of that name runs."""
    statement = (
        sa.update(experiments)
        .where(
            experiments.c.tenant == tenant,
            experiments.c.name == name,
            experiments.c.ended_ms.is_(None),
        )
        .values(ended_ms=now_ms())
    )
    return bool(connection.execute(statement).rowcount)


def list_experiments(connection: sa.Connection, tenant: str) -> list[dict[str, Any]]:
    """Return all experiments of a tenant, the latest first."""
    statement = (
        sa.select(experiments)
        .where(experiments.c.tenant == tenant)
        .order_by(experiments.c.started_ms.desc(), experiments.c.name)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def running_experiment(connection: sa.Connection, tenant: str) -> dict[str, Any] | None:
    """Return the experiment that has not ended."""
    statement = sa.select(experiments).where(
        experiments.c.tenant == tenant, experiments.c.ended_ms.is_(None)
    )
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def arm_of(tenant: str, name: str, user_id: str, shares: Sequence[float]) -> int:
    """Return the arm of a user, always the same: a hash falls into one of the shares.

    The shares may have any sum.
    """
    digest = hashlib.blake2b("\0".join((tenant, name, user_id)).encode(), digest_size=8).digest()
    ends = list(accumulate(shares))
    point = int.from_bytes(digest, "big") / 2**64 * ends[-1]
    return min(bisect_right(ends, point), len(shares) - 1)


def outcomes(
    connection: sa.Connection, tenant: str, experiment: dict[str, Any]
) -> list[tuple[str, int, int]]:
    """Return (user, lists shown, lists with a choice) of every known user who was shown lists.

    Only lists count that the version of the user's arm answered. A choice is an event of the user
    that names the list: with the experiment's action, or without one any that does not speak
    against its item.
    """
    return count_outcomes(connection, tenant, experiment)[0]


def count_outcomes(
    connection: sa.Connection, tenant: str, experiment: dict[str, Any]
) -> tuple[list[tuple[str, int, int]], int]:
    """Return the outcomes of users, and how many lists are left out of them.

    Left out are lists that another version answered than that of the user's arm: a worker had not
    loaded the arms yet, or could not.
    """
    user_ids = {subject.token: subject.user_id for subject in all_subjects(connection, tenant)}
    shares = [arm["share"] for arm in experiment["arms"]]
    versions = [str(arm["version"]) for arm in experiment["arms"]]
    counts: dict[str, tuple[int, int]] = {}
    left_out = 0
    for token, model, lists, chosen in _shown(connection, tenant, experiment):
        user_id = user_ids.get(token)
        if user_id is None:
            continue
        arm = arm_of(tenant, experiment["name"], user_id, shares)
        if model.rpartition("@")[2] == versions[arm]:  # logged as Name@VERSION
            before = counts.get(user_id, (0, 0))
            counts[user_id] = (before[0] + lists, before[1] + chosen)
        else:
            left_out += lists
    return [(user_id, *count) for user_id, count in counts.items()], left_out


def _shown(
    connection: sa.Connection, tenant: str, experiment: dict[str, Any]
) -> list[tuple[str, str, int, int]]:
    """Return (token, model, lists shown, lists with a choice) while an experiment ran."""
    end_ms = experiment["ended_ms"] or now_ms() + 1
    is_shown = [
        requests.c.tenant == tenant,
        requests.c.user_id.is_not(None),
        requests.c.surface == "recommendations",
        requests.c.time_ms >= experiment["started_ms"],
        requests.c.time_ms < end_ms,
    ]
    is_choice = [
        events.c.tenant == tenant,
        events.c.user_id == requests.c.user_id,
        events.c.request_id == requests.c.request_id,
    ]
    if experiment["action"] is not None:
        is_choice.append(events.c.action == experiment["action"])
    else:
        is_choice += _counting(connection, tenant)
    has_choice = sa.exists().where(*is_choice)
    statement = (
        sa.select(
            requests.c.user_id,
            requests.c.model,
            sa.func.count(),
            sa.func.sum(sa.case((has_choice, 1), else_=0)),
        )
        .where(*is_shown)
        .group_by(requests.c.user_id, requests.c.model)
    )
    return [
        (token, model, int(lists), int(chosen))
        for token, model, lists, chosen in connection.execute(statement)
    ]


def _counting(connection: sa.Connection, tenant: str) -> list[sa.ColumnElement[bool]]:
    """Return conditions that leave out events that speak against their item by default."""
    statement = (
        sa.select(events.c.action)
        .where(events.c.tenant == tenant, events.c.action.is_not(None))
        .distinct()
    )
    against = [
        action for action in connection.execute(statement).scalars() if speaks_against(action)
    ]
    is_positive = sa.func.coalesce(events.c.value, 0.0) >= 0
    return [is_positive, sa.func.coalesce(events.c.action, "").not_in(against)]
