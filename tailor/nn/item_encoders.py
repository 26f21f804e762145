"""Where nets get item vectors from when not from a table of their own: from vectors of texts or the
digits of codes, which a new item has too.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn


class TextMap(nn.Module):
    """Unit vectors of texts (..., D) -> (..., width): one linear map, or two with GELU between
    where there are `hidden` units.
    """

    def __init__(self, dims: int, width: int, hidden: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.scale = dims**0.5  # so that each number is about one
        self.first = nn.Linear(dims, hidden, bias) if hidden else nn.Identity()
        self.last = nn.Linear(hidden or dims, width, bias)

    def forward(self, texts: Tensor) -> Tensor:
        seen = self.first(texts * self.scale)
        return cast(
            Tensor,
            self.last(seen if isinstance(self.first, nn.Identity) else nn.functional.gelu(seen)),
        )


class TextFront(nn.Module):
    """Fixed vectors of texts seen through a small net, or as they are; read by row like an
    `nn.Embedding`.

    The texts' vectors are no weights: they are given again whenever the net is built. A net that is
    ready for use maps all of them once.
    """

    def __init__(
        self,
        texts: Tensor,
        width: int | None,
        hidden: int = 0,
        bias: bool = True,
        unit: bool = False,
    ) -> None:
        """`texts` (N, D); `width` of what comes out, None for the vectors themselves; `hidden`
        units between, 0 for one linear map; `unit`: of length one.
        """
        super().__init__()
        self.unit = unit
        self.texts: Tensor
        self.register_buffer("texts", texts, persistent=False)
        self.map: TextMap | nn.Identity = (
            nn.Identity() if width is None else TextMap(texts.shape[1], width, hidden, bias)
        )
        self._all: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """(..., width) of rows (...)."""
        if self.training or torch.is_grad_enabled():
            return self.of(self.texts[rows])
        return self.all()[rows]

    def of(self, texts: Tensor) -> Tensor:
        """(..., width) of vectors of any texts (..., D)."""
        out: Tensor = self.map(texts)
        return nn.functional.normalize(out.float(), dim=-1) if self.unit else out

    def all(self) -> Tensor:
        """(N, width) of all rows; while the net learns made anew for every call."""
        if self.training or torch.is_grad_enabled():
            return self.of(self.texts)
        if self._all is None:
            self._all = self.of(self.texts)
        return self._all

    def train(self, mode: bool = True) -> "TextFront":
        self._all = None
        return super().train(mode)


class CodeFront(nn.Module):
    """An item's vector is the sum of its digits' vectors, each level's its own; with `texts`, what
    a map makes of the item's text is added.

    Codes and texts' vectors are no weights: they are given again whenever the net is built.
    """

    def __init__(
        self, codes: Tensor, sizes: Sequence[int], width: int, texts: Tensor | None = None
    ) -> None:
        """`codes` (N, L) digits, of a level all below its size of `sizes`; `texts` (N, D)."""
        super().__init__()
        self.codes: Tensor
        self.texts: Tensor | None
        offsets = torch.from_numpy(np.cumsum([0, *sizes[:-1]]))
        self.register_buffer("codes", codes + offsets, persistent=False)
        self.register_buffer("texts", texts, persistent=False)
        self.digits = nn.Embedding(sum(sizes), width)
        self.map = None if texts is None else TextMap(texts.shape[1], width)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., width) of rows (...)."""
        out = self.digits(self.codes[rows]).sum(dim=-2)
        return out if self.map is None or self.texts is None else out + self.map(self.texts[rows])

    def all(self) -> Tensor:
        """(N, width) of all rows."""
        return self(torch.arange(len(self.codes), device=self.codes.device))
