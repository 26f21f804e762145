"""OneRec on a planted log of visits: its own best and worst lists after next-token training.

Three logs and random states. The reward is learned on the visits before the last one; true utility
is known by the world alone. Settings were chosen on the log of seed 100.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from claim_tools import SEEDS, difference_interval, seeded
from visits_tools import VisitLog

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.nn.decoding import draw
from tailor.papers.generative.onerec import OneRec
from tailor.retrieval.covisitation import CoVisitation
from tailor.text.hashing import HashingEncoder
from tailor.training.sequences import Windows

PEOPLE = 200
DRAWS = 8  # lists of a user
VARIETY = 0.5  # by which an item counts less for each like one before it
PLAIN = OneRec(
    encoder=HashingEncoder(64),
    width=32,
    words=16,
    levels=2,
    blocks=1,
    length=16,
    lr=5e-3,
    epochs=60,
    dropout=0.1,
    patience=None,
    rounds=0,
)
PREFERENCES = {"rounds": 3, "round_batches": 12, "steps_per_batch": 4, "reward_lr": 1e-2}


def measure(run: Run) -> Claim:
    """Planted visits, three random states."""
    rows = [on(VisitLog.make(PEOPLE, seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        "true utility of lists above next-token training, every state": all(
            row["leads"]["preferred over plain"]["low"] > 0 for row in rows
        ),
        "drawn without the rule against repeats, lists repeat no more often than before,"
        " every state": all(row["repeats"]["more than before"]["low"] <= 0 for row in rows),
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
        "repeats": repeats({"plain": plain, "preferred": preferred}, log, run),
        "curves": preferred.fit_report_["alignment"]["curves"],
        "reward": preferred.fit_report_["reward"],
    }


def repeats(methods: dict[str, OneRec], log: VisitLog, run: Run) -> dict[str, Any]:
    """Return the share of freely drawn lists that repeat an item, and by how much it rose."""
    shares = {name: repeating_share(method, log, run) for name, method in methods.items()}
    return {
        **{name: round(float(values.mean()), 4) for name, values in shares.items()},
        "more than before": difference_interval(shares["preferred"] - shares["plain"], run.seed),
    }


def repeating_share(method: OneRec, log: VisitLog, run: Run) -> np.ndarray:
    """Return (n,) how many of each user's drawn lists repeat an item where nothing forbids it."""
    net = method._ready()
    queries = log.queries.reindexed(method.items_)
    recent = queries.histories.last(method.length)
    windows = Windows(recent.values, recent.offsets[:-1], recent.lengths)
    windows = windows.take(np.repeat(np.arange(len(recent)), DRAWS))
    lists = np.zeros((len(windows.starts), 0), dtype=np.int64)
    generator = torch.Generator().manual_seed(run.seed)
    with torch.inference_mode():
        for _ in range(method.size):
            states = method._slot_states(windows, lists)[:, -1]
            codes, _ = draw(net, states, net.trie, 1, generator)
            items = net.trie.items_of(codes[:, 0]).numpy()
            lists = np.concatenate([lists, items[:, None]], axis=1)
    is_repeat = (np.diff(np.sort(lists, axis=1), axis=1) == 0).any(axis=1)
    return np.asarray(is_repeat.reshape(-1, DRAWS).mean(axis=1))
