"""An encoder whose texts are vectors, and data whose lists have known gains: for planted tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.ports.base import Encoder
from tailor.text.sentences import unit_length

NO_EVENTS = {"user_id": pl.String, "item_id": pl.String}


@dataclass(frozen=True)
class NumbersEncoder(Encoder):
    """Read a text such as "0.6 0.8" as the vector that it writes; texts must have one length."""

    dims: int = 2

    @property
    def space(self) -> str:
        return f"numbers {self.dims}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = [[float(word) for word in text.split()] or [0.0] * self.dims for text in texts]
        return unit_length(np.array(rows, dtype=np.float32).reshape(len(texts), self.dims))


def text_of(vector: np.ndarray) -> str:
    """Return the text that NumbersEncoder reads as this vector."""
    return " ".join(f"{value:.6f}" for value in vector.tolist())


def judged_data(requests: Sequence[str], lists: Sequence[Sequence[tuple[str, float]]]) -> Dataset:
    """Return judged requests; a list has the text and the gain of each candidate, in its order."""
    items, candidates, judgements = [], [], []
    for i, documents in enumerate(lists):
        for rank, (text, gain) in enumerate(documents):
            item_id = f"doc-{i}-{rank}"
            items.append((item_id, text))
            candidates.append((f"q{i}", item_id, float(-rank), rank + 1))
            judgements.append((f"q{i}", item_id, gain))
    query_ids = [f"q{i}" for i in range(len(requests))]
    return Dataset(
        {
            "events": pl.DataFrame(schema=NO_EVENTS),
            "items": pl.DataFrame(items, schema=["item_id", "text"], orient="row"),
            "requests": pl.DataFrame({"request_id": query_ids, "text": list(requests)}),
            "candidates": pl.DataFrame(
                candidates, schema=["query_id", "item_id", "score", "rank"], orient="row"
            ),
            "judgements": pl.DataFrame(
                judgements, schema=["query_id", "item_id", "grade"], orient="row"
            ),
        },
        "planted lists",
    )
