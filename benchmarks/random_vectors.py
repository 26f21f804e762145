"""Vectors that know nothing of their texts but whether they are the same: what claims about
language vectors are held against.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailor.ports.base import Encoder


@dataclass(frozen=True)
class RandomVectors(Encoder):
    """Every text gets its own random direction."""

    dims: int = 384

    @property
    def space(self) -> str:
        return f"random {self.dims}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        seeds = [
            int.from_bytes(
                hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(),
                "little",
            )
            for text in texts
        ]
        vectors = np.array(
            [np.random.default_rng(seed).standard_normal(self.dims) for seed in seeds],
            dtype=np.float32,
        ).reshape(len(texts), -1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
