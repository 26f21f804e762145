"""GenPAS: choose on validation how training windows are drawn."""

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
DRAWS = 100_000  # windows that a setting is judged by before training

Exponents = tuple[float, float, float]


@dataclass(eq=False)
class GenPAS(Recommender):
    """Try several ways of drawing training windows, and keep the best on validation.

    A way has three exponents (`data.sampling.WindowSampler`; their form is reconstructed): which
    history, which target, how many events before it. The `shortlist` is trained: the ways whose
    targets are most like the held-out ones (KL divergence) with the most different windows per
    target, by mean rank.
    """

    model: SequenceRecommender = field(default_factory=GRU4Rec)
    """Net over event sequences that is trained with each way."""
    alphas: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Exponents of a history's length, by which histories are drawn."""
    betas: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Exponents of a target's position, by which targets are drawn."""
    gammas: tuple[float, ...] = (0.0, 1.0, float("inf"))
    """Exponents of a window's length, by which lengths are drawn; infinity: the longest."""
    shortlist: int = 3
    """Number of ways that are trained."""

    model_: SequenceRecommender = field(init=False, repr=False)
    """The best fitted model."""

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
        split = valid or inner_cut(data, run.seed)
        learned = data if valid is not None or split is None else split.train
        if split is None or not (learned.sequences.rows.lengths > 1).any():
            self.model_ = replace(self.model).fit(data, run, valid)
            self.fit_report_ = {
                "chosen": self.model.sampler,
                "why": "nobody has the 3 events needed to choose",
            }
            return
        ways = list(product(self.alphas, self.betas, self.gammas))
        figures = self._judge_ways(ways, learned, split, run)
        by_rank = sorted(range(len(ways)), key=lambda i: figures[i]["rank"])[: self.shortlist]
        models: list[SequenceRecommender] = []
        trials: list[dict[str, Any]] = []
        for i in run.progress(by_rank, "training with each way of drawing", len(by_rank)):
            sampler = ",".join(f"{exponent:g}" for exponent in ways[i])
            model = replace(self.model, sampler=sampler).fit(learned, run, split)
            values = [value for _, value in model.fit_report_.get("validation", [])]
            best_value = max(values, default=0.0)
            models.append(model)
            trials.append({"sampler": sampler, "validation NDCG@10": best_value, **figures[i]})
        self.model_ = models[int(np.argmax([trial["validation NDCG@10"] for trial in trials]))]
        self.fit_report_ = {
            "chosen": self.model_.sampler,
            "tried": trials,
            "learned_on": "validation" if valid else "an inner cut",
        }

    def _judge_ways(
        self, ways: Sequence[Exponents], learned: Dataset, split: Split, run: Run
    ) -> list[dict[str, float]]:
        """Return figures of every way of drawing.

        They are the KL divergence in nats of its targets from the held-out ones, different windows
        per target, and the mean rank of the two.
        """
        rows = learned.sequences.rows
        items = len(learned.catalogue)
        _, held_out = split.queries("valid")
        held_out_shares = _smoothed_shares(held_out.values[held_out.values >= 0], items)
        figures: list[dict[str, float]] = []
        for way in ways:
            rng = run.rng("genpas", *map(str, way))
            windows = WindowSampler(*way).draw(rows.lengths, DRAWS, rng)
            user, target, _ = windows
            targets = rows.values[rows.offsets[:-1][user] + target]
            shares = _smoothed_shares(targets, items)
            different = len(np.unique(np.stack(windows), axis=1).T)
            kl = float((shares * np.log(shares / held_out_shares)).sum())
            per_target = different / len(np.unique(targets))
            figures.append({"kl": round(kl, 5), "windows a target": round(per_target, 3)})
        by_kl = np.argsort([figure["kl"] for figure in figures])
        by_windows = np.argsort([-figure["windows a target"] for figure in figures])
        for order in (by_kl, by_windows):
            for rank, i in enumerate(order.tolist()):
                figures[i]["rank"] = figures[i].get("rank", 0) + rank / 2
        return figures

    def restrict(self, queries: Queries) -> Queries:
        return self.model_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        return self.model_.recommend(queries, k, candidates)


def _smoothed_shares(rows: np.ndarray, items: int) -> np.ndarray:
    """Return (items,) shares of events, with one event more of every item."""
    counts = np.bincount(rows, minlength=items) + 1.0
    return counts / counts.sum()
