"""HCN: interest centres refined layer by layer, of recent and of earlier events, that exchange."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.errors import DataError
from tailor.nn.interests import nearest_interests
from tailor.retrieval.comirec import MultiInterest
from tailor.retrieval.sequences import Windows
from tailor.scale.processes import world_size
from tailor.training.sequences import Task, TrainingData
from tailor.training.validation import Validation

PAPER = Paper(
    "hcn",
    "Hierarchical Multi-Interest Co-Network For Coarse-Grained Ranking",
    "https://arxiv.org/abs/2210.10547",
    "On planted logs of users with four interests and vectors of 8 numbers (3 seeds) recall@50 and"
    " the share of a user's interests in the list are above one vector's and ComiRec's, and the"
    " interests' mean cosine is at least .2 lower; of the 500 candidates of co-visitation on Beauty"
    " it keeps more hits in 50 than their order does",
)
KEY_FACTOR = 4  # width of the keys by which events are shared out, in widths of a state
SAME = 1e-5  # distance of a cosine from 1 below which two interests are copies
START_NOISE = 0.1  # standard deviation of what is added to the first centres in training


class RefinedCentres(nn.Module):
    """K centres that share the events out among them, and move towards their shares.

    In each layer the key of an event goes to the centres by a softmax over them; a recurrent cell
    moves each centre towards the mean of its shares. The next layer starts from these centres. The
    interests are the means of the last shares, so that they lie among the items.
    """

    def __init__(self, width: int, interests: int, layers: int) -> None:
        super().__init__()
        hidden = KEY_FACTOR * width
        self.key_proj = nn.Linear(width, hidden)
        self.start = nn.Parameter(torch.randn(interests, hidden))
        cells = [nn.GRUCell(hidden, hidden) for _ in range(layers)]
        self.cells = nn.ModuleList(cells)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return interests (B, P, K, D) and the numbers of events nearest to them.

        The numbers are (B, P, K), `states` (B, T, D). `mask` (B, P, T) says which events each
        reading is of; it may be of none.
        """
        keys = torch.tanh(self.key_proj(states))  # B, T, H
        shape = (len(states), mask.shape[1], *self.start.shape)
        centres = self.start.expand(shape)  # B, P, K, H
        if self.training:
            noise = torch.randn_like(centres)
            centres = centres + START_NOISE * noise
        shares = self._shares(keys, centres, mask)
        for cell in self.cells:
            means = _weighted_means(keys, shares)
            moved = cell(means.flatten(0, 2), centres.flatten(0, 2))
            centres = moved.view(shape)
            shares = self._shares(keys, centres, mask)
        interests = _weighted_means(states, shares)
        return interests, _nearest_counts(shares, mask)

    @staticmethod
    def _shares(keys: Tensor, centres: Tensor, mask: Tensor) -> Tensor:
        """Return (B, P, K, T) how much of each event goes to each centre.

        The shares of an event that is read sum to 1 over K.
        """
        scale = keys.shape[-1] ** 0.5
        columns = keys[:, None].transpose(2, 3)
        products = centres @ columns / scale
        shares = products.softmax(dim=2)
        return shares * mask[:, :, None]


def _nearest_counts(shares: Tensor, mask: Tensor) -> Tensor:
    """Return (B, P, K) how many events give each centre their largest share."""
    nearest = shares.argmax(dim=2, keepdim=True)  # B, P, 1, T
    numbers = torch.arange(shares.shape[2], device=shares.device)
    is_nearest = nearest == numbers[:, None]
    is_counted = is_nearest & mask[:, :, None]
    return is_counted.sum(dim=-1)


def _weighted_means(states: Tensor, shares: Tensor) -> Tensor:
    """Return means (B, P, K, D) of states (B, T, D), weighted by shares.

    Shares are (B, P, K, T); the mean is 0 where there are none.
    """
    totals = shares.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    return (shares @ states[:, None]) / totals


