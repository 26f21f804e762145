"""OneRec's report on a planted log of visits: rewards by name after next-token training.

Three logs and random states. The reward is learned on the visits before the last one; true utility
is known by the world alone. Settings were chosen on the log of seed 100.
"""

from dataclasses import replace
from typing import Any

from claim_tools import SEEDS, seeded
from visits_tools import VisitLog, ends

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.papers.generative.onerec_report import OneRecReport, members_of
from tailor.retrieval.covisitation import CoVisitation
from tailor.text.hashing import HashingEncoder

PEOPLE = 150
WEIGHTS = (0.0, 0.15, 0.5)  # of a colour
LR = 1e-2
NET = {
    "encoder": HashingEncoder(64),
    "width": 32,
    "words": 16,
    "levels": 2,
    "received": 16,
    "blocks": 1,
    "lr": 5e-3,
    "epochs": 25,
    "dropout": 0.1,
    "patience": None,
}
PLAIN = {"pscore": 1.0, "legal": 0.5}


def measure(run: Run) -> Claim:
    """Planted visits, three random states."""
    rows = [on(VisitLog.make(PEOPLE, seed), seeded(run, seed)) for seed in SEEDS]
    shares = [row["shares by weight"] for row in rows]
    checks = {
        "free decoding is legal in < .9 of draws before, in >= .99 after, every state": all(
            row["legality"][0] < 0.9 and row["legality"][1] >= 0.99 for row in rows
        ),
        "true utility above next-token training, every state": all(
            row["utility over next-token training"]["low"] > 0 for row in rows
        ),
        "a colour's share rises with its weight, every state": all(
            low < middle < high for low, middle, high in shares
        ),
        "at ten times the learning rate ECPO keeps more entropy than GRPO, every state": all(
            row["ten times"]["ecpo"]["entropy"][1] > row["ten times"]["grpo"]["entropy"][1]
            for row in rows
        ),
        "and more legality, every state": all(
            row["ten times"]["ecpo"]["legality"][1] > row["ten times"]["grpo"]["legality"][1]
            for row in rows
        ),
    }
    return Claim(checks, {"planted": rows}, list(SEEDS), ["planted visits"])


def on(log: VisitLog, run: Run) -> dict[str, Any]:
    """Teach one fitted net by several tables of rewards."""
    run = replace(run, dtype="float32")
    plain = OneRecReport(**NET, rounds=0).fit(log.train, run)
    lists = {"next-token training": log.lists(plain)}
    lists["co-visitation"] = log.lists(CoVisitation().fit(log.train, run))
    colour = log.world.truth.items.words[2][0]
    name = f"colour={colour}"
    is_colour = members_of(log.world.data, log.world.data.catalogue, name)
    shares, taught = [], {}
    for weight in WEIGHTS:
        taught[weight] = teach(plain, log, run, {**PLAIN, name: weight})
        answers = log.lists(taught[weight])
        shares.append(round(float(is_colour[answers[:, :5]].mean()), 4))
        lists[f"weight {weight}"] = answers
    first = taught[0.0]
    fast = {
        objective: ends(
            teach(plain, log, run, PLAIN, objective, 10 * LR, 4).fit_report_["alignment"]["curves"]
        )
        for objective in ("ecpo", "grpo")
    }
    return {
        "figures": {label: log.figures(rows) for label, rows in lists.items()},
        "utility over next-token training": log.lead(
            lists["weight 0.0"], lists["next-token training"]
        ),
        "legality": ends(first.fit_report_["alignment"]["curves"])["legality"],
        "curves": ends(first.fit_report_["alignment"]["curves"]),
        "reward": first.fit_report_["pscore"],
        "shares by weight": shares,
        "ten times": fast,
        "weights": plain.fit_report_["weights"],
    }


def teach(
    plain: OneRecReport,
    log: VisitLog,
    run: Run,
    reward: dict[str, float],
    objective: str = "ecpo",
    lr: float = LR,
    rounds: int = 10,
) -> OneRecReport:
    """Return a copy of a fitted net that a table of rewards has taught."""
    method = plain._with_state()
    method.reward = reward
    method.objective = objective
    method.reward_lr = lr
    method.rounds = rounds
    return method.rewarded(log.train, run)
