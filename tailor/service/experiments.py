"""Two models or more, each for some of the people, and what came of it."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Depends
from scipy import stats

from tailor.service.problems import ProblemError
from tailor.service.schemas import Experiment, Id
from tailor.service.state import Service
from tailor.store import experiments
from tailor.store.keys import Caller

FEW = 30  # people of an arm, below which no interval is given


def routes(service: Service, admin: Any) -> APIRouter:
    """`admin` is a dependency that gives the caller."""
    api = APIRouter(tags=["experiments"])

    @api.post("/v1/experiments")
    def start(body: Experiment, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Let each arm's version answer its share of the people from now on; the models are loaded
        first. Strangers without an id are answered as before.
        """
        versions = [arm.version for arm in body.arms]
        if len(set(versions)) < len(versions):
            raise ProblemError(422, "arms: every arm needs a version of its own")
        service.model_registry.begin(
            who.tenant, body.name, [arm.model_dump() for arm in body.arms], body.action
        )
        return {"name": body.name, "arms": [arm.model_dump() for arm in body.arms]}

    @api.get("/v1/experiments")
    def listed(who: Caller = Depends(admin)) -> dict[str, Any]:
        """All experiments, the latest first."""
        return {
            "experiments": [
                _shown(one)
                for one in service.read(
                    lambda connection: experiments.listed(connection, who.tenant)
                )
            ]
        }

    @api.get("/v1/experiments/{name:path}")
    def results(name: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """What came of each arm so far, and how sure that is."""

        def job(connection: Any) -> tuple[dict[str, Any], list[tuple[str, int, int]]]:
            found = next(
                (one for one in experiments.listed(connection, who.tenant) if one["name"] == name),
                None,
            )
            if found is None:
                raise ProblemError(404, "there is no such experiment")
            return found, experiments.outcomes(connection, who.tenant, found)

        experiment, outcomes = service.read(job)
        return {**_shown(experiment), **judged(who.tenant, experiment, outcomes)}

    @api.delete("/v1/experiments/{name:path}")
    def end(name: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """End it: the version that answered before answers all_subjects again."""
        if not service.writer.do(lambda connection: experiments.end(connection, who.tenant, name)):
            raise ProblemError(404, "no experiment of that name runs")
        service.model_registry.look(who.tenant)
        return {"ended": name}

    return api


def _shown(experiment: dict[str, Any]) -> dict[str, Any]:
    return {name: experiment[name] for name in ("name", "arms", "action", "started_ms", "ended_ms")}


def judged(
    tenant: str, experiment: dict[str, Any], outcomes: list[tuple[str, int, int]]
) -> dict[str, Any]:
    """Of every arm: people, lists, and the mean over people of the share of their lists of which
    something was chosen, with its 95 % interval; of every arm but the first the difference to it,
    with interval and p (Welch's test: people are the unit, since lists of one person go together).

    A split of the people that chance explains with p < .001 (chi-squared against the shares) is
    told: something counts people unevenly, and nothing should be believed.
    """
    shares = [arm["share"] for arm in experiment["arms"]]
    groups: list[list[tuple[int, int]]] = [[] for _ in shares]
    for user_id, shown, chosen in outcomes:
        groups[experiments.arm_of(tenant, experiment["name"], user_id, shares)].append(
            (shown, chosen)
        )
    rates = [np.array([chosen / shown for shown, chosen in group]) for group in groups]
    arms = [
        {
            "version": arm["version"],
            "people": len(group),
            "lists": sum(shown for shown, _ in group),
            "chosen": sum(chosen for _, chosen in group),
            "rate": float(rate.mean()) if len(rate) else None,
            "interval": _interval(rate),
            "against_first": None if i == 0 else _difference(rates[0], rate),
        }
        for i, (arm, group, rate) in enumerate(zip(experiment["arms"], groups, rates, strict=True))
    ]
    notes = (
        [f"fewer than {FEW} people in an arm: no intervals yet"]
        if min(map(len, groups)) < FEW
        else []
    )
    people = np.array([len(group) for group in groups])
    if (
        people.sum()
        and stats.chisquare(people, people.sum() * np.array(shares) / sum(shares)).pvalue < 0.001
    ):
        notes.append(
            "the people are not split as the shares say (p < .001): people are counted unevenly, do"
            " not believe the rates"
        )
    return {"results": arms, "notes": notes}


def _interval(rate: np.ndarray) -> list[float] | None:
    if len(rate) < FEW:
        return None
    half = float(stats.t.ppf(0.975, len(rate) - 1) * rate.std(ddof=1) / np.sqrt(len(rate)))
    return [float(rate.mean()) - half, float(rate.mean()) + half]


def _difference(first: np.ndarray, other: np.ndarray) -> dict[str, Any] | None:
    if min(len(first), len(other)) < FEW:
        return None
    difference = float(other.mean() - first.mean())
    if not (first.std() or other.std()):  # nobody differs from anybody
        return {
            "difference": difference,
            "interval": [difference, difference],
            "p": 1.0 if difference == 0 else 0.0,
        }
    found = stats.ttest_ind(other, first, equal_var=False)
    low, high = found.confidence_interval(0.95)
    return {
        "difference": difference,
        "interval": [float(low), float(high)],
        "p": float(found.pvalue),
    }
