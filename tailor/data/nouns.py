"""The nouns of the product: what goes into a method and what comes out. All frozen; compare with
`same`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from tailor.errors import DataError


def _ids(ids: Any, what: str) -> tuple[str, ...]:
    if isinstance(ids, str):
        raise DataError(
            f'{what} must be a sequence of ids, got the string "{ids}": write ("{ids}",)'
        )
    ids = tuple(ids)
    for one in ids:
        if not isinstance(one, str):
            raise DataError(f"{what} must be strings, got {one!r}: write str({one!r})")
    return ids


@dataclass(frozen=True, eq=False)
class History:
    """What a person did, oldest first, as parallel tuples; the last four may be absent."""

    item_ids: tuple[str, ...] = ()
    times_ms: tuple[int, ...] | None = None
    """Milliseconds since 1970."""
    actions: tuple[str, ...] | None = None
    values: tuple[float, ...] | None = None
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "item_ids", _ids(self.item_ids, "History.item_ids"))
        for name in ("times_ms", "actions", "values", "texts"):
            given = getattr(self, name)
            if given is not None:
                if isinstance(given, str):
                    raise DataError(
                        f"History.{name} must be a sequence, one entry an item, got the string"
                        f' "{given}"'
                    )
                if len(given) != len(self.item_ids):
                    raise DataError(
                        f"History.{name} has {len(given)} entries for {len(self.item_ids)} items:"
                        " give one each"
                    )
                object.__setattr__(self, name, tuple(given))

    @classmethod
    def of(cls, *item_ids: str) -> "History":
        return cls(item_ids)

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, eq=False)
class Query:
    """Anyone who asks: a user with a history, a search text, a student, a writing task."""

    user_id: str | None = None
    history: History = field(default_factory=History)
    text: str = ""
    """Empty: methods that need words use the texts of the history's items."""
    time_ms: int | None = None
    """When it is asked."""
    request_id: str | None = None
    """The key of all randomness in the answer."""
    exclude: tuple[str, ...] = ()
    """Item ids that must not be answered."""
    profile: "Profile | None" = None
    images: tuple[bytes, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", _ids(self.exclude, "Query.exclude"))
        if not isinstance(self.history, History):
            object.__setattr__(self, "history", History(self.history))


@dataclass(frozen=True, eq=False)
class Ranking:
    """Items best first: the order of `ids` is the answer, scores explain it."""

    ids: tuple[str, ...]
    scores: np.ndarray
    """(K,) float32, higher is better."""
    score_kind: str = "score"
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name of an earlier stage -> (K,) its scores."""
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Item id -> status, reason, evidence, propensity."""
    notes: tuple[str, ...] = ()
    """What the method could not do for this query."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _ids(self.ids, "Ranking.ids"))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float32))
        for name, values in {"scores": self.scores, **self.columns}.items():
            if len(values) != len(self.ids):
                raise DataError(
                    f"Ranking.{name} has {len(values)} entries for {len(self.ids)} items: give one"
                    " each"
                )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Evidence:
    """One reason for an item: what kind of thing it is, its id, and its share of the score."""

    kind: str
    """"item": of the history; "word": of the text; "concept"; "popularity"; "part": a part of a
    pipeline that cannot say more.
    """
    id: str
    share: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an item was recommended."""

    item_id: str
    evidence: tuple[Evidence, ...] = ()
    """Largest share first."""
    text: str = ""
    faithfulness: float | None = None
    """How far the item falls without the evidence; None: not measured."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Who a user is, in words and in facts."""

    user_id: str
    text: str = ""
    facts: tuple[str, ...] = ()
    made_ms: int | None = None


@dataclass(frozen=True, eq=False)
class Turn:
    """One contribution to a dialogue."""

    speaker: str
    text: str
    item_ids: tuple[str, ...] = ()
    time_ms: int | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """A generated text or image, with the evidence it was made from."""

    text: str = ""
    image: bytes | None = None
    evidence: tuple[Evidence, ...] = ()


def same(a: Any, b: Any) -> bool:
    """Whether two nouns (or sequences, mappings, arrays of them) hold the same content."""
    # queries and rankings in arrays too: they compare by the nouns they make
    if _is_sequence(a) and _is_sequence(b):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
        )
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        floats = a.dtype.kind == "f" and b.dtype.kind == "f"
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=floats))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
