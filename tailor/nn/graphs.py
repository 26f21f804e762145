"""Graphs in nets: constant sparse weights that mix vectors, with gradients.

Shapes: R rows, C columns, D width, E edges, N items, U users.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag


class Edges(nn.Module):
    """Constant weights (R, C) that mix vectors: a call with (C, D) returns (R, D).

    Gradients flow to the vectors through the transpose, which is kept beside. Sums over embedding
    bags take 40 % of the time of PyTorch's sparse products, and their gradients a fifth. The
    weights move with the net that they are part of, and are not saved with it.
    """

    def __init__(self, matrix: sp.spmatrix) -> None:
        super().__init__()
        directions = {"forth": sp.csr_matrix(matrix), "back": sp.csr_matrix(matrix.T)}
        for name, entries in directions.items():
            arrays = {
                "columns": entries.indices.astype(np.int64),
                "starts": entries.indptr[:-1].astype(np.int64),
                "weights": entries.data.astype(np.float32),
            }
            for kind, values in arrays.items():
                self.register_buffer(f"{name}_{kind}", torch.from_numpy(values), persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (R, D) the weighted sums of vectors (C, D)."""
        product: Tensor = _Product.apply(vectors, self._bags("forth"), self._bags("back"))
        return product

    def back(self, vectors: Tensor) -> Tensor:
        """Return (C, D) the weighted sums of vectors (R, D): the product with the transpose."""
        product: Tensor = _Product.apply(vectors, self._bags("back"), self._bags("forth"))
        return product

    def degrees(self) -> tuple[Tensor, Tensor]:
        """Return the numbers of entries of rows (R,) and of columns (C,)."""
        counts = []
        for name in ("forth", "back"):
            columns, starts, _ = self._bags(name)
            stop = starts.new_tensor([len(columns)])
            counts.append(starts.diff(append=stop))
        return counts[0], counts[1]

    def _bags(self, name: str) -> tuple[Tensor, ...]:
        """Return columns (E,), starts (R,) and weights (E,) of the entries, row by row."""
        return tuple(self.get_buffer(f"{name}_{kind}") for kind in ("columns", "starts", "weights"))


class _Product(torch.autograd.Function):
    """A sparse product whose gradient is the product with the transpose."""

    @staticmethod
    def forward(ctx, vectors, forth, back):  # type: ignore[no-untyped-def]
        ctx.back = back
        ctx.dtype = vectors.dtype
        return _sums(vectors, *forth)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return _sums(gradient, *ctx.back).to(ctx.dtype), None, None


def _sums(vectors: Tensor, columns: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the vectors of each row."""
    vectors = vectors.float().contiguous()
    return embedding_bag(columns, vectors, starts, mode="sum", per_sample_weights=weights)


def propagate(
    steps: Sequence[Callable[[Tensor], Tensor]], vectors: Tensor, layers: int
) -> list[Tensor]:
    """Return the vectors of layers 0 to `layers`, layer 0 being `vectors`.

    Each layer is the one before, taken through all `steps` in turn: `[edges, edges.back]` leads
    from items to users and back to items.
    """
    states = [vectors]
    for _ in range(layers):
        state = states[-1]
        for step in steps:
            state = step(state)
        states.append(state)
    return states


class GraphItems(nn.Module):
    """Item vectors averaged over a graph of users and items (He et al. 2020, LightGCN).

    An item's vector is the mean over all layers; a layer leads from items to their users and back.
    There are no weights or activations between. In evaluation mode all are computed once.
    """

    def __init__(self, edges: Edges, items: int, width: int, layers: int) -> None:
        """Make the net; `edges` are (U, N). Items without edges begin, and stay, at zero."""
        super().__init__()
        self.edges = edges
        self.table = nn.Embedding(items, width)
        self.layers = layers
        self._all_items: Tensor | None = None
        nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[edges.degrees()[1] == 0] = 0

    def forward(self) -> Tensor:
        """Return the vectors (N, D) of all items."""
        if self.training or torch.is_grad_enabled():
            return self._make_vectors()
        if self._all_items is None:
            self._all_items = self._make_vectors()
        return self._all_items

    def _make_vectors(self) -> Tensor:
        return self.averaged()

    def averaged(self) -> Tensor:
        """Return (N, D) the mean of the layers."""
        steps = (self.edges, self.edges.back)
        return torch.stack(propagate(steps, self.table.weight, self.layers)).mean(dim=0)

    def train(self, mode: bool = True) -> "GraphItems":
        self._all_items = None
        return super().train(mode)
