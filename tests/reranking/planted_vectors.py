"""An encoder whose texts are vectors, and data whose lists have known gains: for planted tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.ports.base import Encoder
from tailor.reranking.examples import examples, list_ndcg
from tailor.reranking.reranker import Reranker
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


class CatalogueReader(Reranker):
    """Reads a catalogue, and orders nothing."""

    def _rerank(self, shortlists, limits, trace):
        raise NotImplementedError


def planted_lists(data: Dataset) -> list:
    """Return the examples of judged data, with the texts of its own catalogue."""
    return examples(CatalogueReader().fit(data), data, Run())


def quality(method: Reranker, data: Dataset) -> float:
    """Return the mean NDCG@10 of a method on judged data."""
    lists = planted_lists(data)
    results = method.rerank([example.shortlist for example in lists])
    pairs = zip(results, lists, strict=True)
    return float(np.mean([list_ndcg(result.scores, example.gains) for result, example in pairs]))
