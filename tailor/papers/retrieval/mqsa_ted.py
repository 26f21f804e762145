"""MQSATED: short and long attention queries, and items taught which item follows them."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.graphs import transitions
from tailor.errors import DataError
from tailor.nn.attention import MultiQueryWindow
from tailor.nn.blocks import TransformerBlock
from tailor.nn.packing import pad_rows
from tailor.nn.sequence import SequenceNet
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor, check_blocks
from tailor.training.sequences import TrainingData
from tailor.training.validation import Validation

PAPER = Paper(
    "mqsa-ted",
    "Collaboration and Transition: Distilling Item Transitions into Multi-Query Self-Attention"
    " for Sequential Recommendation",
    "https://arxiv.org/abs/2311.01056",
    "At equal steps the same net learns better next items with the distillation than without, and"
    " both stacks together are not below either of them",
)
HIDDEN = -1e9  # stands for the cosine of an item that is not to be chosen
LOGITS = 2**22  # logits of the distillation per step: items are drawn where a batch has more


class TwoStackNet(SequenceNet):
    """A net of two stacks of layers, whose states are blended.

    The first half of `layers` are the short stack, the others the long one. Both read the same
    inputs; `alpha` is the share of the short one.
    """

    def __init__(self, alpha: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.alpha = alpha
        self.long_norm = nn.LayerNorm(self.norm.normalized_shape)

    def states(self, vectors: Tensor, **inputs: Tensor) -> Tensor:
        """Return the blended states (B, T, D): a product with items blends the stacks' logits."""
        x = self._placed(vectors, **inputs)
        half = len(self.layers) // 2
        short = self._stack_states(x, slice(0, half), self.norm)
        long = self._stack_states(x, slice(half, None), self.long_norm)
        return self.alpha * short + (1 - self.alpha) * long

    def _stack_states(self, x: Tensor, part: slice, norm: nn.Module) -> Tensor:
        """Return the states (B, T, D) of some of the layers."""
        for layer in self.layers[part]:
            x = layer(x)
        return self.scaled(norm(x))


@dataclass(eq=False)
class MQSATED(SequenceRecommender):
    """Attend with the last event and with the mean of the last few, and teach items what follows.

    Two stacks of causal blocks read the history. In the short one an event's own vector asks for
    earlier events, in the long one the mean of the latest `window` vectors; their logits are
    blended. Beside the usual loss, the vector of each item of a batch learns to be near those that
    followed it: a softmax over its cosines with the others is taught by one over their counts.

    Differs from the paper: norms come before attention and feed-forward net; item vectors are not
    scaled by the root of their width; the softmax of the main loss is over many shared negatives,
    and vectors are compared by cosine over a temperature; an item does not choose itself; on large
    catalogues only some of a batch's items are taught in a step.
    """

    blocks: int = 1
    """Number of transformer blocks of each stack."""
    heads: int = 1
    """Attention heads; they must divide the width."""
    window: int = 3
    """Latest events whose mean is the query of the long stack."""
    alpha: Annotated[float, Range(0.0, 1.0)] = 0.5
    """Share of the short stack in the logits, from 0 to 1."""
    ted: Annotated[float, Range(0.0, 1.0)] = 0.3
    """Weight of the distillation of item transitions; 0: none."""
    ted_temperature: Annotated[float, Range(0.05, 0.5, log=True)] = 0.1
    """Divisor of the counts (as shares of an item's largest) and cosines of the distillation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        if self.window < 1 or not 0 <= self.alpha <= 1:
            raise DataError(
                f"window is {self.window}, alpha {self.alpha}: the window must be at least 1, alpha"
                " from 0 to 1"
            )
        if self.ted < 0 or not self.ted_temperature > 0:
            raise DataError(
                f"ted is {self.ted}, ted_temperature {self.ted_temperature}: the weight must be at"
                " least 0, the temperature above 0"
            )

    @classmethod
    def tiny(cls) -> "MQSATED":
        return cls(width=8, length=10, epochs=3, negatives=20)

    def _layers(self) -> list[nn.Module]:
        """Return the blocks of the short stack, then those of the long one."""
        short = [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)]
        long = [
            TransformerBlock(
                self.width,
                dropout=self.dropout,
                attention=MultiQueryWindow(self.width, (self.window,), self.heads),
            )
            for _ in range(self.blocks)
        ]
        return [*short, *long]

    def _make_net(self) -> TwoStackNet:
        return TwoStackNet(self.alpha, **self._net_settings())

    def _is_sparse(self, items: int) -> bool:
        return not self.ted and super()._is_sparse(items)  # the distillation touches all rows

    # learning

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        self._transitions = transition_shares(training, len(self.items_), run.workers)
        try:
            return super()._train(training, validation, run)
        finally:
            del self._transitions

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the loss of the next events, plus the weighted one of the distillation."""
        loss = super()._loss(batch, training, rng)
        if not self.ted:
            return loss
        return loss + self.ted * self._distillation_loss(batch, rng)

    def _distillation_loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Return the mean cross-entropy of what followed a batch's items and what they choose.

        An item is neither its own teacher nor among what it chooses from: its cosine with itself
        is 1 whatever is learned.
        """
        net = self._net
        heads = self._heads(batch, rng)
        if not len(heads):
            return torch.zeros((), device=net.device)
        head_rows = as_tensor(heads, net)
        shares = torch.from_numpy(self._transitions[heads].toarray()).to(net.device)  # H, N
        catalogue = net.catalogue()
        cosines = (catalogue[head_rows] @ catalogue.T).float()  # H, N
        itself = head_rows[:, None]
        teacher = shares.scatter(1, itself, HIDDEN) / self.ted_temperature
        student = cosines.scatter(1, itself, HIDDEN) / self.ted_temperature
        return cross_entropy(student, teacher.softmax(dim=1))

    def _heads(self, batch: Windows, rng: np.random.Generator) -> np.ndarray:
        """Return the (H,) items of a batch that are taught: those that something followed."""
        rows, mask = pad_rows(batch.rows, batch.starts, batch.lengths)
        heads = np.unique(rows[mask])
        heads = heads[np.diff(self._transitions.indptr)[heads] > 0]
        most = max(1, LOGITS // len(self.items_))
        if len(heads) <= most:
            return heads
        return np.sort(rng.choice(heads, most, replace=False, shuffle=False))


def transition_shares(training: TrainingData, items: int, threads: int) -> sp.csr_matrix:
    """Return (N, N) sparse float32: how often j came right after i, over the largest of i.

    Counts are those of the data that is learned from; an item does not follow itself.
    """
    counts = transitions(training.rows, items, {1: 1.0}, threads=threads)
    counts = (counts - sp.diags(counts.diagonal())).tocsr()
    counts.eliminate_zeros()
    largest = np.maximum(counts.max(axis=1).toarray().ravel(), 1)
    return sp.csr_matrix(sp.diags(1 / largest) @ counts, dtype=np.float32)
