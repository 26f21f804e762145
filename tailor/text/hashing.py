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
from tailor.text.words import RULES, words

MAX_LETTERS = 100  # of a word, whose triples are hashed
TRIPLE_WEIGHT = 0.3  # of three letters, beside 1 of the word


@dataclass(frozen=True)
class HashingEncoder(Encoder):
    """Hash every word and every three letters in a row into one of `dims` positions.

    Knows spelling, not meaning; needs neither weights nor fitting, so it serves tests, and places
    where no model may go (Weinberger et al. 2009).
    """

    dims: int = 256
    """Width of the vectors."""

    def __post_init__(self) -> None:
        if self.dims < 1:
            raise ModelError(f"dims is {self.dims}: at least 1")

    @property
    def space(self) -> str:
        return f"hashing {self.dims}"

    @property
    def fingerprint(self) -> str:
        # vectors under older rules differ in single words: comparable, but not to be cached as one
        return f"{self.space} words {RULES}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dims), dtype=np.float32)
        for i, text in enumerate(texts):
            for word, count in Counter(words(text)).items():
                positions, weights = _hashed(word, self.dims)
                np.add.at(vectors[i], positions, weights * np.float32(1 + np.log(count)))
        is_empty = ~vectors.any(axis=1)
        vectors[is_empty, 0] = 1
        return unit_length(vectors)


@lru_cache(maxsize=50_000)
def _hashed(word: str, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (P,) positions and signed weights of a word and of its letter triples."""
    padded = f" {word[:MAX_LETTERS]} "
    triples = [padded[start : start + 3] for start in range(len(padded) - 2)]
    hashes = [_hash(part) for part in (word, *triples)]
    positions = np.array([value // 2 % dims for value in hashes])
    signs = np.array([1 if value % 2 else -1 for value in hashes], dtype=np.float32)
    weights = np.full(len(hashes), TRIPLE_WEIGHT, dtype=np.float32)
    weights[0] = 1
    return positions, weights * signs


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
