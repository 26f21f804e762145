"""GenPAS: choose how training windows are sampled, as one chooses any other setting."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import PRESETS, WindowSampler
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
DRAWS = 100_000  # windows sampled to judge a setting before anything is trained

Exponents: TypeAlias = tuple[float, float, float]  # alpha, beta, gamma of a WindowSampler


@dataclass(eq=False)
class GenPAS(Recommender):
    """Trains one model with several ways of sampling windows, and keeps the best on validation.

    A way has three exponents (`data.sampling.WindowSampler`): which sequence, which target, how
    many events before it. Only `shortlist` ways are trained: those whose targets are most like the
    held-out ones (KL divergence) and that give the most different windows per target, by mean rank.
    The three usual ways ("last", "prefix", "window") are trained too, as a ranking before training
    can miss them.

    Differs from the paper: the form of the exponents is reconstructed; the usual ways always train.
    """

    model: SequenceRecommender = field(default_factory=GRU4Rec)
    """The net over sequences that is trained."""
    alphas: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Exponents tried for the choice of the sequence, by its length."""
    betas: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Exponents tried for the choice of the target, by its position."""
    gammas: tuple[float, ...] = (0.0, 1.0, float("inf"))
    """Exponents tried for the number of events before the target; inf: all of them."""
    shortlist: int = 3
    """Number of ways that are trained, besides the usual ones."""
    usual: bool = True
    """Whether "last", "prefix" and "window" are trained too, whatever their rank."""

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
            reason = "no user has the 3 events needed to choose"
            self.fit_report_ = {"chosen": self.model.sampler, "why": reason}
            return
        ways = self._ways()
        figures = self._judged(ways, learned, cut, run)
        trials: list[dict[str, Any]] = []
        models: list[SequenceRecommender] = []
        best = self._trained(figures)
        for sampler in run.progress(best, "training with each way of drawing", len(best)):
            model = replace(self.model, sampler=sampler).fit(learned, run, cut)
            values = [value for _, value in model.fit_report_.get("validation", [])]
            trial = {"sampler": sampler, "validation NDCG@10": max(values, default=0.0)}
            trials.append({**trial, **figures[sampler]})
            models.append(model)
        self.model_ = models[int(np.argmax([trial["validation NDCG@10"] for trial in trials]))]
        self.fit_report_ = {
            "chosen": self.model_.sampler,
            "tried": trials,
            "learned_on": "validation" if valid else "an inner cut",
        }

    def _ways(self) -> dict[str, Exponents]:
        """Return the exponents of each way by the name of its sampler, the usual ones first."""
        usual = {name: (way.alpha, way.beta, way.gamma) for name, way in PRESETS.items()}
        ways: dict[str, Exponents] = dict(usual) if self.usual else {}
        for exponents in product(self.alphas, self.betas, self.gammas):
            if exponents not in ways.values():
                ways[",".join(f"{exponent:g}" for exponent in exponents)] = exponents
        return ways

    def _trained(self, figures: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Return the ways of the shortlist, best rank first, and the usual ones behind them."""
        by_rank = sorted(figures, key=lambda name: figures[name]["rank"])
        best = by_rank[: self.shortlist]
        usual = [name for name in PRESETS if name in figures]
        rest = [name for name in usual if name not in best]
        return best + rest

    def _judged(
        self, ways: Mapping[str, Exponents], learned: Dataset, cut: Split, run: Run
    ) -> dict[str, dict[str, float]]:
        """Return the figures of every way by name, before training.

        "kl" is the KL divergence in nats of its targets from the held-out ones, "windows a target"
        the number of different windows, and "rank" the mean of the ranks by the two.
        """
        _, targets = cut.queries("valid")
        held_out = _shares(targets.values[targets.values >= 0], len(learned.catalogue))
        figures = [self._figures(exponents, learned, held_out, run) for exponents in ways.values()]
        by_kl = np.argsort([figure["kl"] for figure in figures])
        by_windows = np.argsort([-figure["windows a target"] for figure in figures])
        for order in (by_kl, by_windows):
            for rank, position in enumerate(order.tolist()):
                figures[position]["rank"] = figures[position].get("rank", 0) + rank / 2
        return dict(zip(ways, figures, strict=True))

    def _figures(
        self, exponents: Exponents, learned: Dataset, held_out: np.ndarray, run: Run
    ) -> dict[str, float]:
        """Return the divergence and the windows per target of DRAWS windows sampled one way."""
        rows = learned.sequences.rows
        rng = run.rng("genpas", *map(str, exponents))
        users, positions, lengths = WindowSampler(*exponents).draw(rows.lengths, DRAWS, rng)
        items = rows.values[rows.offsets[:-1][users] + positions]
        shares = _shares(items, len(learned.catalogue))
        windows = np.unique(np.stack([users, positions, lengths]), axis=1).shape[1]
        return {
            "kl": round(float((shares * np.log(shares / held_out)).sum()), 5),
            "windows a target": round(windows / len(np.unique(items)), 3),
        }

    def restrict(self, queries: Queries) -> Queries:
        return self.model_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        return self.model_.recommend(queries, k, candidates)


def _shares(rows: np.ndarray, items: int) -> np.ndarray:
    """Return (items,) shares of events, after adding one event to every item."""
    counts = np.bincount(rows, minlength=items) + 1.0
    return counts / counts.sum()
