"""AdaRetrieval: retrieve in rounds, each of which has seen what the earlier ones retrieved."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper, Recommender, blocks, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings, clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import PRESETS, uniform_negatives
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.metrics.ranking import hits
from tailor.nn.fitting import Recipe
from tailor.nn.losses import SampledSoftmax
from tailor.nn.packing import pack_batches, pad_rows
from tailor.nn.sequence import SequenceNet
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "ada-retrieval",
    "Ada-Retrieval: An Adaptive Multi-Round Retrieval Paradigm for Sequential Recommendations",
    "https://arxiv.org/abs/2401.06633",
    "Three rounds find more in lists of the same length than the backbone, and than the backbone"
    " tuned for as many further steps; their lists are more varied",
)
HIDDEN = -1e9  # logit of a place that is not attended to


class FourierFilter(nn.Module):
    """Multiply the frequencies of a sequence by learned weights; at first the lower half passes."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.length = length
        frequencies = length // 2 + 1
        is_low = torch.arange(frequencies) < (frequencies + 1) // 2
        weights = torch.zeros(frequencies, width, 2)
        weights[is_low, :, 0] = 1.0
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), T up to `length`; shorter sequences are followed by zeros."""
        spectrum = torch.fft.rfft(x.float(), n=self.length, dim=1)
        filtered = spectrum * torch.view_as_complex(self.weights.float())
        return torch.fft.irfft(filtered, n=self.length, dim=1)[:, : x.shape[1]]


class RoundsNet(nn.Module):
    """A net over sequences, and what adapts it to the items that earlier rounds retrieved.

    Both adapters add to what they adapt, times scales that begin at 0: an untrained net answers
    every round as the net over sequences does.
    """

    def __init__(self, encoder: SequenceNet, width: int, length: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.filter = FourierFilter(length, width)
        self.item_norm = nn.LayerNorm(width)
        self.item_scale = nn.Parameter(torch.zeros(width))
        self.memory = nn.GRUCell(width, width)
        self.user_adapter = nn.Sequential(
            nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.user_scale = nn.Parameter(torch.zeros(width))

    def adapted_items(self, vectors: Tensor, lengths: Tensor, retrieved: Tensor) -> Tensor:
        """Return the history (B, T, D) moved by the retrieved items (B, F) that events resemble.

        `retrieved` are rows, -1 for none; `lengths` (B,) are the numbers of events.
        """
        encoder = self.encoder
        items = encoder.table(retrieved.clamp(min=0))  # B, F, D
        # table vectors are short: their plain products would weigh all items alike
        logits = encoder.comparable(vectors) @ encoder.comparable(items).transpose(1, 2)
        logits = logits / (encoder.temperature or math.sqrt(vectors.shape[-1]))
        logits = logits.float().masked_fill(retrieved[:, None] < 0, HIDDEN)
        weights = logits.softmax(dim=-1).to(items.dtype)
        position = torch.arange(vectors.shape[1], device=vectors.device)
        is_event = position < lengths[:, None]
        context = (weights @ items) * is_event[:, :, None]
        change = self.item_norm(self.filter(context))
        return vectors + self.item_scale * change

    def user(
        self,
        vectors: Tensor,
        lengths: Tensor,
        retrieved: Tensor | None,
        memory: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the user vectors (B, D) of a round, and the memory (B, D) for the next one.

        `retrieved` (B, F) are the rows of all earlier rounds, `memory` what those returned; both
        None in the first one.
        """
        if retrieved is not None:
            vectors = self.adapted_items(vectors, lengths, retrieved)
        states = self.encoder.states(vectors)
        state = states[torch.arange(len(states), device=states.device), lengths - 1]
        unit = state * self.encoder.temperature if self.encoder.temperature else state
        if memory is not None:
            change = self.user_adapter(torch.cat([unit, memory], dim=-1))
            unit = unit + self.user_scale * change
            state = self.encoder.scaled(unit)
        return state, self.memory(unit.float(), memory)


