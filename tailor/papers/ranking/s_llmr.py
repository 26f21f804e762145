"""S-LLMR: a language model's preferences guide a ranker where the ranker itself knows little.

Shapes: n rows (pairs of a query and an item), B rows of a batch, P pairs of rows, E width of a
text's vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset, read_parquet
from tailor.data.examples import Examples
from tailor.data.sampling import popular_negatives, sample_ragged
from tailor.errors import DataError
from tailor.evaluation.zero_shot import log_odds
from tailor.nn.fields import FieldBatch, FieldLayout
from tailor.nn.interest import AttentionKind, TargetAttention
from tailor.ports.base import Encoder, LanguageModel
from tailor.ranking.behaviours import BehaviourNet, BehaviourPredictor
from tailor.ranking.fields import HeldOut
from tailor.text.cached import item_vectors

PAPER = Paper(
    "s-llmr",
    "Selective LLM-Guided Regularization for Enhancing Recommendation Models",
    "https://arxiv.org/abs/2512.21526",
    "On planted logs (3 seeds) with scores that are right in .6 and .8 of the pairs of rare items,"
    " and by chance in others, AUC of users with 1 to 3 events and of rare items is above that"
    " of the ranker without scores and with an ungated loss, and AUC of frequent items at most .002"
    " below; scores by chance change nothing; on Beauty a table with vectors of titles",
)
COLD_EVENTS = 3  # of a history that is cut, as a new user's
COLD_SCALE = 5.0  # events of a history at which a user is a third as cold as a new one
RAREST = 0.1  # share of the items that half of the asked ones are drawn from
FIRST_GATE = (4.0, 4.0, 2.0)  # weights of cold, rare and uncertain before training
FIRST_GATE_BIAS = -5.0
REQUESTS = 4  # of a user that further items are asked about in
ROWS_AT_ONCE = 65_536  # whose cosines are computed together
SCORE_COLUMNS = ("user_id", "item_id", "score")


class GatedNet(BehaviourNet):
    """A ranker with target attention, and the gate of the language model's pairs."""

    def __init__(self, layout: FieldLayout, method: "SLLMR") -> None:
        attention = TargetAttention(
            layout.item_fields * method.width, method.attention, normalise=True
        )
        super().__init__(layout, method.width, method.layers, attention, dropout=method.dropout)
        self.gate = nn.Linear(len(FIRST_GATE), 1)
        with torch.no_grad():
            self.gate.weight.copy_(torch.tensor([FIRST_GATE]))
            self.gate.bias.fill_(FIRST_GATE_BIAS)

    def gates(self, is_weak: Tensor, logits: Tensor) -> Tensor:
        """Return (B,) how much the language model counts, from 0 to 1.

        `is_weak` (B, 2) says how new the user and how rare the item is; the entropy of the
        prediction is how uncertain the ranker is.
        """
        p = logits.detach().sigmoid().clamp(1e-6, 1 - 1e-6)
        bits = -(p * p.log2() + (1 - p) * (1 - p).log2())
        gates: Tensor = self.gate(torch.cat([is_weak, bits[:, None]], dim=1))[:, 0].sigmoid()
        return gates


class _Rows(NamedTuple):
    """Scores and weaknesses of rows, beside their fields and labels."""

    scores: np.ndarray
    """(n,) the language model's score of the item for the user; NaN where there is none."""
    is_weak: np.ndarray
    """(n, 2) float32, how new the user and how rare the item is, from 0 to 1."""
    users: np.ndarray
    """(n,) the user of each row."""
    requests: np.ndarray
    """(n,) a number for each request: rows of one have the same user, history and time."""
    labelled: int
    """The first rows, whose outcome is known."""


