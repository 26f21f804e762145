"""OneRec on a planted log of visits: its own best and worst lists after next-token training.

Three logs and random states. The reward is learned on the visits before the last one; true utility
is known by the world alone. Settings were chosen on the log of seed 100.
"""

from dataclasses import replace
from typing import Any

from claim_tools import SEEDS, difference_interval, seeded
from visits_tools import VisitLog

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.papers.generative.onerec import OneRec
from tailor.retrieval.covisitation import CoVisitation
from tailor.text.hashing import HashingEncoder

PEOPLE = 200
VARIETY = 0.5  # by which an item counts less for each like one before it
PLAIN = OneRec(
    encoder=HashingEncoder(64),
    width=32,
    words=16,
    levels=2,
    blocks=1,
    length=16,
    lr=5e-3,
    epochs=20,
    dropout=0.1,
    patience=None,
    rounds=0,
)
PREFERENCES = {"rounds": 3, "round_batches": 12, "reward_lr": 1e-2}


def measure(run: Run) -> Claim:
    """Planted visits, three random states."""
    rows = [on(VisitLog.make(PEOPLE, seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        "true utility of lists above next-token training, every state": all(
            row["leads"]["preferred over plain"]["low"] > 0 for row in rows
        ),
        "all drawn lists are legal and repeat nothing": all(
            set(row["curves"]["legality"]) == {1.0} for row in rows
        ),
        "the next item is found at most 5 % less often, mean of states": (
            sum(row["figures"]["preferred, items"]["HR@10"] for row in rows)
            >= 0.95 * sum(row["figures"]["plain, items"]["HR@10"] for row in rows)
        ),
        "with variety a preferred list is above the same net's likeliest items, every state": all(
            row["leads"]["list over items, variety"]["low"] > 0 for row in rows
        ),
        "without variety it is not below them, every state": all(
            row["leads"]["list over items"]["high"] >= 0 for row in rows
        ),
    }
    return Claim(checks, {"planted": rows}, list(SEEDS), ["planted visits"])


def on(log: VisitLog, run: Run) -> dict[str, Any]:
    """Judge one fitted net before and after preferences, in both modes."""
    run = replace(run, dtype="float32")
    plain = replace(PLAIN).fit(log.train, run)
    method = plain._with_state()
    for name, value in PREFERENCES.items():
        setattr(method, name, value)
    preferred = method.preferred(log.train, run)
    lists = {"co-visitation": log.lists(CoVisitation().fit(log.train, run))}
    for name, fitted in {"plain": plain, "preferred": preferred}.items():
        for mode in ("list", "items"):
            fitted.mode = mode
            lists[f"{name}, {mode}"] = log.lists(fitted)
    after = lists["preferred, list"]
    items = lists["preferred, items"]
    return {
        "figures": {label: log.figures(rows) for label, rows in lists.items()},
        "leads": {
            "preferred over plain": log.lead(after, lists["plain, list"]),
            "list over items": log.lead(after, items),
            "list over items, variety": log.lead(after, items, VARIETY),
            "next item": difference_interval(
                log.hits(items) - log.hits(lists["plain, items"]), run.seed
            ),
        },
        "curves": preferred.fit_report_["alignment"]["curves"],
        "reward": preferred.fit_report_["reward"],
    }
