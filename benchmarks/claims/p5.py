"""P5: five families of tasks in one net, sentences it has never seen, and ids of four kinds.

Planted facets, two random states: a net of all families beside one of next items alone, which has
learned from as many records of next items. The same nets are asked with every sentence, the held
out one too. In the first state, nets of next items alone that read no text compare four kinds of
ids; a fifth numbers items along all histories, targets included, as the paper's data did. Then
ratings of MovieLens 100K, beside the mean and the biases of users and items.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from claim_tools import Remembering, difference_interval, judge, lead, means, seeded
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.defaults import DEFAULT, encoder
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.evaluation.protocol import evaluate
from tailor.generative.tiger import TIGER
from tailor.papers.generative.p5 import P5, SENTENCES
from tailor.retrieval.covisitation import CoVisitation
from tailor.training.sequences import TrainingData
from tailor.worlds.facets import facets

SEEDS = (0, 1)
PEOPLE, EPOCHS = 300, 15
SETTINGS = P5(epochs=EPOCHS, batch_places=1024, lr=6e-3)
ALONE = replace(SETTINGS, families=("sequential",))
SHARE, WITHIN = 0.8, 0.15
UNSEEN = len(SENTENCES["sequential"].templates) - 1
SHRINK = 10.0  # ratings that a bias of 0 counts for


class OfWholeLog(P5):
    """P5 whose numbers of items follow the whole log, held-out events included: a leak."""

    whole: ClassVar[Dataset]

    def _code_vectors(self, training: TrainingData, run: Run) -> np.ndarray:
        vectors = super()._code_vectors(training, run)
        histories = self.whole.sequences.rows.values
        rows = self.items_.rows(self.whole.catalogue.named(histories))
        seen, first = np.unique(rows, return_index=True)
        self._first_seen[seen[seen >= 0]] = first[seen >= 0]
        return vectors


def measure(run: Run) -> Claim:
    """Facets, two random states; then the ratings of MovieLens 100K."""
    rows = [on_facets(seeded(run, seed), seed == SEEDS[0]) for seed in SEEDS]
    ratings = on_ratings(real("ml-100k"), run)
    checks = {
        "together keeps 0.8 of next items alone, every state": all(
            row["together / alone"] >= SHARE for row in rows
        ),
        "unseen sentence within 15 % of seen ones, every state": all(
            row["together"]["unseen / seen"] >= 1 - WITHIN for row in rows
        ),
        "MovieLens: ratings better than their mean": ratings["P5 over mean"]["high"] < 0,
    }
    figures = {"facets": rows, "ml-100k": ratings}
    return Claim(checks, figures, list(SEEDS), ["facets", "ml-100k"])


def on_facets(run: Run, with_ids: bool) -> dict[str, Any]:
    """Return hits at 10 of all forms, sentence by sentence, and of all kinds of ids or of none."""
    world = facets(PEOPLE, 10, run.seed, values=(6, 5, 4), lasting=0.7)
    split = split_by(world.data, "last")
    texts = Remembering(encoder(DEFAULT))
    together = replace(SETTINGS, encoder=texts).fit(split.train, run)
    alone = replace(ALONE, encoder=texts).fit(split.train, run)
    rivals = {
        "TIGER": TIGER(encoder=texts, epochs=20, patience=None).fit(split.train, run),
        "co-visitation": CoVisitation().fit(split.train, run),
    }
    leads = {"together over alone": ("together", "alone"), "over TIGER": ("together", "TIGER")}
    figures = judge({"together": together, "alone": alone, **rivals}, split, run, leads)
    hits = {name: row["HR@10"] for name, row in figures["means"].items()}
    return {
        **figures,
        "together / alone": round(hits["together"] / hits["alone"], 4),
        "together": by_sentence(together, split, run),
        "alone": by_sentence(alone, split, run),
        "ids": of_ids(split, run) if with_ids else {},
        "steps": {"together": together.fit_report_["steps"], "alone": alone.fit_report_["steps"]},
    }


def by_sentence(method: P5, split: Split, run: Run) -> dict[str, Any]:
    """Return the hits at 10 with every sentence, and the unseen one's share of the seen ones'."""
    forms = {}
    for number in range(UNSEEN + 1):
        forms[str(number)] = replace(method, template=number)
        forms[str(number)].__dict__ |= method.state()
    report = evaluate(forms, split, metrics=["HR"], seen=("removed",), run=run)
    hits = {name: row["HR@10"] for name, row in means(report).items()}
    unseen = hits.pop(str(UNSEEN))
    seen = float(np.mean(list(hits.values())))
    worst = min(hits, key=lambda name: hits[name])
    return {
        "seen": hits,
        "unseen": unseen,
        "unseen / seen": round(unseen / seen, 4),
        "unseen over the worst seen": lead(report, str(UNSEEN), worst, "HR@10", run.seed),
    }


def of_ids(split: Split, run: Run) -> dict[str, float]:
    """Return the hits at 10 of each kind of ids, nothing read but ids."""
    plain = replace(ALONE, reads_vectors=False, epochs=2 * EPOCHS)
    methods: dict[str, P5] = {
        ids: replace(plain, ids=ids) for ids in ("sid", "collab", "order", "random")
    }
    OfWholeLog.whole = split.data
    methods["order of the whole log"] = OfWholeLog(**{**plain.params(), "ids": "order"})
    fitted = {name: method.fit(split.train, run) for name, method in methods.items()}
    report = evaluate(fitted, split, metrics=["HR"], seen=("removed",), run=run)
    return {name: row["HR@10"] for name, row in means(report).items()}


def on_ratings(data: Dataset, run: Run) -> dict[str, Any]:
    """Return the errors of each user's last rating, and what P5 is above the others."""
    split = split_by(data, "last")
    method = replace(SETTINGS, families=("sequential", "rating"), ids="collab", epochs=10)
    method.fit(split.train, run)
    queries, targets = split.queries("test", columns=["values"])
    ids = [queries.catalogue.named(targets[i]) for i in range(len(queries))]
    truth = values_of(data, split, targets)
    predictions = {
        "P5": np.concatenate(method.rate(queries, ids)),
        **biases(split.train, queries.user_ids[targets.row_ids], np.concatenate(ids)),
    }
    mean = predictions["mean"]
    predictions["P5"] = np.where(np.isnan(predictions["P5"]), mean, predictions["P5"])
    errors = {name: np.abs(values - truth) for name, values in predictions.items()}
    return {
        "users": len(queries),
        "MAE": {name: round(float(values.mean()), 4) for name, values in errors.items()},
        "RMSE": {
            name: round(float(np.sqrt((values**2).mean())), 4) for name, values in errors.items()
        },
        "P5 over mean": difference_interval(errors["P5"] - errors["mean"], run.seed),
        "P5 over biases": difference_interval(errors["P5"] - errors["biases"], run.seed),
    }


