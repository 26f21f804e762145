"""Fitted methods for the contract checks: each class is fitted once, and its checks share it."""

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailor.core.methods import Agent, Generator, Method, Predictor, Profiler, Recommender
from tailor.core.run import Run
from tailor.core.saving import load
from tailor.core.specs import spec
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking, Turn, plain
from tailor.data.queries import Queries, Rankings
from tailor.testing.data import tiny_data

K = 7
"""Length of the lists that are asked for."""
SHARED_CLASSES = 4
"""Classes whose fitted methods are kept at a time; checks run class by class."""
UNKNOWN_ITEM = "nobody knows this"
PAIRS: tuple[tuple[str, ...], ...] = (
    ("thing-003", "thing-001", UNKNOWN_ITEM),
    (),
    ("thing-001",),
    *[("thing-005", "thing-007")] * 5,
)
"""Item ids to predict, one tuple for each of `sample_queries`."""
DIALOGUES: tuple[tuple[Turn, ...], ...] = (
    (),
    (Turn("user", "I am looking for a copper kettle"),),
    (
        Turn("user", "hello"),
        Turn("assistant", "How about this one?", ("thing-004",)),
        Turn("user", "no, something else please"),
    ),
    (Turn("user", ""),),
    (Turn("user", "日本の茶"),),
)
"""Dialogues to answer."""


@dataclass(frozen=True, eq=False)
class Fit:
    """One fit of a class's `tiny()` setting, and what surrounded it."""

    method: Any
    """The fitted method. Shared: a check that changes it works on a copy."""
    returned: Any
    """What `fit` returned."""
    spec_before: dict[str, Any]
    data: Dataset
    """The data set that was passed to `fit`."""


@functools.lru_cache(maxsize=SHARED_CLASSES)
def fit_of(cls: type[Method]) -> Fit:
    """Fit the class's `tiny()` setting on small data."""
    return _fit(cls)


@functools.lru_cache(maxsize=SHARED_CLASSES)
def second_fit_of(cls: type[Method]) -> Fit:
    """Fit the class once more, with the same seed."""
    return _fit(cls)


def _fit(cls: type[Method]) -> Fit:
    method = cls.tiny()
    spec_before = spec(method)
    data = tiny_data()
    returned = method.fit(data, Run())
    return Fit(method, returned, spec_before, data)


def fitted(cls: type[Method]) -> Any:
    """Return the fitted method that the checks of a class share."""
    return fit_of(cls).method


def save_in(method: Method, folder: str) -> Path:
    """Save a method, with users' histories only where it holds users' events itself."""
    histories = Queries.of([]) if method.keeps_people() else None
    return method.save(Path(folder) / "model", histories=histories)


def reloaded(method: Method) -> Any:
    """Return the method as it comes back from a folder."""
    with tempfile.TemporaryDirectory() as folder:
        return load(save_in(method, folder))


def sample_queries() -> list[Query]:
    """Return queries of eight known users; some items are excluded."""
    queries = tiny_data().queries()[:8]
    return [
        Query(
            query.user_id,
            query.history,
            exclude=("thing-000", *query.history.item_ids[:2]),
            request_id=str(i),
        )
        for i, query in enumerate(queries)
    ]


def recommend(method: Recommender, queries: Sequence[Query], k: int = K) -> Rankings:
    """Return a recommender's lists; one that only orders gets the whole catalogue to order."""
    if not method.needs_candidates:
        return method.recommend(queries, k)
    ids = tuple(tiny_data().catalogue.ids.tolist())
    everything = Ranking(ids, np.arange(len(ids), 0, -1).astype(np.float32))
    return method.recommend(queries, k, [everything] * len(queries))


def sample_answers(method: Method) -> Sequence[Any]:
    """Return answers of a method's verb, to compare two methods by."""
    if isinstance(method, Recommender):
        return recommend(method, sample_queries())
    if isinstance(method, Predictor):
        return method.predict(sample_queries(), PAIRS)
    if isinstance(method, Profiler):
        return method.profile(sample_queries())
    if isinstance(method, Generator):
        return method.generate(sample_queries())
    if isinstance(method, Agent):
        return method.act(DIALOGUES, sample_queries()[: len(DIALOGUES)])
    raise AssertionError(f"{method.name} has no verb: make it a Recommender, Predictor, ...")


def nearly_same(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    """Return whether two answers have the same content, numbers to a tolerance."""
    return _close(plain(a), plain(b), tolerance)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, atol=tolerance, rtol=tolerance))
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return False
        return all(_close(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return False
        pairs = zip(a, b, strict=True)
        return all(_close(x, y, tolerance) for x, y in pairs)
    return bool(a == b)
