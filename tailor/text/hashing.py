"""Texts as vectors without a model."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tailor.errors import ModelError
from tailor.ports.base import Encoder
from tailor.text.sentences import unit_length
from tailor.text.words import words


@dataclass(frozen=True)
class HashingEncoder(Encoder):
    """Every word and every three letters in a row fall into one of `dims` places, by their hash
    (Weinberger et al. 2009).

    Knows spelling, not meaning; needs neither weights nor fitting, so it serves tests, and places
    where no model may go.
    """

    dims: int = 256

    def __post_init__(self) -> None:
        if self.dims < 1:
            raise ModelError(f"dims is {self.dims}: at least 1")

    @property
    def space(self) -> str:
        return f"hashing {self.dims}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dims), dtype=np.float32)
        for i, text in enumerate(texts):
            for word, count in Counter(words(text)).items():
                places, signs = _places(word, self.dims)
                np.add.at(vectors[i], places, signs * np.float32(1 + np.log(count)))
        empty = ~vectors.any(axis=1)
        vectors[empty, 0] = 1
        return unit_length(vectors)


@lru_cache(maxsize=50_000)
def _places(word: str, dims: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [word, *(f" {word[:100]} "[at : at + 3] for at in range(min(len(word), 100)))]
    hashes = [
        int.from_bytes(
            hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
        )
        for one in parts
    ]
    weights = np.full(len(parts), 0.3, dtype=np.float32)
    weights[0] = 1
    return np.array([one // 2 % dims for one in hashes]), weights * np.array(
        [1 if one % 2 else -1 for one in hashes], dtype=np.float32
    )