def values_of(data: Dataset, split: Split, targets: Ragged) -> np.ndarray:
    """Return the ratings (T,) of the targets."""
    users = np.flatnonzero(split.data.sequences.rows.lengths)
    last = data.sequences.rows.offsets[1:][users] - 1
    values = data.events["value"].to_numpy()[data.sequences.events[last]]
    if len(values) != len(targets.values):
        raise ValueError(f"{len(values)} last ratings for {len(targets.values)} targets")
    return np.asarray(values, dtype=np.float64)


def biases(train: Dataset, user_ids: np.ndarray, item_ids: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return the mean rating, and the mean with shrunk biases of items and then of users."""
    values = train.events["value"].to_numpy()
    mean = float(values.mean())
    items = train.catalogue.codes(train.events["item_id"])
    users = train.users.codes(train.events["user_id"])
    item_bias = shrunk(items, values - mean, len(train.catalogue))
    user_bias = shrunk(users, values - mean - item_bias[items], len(train.users))
    rows = train.catalogue.rows(item_ids.tolist()), train.users.rows(user_ids.tolist())
    both = mean + item_bias[rows[0]] + user_bias[rows[1]]
    return {"mean": np.full(len(both), mean), "biases": both}


def shrunk(groups: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Return (n,) means of groups, shrunk toward 0."""
    sums = np.bincount(groups, values, minlength=n)
    return np.asarray(sums / (np.bincount(groups, minlength=n) + SHRINK))
