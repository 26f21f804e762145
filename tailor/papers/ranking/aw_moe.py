"""AW-MoE: the history says which experts answer, each a tower of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.data.nouns import Query
from tailor.errors import DataError
from tailor.nn.fields import FieldBatch, FieldLayout, penalty_of
from tailor.nn.gates import imbalance
from tailor.nn.interest import TargetAttention, pooled
from tailor.nn.losses import InfoNCE
from tailor.nn.towers import Tower
from tailor.ranking.behaviours import BehaviourNet, BehaviourPredictor
from tailor.ranking.encoding import Encoded
from tailor.ranking.fields import HeldOut

PAPER = Paper(
    "aw-moe",
    "Attention Weighted Mixture of Experts with Contrastive Learning for Personalized Ranking in"
    " E-commerce",
    "https://arxiv.org/abs/2306.05011",
    "On planted logs of groups of people with rules of their own (3 seeds, 40 % of the people with"
    " at most 5 events) AUC is above that of DIN with as many numbers; people with at most 5 events"
    " gain at least as much as others; the gates tell the groups apart; without the contrast AUC on"
    " short histories is lower",
)
GATE_WIDTH = 16  # of the hidden layer that gives an event's votes


class Reading(NamedTuple):
    """The part of a batch that experts and gates read."""

    inputs: Tensor
    """(B, X) for the experts."""
    weights: Tensor
    """(B, T) of the behaviours for the candidate."""
    votes: Tensor
    """(H, T, E) of the behaviours for the experts."""


class GatedExpertsNet(BehaviourNet):
    """Experts over the inputs of a tower, weighted by the votes of the behaviours.

    Shapes: E experts, X width of their inputs, S width of their last layer.
    """

    def __init__(self, layout: FieldLayout, method: "AWMoE") -> None:
        item_width = layout.item_fields * method.width
        attention = TargetAttention(item_width, "unit")
        super().__init__(layout, method.width, (), attention)
        inputs = layout.fields * method.width + 2 * item_width
        self.experts = nn.ModuleList(
            [Tower([inputs, *method.layers], "dice", method.dropout) for _ in range(method.experts)]
        )
        self.head = nn.Linear(method.experts * method.layers[-1], 1, bias=False)
        self.vote = nn.Sequential(
            nn.LayerNorm(item_width),  # else small vectors vote for no expert
            nn.Linear(item_width, GATE_WIDTH),
            nn.ReLU(),
            nn.Linear(GATE_WIDTH, method.experts),
        )
        self.prior = nn.Parameter(torch.zeros(method.experts))

    def read(self, batch: FieldBatch, fields: Tensor) -> Reading:
        """Return inputs of the experts, and weights and votes of the behaviours."""
        candidates = self.candidates(fields)
        distinct, positions = self.item_slots.distinct(batch.behaviours, self.vectors)
        behaviours = distinct[positions]
        weights = self.attention(candidates, behaviours, batch)
        interest = pooled(weights, behaviours, batch)
        inputs = torch.cat([fields.flatten(1), interest, interest * candidates], dim=1)
        return Reading(inputs, weights, self.vote(distinct)[positions])

    def gates(self, weights: Tensor, votes: Tensor, batch: FieldBatch) -> Tensor:
        """Return (B, E) shares of the experts; the prior's without a behaviour."""
        return (pooled(weights, votes, batch) + self.prior).softmax(dim=1)

    def gated(self, inputs: Tensor, gates: Tensor) -> Tensor:
        """Return (B, E * S): the last layer of each expert times its share.

        The head over all of them gives the weighted sum of the experts' logits.
        """
        layers = torch.stack([expert(inputs) for expert in self.experts], dim=1)  # B, E, S
        return (layers * gates[..., None]).flatten(1)

    def hidden(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return the last layers of the experts times their shares, (B, E * S)."""
        reading = self.read(batch, fields)
        return self.gated(reading.inputs, self.gates(reading.weights, reading.votes, batch))

    def gates_of(self, batch: FieldBatch) -> Tensor:
        """Return (B, E) shares of the experts for examples."""
        reading = self.read(batch, self.vectors(batch.codes, batch.weights))
        return self.gates(reading.weights, reading.votes, batch)


@dataclass(eq=False)
class AWMoE(BehaviourPredictor):
    """Several experts answer, and a user's history says how much each of them counts.

    Every event votes for experts, by its item and by its weight for the item asked about; the
    shares of the experts are the softmax of the sum. In training, shares with some events left out
    must be closer to the shares with all than to other examples', so that short histories choose
    alike; and experts that get more than their part cost something.

    Differs from the paper: there is no search query; one attention weighs events for interest and
    gate.
    """

    l2: Annotated[float, Range(1e-7, 1e-2, log=True)] = 1e-3
    """Weight of the penalty: the squares of the numbers that an example uses."""
    layers: tuple[int, ...] = (32, 16)
    """Widths of the layers of an expert."""
    experts: Annotated[int, Choices(2, 4, 8)] = 4
    """Number of experts."""
    contrast: Annotated[float, Range(0.0, 0.1)] = 0.005
    """Weight of the loss between the shares with all events and with some left out."""
    left_out: Annotated[float, Range(0.1, 0.5)] = 0.2
    """Share of the events that are left out for it."""
    temperature: float = 0.2
    """Temperature of that loss."""
    balance: float = 0.01
    """Weight of the loss where mean shares differ: 0 for equal ones, 1 for a single expert."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts < 2 or not 0 < self.left_out < 1 or not self.temperature > 0:
            raise DataError(
                f"experts is {self.experts}, left_out {self.left_out}, temperature"
                f" {self.temperature}: at least 2, between 0 and 1, and above 0"
            )
        if self.contrast < 0 or self.balance < 0:
            raise DataError(f"contrast is {self.contrast}, balance {self.balance}: at least 0")

    def gates(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Return (K, E) shares of the experts for the K items of each query."""
        batch, items = self._pairs(queries, item_ids)
        shares = self._gates(self._encode(batch, items))
        return np.split(shares, items.offsets[1:-1]) if len(batch) else []

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return GatedExpertsNet(layout, self)

    def _train(self, data: Dataset, run: Run, examples: Examples, judge: HeldOut) -> dict[str, Any]:
        report = super()._train(data, run, examples, judge)
        gates = self._gates(judge.encoded)
        entropy = -(gates * np.log(np.maximum(gates, 1e-12))).sum(axis=1).mean()
        return report | {
            "mean shares of the experts": gates.mean(axis=0).round(4).tolist(),
            "entropy of the shares, of the largest": round(
                float(entropy / np.log(self.experts)), 4
            ),
        }

    def _loss(
        self, batch: FieldBatch, labels: Tensor, rows: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        net: GatedExpertsNet = self._net
        fields = net.vectors(batch.codes, batch.weights)
        reading = net.read(batch, fields)
        gates = net.gates(reading.weights, reading.votes, batch)
        logits = net.head(net.gated(reading.inputs, gates))[:, 0] + net.intercept
        loss = binary_cross_entropy_with_logits(logits.float(), labels)
        loss = loss + self.l2 * penalty_of(fields) + self.balance * imbalance(gates)
        if not self.contrast:
            return loss
        is_kept = torch.from_numpy(rng.random(reading.weights.shape) >= self.left_out)
        some_weights = reading.weights * is_kept.to(labels.device)
        some_gates = net.gates(some_weights, reading.votes, batch)
        alike = same_histories(batch)
        return loss + self.contrast * InfoNCE(self.temperature)(gates, some_gates, alike)

    def _gates(self, encoded: Encoded) -> np.ndarray:
        """Return (n, E) shares of the experts for examples."""
        parts = self._in_blocks(encoded, self._ready().gates_of)
        return np.concatenate([np.zeros((0, self.experts)), *parts])

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, layers=(8,), experts=3, history=8, contrast=0.05, epochs=3, lr=1e-2)


def same_histories(batch: FieldBatch) -> Tensor:
    """Return (B, B) bool: whether two examples have the same behaviours, none among them.

    Their gates are nearly equal, so they are no examples of different choices.
    """
    rows = batch.behaviours.masked_fill(~batch.is_real, -1)
    rows = nn.functional.pad(rows, (0, 1))  # a column, where nobody has a behaviour
    _, history = rows.unique(dim=0, return_inverse=True)
    of_examples = history[batch.owners]
    return of_examples[:, None] == of_examples
