"""Trace one answer of a pipeline: its stages as a tree, with items in, items out, and times.

    trace = Trace()
    traced(model, trace).recommend([query], 10)
    trace.stages[0].parts      # the stages within the first one

A traced model is a copy whose parts note what they do. The model itself is never touched, so that
an answer without a trace costs what it always did.
"""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tailor.core.methods import Method, Recommender, catalogue_size
from tailor.data.nouns import Query, Ranking
from tailor.data.queries import Rankings
from tailor.ports.base import Port

MOST_CHARACTERS = 300  # of a stage's settings as a text
MOST_VALUES = 5  # of a list among them


@dataclass
class Stage:
    """A step of an answer: what went in, what came out, and how long it took."""

    name: str
    settings: str = ""
    """The settings in words."""
    items_in: int | None = None
    """Items that it chose from; None: not known."""
    items_out: int = 0
    """Items that it let through."""
    ms: float = 0.0
    """Milliseconds, those of its parts among them."""
    parts: "list[Stage]" = field(default_factory=list)
    """Stages within this one, in the order in which they were asked."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "settings": self.settings,
            "items_in": self.items_in,
            "items_out": self.items_out,
            "ms": round(self.ms, 3),
            "parts": [part.to_dict() for part in self.parts],
        }


class Trace:
    """Collects the stages of one answer, made in one thread."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self._open: list[Stage] = []

    @contextmanager
    def stage(self, name: str, settings: str = "", items_in: int | None = None) -> Iterator[Stage]:
        """Yield a new stage within the one that is open, and measure the block."""
        stage = Stage(name, settings, items_in)
        siblings = self._open[-1].parts if self._open else self.stages
        siblings.append(stage)
        self._open.append(stage)
        start_s = time.perf_counter()
        try:
            yield stage
        finally:
            stage.ms = (time.perf_counter() - start_s) * 1000
            self._open.pop()


def traced(model: Recommender, trace: Trace) -> Recommender:
    """Return a copy of a fitted recommender that notes its answers and those of its parts."""
    noting = copy.copy(model)
    noting.__dict__ = dict(model.__dict__)
    for name, value in model.state().items():
        noting.__dict__[name] = _traced_parts(value, trace)
    # found before the method of the class: whoever asks this part, its owner too, asks through it
    noting.__dict__["recommend"] = partial(_recommend, noting, trace)
    return noting


def _traced_parts(value: Any, trace: Trace) -> Any:
    """Return a learned value with traced recommenders in place of those it holds."""
    if isinstance(value, Recommender):
        return traced(value, trace)
    if isinstance(value, list) and any(isinstance(part, Recommender) for part in value):
        return [_traced_parts(part, trace) for part in value]
    return value


def _recommend(
    method: Recommender,
    trace: Trace,
    queries: Sequence[Query],
    k: int = 10,
    candidates: Sequence[Ranking] | None = None,
) -> Rankings:
    """Answer as `method` does, and note it as a stage."""
    items_in = _item_count(method) if candidates is None else _places(candidates)
    with trace.stage(method.name, settings_text(method), items_in) as stage:
        rankings = type(method).recommend(method, queries, k, candidates)
        stage.items_out = _places(rankings)
    return rankings


def _places(rankings: Sequence[Ranking]) -> int:
    """Return the items of all lists together."""
    return int(Rankings.of(rankings).lengths.sum())


def _item_count(method: Method) -> int | None:
    """Return how many items a method knows: of its parts the one that knows most counts."""
    parts = [part for value in method.state().values() for part in _methods_in(value)]
    if not parts:
        return catalogue_size(method)
    counts = [count for count in map(_item_count, parts) if count is not None]
    return max(counts, default=None)


def _methods_in(value: Any) -> list[Method]:
    values = value if isinstance(value, list) else [value]
    return [entry for entry in values if isinstance(entry, Method)]


def settings_text(method: Method | Port) -> str:
    """Return the plain settings of a method in one line."""
    return settings_line(method.params() if isinstance(method, Method) else vars(method))


def settings_line(settings: Mapping[str, Any]) -> str:
    """Return settings in one line, without methods and those that hold nothing."""
    texts = [
        f"{name} {_value_text(value)}"
        for name, value in settings.items()
        if not _is_empty(value) and not _is_part(value)
    ]
    line = ", ".join(texts)
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 3]}..."


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | Mapping) and not value)


def _is_part(value: Any) -> bool:
    """Return whether a setting is a part of its own, or a list of such."""
    values = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(entry, Method | Port) for entry in values)


def _value_text(value: Any) -> str:
    """Return a value as people write it; long lists end with how many more there are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_value_text(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        texts = [_value_text(entry) for entry in value[:MOST_VALUES]]
        hidden = len(value) - len(texts)
        return "[" + ", ".join(texts) + (f" and {hidden:,} more]" if hidden else "]")
    return str(value)
