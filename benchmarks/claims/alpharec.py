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
from claim_tools import fit_all, is_above, judge, lead, means, seeded, topic_world
from random_vectors import RandomVectors
from remembering import Remembering
from shared_data import real, real_split, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.queries import Queries
from tailor.data.splits import Split, split_by
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


def measure(run: Run) -> Claim:
    """Themes known by words, learned in one planted log and used in another; then Beauty."""
    planted = [on_topics(seeded(run, seed)) for seed in SEEDS]
    split = split_by(sample_users(real("beauty"), 2_000), "last")
    fitted = fit_all(linear_maps(), split, run)
    leads = {"over random": ("linear", "random")}
    beauty = judge(fitted, split, run, leads, f"HR@{K}")
    wish = wishes(fitted["linear"], split, run.seed)
    checks = {
        "planted: a linear map of language vectors beats one of random vectors": is_above(
            [row["learned"] for row in planted], "over random"
        ),
        "planted: without learning there it beats popularity": is_above(
            [row["not learned"] for row in planted], "over popularity"
        ),
        "planted: without learning there it beats random vectors": is_above(
            [row["not learned"] for row in planted], "over random"
        ),
        "Beauty: a linear map of language vectors beats one of random vectors": is_above(
            [beauty], "over random"
        ),
        "Beauty: a wish in words raises recall": wish["gain"][1] > 0,
    }
    figures = {"planted": planted, "beauty, 2,000 users": beauty, "wish": wish}
    return Claim(checks, figures, SEEDS, ["planted topics", "beauty"])


def linear_maps() -> dict[str, AlphaRec]:
    return {
        "linear": AlphaRec(map="linear", encoder=Remembering()),
        "random": AlphaRec(map="linear", encoder=RandomVectors()),
    }


def on_topics(run: Run) -> dict[str, object]:
    """Judge both maps where they were learned, and on a log of other items by the same words."""
    learned = split_by(topic_world(run.seed), "last")
    other = split_by(topic_world(run.seed + 100, prefix="other"), "last")
    maps = fit_all(linear_maps(), learned, run)
    moved = {name: model.onto(other.train, run) for name, model in maps.items()}
    moved["popularity"] = Popularity().fit(other.train, run)
    leads = {"over random": ("linear", "random")}
    more_leads = leads | {"over popularity": ("linear", "popularity")}
    return {
        "learned": judge(maps, learned, run, leads, f"HR@{K}"),
        "not learned": judge(moved, other, run, more_leads, f"HR@{K}"),
    }


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
    return Queries.of(
        [replace(query, text=text) for query, text in zip(queries, wish, strict=True)]
    ), targets


def recall(
    model: AlphaRec, share: float, split: Split, queries: Queries, targets: Ragged
) -> np.ndarray:
    """(U,) whether the target stands in the first 20."""
    moved = AlphaRec(**model.params() | {"text_share": share})
    moved.__dict__ |= model.state()
    lists = moved.recommend(queries, K).reindexed(split.data.catalogue)  # type: ignore[attr-defined]
    return hits(lists.rows, targets.offsets, targets.values).max(axis=1).astype(float)