class CoInterests(nn.Module):
    """Interests of recent and of earlier events, each adjusted by the other.

    An interest without a recent event is that of earlier events; without those either, it is a copy
    of the interest with most recent events.
    """

    def __init__(self, width: int, interests: int, layers: int, recent: int) -> None:
        """Make the module; the last `recent` events of a reading are the recent ones."""
        super().__init__()
        self.recent = recent
        self.norm = nn.LayerNorm(width)
        self.centres = RefinedCentres(width, interests, layers)
        self.early_gate = nn.Linear(2 * width, width)
        self.recent_gate = nn.Linear(2 * width, width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return interests (B, P, K, D) of states (B, T, D) in each reading.

        `mask` (B, P, T) says which events the readings are of.
        """
        states = self.norm(states)
        mask = mask.expand(len(states), -1, -1)
        is_recent = self._is_recent(mask)
        late, late_counts = self.centres(states, mask & is_recent)
        early, early_counts = self.centres(states, mask & ~is_recent)
        early_context = _attended(early, late, late_counts)
        early = _gated(self.early_gate, early, early_context)
        late_context = _attended(late, early, early_counts)
        joined = _gated(self.recent_gate, late, late_context)
        has_early = early_counts.any(dim=-1)[..., None, None]  # B, P, 1, 1
        joined = torch.where(has_early, joined, late)
        copies = _fullest(joined, late_counts)
        is_early = early_counts[..., None] > 0
        is_late = late_counts[..., None] > 0
        spare = torch.where(is_early, early, copies)
        return torch.where(is_late, joined, spare)

    def _is_recent(self, mask: Tensor) -> Tensor:
        """Return (B, P, T) bool: positions of the last events of each reading, and after."""
        events = mask.sum(dim=-1, keepdim=True)
        positions = torch.arange(mask.shape[-1], device=mask.device)
        return positions >= events - self.recent


def _fullest(interests: Tensor, counts: Tensor) -> Tensor:
    """Return (B, P, 1, D) the interest with most events in each reading."""
    numbers = counts.argmax(dim=-1)[..., None, None]  # B, P, 1, 1
    index = numbers.expand_as(interests[:, :, :1])
    return interests.gather(2, index)


def _attended(queries: Tensor, keys: Tensor, counts: Tensor) -> Tensor:
    """Return for each query (B, P, K, D) the mean of keys, weighted by likeness.

    Keys of no event are left out; without any key that has events, all count.
    """
    scale = keys.shape[-1] ** 0.5
    scores = queries @ keys.transpose(2, 3) / scale  # B, P, K, K
    lowest = torch.finfo(scores.dtype).min
    is_empty = counts[:, :, None] == 0
    scores = scores.masked_fill(is_empty, lowest)
    return scores.softmax(dim=-1) @ keys


def _gated(gate: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """Return a mixture of two tensors (..., D), by a sigmoid of both."""
    share = torch.sigmoid(gate(torch.cat([first, second], dim=-1)))
    return share * first + (1 - share) * second


def mean_redundancy(interests: Tensor) -> Tensor:
    """Return the mean of ||C C' - I||^2 over users' interests C (M, K, D).

    They are scaled to unit length. Copies of an earlier interest are left out: nothing is to be
    parted there.
    """
    units = normalize(interests.float(), dim=-1)
    cosines = units @ units.transpose(1, 2)  # M, K, K
    earlier_cosines = cosines.detach().tril(diagonal=-1)
    is_copy = (earlier_cosines > 1 - SAME).any(dim=2)  # M, K
    has_copy = is_copy[:, :, None] | is_copy[:, None, :]
    identity = torch.eye(cosines.shape[1], device=cosines.device)
    squares = (cosines - identity).square()
    counted_squares = squares * ~has_copy
    return counted_squares.sum(dim=(1, 2)).mean()


@dataclass(eq=False)
class HCN(MultiInterest):
    """Interests are centres that share a history out among them, so that they stay distinct.

    Centres are refined in layers, for recent and for earlier events; the two kinds attend to each
    other, and gates mix them. An item is scored by the nearest. As the second stage of a `Cascade`
    it orders candidates by products of vectors alone.

    Differs from the paper, of which we had a summary: events are shared out by keys, interests are
    the means of the last shares in place of the centres, and redundancy is that of the final
    interests; one set of first centres for recent and earlier events, no positions within either,
    cosines over a temperature, and every event of a history predicts the next.
    """

    layers: Annotated[int, Choices(1, 2, 3)] = 3
    """Times that the centres are refined."""
    recent: int = 10
    """Latest events, whose interests are kept apart from those of earlier events."""
    redundancy: Annotated[float, Range(0.003, 0.3, log=True)] = 0.03
    """Weight of the squared cosines between a user's interests in the loss."""
    warmup: int = 100
    """Steps in which all interests learn from a target, before only the nearest does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1 or min(self.redundancy, self.warmup) < 0:
            raise DataError(
                f"layers is {self.layers}: at least 1; redundancy {self.redundancy}, warmup"
                f" {self.warmup}: at least 0"
            )
        if not 1 <= self.recent < self.length:
            raise DataError(
                f"recent is {self.recent}: it must be at least 1 and below length, {self.length}"
            )

    def _extractor(self) -> nn.Module:
        extractor = CoInterests(self.width, self.interests, self.layers, self.recent)
        extractor.register_buffer("steps", torch.zeros((), dtype=torch.long))
        return extractor

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        try:
            return super()._train(training, validation, run)
        finally:
            self.__dict__.pop("_redundancy", None)

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        loss = super()._loss(batch, training, rng)
        self._net.extractor.steps += world_size()
        return loss + self.redundancy * self._redundancy

    def _target_interests(self, task: Task, vectors: Tensor) -> Tensor:
        interests = super()._target_interests(task, vectors)
        self._redundancy = mean_redundancy(interests)
        return interests

    def _choose(self, interests: Tensor, positive: Tensor) -> Tensor:
        if int(self._net.extractor.steps) >= self.warmup:
            return nearest_interests(interests, positive)
        products = interests * positive[:, None]
        weights = products.sum(dim=-1).softmax(dim=-1)  # M, K
        weighted = weights[..., None] * interests
        return weighted.sum(dim=1)

    @classmethod
    def tiny(cls) -> "HCN":
        return cls(
            width=8, length=10, epochs=3, negatives=20, interests=2, layers=2, recent=3, warmup=2
        )
