"""The kinds of semantic ids under their names: quantizers, and their codebooks as plain arrays.

codebooks = quantizer_of("balanced", levels=3, words=256).fit(vectors, rng)
codes = codebooks.encode(vectors)  # N, L
arrays = arrays_of(codebooks)  # to be saved
codebooks_of("balanced", arrays).encode(new_vectors)
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, get_args

import numpy as np

from tailor.nn.code_autoencoder import AutoencoderCodebooks, ResidualAutoencoder
from tailor.nn.parallel_codes import AdditiveKMeans, ParallelCodebooks, ProductKMeans
from tailor.nn.quantizers import Codebooks, ResidualKMeans

CodeKind = Literal["residual", "balanced", "autoencoder", "product", "additive"]
ORDERED: tuple[CodeKind, ...] = ("residual", "balanced", "autoencoder")
"""Kinds whose digits go from coarse to fine; the digits of the others have no order."""


class FittedCodebooks(Protocol):
    """Codebooks that give any vector a code."""

    @property
    def words(self) -> np.ndarray:
        """Words (L, K, E); rows beyond a level's number of words hold infinity."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes (N, L) int32 of vectors (N, D)."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return approximately the vectors (N, D) that have these codes (N, L)."""


class Quantizer(Protocol):
    """A way to learn codebooks from vectors."""

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> FittedCodebooks:
        """Learn codebooks from vectors (N, D)."""


QUANTIZERS: dict[CodeKind, Callable[[int, int], Quantizer]] = {
    "residual": ResidualKMeans,
    "balanced": lambda levels, words: ResidualKMeans(levels, words, balanced=True),
    "autoencoder": ResidualAutoencoder,
    "product": ProductKMeans,
    "additive": AdditiveKMeans,
}
CODEBOOKS: dict[CodeKind, Callable[..., FittedCodebooks]] = {
    "residual": Codebooks,
    "balanced": Codebooks,
    "autoencoder": AutoencoderCodebooks,
    "product": ParallelCodebooks,
    "additive": ParallelCodebooks,
}


def quantizer_of(codes: CodeKind, levels: int, words: int) -> Quantizer:
    """Return the quantizer of a kind, with `levels` digits (or books) of `words` words at most.

    Raises ValueError for an unknown kind, and for sizes that cannot be.
    """
    _check_kind(codes)
    return QUANTIZERS[codes](levels, words)


def arrays_of(codebooks: FittedCodebooks) -> dict[str, np.ndarray]:
    """Return all that codebooks have learned, as arrays by name."""
    fields: dict[str, Any] = vars(codebooks)
    return {name: values for name, values in fields.items() if values is not None}


def codebooks_of(codes: CodeKind, arrays: Mapping[str, np.ndarray]) -> FittedCodebooks:
    """Return the codebooks of a kind that `arrays_of` gave. Raises ValueError for another kind."""
    _check_kind(codes)
    return CODEBOOKS[codes](**arrays)


def _check_kind(codes: str) -> None:
    """Raise ValueError for an unknown kind."""
    if codes not in get_args(CodeKind):
        raise ValueError(f"codes is {codes!r}: it must be one of {', '.join(get_args(CodeKind))}")
