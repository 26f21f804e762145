"""Vectors of what is remembered, as they are kept beside its words.

A text is encoded once, when it is written and outside of the transaction. A vector of another
space than the encoder's counts as absent.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tailor.profiles.recall import Recall, Remembered

Packed = dict[str, str]
NAME = "vector"  # in the values of observations and propositions


def packed_by_line(recall: Recall, remembered: Sequence[Remembered]) -> dict[str, Packed]:
    """Return the packed vector of each distinct line; none without an encoder."""
    if recall.encoder is None or not remembered:
        return {}
    by_line = {part.turn.line(): part for part in remembered}
    vectors = recall.vectors(list(by_line.values())).astype("<f2")
    space = recall.encoder.space
    return {
        line: {"space": space, "float16": base64.b85encode(vector.tobytes()).decode()}
        for line, vector in zip(by_line, vectors, strict=True)
    }


def unpacked(
    recall: Recall, remembered: Sequence[Remembered], packed: Mapping[str, Any]
) -> np.ndarray | None:
    """Return (n, D) vectors of what is remembered, by the packed ones of their ids.

    Those that are absent are encoded now. None without an encoder.
    """
    if recall.encoder is None:
        return None
    if not remembered:
        return recall.vectors([])
    vectors: list[np.ndarray | None] = [
        _unpack(packed.get(part.id), recall.encoder.space) for part in remembered
    ]
    missing = [row for row, vector in enumerate(vectors) if vector is None]
    encoded = recall.vectors([remembered[row] for row in missing])
    for row, vector in zip(missing, encoded, strict=True):
        vectors[row] = vector
    return np.array(vectors, np.float32).reshape(len(remembered), -1)


def _unpack(value: Any, space: str) -> np.ndarray | None:
    """Return a vector of the space, None for another one or none."""
    if not value or value["space"] != space:
        return None
    return np.frombuffer(base64.b85decode(value["float16"]), "<f2").astype(np.float32)
