"""IDNP on a planted ring of interests that move as time passes, and on ml-100k.

Three random states. A user's last two sessions have one event each, so that a whole pause lies
before what is asked. The rate and the weight of the divergence of IDNP were chosen on the validation
part of another ring; the rivals have the rates of the library and as many epochs, and were not
tuned. The rivals: nets that do not know times, one that knows the gaps between events, and
the last one told when it is asked, too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from claim_tools import SEEDS, fit_all, is_above, judge, parameters, seeded
from scipy.stats import spearmanr
from shared_data import real
from torch import Tensor, nn

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.queries import Queries
from tailor.data.splits import Split, split_by
from tailor.nn.packing import pad_rows
from tailor.nn.positions import LearnedPositions, TimeGapPositions
from tailor.papers.retrieval.idnp import IDNP
from tailor.retrieval.gru4rec import GRU4Rec
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.sequences import Windows
from tailor.worlds.ring import ring

RINGS = {"users": 1_200, "sessions": 6}  # four sessions to learn from, of three events
SETTINGS = {"patience": None, "negatives": None}
EPOCHS = 30
LEADS = {
    "over GRU4Rec": ("IDNP", "GRU4Rec"),
    "over SASRec": ("IDNP", "SASRec"),
    "over SASRec with gaps": ("IDNP", "SASRec with gaps"),
}
"""Rivals that do not know when they are asked."""
ASKED = {"over SASRec that knows when": ("IDNP", "SASRec that knows when")}
KEPT_EVENTS = (4, 10)  # latest events that are known: less than two sessions, and nearly all


class NextGapPositions(TimeGapPositions):
    """Learned positions, plus a vector for the time until the event after, or until the query."""

    def forward(self, x: Tensor, **inputs: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width); reads `times_ms` and `next_ms`, both (B, T)."""
        steps = torch.stack([inputs["times_ms"], inputs["next_ms"]], dim=-1)  # B, T, 2
        until = steps.diff(dim=-1)[..., 0].clamp(min=0)
        bucket = torch.log2(1 + until.double() / 60_000).long().clamp(max=len(self.gaps) - 1)
        return LearnedPositions.forward(self, x) + self.gaps[bucket]


@dataclass(eq=False)
class GapSASRec(SASRec):
    """SASRec that reads the time since the event before each one."""

    def _positions(self) -> nn.Module:
        return TimeGapPositions(self.length, self.width)

    def _layer_inputs(self, batch: Windows) -> dict[str, Tensor]:
        times, _ = pad_rows(batch.times_ms, batch.starts, batch.lengths)
        return {"times_ms": torch.from_numpy(times)}


@dataclass(eq=False)
class AskedSASRec(GapSASRec):
    """SASRec that reads the time until the event after each one, so it knows when it is asked."""

    def _positions(self) -> nn.Module:
        return NextGapPositions(self.length, self.width)

    def _layer_inputs(self, batch: Windows) -> dict[str, Tensor]:
        inputs = super()._layer_inputs(batch)
        times = np.append(batch.times_ms, 0)
        following, _ = pad_rows(times, batch.starts + 1, batch.lengths)
        if batch.now_ms is not None:
            following[np.arange(len(following)), batch.lengths - 1] = batch.now_ms
        return inputs | {"next_ms": torch.from_numpy(following)}


def measure(run: Run) -> Claim:
    """Three rings of 1,200 users; ml-100k is printed, and promises nothing."""
    rows = [on_ring(seeded(run, seed)) for seed in SEEDS]
    checks = {
        f"ring: above {label.removeprefix('over ')}": is_above(rows, label) for label in LEADS
    }
    checks["ring: the spread falls as more is known, rank correlation below -.5"] = all(
        row["spread and events known, rank correlation"] < -0.5 for row in rows
    )
    checks["ring: the lead over SASRec with gaps is larger where less is known"] = all(
        row["lead with few events"] > row["lead with most events"] for row in rows
    )
    figures = {
        "ring": rows,
        "ring: above SASRec that knows when": is_above(rows, "over SASRec that knows when"),
        "ml-100k": on_movies(run),
    }
    return Claim(checks, figures, list(SEEDS), ["ring", "ml-100k"])


def nets(epochs: int, **settings: Any) -> dict[str, Recommender]:
    """Return all nets that are compared."""
    shared = SETTINGS | {"epochs": epochs} | settings
    return {
        "IDNP": IDNP(**shared, window=3, lr=3e-3),
        "GRU4Rec": GRU4Rec(**shared, recurrent_layers=4),
        "SASRec": SASRec(**shared, blocks=2),
        "SASRec with gaps": GapSASRec(**shared, blocks=2),
        "SASRec that knows when": AskedSASRec(**shared, blocks=2),
    }


def on_ring(run: Run) -> dict[str, Any]:
    """Judge all nets on a ring, and how sure IDNP is of shorter histories."""
    split = split_by(ring(**RINGS, seed=run.seed).data, "last")
    fitted = fit_all(nets(EPOCHS), split, run)
    judged = judge(fitted, split, run, LEADS | ASKED)
    model = fitted["IDNP"]
    few, most = (hits_lead(fitted, split, events) for events in KEPT_EVENTS)
    return judged | {
        "weights": {name: parameters(net) for name, net in fitted.items()},
        "divergence": model.fit_report_["divergence"],
        "spread and events known, rank correlation": spread_correlation(model, split),
        "lead with few events": few,
        "lead with most events": most,
    }


def latest(queries: Queries, events: int) -> Queries:
    """Return the queries with their latest events only."""
    return queries.keep_events(queries.histories.from_end < events)


def hits_lead(fitted: dict[str, Recommender], split: Split, events: int) -> float:
    """Return by how much IDNP's HR@10 is above that of SASRec with gaps, on short histories."""
    queries, targets = split.queries("test")
    rates = []
    for name in ("IDNP", "SASRec with gaps"):
        lists = fitted[name].recommend(latest(queries, events).without_history(), 10)
        rows = lists.reindexed(queries.catalogue).rows
        rates.append(float((rows == targets.values[:, None]).any(axis=1).mean()))
    return round(rates[0] - rates[1], 4)


def spread_correlation(model: IDNP, split: Split) -> float:
    """Return the rank correlation of the latent's spread and the number of known events."""
    queries, _ = split.queries("test")
    counts = np.arange(1, 13, 2)
    spreads = np.array([model.uncertainty(latest(queries, events)) for events in counts])
    known = np.broadcast_to(counts[:, None], spreads.shape)
    return round(float(spearmanr(known.ravel(), spreads.ravel()).statistic), 4)


def on_movies(run: Run) -> dict[str, Any]:
    """Judge the nets on ml-100k, split by time."""
    split = split_by(real("ml-100k"), "time")
    movies = {"negatives": 512, "length": 30}
    methods = nets(4, **movies) | {"popularity": Popularity()}
    return judge(fit_all(methods, split, run), split, run, LEADS | ASKED)
