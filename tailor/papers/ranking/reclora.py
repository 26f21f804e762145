"""RecLoRA: a reader of short texts gets low-rank additions of its own for every user.

Shapes: n pairs of a query and an item, B pairs of a batch, T texts of a pair (the candidate first),
E width of a text's vector, D width of the reader, K adapters, R rank of one, P probe items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    dropout,
    gelu,
    scaled_dot_product_attention,
)

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, Predictor
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.core.specs import check_settings, clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples, Outcome
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError
from tailor.nn.fitting import Recipe
from tailor.nn.gates import imbalance
from tailor.nn.packing import pad_rows
from tailor.ports.base import Encoder
from tailor.ranking.behaviours import MeanInterest
from tailor.ranking.outcomes import OutcomePredictor, goodness, split_examples
from tailor.text.cached import item_vectors
from tailor.training.nets import NetMethod

PAPER = Paper(
    "reclora",
    "Lifelong Personalized Low-Rank Adaptation of Large Language Models for Recommendation",
    "https://arxiv.org/abs/2408.03533",
    "On planted logs of styles that respond oppositely to a topic (3 seeds), with a tenth of the"
    " rows, AUC is above that of one adapter of the same total rank and of a mixture that is the"
    " same for all; the users' mixtures tell the styles apart (adjusted Rand index above .3); on"
    " ml-100k AUC is not below one adapter's, and a request takes at most 20 % longer",
)
PAIRS_AT_ONCE = 1_024  # predicted together
HELD_OUT_PAIRS = 4_000  # that stop training, at most
TINY = 1e-9  # count of an item without an example
LEAST = 3e-4  # probability of a probe, and of its opposite


# ---- the reader


class AdaptedLinear(nn.Module):
    """A linear layer with K low-rank additions, of which each user has a mixture.

    The result is W x + scale * sum over k of share_k B_k A_k x: a mixture of products, which is
    something else than the product of two mixtures.
    """

    def __init__(self, inputs: int, outputs: int, adapters: int, rank: int, scale: float) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.down = nn.Parameter(torch.randn(adapters, rank, inputs) / inputs**0.5)  # A
        self.up = nn.Parameter(torch.zeros(adapters, outputs, rank))  # B
        self.scale = scale

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """(B, T, inputs), (B, K) -> (B, T, outputs)."""
        down = self.down.flatten(0, 1)  # K * R, inputs
        up = self.up.transpose(1, 2).flatten(0, 1)  # K * R, outputs
        rank = self.down.shape[1]
        weights = shares.repeat_interleave(rank, dim=1)  # B, K * R
        low = (x @ down.T) * weights[:, None]  # B, T, K * R
        out: Tensor = self.base(x) + self.scale * (low @ up)
        return out


class AdaptedBlock(nn.Module):
    """A block of a transformer whose linear layers all have adapters."""

    def __init__(self, method: "RecLoRA") -> None:
        super().__init__()
        width = method.width
        settings = (method.adapters, method.rank, method.scale)
        self.heads = method.heads
        self.dropout = method.dropout
        self.before_attention = nn.LayerNorm(width)
        self.qkv = AdaptedLinear(width, 3 * width, *settings)
        self.out = AdaptedLinear(width, width, *settings)
        self.before_tower = nn.LayerNorm(width)
        self.widen = AdaptedLinear(width, 2 * width, *settings)
        self.narrow = AdaptedLinear(2 * width, width, *settings)

    def forward(self, x: Tensor, is_real: Tensor, shares: Tensor) -> Tensor:
        """(B, T, D), (B, T), (B, K) -> (B, T, D)."""
        read = self.qkv(self.before_attention(x), shares)
        heads = read.unflatten(2, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each B, heads, T, D / heads
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=is_real[:, None, None])
        joined = mixed.transpose(1, 2).flatten(2)  # B, T, D
        x = x + self._dropped(self.out(joined, shares))
        hidden = gelu(self.widen(self.before_tower(x), shares))
        return x + self._dropped(self.narrow(hidden, shares))

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)


class TextReader(nn.Module):
    """A small transformer over the vectors of texts, whose adapters are mixed by a gate."""

    texts: Tensor

    def __init__(self, method: "RecLoRA") -> None:
        super().__init__()
        width = method.width
        self.register_buffer("texts", torch.tensor(method.texts_, device="cpu"), persistent=False)
        self.of_texts = nn.Linear(method.texts_.shape[1], width)
        self.roles = nn.Parameter(torch.randn(2, width) * 0.1)  # of candidate and history
        self.blocks = nn.ModuleList([AdaptedBlock(method) for _ in range(method.blocks)])
        self.after = nn.LayerNorm(width)
        self.answers = nn.Linear(width, 2)  # yes and no
        self.gate = nn.Linear(method.probes, method.adapters)

    def shares(self, users: Tensor) -> Tensor:
        """Return (B, K) shares of the adapters for users (B, P)."""
        shares: Tensor = self.gate(users).softmax(dim=1)
        return shares

    def forward(self, batch: "TextBatch") -> tuple[Tensor, Tensor]:
        """Return (B,) log-odds of yes against no, and (B, K) shares of the adapters."""
        shares = self.shares(batch.users)
        items, positions = batch.rows.unique(return_inverse=True)
        vectors = self.of_texts(self.texts[items])
        is_history = torch.arange(batch.rows.shape[1], device=vectors.device).clamp(max=1)
        x = vectors[positions] + self.roles[is_history]  # B, T, D
        for block in self.blocks:
            x = block(x, batch.is_real, shares)
        answers = self.answers(self.after(x[:, 0]))  # B, 2
        return answers[:, 0] - answers[:, 1], shares


class TextBatch(NamedTuple):
    """Pairs as the reader sees them."""

    rows: Tensor
    """(B, T) item rows: the candidate, then items of the history; N for none."""
    is_real: Tensor
    """(B, T) bool: False for padding."""
    users: Tensor
    """(B, P) standardised log-odds of the probe items, or zeros."""

    def to(self, device: torch.device) -> "TextBatch":
        """Return the same pairs on a device."""
        return TextBatch(*(tensor.to(device) for tensor in self))


class TextPairs(NamedTuple):
    """Pairs as arrays."""

    rows: np.ndarray
    """(n, T) int64."""
    users: np.ndarray
    """(n, P) float32."""
    unknown: int
    """N."""

    def batch(self, rows: np.ndarray | slice) -> TextBatch:
        """Return some of the pairs as tensors; the candidate is always read."""
        items = torch.from_numpy(self.rows[rows])
        is_real = items < self.unknown
        is_real[:, 0] = True
        return TextBatch(items, is_real, torch.from_numpy(self.users[rows]))


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Judge of training by held-out pairs."""

    split: Split | None
    labels: np.ndarray
    pairs: TextPairs

    def value(self, method: "RecLoRA") -> float:
        """Return how good the predictions are now; higher is better."""
        return goodness(self.labels, method._read(self.pairs))


