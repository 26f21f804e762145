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
        self.cells = nn.ModuleList([nn.GRUCell(hidden, hidden) for _ in range(layers)])

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return interests (B, P, K, D) of states (B, T, D), and events (B, P, K) nearest to each.

        `mask` (B, P, T) says which events each reading is of; it may be of none.
        """
        keys = torch.tanh(self.key_proj(states))  # B, T, H
        readings = (states.shape[0], mask.shape[1], *self.start.shape)
        centres = self.start.expand(readings)  # B, P, K, H
        if self.training:
            centres = centres + START_NOISE * torch.randn_like(centres)
        shares = self._shares(keys, centres, mask)
        for cell in self.cells:
            means = _weighted_means(keys, shares).flatten(0, 2)
            centres = cell(means, centres.flatten(0, 2)).view(readings)
            shares = self._shares(keys, centres, mask)
        nearest = shares.argmax(dim=2, keepdim=True)  # B, P, 1, T
        number = torch.arange(len(self.start), device=states.device)[:, None]
        counts = ((nearest == number) & mask[:, :, None]).sum(dim=-1)
        return _weighted_means(states, shares), counts

    @staticmethod
    def _shares(keys: Tensor, centres: Tensor, mask: Tensor) -> Tensor:
        """Return (B, P, K, T) how much of each event goes to each centre; sums to 1 over K."""
        products = centres @ keys[:, None].transpose(2, 3) / keys.shape[-1] ** 0.5
        return products.softmax(dim=2) * mask[:, :, None]


def _weighted_means(states: Tensor, shares: Tensor) -> Tensor:
    """Return means (B, P, K, D) of states (B, T, D) by shares (B, P, K, T); 0 without any."""
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
        """Return interests (B, P, K, D) of states (B, T, D) in the readings of a mask (B, P, T)."""
        states = self.norm(states)
        mask = mask.expand(len(states), -1, -1)
        events = mask.sum(dim=-1, keepdim=True)
        is_recent = torch.arange(states.shape[1], device=states.device) >= events - self.recent
        late, late_counts = self.centres(states, mask & is_recent)
        early, early_counts = self.centres(states, mask & ~is_recent)
        early = _gated(self.early_gate, early, _attended(early, late, late_counts))
        joined = _gated(self.recent_gate, late, _attended(late, early, early_counts))
        has_early = early_counts.sum(dim=-1)[..., None, None] > 0  # B, P, 1, 1
        joined = torch.where(has_early, joined, late)
        fullest = late_counts.argmax(dim=-1)[..., None, None].expand_as(joined[:, :, :1])
        spare = torch.where(early_counts[..., None] > 0, early, joined.gather(2, fullest))
        return torch.where(late_counts[..., None] > 0, joined, spare)


def _attended(queries: Tensor, keys: Tensor, counts: Tensor) -> Tensor:
    """Return for each query (B, P, K, D) the mean of keys, by likeness; those of no event left out.

    Without any key that has events, all count.
    """
    scores = queries @ keys.transpose(2, 3) / keys.shape[-1] ** 0.5  # B, P, K, K
    scores = scores.masked_fill(counts[:, :, None] == 0, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1) @ keys


def _gated(gate: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """Return a mixture of two tensors (..., D), by a sigmoid of both."""
    share = torch.sigmoid(gate(torch.cat([first, second], dim=-1)))
    return share * first + (1 - share) * second


def mean_redundancy(interests: Tensor) -> Tensor:
    """Return the mean of ||C C' - I||^2 over users' interests C (M, K, D) of unit length.

    Copies of an earlier interest are left out: nothing is to be parted there.
    """
    units = normalize(interests.float(), dim=-1)
    cosines = units @ units.transpose(1, 2)  # M, K, K
    is_copy = (cosines.detach().tril(diagonal=-1) > 1 - SAME).any(dim=2)  # M, K
    is_counted = ~(is_copy[:, :, None] | is_copy[:, None, :])
    same = torch.eye(cosines.shape[1], device=cosines.device)
    return ((cosines - same).square() * is_counted).sum(dim=(1, 2)).mean()


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
        weights = (interests * positive[:, None]).sum(dim=-1).softmax(dim=-1)  # M, K
        return (weights[..., None] * interests).sum(dim=1)

    @classmethod
    def tiny(cls) -> "HCN":
        return cls(
            width=8, length=10, epochs=3, negatives=20, interests=2, layers=2, recent=3, warmup=2
        )
