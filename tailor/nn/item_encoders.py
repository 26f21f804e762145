"""Item vectors made from text vectors or from codes, which new items have too.

Nets use them in place of an embedding table.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from tailor.nn.graphs import Edges


class TextMap(nn.Module):
    """A map of unit text vectors (..., D) to (..., width).

    It is linear, or has one hidden layer with GELU where there are `hidden` units.
    """

    def __init__(self, dims: int, width: int, hidden: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.scale = dims**0.5  # brings the numbers of a unit vector to about one
        self.first = nn.Linear(dims, hidden, bias) if hidden else nn.Identity()
        self.last = nn.Linear(hidden or dims, width, bias)

    def forward(self, texts: Tensor) -> Tensor:
        x = self.first(texts * self.scale)
        if not isinstance(self.first, nn.Identity):
            x = gelu(x)
        return cast(Tensor, self.last(x))


class TextItemEncoder(nn.Module):
    """Item vectors made from fixed text vectors; indexed by row like an `nn.Embedding`.

    The text vectors are no weights: they are passed again whenever the net is built. In evaluation
    mode all rows are computed once.
    """

    def __init__(
        self,
        texts: Tensor,
        width: int | None,
        hidden: int = 0,
        bias: bool = True,
        unit: bool = False,
        own: bool = False,
    ) -> None:
        """Make the encoder of texts (N, D).

        `width` is that of the result, None for the text vectors themselves; `hidden` the units of a
        hidden layer, 0 for one linear map; `unit` scales what is made of a text to length one. With
        `own`, every item has a vector of its own, too, which is added.
        """
        super().__init__()
        self.unit = unit
        self.texts: Tensor
        self.register_buffer("texts", texts, persistent=False)
        self.map: TextMap | nn.Identity = nn.Identity()
        if width is not None:
            self.map = TextMap(texts.shape[1], width, hidden, bias)
        self.own: nn.Embedding | None = None
        if own:
            self.own = nn.Embedding(len(texts), width or texts.shape[1])
            nn.init.normal_(self.own.weight, std=0.02)
        self._all_items: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """Return the vectors (..., width) of rows (...)."""
        if self.training or torch.is_grad_enabled():
            vectors = self.encode(self.texts[rows])
            return vectors if self.own is None else vectors + self.own(rows)
        return self.all_items()[rows]

    def encode(self, texts: Tensor) -> Tensor:
        """Return the vectors (..., width) of any text vectors (..., D)."""
        vectors: Tensor = self.map(texts)
        return normalize(vectors.float(), dim=-1) if self.unit else vectors

    def all_items(self) -> Tensor:
        """Return the vectors (N, width) of all rows; in training computed at every call."""
        is_fixed = not self.training and not torch.is_grad_enabled()
        if is_fixed and self._all_items is not None:
            return self._all_items
        vectors = self.encode(self.texts)
        if self.own is not None:
            vectors = vectors + self.own.weight
        if is_fixed:
            self._all_items = vectors
        return vectors

    def train(self, mode: bool = True) -> "TextItemEncoder":
        self._all_items = None
        return super().train(mode)


class CodeItemEncoder(nn.Module):
    """Item vectors that are the sum of a vector per digit of the item's code.

    With `texts`, a map of the item's text vector is added. Codes and text vectors are no weights:
    they are passed again whenever the net is built.
    """

    def __init__(
        self, codes: Tensor, sizes: Sequence[int], width: int, texts: Tensor | None = None
    ) -> None:
        """Make the encoder of codes (N, L), with `sizes` digits per level, and texts (N, D)."""
        super().__init__()
        self.codes: Tensor
        self.texts: Tensor | None
        offsets = torch.from_numpy(np.cumsum([0, *sizes[:-1]]))
        self.register_buffer("codes", codes + offsets, persistent=False)
        self.register_buffer("texts", texts, persistent=False)
        self.digits = nn.Embedding(sum(sizes), width)
        self.map = None if texts is None else TextMap(texts.shape[1], width)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the vectors (..., width) of rows (...)."""
        vectors = self.digits(self.codes[rows]).sum(dim=-2)
        if self.map is None or self.texts is None:
            return vectors
        return vectors + self.map(self.texts[rows])

    def all_items(self) -> Tensor:
        """Return the vectors (N, width) of all rows."""
        return self(torch.arange(len(self.codes), device=self.codes.device))


class AttributeItemEncoder(nn.Module):
    """Item vectors that are the mean of vectors of the item's attributes, and one of its own.

    Which attributes an item has is no weight: it is passed again whenever the net is built.
    """

    def __init__(self, attributes: Tensor, size: int, width: int, own: bool = True) -> None:
        """Make the encoder of attributes (N, F), of `size` different ones, -1 for none.

        With `own`, every item has a vector of its own, too.
        """
        super().__init__()
        self.attributes: Tensor
        self.shares: Tensor
        is_attribute = attributes >= 0
        counts = is_attribute.sum(dim=1, keepdim=True).clamp(min=1)
        self.register_buffer("attributes", attributes.clamp(min=0), persistent=False)
        self.register_buffer("shares", is_attribute / counts, persistent=False)
        self.values = nn.Embedding(max(size, 1), width)
        self.own = nn.Embedding(len(attributes), width) if own else None
        for table in (self.values, self.own):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the vectors (..., width) of rows (...)."""
        values = self.values(self.attributes[rows])  # ..., F, D
        vectors: Tensor = (values * self.shares[rows][..., None]).sum(dim=-2)
        return vectors if self.own is None else vectors + self.own(rows)

    def all_items(self) -> Tensor:
        """Return the vectors (N, width) of all rows."""
        return self(torch.arange(len(self.attributes), device=self.attributes.device))


class GraphItemEncoder(nn.Module):
    """Item vectors of their own, and of known features, averaged over a graph of items.

    Layers of a graph convolution (Kipf and Welling 2017): each maps the vectors that `edges` have
    mixed, and adds them to what they were before. Graph and features are no weights: they are
    passed again whenever the net is built.
    """

    def __init__(self, edges: Edges, features: Tensor, width: int, layers: int = 2) -> None:
        """Make the encoder for a graph (N, N) and features (N, F)."""
        super().__init__()
        self.edges = edges
        self.features: Tensor
        self.register_buffer("features", features, persistent=False)
        self.own = nn.Embedding(len(features), width)
        self.described = nn.Linear(features.shape[1], width)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        nn.init.normal_(self.own.weight, std=0.02)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the vectors (..., width) of rows (...)."""
        return self.all_items()[rows]

    def all_items(self) -> Tensor:
        """Return the vectors (N, width) of all rows."""
        vectors = self.own.weight + self.described(self.features)
        for layer in self.layers:
            vectors = vectors + torch.tanh(layer(self.edges(vectors)))
        return vectors
