"""Routes of experiments: models for shares of the users, and what came of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends

from tailor.evaluation.significance import mean_interval, split_test, welch_test
from tailor.service import responses
from tailor.service.problems import ProblemError
from tailor.service.routing import service_router
from tailor.service.schemas import Experiment, Id
from tailor.service.state import Service
from tailor.store import experiments
from tailor.store.keys import Caller

FEW_USERS = 30  # of an arm, below which there is no interval
UNEVEN_P = 0.001  # below which chance does not explain the split of the users
SHOWN_FIELDS = ("name", "arms", "action", "started_ms", "ended_ms")


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the routes; `admin` is a dependency that gives the caller."""
    api = service_router("experiments")

    @api.post("/v1/experiments", responses=responses.answers(responses.Started, 409))
    def start(body: Experiment, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Let each arm's version answer its share of the users from now on.

        The models are loaded first. Callers without a user id are answered as before.
        """
        versions = [arm.version for arm in body.arms]
        if len(set(versions)) < len(versions):
            raise ProblemError(409, "arms: every arm needs a version of its own")
        arms = [arm.model_dump() for arm in body.arms]
        service.model_registry.begin_experiment(who.tenant, body.name, arms, body.action)
        return {"name": body.name, "arms": arms}

    @api.get("/v1/experiments", responses=responses.answers(responses.Experiments))
    def list_all(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return all experiments, the latest first."""
        rows = service.read(lambda connection: experiments.list_experiments(connection, who.tenant))
        return {"experiments": [_public(row) for row in rows]}

    @api.get("/v1/experiments/{name:segment}", responses=responses.answers(responses.Results, 404))
    def results(name: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return what came of each arm so far, and how sure that is."""

        def job(connection: Any) -> tuple[dict[str, Any], list[tuple[str, int, int]], int]:
            rows = experiments.list_experiments(connection, who.tenant)
            named = [row for row in rows if row["name"] == name]
            if not named:
                raise ProblemError(404, "there is no such experiment")
            return named[0], *experiments.count_outcomes(connection, who.tenant, named[0])

        experiment, outcomes, left_out = service.read(job)
        return {**_public(experiment), **judge(who.tenant, experiment, outcomes, left_out)}

    @api.delete("/v1/experiments/{name:segment}", responses=responses.answers(responses.Ended, 404))
    def end(name: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """End an experiment; the version from before answers all users again."""
        if not service.writer.do(lambda connection: experiments.end(connection, who.tenant, name)):
            raise ProblemError(404, "no experiment of that name runs")
        service.model_registry.refresh(who.tenant)
        return {"ended": name}

    return api


def _public(experiment: dict[str, Any]) -> dict[str, Any]:
    return {name: experiment[name] for name in SHOWN_FIELDS}


def judge(
    tenant: str,
    experiment: dict[str, Any],
    outcomes: Sequence[tuple[str, int, int]],
    left_out: int = 0,
) -> dict[str, Any]:
    """Compare the arms of an experiment by the share of lists with a choice.

    The rate of an arm is the mean over its users, with a 95 % interval; arms but the first also get
    the difference to the first, with interval and p (Welch's test). Users are the unit, since the
    lists of one user depend on each other. A split of the users that chance does not explain
    (chi-squared against the shares) is noted, and so are `left_out` lists, which another version
    answered than that of the user's arm.
    """
    shares = [arm["share"] for arm in experiment["arms"]]
    groups: list[list[tuple[int, int]]] = [[] for _ in shares]
    for user_id, lists, chosen in outcomes:
        arm = experiments.arm_of(tenant, experiment["name"], user_id, shares)
        groups[arm].append((lists, chosen))
    rates = [np.array([chosen / lists for lists, chosen in group]) for group in groups]
    arms = []
    for i, (arm_row, group, rate) in enumerate(zip(experiment["arms"], groups, rates, strict=True)):
        arms.append(
            {
                "version": arm_row["version"],
                "people": len(group),
                "lists": sum(lists for lists, _ in group),
                "chosen": sum(chosen for _, chosen in group),
                "rate": float(rate.mean()) if len(rate) else None,
                "interval": _interval(rate),
                "against_first": None if i == 0 else _difference(rates[0], rate),
            }
        )
    notes = _notes([len(group) for group in groups], shares)
    if left_out:
        notes.append(
            f"lists left out, which another version answered than that of the person's arm:"
            f" {left_out}"
        )
    return {"results": arms, "notes": notes}


def _notes(sizes: list[int], shares: list[float]) -> list[str]:
    notes = []
    if min(sizes) < FEW_USERS:
        notes.append(f"fewer than {FEW_USERS} people in an arm: no intervals yet")
    if split_test(np.array(sizes), np.array(shares)) < UNEVEN_P:
        notes.append(
            f"the people are not split as the shares say (p < {UNEVEN_P}): people are counted"
            " unevenly, do not believe the rates"
        )
    return notes


def _interval(rates: np.ndarray) -> list[float] | None:
    """Return the 95 % interval of a mean, None for few users."""
    return list(mean_interval(rates)) if len(rates) >= FEW_USERS else None


def _difference(first: np.ndarray, other: np.ndarray) -> dict[str, Any] | None:
    """Return the difference of two means with its 95 % interval and p, None for few users."""
    if min(len(first), len(other)) < FEW_USERS:
        return None
    test = welch_test(first, other)
    return {"difference": test.difference, "interval": [test.low, test.high], "p": test.p}