@dataclass(frozen=True, eq=False)
class _Round:
    """The outcome of a round for B queries."""

    users: Tensor
    """(B, D) user vectors."""
    rows: Tensor
    """(B, n) rows of the retrieved items, best first; -1 where there are no more."""
    logits: Tensor
    """(B, n) their logits, -inf where there are no more."""
    shares: Tensor
    """(B, n) their shares of the softmax over all items."""


@dataclass(eq=False)
class _DepthValidation:
    """Judge a method by the share of users whose held-out item is in a list of this depth."""

    validation: Validation
    depth: int

    @property
    def split(self) -> Split:
        return self.validation.split

    def value(self, method: Recommender) -> float:
        """Return the share of users."""
        lists = method._recommend(self.validation.queries, self.depth, None)
        lists = lists.reindexed(self.validation.queries.catalogue)
        targets = self.validation.targets
        return float(hits(lists.rows, targets.offsets, targets.values).any(axis=1).mean())


@dataclass(eq=False)
class AdaRetrieval(NetMethod, Recommender):
    """Retrieve a few items a round; each round moves the user's vector on by what was retrieved.

    The backbone is trained first. Then, in every round, events attend to the items retrieved so
    far, the result passes a filter of frequencies and is added to the history; a recurrent memory
    of the earlier rounds' vectors moves the new one. All is tuned together. The column "round" says
    which round an item is from; its scores are above those of all later rounds.

    Differs from the paper: adapters are added by learned scales that begin at zero, without a norm
    of the sum, so that tuning starts from the backbone's list; events and items are compared by
    cosine; a round learns from the targets that no earlier round would have retrieved; a softmax
    over negatives that the batch shares.
    """

    backbone: SequenceRecommender = field(default_factory=SASRec)
    """Net over sequences that is trained first."""
    rounds: int = 3
    """Number of rounds."""
    per_round: int = 20
    """Items retrieved per round; the last round fills longer lists."""
    discount: Annotated[float, Range(0.1, 1.0)] = 0.3
    """Weight of a round's loss relative to the round before."""
    negatives: int = 2048
    """Negative items drawn per batch and shared by its targets."""
    lr: Annotated[float, Range(1e-4, 3e-3, log=True)] = 1e-3
    """Peak learning rate of AdamW while tuning; decays linearly to 1 %."""
    batch: int = 256
    """Windows of a batch."""
    epochs: int = 10
    """Epochs of tuning, at most; each has as many windows as there are targets."""
    patience: int | None = 3
    """Validations (every epoch) without more hits within all rounds before tuning stops; None: all
    epochs.
    """

    items_: Vocabulary = field(init=False, repr=False)
    backbone_: SequenceRecommender = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self)
        if not (
            isinstance(self.backbone, SequenceRecommender) and self.backbone._uses_default_state
        ):
            raise ModelError(
                f"AdaRetrieval.backbone is {self.backbone!r}: it must be a net over sequences that"
                " reads items alone, such as SASRec"
            )
        minima = {"rounds": 1, "per_round": 1, "negatives": 1, "batch": 1, "epochs": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if not self.lr > 0 or not self.discount >= 0:
            raise DataError(
                f"lr is {self.lr}, discount {self.discount}: lr must be above 0, discount at least"
                " 0"
            )
        if self.patience is not None and self.patience < 1:
            raise DataError(f'patience is {self.patience}: it must be at least 1, or "none"')

    @classmethod
    def tiny(cls) -> "AdaRetrieval":
        return cls(SASRec.tiny(), rounds=3, per_round=2, negatives=20, epochs=2)

    def _make_net(self) -> RoundsNet:
        backbone = self.backbone_
        return RoundsNet(backbone._make_net(), backbone.width, backbone.length)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        needed = self.patience is not None or self.backbone.patience is not None
        validation, learned = cut_validation(data, run, valid, needed)
        cut = None if validation is None else validation.split
        self.backbone_ = clone(self.backbone).fit(learned, run, cut)
        self.items_ = self.backbone_.items_
        self._start_net(run)
        self._net.encoder.load_state_dict(self.backbone_._ready().state_dict())
        rows = learned.sequences.rows
        mapping = learned.catalogue.mapping_to(self.items_)
        if mapping is not None:
            rows = rows.with_values(mapping[rows.values])
        rows = rows.keep(rows.values >= 0)
        self.fit_report_ = {
            "backbone": self.backbone_.fit_report_,
            **self._tune(data, rows, validation, run),
        }

    def _tune(
        self, data: Dataset, rows: Ragged, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        """Tune all weights together on histories of item rows, and return the report."""
        if not (rows.lengths > 1).any() or not self.epochs:
            return self._leave_untrained("there is nothing to tune")
        item_rows = np.unique(rows.values)
        recipe = Recipe(self.epochs, self.lr, patience=self.patience)
        judge = None
        if validation is not None and self.patience is not None:
            judge = _DepthValidation(validation, self.rounds * self.per_round)

        def batches(rng: np.random.Generator) -> list[Windows]:
            return self._batches(rows, rng)

        def loss(windows: Windows, rng: np.random.Generator) -> Tensor:
            return self._loss(windows, item_rows, rng)

        return self._train_net(data, run, recipe, batches, loss, judge, "rounds")

    def _batches(self, rows: Ragged, rng: np.random.Generator) -> list[Windows]:
        """Return the batches of one epoch: windows that end before any event but a first one."""
        size = int(np.maximum(rows.lengths - 1, 0).sum())
        user, target, length = PRESETS["prefix"].draw(rows.lengths, size, rng)
        length = np.minimum(length, self.backbone_.length)
        starts = rows.offsets[:-1][user] + target - length
        windows = Windows(rows.values, starts, length, every_place=False)
        packed = pack_batches(length, self.batch, rng, batch_rows=self.batch)
        return [windows.take(numbers) for numbers in packed]

    def _loss(self, windows: Windows, item_rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return the discounted sum of the rounds' losses."""
        encoder: SequenceNet = self._net.encoder
        targets = as_tensor(windows.rows[windows.starts + windows.lengths], encoder)
        negatives = item_rows[uniform_negatives(len(item_rows), self.negatives, rng)]
        drawn = as_tensor(negatives, encoder)
        positive = encoder.comparable(encoder.table(targets))
        negative = encoder.comparable(encoder.table(drawn))
        blocked = self._history_mask(windows)
        # the target is what is to be found: no round may see it among the retrieved items
        blocked.scatter_(1, targets[:, None], True)
        loss = torch.zeros((), device=encoder.device)
        missed = torch.ones_like(targets, dtype=torch.bool)  # by all earlier rounds
        sizes = [self.per_round] * self.rounds
        for number, outcome in enumerate(self._rounds(windows, blocked, sizes)):
            users = outcome.users
            pair = (users[missed], positive[missed])
            part = SampledSoftmax()(*pair, negative, targets[missed], drawn, len(item_rows))
            loss = loss + self.discount**number * part
            target_logits = (users * positive).sum(dim=-1).detach()
            missed = missed & (target_logits <= outcome.logits[:, -1])
        return loss

    # rounds

    def _rounds(self, windows: Windows, blocked: Tensor, sizes: Sequence[int]) -> Iterator[_Round]:
        """Yield one round after the other, each with its number of items.

        Items of `blocked` (B, N) are not retrieved; those that are are added to it.
        """
        net: RoundsNet = self._net
        with torch.no_grad():
            catalogue = net.encoder.catalogue()
        vectors, lengths = self._inputs(windows)
        retrieved: Tensor | None = None
        memory: Tensor | None = None
        for size in sizes:
            users, memory = net.user(vectors, lengths, retrieved, memory)
            outcome = _retrieve(users, catalogue, blocked, size)
            rows = outcome.rows
            retrieved = rows if retrieved is None else torch.cat([retrieved, rows], dim=1)
            yield outcome

    def _inputs(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """Return the item vectors (B, T, D) of windows and their lengths (B,)."""
        encoder = self._net.encoder
        rows, _ = pad_rows(windows.rows, windows.starts, windows.lengths)
        return encoder.table(as_tensor(rows, encoder)), as_tensor(windows.lengths, encoder)

    def _history_mask(self, windows: Windows) -> Tensor:
        """Return (B, N) bool: the items of each window."""
        rows, is_event = pad_rows(windows.rows, windows.starts, windows.lengths)
        mask = np.zeros((len(rows), len(self.items_)), dtype=bool)
        mask[np.nonzero(is_event)[0], rows[is_event]] = True
        return torch.from_numpy(mask).to(self._net.encoder.device)

    # answering

    def restrict(self, queries: Queries) -> Queries:
        return self.backbone_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        parts = [Rankings.empty(self.items_, 0, k)]
        for start, stop in blocks(len(queries), len(self.items_)):
            block = queries[start:stop]
            allowed = block.allowed(None if lists is None else lists.slice(start, stop))
            rows, scores, rounds = self._retrieve(block, allowed, k)
            notes = short_notes(self.name, block, rows, k)
            columns = {"round": rounds}
            parts.append(Rankings(self.items_, rows, scores, columns=columns, notes=notes))
        return Rankings.stack(parts)

    def _retrieve(
        self, queries: Queries, allowed: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, scores and numbers of the round (B, k) among the `allowed` (B, N) items."""
        rows = np.full((len(queries), k), -1, dtype=np.int32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rounds = np.full((len(queries), k), np.nan, dtype=np.float32)
        self._ready()
        sizes = self._round_sizes(k)
        with torch.inference_mode():
            for numbers, windows in self.backbone_._query_batches(queries):
                blocked = torch.from_numpy(~allowed[numbers]).to(self._net.encoder.device)
                start = 0
                for number, outcome in enumerate(self._rounds(windows, blocked, sizes), 1):
                    best_rows = outcome.rows.cpu().numpy()
                    is_item = best_rows >= 0
                    part = np.ix_(numbers, np.arange(start, start + best_rows.shape[1]))
                    # shares are at most 1, so that a later round's scores are never higher
                    values = self.rounds - number + outcome.shares.cpu().numpy()
                    rows[part] = best_rows
                    scores[part] = np.where(is_item, values, -np.inf)
                    rounds[part] = np.where(is_item, number, np.nan)
                    start += best_rows.shape[1]
        return rows, scores, rounds

    def _round_sizes(self, k: int) -> list[int]:
        """Return how many items of k each round retrieves; the last one takes what is left."""
        sizes = [min(self.per_round, k - self.per_round * number) for number in range(self.rounds)]
        sizes[-1] = k - self.per_round * (self.rounds - 1)
        return [size for size in sizes if size > 0]


def _retrieve(users: Tensor, catalogue: Tensor, blocked: Tensor, size: int) -> _Round:
    """Return the best items (B, size) of user vectors (B, D), and add them to `blocked` (B, N).

    Logits of all items are held for a block of users at a time.
    """
    size = min(size, len(catalogue))
    parts = []
    for start, stop in blocks(len(users), len(catalogue)):
        part = slice(start, stop)
        with torch.no_grad():
            logits = (users[part] @ catalogue.T).float()
            log_totals = logits.logsumexp(dim=1, keepdim=True)
            best = logits.masked_fill_(blocked[part], float("-inf")).topk(size, dim=1)
        blocked[part].scatter_(1, best.indices, True)
        rows = best.indices.masked_fill(best.values == float("-inf"), -1)
        parts.append((rows, best.values, (best.values - log_totals).exp()))
    rows, values, shares = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return _Round(users, rows, values, shares)