@dataclass(eq=False)
class RecLoRA(NetMethod, Predictor):
    """Mix low-rank adapters of a text reader by what a classical model knows of the user.

    A classical predictor learns from the whole log and its long histories. Its log-odds of a few
    probe items describe a user; a gate turns them into shares of the adapters. The reader learns
    from few rows, and sees as texts the candidate and the items of the history that are most like
    it. So it stays small, and yet answers one user otherwise than another.

    Differs from the paper: the reader is a small transformer over vectors of a frozen sentence
    encoder, which learns together with its adapters, in place of a large language model; the user
    is the classical model's log-odds of probe items, so that any predictor will do; texts of the
    history come without ratings.
    """

    classical: OutcomePredictor = field(default_factory=lambda: MeanInterest(history=50))
    """Predictor that learns from all rows; its settings say what is predicted."""
    encoder: Encoder | str = DEFAULT
    """Encoder of the items' texts."""
    share: Annotated[float, Range(0.01, 1.0, log=True)] = 0.1
    """Share of the examples that the reader learns from."""
    adapters: Annotated[int, Choices(2, 4, 8)] = 4
    """Number of adapters."""
    rank: Annotated[int, Choices(2, 4, 8)] = 4
    """Rank of an adapter."""
    personal: bool = True
    """Whether the gate reads the user; without, all users have the same mixture."""
    probes: int = 32
    """Items whose log-odds by the classical model describe a user."""
    history: int = 200
    """Latest items of the history among which like ones are found."""
    similar: Annotated[int, Choices(3, 5, 10)] = 5
    """Items of the history that are read beside the candidate."""
    width: Annotated[int, Choices(32, 64, 128)] = 64
    """Width of the reader."""
    heads: int = 4
    """Attention heads of a block."""
    blocks: int = 2
    """Blocks of the reader."""
    scale: float = 2.0
    """Factor of the additions."""
    dropout: Annotated[float, Range(0.0, 0.5)] = 0.1
    """Share of the blocks' outputs that are dropped in training."""
    balance: float = 0.01
    """Weight of the loss where mean shares of adapters differ, so that none is left unused."""
    lr: Annotated[float, Range(1e-4, 1e-2, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 1e-3
    """Weight decay of matrices."""
    batch: int = 64
    """Examples per step."""
    epochs: int = 30
    """Passes over the examples of the reader, at most."""
    patience: int = 8
    """Validations (every epoch) without a better AUC before training stops."""

    classical_: OutcomePredictor = field(init=False, repr=False)
    texts_: np.ndarray = field(init=False, repr=False)
    """(N + 1, E) float32 vectors of the items' texts; zeros for an unknown item."""
    probes_: np.ndarray = field(init=False, repr=False)
    """(P,) rows of the probe items."""
    moments_: np.ndarray = field(init=False, repr=False)
    """(2, P) mean and standard deviation of the probes' log-odds."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not isinstance(self.classical, OutcomePredictor) or self.classical.source == "value":
            raise ModelError(
                f"RecLoRA.classical is {self.classical!r}: it must be a predictor of probabilities,"
                " such as MeanInterest()"
            )
        sizes = (self.adapters, self.rank, self.probes, self.width, self.heads, self.blocks)
        smallest = min(*sizes, self.batch, self.epochs, self.patience)
        if smallest < 1 or min(self.similar, self.history) < 0:
            raise DataError(
                f"adapters {self.adapters}, rank {self.rank}, probes {self.probes}, width"
                f" {self.width}, heads {self.heads}, blocks {self.blocks}, batch {self.batch},"
                f" epochs {self.epochs}, patience {self.patience}: at least 1 each, similar"
                f" {self.similar} and history {self.history} at least 0"
            )
        if self.width % self.heads:
            raise DataError(f"width {self.width} is no multiple of heads {self.heads}")
        if not 0 < self.share <= 1 or not 0 <= self.dropout < 1:
            raise DataError(
                f"share is {self.share}, dropout {self.dropout}: above 0 up to 1, and below 1"
            )

    def outcome(self) -> Outcome:
        """Return what the classical model predicts, with the longer of both histories."""
        outcome = self.classical.outcome()
        return replace(outcome, length=max(outcome.length, self.history))

    def learns_from_impressions(self) -> bool:
        return self.classical.learns_from_impressions()

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.classical_ = clone(self.classical).fit(data, run, valid)
        self.items_ = self.classical_.items_
        vectors = item_vectors(encoder_of(self.encoder), data.item_texts, run.progress)
        unknown = np.zeros((1, vectors.shape[1]))
        self.texts_ = np.concatenate([vectors, unknown]).astype(np.float32)
        examples, held_out, source = split_examples(self.outcome(), data, run, valid)
        few = _some(examples, max(1, round(self.share * len(examples))), run, "few rows")
        judged = _some(held_out, HELD_OUT_PAIRS, run, "held-out rows")
        self._learn_probes(examples, few, run)
        judge = _HeldOut(valid, judged.labels, self._pairs_of(judged.queries, judged.pairs()))
        report = self._teach(data, run, few, judge)
        shares = self._shares(judge.pairs.users).mean(axis=0)
        self.fit_report_ = {
            self.classical_.name: self.classical_.fit_report_,
            "examples": len(few),
            "stopped by": source,
            "mean shares of the adapters": shares.round(3).tolist(),
            **report,
        }

    def _teach(self, data: Dataset, run: Run, few: Examples, judge: "_HeldOut") -> dict[str, Any]:
        """Train the reader on a few examples, and return the report."""
        pairs = self._pairs_of(few.queries, few.pairs())
        labels = torch.tensor(few.labels)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            return self._loss(pairs.batch(rows), labels[rows])

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(few), self.batch, rng)

        recipe = Recipe(self.epochs, self.lr, self.weight_decay, patience=self.patience)
        self._start_net(run)
        return self._train_net(data, run, recipe, batches, loss, judge)

    def _loss(self, batch: TextBatch, labels: Tensor) -> Tensor:
        """Return () the mean loss of a batch with labels (B,)."""
        device = self._net.of_texts.weight.device
        logits, shares = self._net(batch.to(device))
        error = binary_cross_entropy_with_logits(logits.float(), labels.to(device))
        if self.adapters == 1:
            return error
        return error + self.balance * imbalance(shares)

    def _learn_probes(self, examples: Examples, few: Examples, run: Run) -> None:
        """Choose items that are asked about, and the moments of the log-odds of their answers.

        Items with many examples are chosen more often: of others the classical model knows little.
        """
        counts = np.bincount(examples.items, minlength=len(self.items_))
        keys = run.rng("probes").gumbel(size=len(counts)) + np.log(np.maximum(counts, TINY))
        order = np.argsort(-keys)
        self.probes_ = np.resize(order, self.probes)
        self.moments_ = np.ones((2, self.probes)) * [[0.0], [1.0]]
        odds = self._users_of(few.queries)
        deviations = odds.std(axis=0)
        deviations[deviations == 0] = 1.0
        self.moments_ = np.stack([odds.mean(axis=0), deviations])

    def _users_of(self, queries: Queries) -> np.ndarray:
        """Return (n, P) float32 standardised log-odds of the probe items, zeros where unused."""
        if not self.personal or self.adapters == 1:
            return np.zeros((len(queries), self.probes), np.float32)
        lengths = np.full(len(queries), self.probes)
        pairs = Ragged.of_lengths(lengths, np.tile(self.probes_, len(queries)))
        p = self.classical_._predict(queries, pairs)
        odds = logit(np.clip(p, LEAST, 1 - LEAST)).reshape(lengths.size, self.probes)
        mean, deviation = self.moments_
        return ((odds - mean) / deviation).astype(np.float32)

    def _pairs_of(self, queries: Queries, items: Ragged) -> TextPairs:
        """Return the pairs of queries and items with the items of the history most like each."""
        unknown = len(self.items_)
        candidates = np.where(items.values < 0, unknown, items.values).astype(np.int64)
        histories = queries.histories.last(self.history)
        rows = np.full((len(candidates), 1 + self.similar), unknown, np.int64)
        rows[:, 0] = candidates
        for start in range(0, len(candidates), PAIRS_AT_ONCE):
            block = slice(start, start + PAIRS_AT_ONCE)
            owners = items.row_ids[block]
            padded, is_real = pad_rows(
                histories.values, histories.offsets[owners], histories.lengths[owners]
            )
            events = np.where(is_real, padded, unknown)
            best = most_like(self.texts_, candidates[block], events, self.similar)
            rows[block, 1 : 1 + best.shape[1]] = best
        return TextPairs(rows, self._users_of(queries)[items.row_ids], unknown)

    def _make_net(self) -> nn.Module:
        return TextReader(self)

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        return self._read(self._pairs_of(queries, items))

    def _read(self, pairs: TextPairs) -> np.ndarray:
        """Return (n,) probabilities of the reader."""
        net = self._ready()
        device = net.of_texts.weight.device  # while it learns, it may not be the CPU
        parts = [np.zeros(0)]
        with torch.inference_mode():
            for start in range(0, len(pairs.rows), PAIRS_AT_ONCE):
                batch = pairs.batch(slice(start, start + PAIRS_AT_ONCE))
                logits, _ = net(batch.to(device))
                parts.append(logits.double().sigmoid().cpu().numpy())
        return np.concatenate(parts)

    def _shares(self, users: np.ndarray) -> np.ndarray:
        """Return (n, K) shares of the adapters."""
        with torch.inference_mode():
            shares: np.ndarray = self._ready().shares(torch.from_numpy(users)).numpy()
        return shares

    def mixtures(self, queries: Sequence[Query]) -> np.ndarray:
        """Return (n, K) shares of the adapters for users, each row of sum 1."""
        self._check_fitted()
        return self._shares(self._users_of(Queries.of(queries).reindexed(self.items_)))

    @classmethod
    def tiny(cls) -> Self:
        from tailor.text.hashing import HashingEncoder

        return cls(
            MeanInterest.tiny(),
            encoder=HashingEncoder(16),
            share=0.5,
            adapters=2,
            rank=2,
            probes=4,
            similar=3,
            width=8,
            heads=2,
            blocks=1,
            epochs=2,
        )


def most_like(texts: np.ndarray, candidates: np.ndarray, events: np.ndarray, k: int) -> np.ndarray:
    """Return (B, k) rows of events whose texts are most like the candidates', best first.

    `texts` (N + 1, E) are of unit length, the last one 0, of no item; `candidates` are (B,) and
    `events` (B, L) rows of items. Fewer columns for fewer events; no items come last.
    """
    targets = texts[candidates][:, :, None]
    likeness = (texts[events] @ targets)[..., 0]  # B, L
    is_none = events == len(texts) - 1
    likeness[is_none] = -np.inf
    order = np.argsort(-likeness, axis=1, kind="stable")
    return np.take_along_axis(events, order[:, :k], axis=1)


def _some(examples: Examples, count: int, run: Run, key: str) -> Examples:
    """Return at most `count` of the examples, in their order."""
    return examples.take(np.sort(run.rng(key).permutation(len(examples))[:count]))
