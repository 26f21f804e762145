"""Experiments: which model answers whom, by a stable hash of the person, and what came of it."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import sqlalchemy as sa

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
    """Begin an experiment with arms (version, share). Raises StoreError where one runs already, the
    name was used before, or a version is not registered.
    """
    there = listed(connection, tenant)
    if any(one["name"] == name for one in there):
        raise StoreError(f'there was an experiment "{name}" already: give another name')
    if open_one := next((one for one in there if one["ended_ms"] is None), None):
        raise StoreError(f'the experiment "{open_one["name"]}" runs: end it first')
    known = set(
        connection.execute(sa.select(models.c.version).where(models.c.tenant == tenant)).scalars()
    )
    for arm in arms:
        if arm["version"] not in known:
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
    """End an experiment; false where none of that name runs."""
    here = (
        experiments.c.tenant == tenant,
        experiments.c.name == name,
        experiments.c.ended_ms.is_(None),
    )
    return bool(
        connection.execute(sa.update(experiments).where(*here).values(ended_ms=now_ms())).rowcount
    )


def listed(connection: sa.Connection, tenant: str) -> list[dict[str, Any]]:
    """All of a tenant, the latest first."""
    wanted = (
        sa.select(experiments)
        .where(experiments.c.tenant == tenant)
        .order_by(experiments.c.started_ms.desc(), experiments.c.name)
    )
    return [dict(row) for row in connection.execute(wanted).mappings()]


def running(connection: sa.Connection, tenant: str) -> dict[str, Any] | None:
    """The one that has not ended."""
    wanted = sa.select(experiments).where(
        experiments.c.tenant == tenant, experiments.c.ended_ms.is_(None)
    )
    row = connection.execute(wanted).mappings().first()
    return None if row is None else dict(row)


def arm_of(tenant: str, name: str, user_id: str, shares: Sequence[float]) -> int:
    """Which arm a person is in, the same for ever: a hash of tenant, experiment and person falls
    into one of the shares, which are of any sum.
    """
    digest = hashlib.blake2b("\0".join((tenant, name, user_id)).encode(), digest_size=8).digest()
    ends = list(accumulate(shares))
    return min(
        bisect_right(ends, int.from_bytes(digest, "big") / 2**64 * ends[-1]), len(shares) - 1
    )


def outcomes(
    connection: sa.Connection, tenant: str, experiment: dict[str, Any]
) -> list[tuple[str, int, int]]:
    """(user, lists shown while it ran, lists of which something was chosen) of every known person
    who was shown any; chosen: an event of the person names the list.
    """
    while_it_ran = [
        requests.c.tenant == tenant,
        requests.c.user_id.is_not(None),
        requests.c.surface == "recommendations",
        requests.c.time_ms >= experiment["started_ms"],
        requests.c.time_ms < (experiment["ended_ms"] or now_ms() + 1),
    ]
    of_list = [
        events.c.tenant == tenant,
        events.c.user_id == requests.c.user_id,
        events.c.request_id == requests.c.request_id,
    ]
    if experiment["action"] is not None:
        of_list.append(events.c.action == experiment["action"])
    chosen = sa.exists().where(*of_list)
    wanted = sa.select(
        requests.c.user_id, sa.func.count(), sa.func.sum(sa.case((chosen, 1), else_=0))
    ).where(*while_it_ran)
    found = connection.execute(wanted.group_by(requests.c.user_id)).all()
    names = {one.token: one.user_id for one in all_subjects(connection, tenant)}
    return [
        (names[token], int(shown), int(chosen)) for token, shown, chosen in found if token in names
    ]