@dataclass(eq=False)
class SLLMR(BehaviourPredictor):
    """Let a language model's scores order items where the ranker is weak, and only there.

    Of two items asked about in one request that the scores tell apart, the ranker's log-odds of the
    preferred one shall be higher by a margin. How much a pair counts is said by a gate, which is
    learned from how new the user is, how rare the items are, and how uncertain the ranker is.
    Beside the examples, further items of a few requests of each user have scores and no outcome.
    The scores are a file (`language_scores` makes one), or cosines of the texts of history and
    item; predictions need none of them.

    Differs from the paper: pairs are of items that have scores (in the paper, one without counts as
    .5), and their loss is a mean, so that weights are not comparable; the mean gate of pairs has a
    floor, since nothing else stops a gate that shuts, and begins at weights set by hand; a cut
    history keeps the scores that a file has for the user.
    """

    layers: tuple[int, ...] = (64, 32)
    """Widths of the tower's layers."""
    attention: AttentionKind = "unit"
    """How behaviours are weighed: "mean", "unit", "dot" or "relu"."""
    scores: str | None = None
    """Parquet file with user_id, item_id and score from 0 to 1; None: cosines of texts."""
    encoder: Encoder | str = DEFAULT
    """Encoder of the items' texts for cosines."""
    weight: Annotated[float, Range(0.01, 1.0, log=True)] = 0.1
    """Weight of the loss of pairs; 0: the ranker alone."""
    gated: bool = True
    """Whether the gate weighs the pairs; without, every pair counts 1."""
    floor: float = 0.2
    """Mean gate below which a penalty begins."""
    margin: float = 1.0
    """Difference of log-odds that a pair shall have."""
    asked: int = 20
    """Further items per user that have scores and no outcome."""
    pairs: int = 1024
    """Most pairs of a batch, those whose scores differ most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight < 0 or self.margin < 0 or not 0 <= self.floor < 1:
            raise DataError(
                f"weight is {self.weight}, margin {self.margin}, floor {self.floor}: at least 0,"
                " and floor below 1"
            )
        if self.asked < 0 or self.pairs < 1:
            raise DataError(f"asked is {self.asked}, pairs {self.pairs}: at least 0 and 1")

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return GatedNet(layout, self)

    def _train(self, data: Dataset, run: Run, examples: Examples, judge: HeldOut) -> dict[str, Any]:
        table = None if self.scores is None else _ScoreTable.read(self.scores, data)
        rows = examples
        if self.asked:
            rows = self._extended(data, examples, table, run.rng("asked items"))
        self._rows = self._describe(data, rows, len(examples), table, run)
        scored = int(np.isfinite(self._rows.scores).sum())
        report = super()._train(data, run, rows, judge)
        del self._rows
        return report | {
            "further rows": len(rows) - len(examples),
            "rows with scores": scored,
            "gate": {
                "cold, rare, uncertain": self.net_weights_["gate.weight"][0].round(3).tolist(),
                "bias": round(float(self.net_weights_["gate.bias"][0]), 3),
            },
        }

    def _extended(
        self,
        data: Dataset,
        examples: Examples,
        table: "_ScoreTable | None",
        rng: np.random.Generator,
    ) -> Examples:
        """Return examples, then rows without an outcome: further items in requests of each user.

        The history of half of these requests is cut to its first events, as a new user's. Labels of
        the rows, the mean label, are not learned from.
        """
        requests = _drawn_by_user(_user_rows(examples), REQUESTS, rng)
        is_new = np.repeat(rng.random(len(requests)) < 0.5, -(-self.asked // REQUESTS))
        owners = np.repeat(requests, -(-self.asked // REQUESTS))
        items = self._further_items(data, examples, owners, table, rng)
        is_new = is_new[items >= 0]
        owners = owners[items >= 0]
        items = items[items >= 0]
        queries = examples.queries.take(np.r_[np.arange(len(examples)), owners])
        is_cut = np.r_[np.zeros(len(examples), bool), is_new][queries.histories.row_ids]
        is_first = queries.histories.from_start < COLD_EVENTS
        labels = np.full(len(owners), examples.labels.mean())
        return Examples(
            queries.keep_events(is_first | ~is_cut),
            np.r_[examples.items, items].astype(np.int32),
            np.r_[examples.labels, labels].astype(np.float32),
        )

    def _further_items(
        self,
        data: Dataset,
        examples: Examples,
        owners: np.ndarray,
        table: "_ScoreTable | None",
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return an item to ask about for each of the examples `owners`; -1 for none."""
        if table is None:
            return _rare_and_popular(examples.items, len(owners), len(data.catalogue), rng)
        user_ids = examples.queries.user_ids[owners].tolist()
        return table.drawn(data.users.rows(user_ids), rng)

    def _describe(
        self,
        data: Dataset,
        rows: Examples,
        labelled: int,
        table: "_ScoreTable | None",
        run: Run,
    ) -> _Rows:
        """Return the scores of rows, and how weak the ranker must be for them."""
        users = _user_rows(rows)
        counts = np.bincount(rows.items[:labelled], minlength=len(data.catalogue))
        is_cold = np.exp(-rows.queries.histories.lengths / COLD_SCALE)
        typical = max(float(np.median(counts[rows.items[:labelled]])), 1.0)
        is_rare = np.exp(-counts[rows.items] / typical)
        if not self.weight:
            scores = np.full(len(rows), np.nan)
        elif table is not None:
            user_rows = data.users.rows(rows.queries.user_ids.tolist())
            scores = table.of(user_rows, rows.items)
        else:
            vectors = item_vectors(encoder_of(self.encoder), data.item_texts, run.progress)
            scores = text_scores(vectors, rows.queries.histories, rows.items)
        is_weak = np.stack([is_cold, is_rare], axis=1).astype(np.float32)
        return _Rows(scores, is_weak, users, _requests_of(rows, users), labelled)

    def _batches(self, examples: Examples, rng: np.random.Generator) -> list[np.ndarray]:
        """Return batches in which rows of a user stand together; else there are no pairs."""
        users = self._rows.users
        places = rng.permutation(users.max() + 1)  # of the users, in this epoch
        order = np.argsort(places[users], kind="stable")
        return np.array_split(order, -(-len(order) // self.batch))

    def _loss(
        self, batch: FieldBatch, labels: Tensor, rows: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        logits, penalty = self._net(batch)
        logits = logits.float()
        is_labelled = torch.from_numpy(rows < self._rows.labelled).to(logits.device)
        loss = self.l2 * penalty
        if is_labelled.any():
            loss = loss + binary_cross_entropy_with_logits(logits[is_labelled], labels[is_labelled])
        return loss + self.weight * self._loss_of_pairs(logits, rows)

    def _loss_of_pairs(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Return () the mean hinge loss of the batch's pairs, weighted by their gates."""
        scores = self._rows.scores[rows]
        better, worse = best_pairs(scores, self._rows.requests[rows], self.pairs)
        if not len(better):
            return logits.new_zeros(())
        hinges = (self.margin - (logits[better] - logits[worse])).relu()
        if not self.gated:
            return hinges.mean()
        is_weak = torch.from_numpy(self._rows.is_weak[rows]).to(logits.device)
        gates = self._net.gates(is_weak, logits)
        pair_gates = (gates[better] + gates[worse]) / 2
        weighted = pair_gates * hinges
        # the loss falls as gates shut: below the floor that costs twice what it brings
        shut = (self.floor - pair_gates.mean()).relu()
        return weighted.mean() + 2 * hinges.detach().mean() * shut

    @classmethod
    def tiny(cls) -> Self:
        from tailor.text.hashing import HashingEncoder

        return cls(
            encoder=HashingEncoder(16), width=4, layers=(8,), history=8, asked=4, epochs=3, lr=1e-2
        )


def best_pairs(
    scores: np.ndarray, requests: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (P,) of the preferred and of the other item of pairs of one request.

    At most `count` pairs, those whose scores (B,) differ most; rows without a score (NaN) are in
    none.
    """
    scored = np.flatnonzero(np.isfinite(scores))
    scores = scores[scored]
    requests = requests[scored]
    gaps = scores[:, None] - scores
    is_pair = (requests[:, None] == requests) & (gaps > 0)
    better, worse = np.nonzero(is_pair)
    if len(better) > count:
        pair_gaps = gaps[better, worse]
        widest = np.argpartition(-pair_gaps, count - 1)[:count]
        better = better[widest]
        worse = worse[widest]
    return scored[better], scored[worse]


def text_scores(vectors: np.ndarray, histories: Ragged, items: np.ndarray) -> np.ndarray:
    """Return (n,) scores from 0 to 1 by the cosine of a history's mean vector and the item's.

    `vectors` are (N, E), `items` (n,) rows. NaN for a history without a text, or an item without.
    """
    cosines = np.zeros(len(items))
    for start in range(0, len(items), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(items))
        sums = histories.slice(start, stop).matrix(len(vectors)) @ vectors
        candidates = vectors[items[start:stop]]
        products = (sums * candidates).sum(axis=1)
        lengths = np.linalg.norm(sums, axis=1)
        lengths *= np.linalg.norm(candidates, axis=1)
        cosines[start:stop] = products / np.where(lengths > 0, lengths, np.nan)
    return (1 + cosines) / 2


def language_scores(
    model: LanguageModel, data: Dataset, item_ids: Sequence[Sequence[str]], history: int = 10
) -> pl.DataFrame:
    """Return a language model's scores of items for every user of `data`, for `SLLMR.scores`.

    `item_ids` are the items asked about, a list for each of `data.users`. A score is the
    probability of yes against no as the answer to whether the user would choose the item next,
    after the titles of the latest events. The data must not hold what is judged later. Raises
    DataError for an item that the data lacks.
    """
    for item_id in {item_id for ids in item_ids for item_id in ids}:
        if data.catalogue.rows([item_id])[0] < 0:
            raise DataError(f'there is no item "{item_id}" in the data: ask about its items only')
    queries = data.queries()
    titles = dict(zip(data.catalogue.ids.tolist(), data.item_texts, strict=True))
    rows = []
    for query, ids in zip(queries, item_ids, strict=True):
        events = query.history.item_ids
        latest = events[max(len(events) - history, 0) :]
        odds = log_odds(model, [titles[event] for event in latest], [titles[i] for i in ids])
        scores = 1 / (1 + np.exp(-odds))
        rows += [(query.user_id, *pair) for pair in zip(ids, scores.tolist(), strict=True)]
    return pl.DataFrame(rows, schema=list(SCORE_COLUMNS), orient="row")


class _ScoreTable:
    """Scores of pairs of a user and an item, by their rows."""

    def __init__(self, users: np.ndarray, items: np.ndarray, scores: np.ndarray, n: int) -> None:
        keys, first = np.unique(users.astype(np.int64) * n + items, return_index=True)
        self.keys = keys  # ascending
        self.scores = scores[first]
        self.items = n

    @classmethod
    def read(cls, path: str, data: Dataset) -> "_ScoreTable":
        """Read a Parquet file; pairs of unknown users and items are left out.

        Raises DataError for a missing file, other columns, scores outside 0 to 1, and where no pair
        is known.
        """
        if not Path(path).is_file():
            raise DataError(f"there is no file {path}: write one with the columns {SCORE_COLUMNS}")
        frame = read_parquet(Path(path))
        if not set(SCORE_COLUMNS) <= set(frame.columns):
            raise DataError(f"{path} has the columns {frame.columns}: it must have {SCORE_COLUMNS}")
        scores = frame["score"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        if not ((scores >= 0) & (scores <= 1)).all():
            raise DataError(f"{path} holds a score outside 0 to 1: they are probabilities")
        users = data.users.codes(frame["user_id"])
        items = data.catalogue.codes(frame["item_id"])
        is_known = (users >= 0) & (items >= 0)
        if not is_known.any():
            raise DataError(
                f"no pair of the {len(frame)} in {path} is of a user and an item of the data: are"
                " its ids those of the data?"
            )
        n = len(data.catalogue)
        return cls(users[is_known], items[is_known], scores[is_known], n)

    def of(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return (n,) the scores of pairs; NaN for one without."""
        keys = users.astype(np.int64) * self.items + items
        last = len(self.keys) - 1
        places = np.minimum(np.searchsorted(self.keys, keys), last)
        is_there = self.keys[places] == keys
        is_known = is_there & (users >= 0)
        return np.where(is_known, self.scores[places], np.nan)

    def drawn(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (n,) an item with a score for each of the users; -1 for a user without one."""
        users = users.astype(np.int64)
        starts = np.searchsorted(self.keys, users * self.items)
        stops = np.searchsorted(self.keys, (users + 1) * self.items)
        counts = stops - starts
        places = starts + (rng.random(len(users)) * counts).astype(np.int64)
        keys = self.keys[np.minimum(places, len(self.keys) - 1)]
        return np.where((counts > 0) & (users >= 0), keys % self.items, -1)


def _user_rows(examples: Examples) -> np.ndarray:
    """Return (n,) a number for the user of each row; queries without a user are one each."""
    return np.asarray(examples.people()[1])


def _requests_of(rows: Examples, users: np.ndarray) -> np.ndarray:
    """Return (n,) a number for each request of rows with users (n,).

    Rows of one have the same user, time and history, which its length and a sum tell apart.
    """
    histories = rows.queries.histories
    places = (histories.from_start + 1) * histories.values.astype(np.int64)
    sums = np.bincount(histories.row_ids, places, len(rows)).astype(np.int64)
    now_ms = rows.queries.now_ms
    times = np.zeros(len(rows), np.int64) if now_ms is None else now_ms
    keys = np.stack([users, histories.lengths, sums, times], axis=1)
    return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1]).ravel()


def _drawn_by_user(users: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return positions in users (n,): `count` of each user's, with repetition, user by user."""
    order = np.argsort(users, kind="stable")
    by_user = Ragged.of_lengths(np.bincount(users), order)
    return sample_ragged(by_user, count, rng).ravel()


def _rare_and_popular(items: np.ndarray, size: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return (size,) items out of n: half among the rarest, half by how often they are asked."""
    counts = np.bincount(items, minlength=n)
    order = np.argsort(counts, kind="stable")
    rarest = order[: max(1, round(RAREST * n))]
    popular = popular_negatives(counts, size, rng)
    is_rare = rng.random(size) < 0.5
    return np.where(is_rare, rng.choice(rarest, size), popular)
