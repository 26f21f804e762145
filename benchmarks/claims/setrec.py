"""SETRec on planted items with facets, a tenth of them without a single event in training.

Three random states. A person keeps to a kind and walks along makers; the colour and the shape are
drawn by chance, so half of a perfect list's places are luck. Titles name all four facets, every
combination is one item, so no item without events has a twin with some. Events of a tenth of the
items are dropped, but for each person's last one. The share of the text is chosen on validation,
the nets' other settings on a state that is not among the three. "Without the mask" is the same
net, fitted with tokens of one item that read each other. Processor seconds of one thread.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from claim_tools import SEEDS, difference_interval, seeded, targets_in_lists, timed_fits

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.generative.tiger import TIGER
from tailor.papers.generative.setrec import SETRec
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.training.validation import Validation
from tailor.worlds.facets import facets

PEOPLE = 600
LENGTH = 10
COLD = 0.1  # share of the items without events
K_COLD = 20
K_WARM = 10
SASREC = SASRec(width=64, dropout=0.2, epochs=30, patience=None, negatives=None, batch_places=512)
SETREC = SETRec(
    inner=SASREC,
    hidden=(128,),
    negatives=128,
    width=64,
    length=10,
    blocks=2,
    epochs=8,
    patience=None,
    lr=4e-3,
    batch_places=128,
)
TIGER_LIKE = TIGER(width=64, length=10, blocks=1, epochs=20, patience=None, beams=20)


def measure(run: Run) -> Claim:
    """600 people, 720 items, 72 of them without events, three random states."""
    rows = [on_world(seeded(run, seed)) for seed in SEEDS]
    checks = {
        "cold: above text neighbours, every state": above(rows, "cold", "text neighbours"),
        "cold: above SASRec by ids, every state": above(rows, "cold", "SASRec"),
        "warm: HR@10 at least .95 of SASRec's, every state": all(
            row["warm"]["found"]["SETRec"] >= 0.95 * row["warm"]["found"]["SASRec"] for row in rows
        ),
        "a list asked for alone takes at most a third of the time of TIGER's beam, every state": all(
            row["TIGER's time over SETRec's"] >= 3 for row in rows
        ),
        "cold: not below a net whose tokens of one item read each other, every state": all(
            row["cold"]["leads"]["over without the mask"]["high"] >= 0 for row in rows
        ),
        "warm: not below a net whose tokens of one item read each other, every state": all(
            row["warm"]["leads"]["over without the mask"]["high"] >= 0 for row in rows
        ),
    }
    return Claim(checks, {"facets": rows}, list(SEEDS), ["facets"])


def above(rows: list[dict[str, Any]], part: str, rival: str) -> bool:
    """Say whether the interval of SETRec's lead lies above 0 in every row."""
    return all(row[part]["leads"][f"over {rival}"]["low"] > 0 for row in rows)


def on_world(run: Run) -> dict[str, Any]:
    """Fit and judge all methods on one world."""
    split, cold_ids = cold_split(run.seed)
    methods: dict[str, Recommender] = {
        "SETRec": replace(SETREC),
        "without the mask": replace(SETREC, separate=False),
        "TIGER": replace(TIGER_LIKE),
        "text neighbours": best_neighbours(split, run),
        "co-visitation": CoVisitation(),
        "popularity": Popularity(),
    }
    seconds = timed_fits(methods, split.train, run, split)
    setrec = methods["SETRec"]
    methods["SASRec"] = setrec.inner_  # fitted on the same data, with the same random state
    queries, targets = split.queries("test")
    is_cold = np.isin(queries.catalogue.ids[targets.values], sorted(cold_ids))
    ranked = {k: {n: targets_in_lists(m, split, k) for n, m in methods.items()} for k in (10, 20)}
    times = {name: seconds_of(methods[name], split) for name in ("SETRec", "TIGER")}
    return {
        "seed": run.seed,
        "items without events": len(cold_ids),
        "cold": shares(ranked[K_COLD], is_cold, run.seed),
        "warm": shares(ranked[K_WARM], ~is_cold, run.seed),
        "seconds of a fit": seconds,
        "milliseconds of a list asked for alone": {
            name: round(1000 * value, 3) for name, value in times.items()
        },
        "TIGER's time over SETRec's": round(times["TIGER"] / times["SETRec"], 2),
        "beta": setrec.beta_,
        "token cosine": setrec.fit_report_["token_cosine"],
    }


def best_neighbours(split: Split, run: Run) -> TextNeighbours:
    """Return the text neighbours whose settings are best on validation; every word counts."""
    validation = Validation.of(split.train, run, split)
    options = [
        TextNeighbours(history_decay=decay, top_n=top_n, max_share=1.0)
        for decay in (0.3, 0.5, 0.7, 0.9)
        for top_n in (100, None)
    ]
    return max(options, key=lambda option: validation.value(option.fit(split.train, run)))


def cold_split(seed: int) -> tuple[Split, set[str]]:
    """Return a split of a world, and the items that have events in its test part alone."""
    data = facets(PEOPLE, LENGTH, seed, kept=("kind",), walked=("maker",), wished=()).data
    ids = np.sort(data.catalogue.ids.astype(str))
    rng = np.random.default_rng(seed)
    cold_ids = set(rng.choice(ids, int(COLD * len(ids)), replace=False).tolist())
    is_last = pl.col("time_ms") == pl.col("time_ms").max().over("user_id")
    events = data.tables["events"].filter(is_last | ~pl.col("item_id").is_in(list(cold_ids)))
    return split_by(Dataset({**data.tables, "events": events}, data.name), "last"), cold_ids


def shares(found: dict[str, np.ndarray], mask: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the share of some targets in lists, and SETRec's leads with their intervals."""
    rivals = [name for name in found if name != "SETRec"]
    return {
        "targets": int(mask.sum()),
        "found": {name: round(float(values[mask].mean()), 4) for name, values in found.items()},
        "leads": {
            f"over {rival}": difference_interval(
                found["SETRec"][mask].astype(float) - found[rival][mask], seed
            )
            for rival in rivals
        },
    }


def seconds_of(method: Recommender, split: Split) -> float:
    """Return the median processor seconds of a list of 10 that is asked for alone."""
    queries = split.queries("test")[0][:60].without_history()
    spent = []
    for i in range(len(queries)):
        started = time.process_time()
        method.recommend(queries[i : i + 1], 10)
        spent.append(time.process_time() - started)
    return float(np.median(spent))
