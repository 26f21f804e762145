"""AlphaRec on Beauty and, without learning there, on Sports; three seeds, recall at 20, seen
removed, paired differences over users.

The linear map, which shows what the vectors know, on MiniLM's vectors and on random ones of the
same width; the map learned on Beauty, put onto Sports' log; and people who say two words that are
common in titles and stand in the title of what they chose next. Further maps and SASRec's figures
are printed beside them.
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import lead, means
from random_vectors import RandomVectors
from shared_data import real_split

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.significance import bootstrap
from tailor.metrics.ranking import hits
from tailor.papers.retrieval.alpharec import AlphaRec
from tailor.retrieval.popularity import Popularity
from tailor.text.words import words

SEEDS = [0, 1, 2]
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)  # of the wish
ASKED = 3_000  # people who say a wish
K = 20


def measure_long(run: Run) -> Claim:
    beauty, sports = real_split("beauty"), real_split("sports")
    rows = []
    for seed in SEEDS:
        per_seed = Run(seed=seed, workers=run.workers, progress=run.progress)
        maps = {
            "linear": AlphaRec(map="linear"),
            "linear on random": AlphaRec(map="linear", encoder=RandomVectors()),
            "net": AlphaRec(),
            "popularity": Popularity(),
        }
        first = evaluate(
            {name: one.fit(beauty.train, per_seed, beauty) for name, one in maps.items()},
            beauty,
            k=(K,),
            run=per_seed,
        )
        there = {
            name: maps[name].onto(sports.train, per_seed)
            for name in ("linear", "linear on random", "net")
        }
        second = evaluate(
            there | {"popularity": Popularity().fit(sports.train, per_seed)},
            sports,
            k=(K,),
            run=per_seed,
        )
        wish = wishes(maps["net"], beauty, seed)
        rows.append(
            {
                "seed": seed,
                "beauty": means(first),
                "sports, nothing learned there": means(second),
                "wish": wish,
                "linear over random": lead(first, "linear", "linear on random", f"HR@{K}", seed),
                "on sports over": {
                    name: lead(second, "linear", name, f"HR@{K}", seed)
                    for name in ("popularity", "linear on random")
                },
            }
        )
    checks = {
        "a linear map of language vectors beats one of random vectors": all(
            row["linear over random"]["low"] > 0 for row in rows
        ),
        "without learning on Sports it beats popularity": all(
            row["on sports over"]["popularity"]["low"] > 0 for row in rows
        ),
        "without learning on Sports it beats random vectors": all(
            row["on sports over"]["linear on random"]["low"] > 0 for row in rows
        ),
        "a wish in words raises recall": all(row["wish"]["gain"][1] > 0 for row in rows),
    }
    return Claim(checks, {"runs": rows}, SEEDS, ["beauty", "sports"])


def wishes(model: AlphaRec, split: Split, seed: int) -> dict[str, object]:
    """Recall of people who say a wish, by its share; the share is chosen on validation, the gain
    over no wish measured on the test part.
    """
    by_share = {
        share: recall(model, share, split, *said(split, "valid", seed)).mean() for share in SHARES
    }
    best = max(SHARES[1:], key=lambda share: by_share[share])
    asked = said(split, "test", seed)
    gain = recall(model, best, split, *asked) - recall(model, 0.0, split, *asked)
    low, high = bootstrap(gain[:, None], seed=seed)
    return {
        "validation": {f"{share:g}": round(float(value), 5) for share, value in by_share.items()},
        "share": best,
        "gain": [round(float(one), 5) for one in (gain.mean(), low[0], high[0])],
    }


def said(split: Split, part: str, seed: int) -> tuple[Queries, Ragged]:
    """Some people of a part, with two words each: of their target's title, those that most titles
    have.
    """
    queries, targets = split.queries(part)
    some = np.sort(np.random.default_rng(seed).permutation(len(queries))[:ASKED])
    queries, targets = queries.take(some).without_history(), targets.take(some)
    titles = [list(dict.fromkeys(words(text))) for text in split.data.item_texts]
    common = Counter(word for title in titles for word in title)
    wish = [
        " ".join(sorted(titles[row], key=lambda word: -common[word])[:2])
        for row in targets.values[targets.offsets[:-1]].tolist()
    ]
    return (
        Queries.of([replace(query, text=text) for query, text in zip(queries, wish, strict=True)]),
        targets,
    )


def recall(
    model: AlphaRec, share: float, split: Split, queries: Queries, targets: Ragged
) -> np.ndarray:
    """(U,) whether the target stands in the first 20."""
    moved = AlphaRec(**model.params() | {"text_share": share})
    moved.__dict__ |= model.state()
    lists = moved.recommend(queries, K).reindexed(split.data.catalogue)  # type: ignore[attr-defined]
    return hits(lists.rows, targets.offsets, targets.values).max(axis=1).astype(float)
