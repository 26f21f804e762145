"""Gates on the numbers of fields' vectors, by example, and nets with the dimensions they leave.

Shapes: B examples, F fields, D width of a field's vector, K clusters of examples.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.fields import FieldBatch, FieldLayout, FieldVectors
from tailor.nn.gates import gumbel_sigmoid

OPEN = 2.0  # log-odds of every gate before training: nearly all are open


class Controller(nn.Module):
    """A small net from vectors of an example to the probability that each number counts."""

    def __init__(self, fields: int, width: int, hidden: int) -> None:
        super().__init__()
        self.shape = (fields, width)
        size = fields * width
        last = nn.Linear(hidden, size)
        nn.init.constant_(last.bias, OPEN)
        self.layers = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, hidden), nn.ReLU(), last)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, F, D) -> (B, F, D) probabilities."""
        log_odds: Tensor = self.layers(vectors.flatten(1))
        return log_odds.sigmoid().unflatten(1, self.shape)


class GatedVectors(nn.Module):
    """Vectors of fields times gates that a controller opens and shuts for each example."""

    steps: Tensor
    """(): steps of training so far."""

    def __init__(self, vectors: FieldVectors, controller: Controller, temperature: float) -> None:
        super().__init__()
        self.vectors = vectors
        self.controller = controller
        self.temperature = temperature
        self.register_buffer("steps", torch.zeros(()))
        self.probabilities: Tensor | None = None
        """(B, F, D) of the latest batch, for the penalties."""

    def forward(self, codes: Tensor, weights: Tensor) -> Tensor:
        """(B, S), (B, S) -> (B, F, D)."""
        vectors = self.vectors(codes, weights)
        self.probabilities = self.controller(vectors)
        noise = torch.rand_like(vectors) if self.training else None
        gated: Tensor = vectors * gumbel_sigmoid(self.probabilities, self.temperature, noise)
        return gated


class MaskedVectors(nn.Module):
    """Vectors of fields of which each field has only some numbers; the others are 0."""

    mask: Tensor

    def __init__(self, vectors: FieldVectors, mask: np.ndarray) -> None:
        """Make the vectors; `mask` (F, D) says which numbers a field has."""
        super().__init__()
        self.vectors = vectors
        numbers = torch.tensor(mask, dtype=torch.float32, device="cpu")
        self.register_buffer("mask", numbers, persistent=False)

    def forward(self, codes: Tensor, weights: Tensor) -> Tensor:
        """(B, S), (B, S) -> (B, F, D)."""
        vectors: Tensor = self.vectors(codes, weights) * self.mask
        return vectors


class RoutedNet(nn.Module):
    """A net for each cluster of examples; frozen gates say to which cluster an example belongs."""

    centres: Tensor

    def __init__(
        self,
        router: GatedVectors,
        centres: np.ndarray,
        masks: np.ndarray,
        make_net: Callable[[], nn.Module],
    ) -> None:
        """Make the nets; `centres` (K, F * D) are those of gates, `masks` (K, F, D) of numbers."""
        super().__init__()
        self.intercept = nn.Parameter(torch.zeros(()))
        self.router = router.requires_grad_(False)
        table = torch.tensor(centres, dtype=torch.float32, device="cpu")
        self.register_buffer("centres", table, persistent=False)
        self.nets = nn.ModuleList(_with_mask(make_net(), mask) for mask in masks)

    def clusters(self, batch: FieldBatch) -> Tensor:
        """Return (B,) the cluster of each example."""
        gates = open_gates(self.router, batch).flatten(1)
        distances = self.centres.square().sum(dim=1) - 2 * gates @ self.centres.T  # B, K
        return distances.argmin(dim=1)

    def forward(self, batch: FieldBatch) -> tuple[Tensor, Tensor]:
        """Return (B,) logits, and the penalty ()."""
        clusters = self.clusters(batch)
        logits = self.intercept.expand(len(clusters)).clone()
        penalty = self.intercept.new_zeros(())
        for number, net in enumerate(self.nets):
            rows = torch.nonzero(clusters == number)[:, 0]
            if not len(rows):
                continue
            part = batch._replace(codes=batch.codes[rows], weights=batch.weights[rows])
            part_logits, part_penalty = net(part)
            logits = logits.index_add(0, rows, part_logits.to(logits.dtype))
            penalty = penalty + part_penalty * (len(rows) / len(clusters))
        return logits, penalty


def open_gates(gated: GatedVectors, batch: FieldBatch) -> Tensor:
    """Return (B, F, D) 1 for each number that counts for an example, else 0."""
    with torch.no_grad():
        vectors = gated.vectors(batch.codes, batch.weights)
        return cut_at_gap(gated.controller(vectors))


def cut_at_gap(probabilities: Tensor) -> Tensor:
    """Return (B, F, D) 1 above the largest gap among a field's probabilities, else 0.

    The gap to 0 below the least counts too, so a field may keep all; it keeps one at least.
    """
    ordered = probabilities.sort(dim=-1, descending=True).values
    below = torch.cat([ordered[..., 1:], torch.zeros_like(ordered[..., :1])], dim=-1)
    last = (ordered - below).argmax(dim=-1, keepdim=True)
    return (probabilities >= ordered.gather(-1, last)).float()


def gate(net: nn.Module, layout: FieldLayout, width: int, hidden: int, heat: float) -> nn.Module:
    """Return the net with its vectors gated by a controller of its own."""
    controller = Controller(layout.fields, width, hidden)
    net.vectors = GatedVectors(net.vectors, controller, heat)  # type: ignore[arg-type]
    return net


def _with_mask(net: nn.Module, mask: np.ndarray) -> nn.Module:
    net.vectors = MaskedVectors(net.vectors, mask)  # type: ignore[arg-type]
    return net


def numbers_of(masks: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return (K,) the numbers in the vectors of each cluster, for fields of so many codes."""
    return np.asarray(masks.sum(axis=2) @ np.asarray(sizes))
