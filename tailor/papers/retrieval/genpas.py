"""GenPAS: how training windows are drawn is a setting like any other, and worth choosing."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import WindowSampler
from tailor.data.splits import Split, inner_cut
from tailor.errors import DataError, ModelError
from tailor.retrieval.gru4rec import GRU4Rec
from tailor.retrieval.sequences import SequenceRecommender

PAPER = Paper(
    "genpas",
    "Sequential Data Augmentation for Generative Recommendation",
    "https://arxiv.org/abs/2509.13648",
    "At equal steps the three presets differ by more than seeds do, the setting chosen on"
    " validation is not below the best of them, and learning from last events only is worst",
)
DRAWS = 100_000  # windows that a setting is judged by before anything is trained


@dataclass(eq=False)
class GenPAS(Recommender):
    """Tries ways of cutting training windows out of histories on one model, and keeps the one that
    validation likes best.

    A way has three exponents (`data.sampling.WindowSampler`; their form is reconstructed): which
    sequence, which target, how much before it. Of all, the `shortlist` is trained whose targets are
    most like the held-out ones (KL divergence) with the most different windows a target, by mean
    rank.
    """

    model: SequenceRecommender = field(default_factory=GRU4Rec)
    alphas: tuple[float, ...] = (0.0, 1.0, 2.0)
    betas: tuple[float, ...] = (0.0, 1.0, 2.0)
    gammas: tuple[float, ...] = (0.0, 1.0, float("inf"))
    shortlist: int = 3

    model_: SequenceRecommender = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self)
        if not isinstance(self.model, SequenceRecommender):
            raise ModelError(
                f"GenPAS.model is {self.model!r}: it must be a net over sequences, such as GRU4Rec"
            )
        if self.shortlist < 1 or not (self.alphas and self.betas and self.gammas):
            raise DataError(
                "GenPAS needs at least one of each exponent, and a shortlist of at least 1"
            )

    @classmethod
    def tiny(cls) -> "GenPAS":
        return cls(
            GRU4Rec.tiny(), alphas=(0.0, 1.0), betas=(0.0,), gammas=(float("inf"),), shortlist=2
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        cut = valid or inner_cut(data, run.seed)
        learned = data if valid is not None or cut is None else cut.train
        if cut is None or not (learned.sequences.rows.lengths > 1).any():
            self.model_ = replace(self.model).fit(data, run, valid)
            self.fit_report_ = {
                "chosen": self.model.sampler,
                "why": "nobody has the 3 events needed to choose",
            }
            return
        ways = list(product(self.alphas, self.betas, self.gammas))
        judged = self._judged(ways, learned, cut, run)
        tried: list[dict[str, Any]] = []
        fitted: list[SequenceRecommender] = []
        best = sorted(range(len(ways)), key=lambda at: judged[at]["rank"])[: self.shortlist]
        for at in run.progress(best, "training with each way of drawing", len(best)):
            model = replace(self.model, sampler=",".join(f"{one:g}" for one in ways[at]))
            fitted.append(model.fit(learned, run, cut))
            values = [value for _, value in model.fit_report_.get("validation", [])]
            tried.append(
                {
                    "sampler": model.sampler,
                    "validation NDCG@10": max(values, default=0.0),
                    **judged[at],
                }
            )
        chosen = int(np.argmax([one["validation NDCG@10"] for one in tried]))
        self.model_ = fitted[chosen]
        self.fit_report_ = {
            "chosen": self.model_.sampler,
            "tried": tried,
            "learned_on": "validation" if valid else "an inner cut",
        }

    def _judged(
        self, ways: Sequence[tuple[float, float, float]], learned: Dataset, cut: Split, run: Run
    ) -> list[dict[str, float]]:
        """For every way: KL divergence in nats of what it draws from what was held out, different
        windows a target, mean rank of the two.
        """
        rows = learned.sequences.rows
        _, held = cut.queries("valid")
        wanted = _shares(held.values[held.values >= 0], len(learned.catalogue))
        out = []
        for way in ways:
            owner, target, shown = WindowSampler(*way).draw(
                rows.lengths, DRAWS, run.rng("genpas", *map(str, way))
            )
            items = rows.values[rows.offsets[:-1][owner] + target]
            drawn = _shares(items, len(learned.catalogue))
            different = len(np.unique(np.stack([owner, target, shown]), axis=1).T)
            out.append(
                {
                    "kl": round(float((drawn * np.log(drawn / wanted)).sum()), 5),
                    "windows a target": round(different / len(np.unique(items)), 3),
                }
            )
        by_kl, by_windows = (
            np.argsort([one["kl"] for one in out]),
            np.argsort([-one["windows a target"] for one in out]),
        )
        for order in (by_kl, by_windows):
            for rank, at in enumerate(order.tolist()):
                out[at]["rank"] = out[at].get("rank", 0) + rank / 2
        return out

    def restrict(self, queries: Queries) -> Queries:
        return self.model_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        return self.model_.recommend(queries, k, candidates)


def _shares(rows: np.ndarray, items: int) -> np.ndarray:
    """(items,) shares of events, each item counted once more than it occurs."""
    counts = np.bincount(rows, minlength=items) + 1.0
    return counts / counts.sum()
