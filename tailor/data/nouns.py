"""The nouns of the product: what goes into a method and what comes out.

All of them are frozen; compare them by content with `same`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from tailor.errors import DataError

PARALLEL = ("times_ms", "actions", "values", "texts")
"""The optional columns of a History, one entry an item."""


def _checked_ids(ids: Any, name: str) -> tuple[str, ...]:
    """Return ids as a tuple. Raises DataError for a single string and for what is no string."""
    if isinstance(ids, str):
        raise DataError(
            f'{name} must be a sequence of ids, got the string "{ids}": write ("{ids}",)'
        )
    ids = tuple(ids)
    for item in ids:
        if not isinstance(item, str):
            raise DataError(f"{name} must be strings, got {item!r}: write str({item!r})")
    return ids


@dataclass(frozen=True, eq=False)
class History:
    """Events of a user, oldest first, as parallel tuples; the last four may be absent."""

    item_ids: tuple[str, ...] = ()
    """The items of the events."""
    times_ms: tuple[int, ...] | None = None
    """Milliseconds since 1970."""
    actions: tuple[str, ...] | None = None
    """Kind of event: "buy", "view", ..."""
    values: tuple[float, ...] | None = None
    """A rating, an amount; NaN where an event has none."""
    texts: tuple[str, ...] | None = None
    """Words the user wrote about the item; "" where there are none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "item_ids", _checked_ids(self.item_ids, "History.item_ids"))
        for name in PARALLEL:
            column = getattr(self, name)
            if column is not None:
                object.__setattr__(self, name, self._checked_column(name, column))

    def _checked_column(self, name: str, column: Any) -> tuple[Any, ...]:
        if isinstance(column, str):
            raise DataError(
                f'History.{name} must be a sequence, one entry an item, got the string "{column}"'
            )
        if len(column) != len(self.item_ids):
            raise DataError(
                f"History.{name} has {len(column)} entries for {len(self.item_ids)} items:"
                " give one each"
            )
        return tuple(column)

    @classmethod
    def of(cls, *item_ids: str) -> "History":
        """Return a history of items without times."""
        return cls(item_ids)

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, eq=False)
class Query:
    """A request: by a user with a history, a search text, a student, a writing task."""

    user_id: str | None = None
    """None: a user without a name."""
    history: History = field(default_factory=History)
    """Events of the user before the request."""
    text: str = ""
    """Empty: methods that need words use the texts of the history's items."""
    time_ms: int | None = None
    """Time of the request, in milliseconds since 1970."""
    request_id: str | None = None
    """The key of all randomness in the answer."""
    exclude: tuple[str, ...] = ()
    """Item ids that must not be answered."""
    profile: "Profile | None" = None
    """A description of the user, for methods that read one."""
    images: tuple[bytes, ...] = ()
    """Pictures that belong to the request, as file contents."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the user or the request by name; None counts as absent."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", _checked_ids(self.exclude, "Query.exclude"))
        if not isinstance(self.history, History):
            object.__setattr__(self, "history", History(self.history))


@dataclass(frozen=True, eq=False)
class Ranking:
    """Items best first: the order of `ids` is the answer, scores explain it."""

    ids: tuple[str, ...]
    scores: np.ndarray
    """(K,) float32, higher is better."""
    score_kind: str = "score"
    """Meaning of the scores: "probability", "bm25", ..."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name of an earlier stage -> (K,) its scores."""
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Item id -> name -> value: status, reason, evidence, propensity, text."""
    notes: tuple[str, ...] = ()
    """What the method could not do for this query."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _checked_ids(self.ids, "Ranking.ids"))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float32))
        for name, values in {"scores": self.scores, **self.columns}.items():
            if len(values) != len(self.ids):
                raise DataError(
                    f"Ranking.{name} has {len(values)} entries for {len(self.ids)} items: give one"
                    " each"
                )
        if self.details:
            self._check_details()

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "Ranking":
        """Return documents in the order of a list, to be reranked.

        Their ids are "0", "1", ...; each brings its text in `details`.
        """
        ids = tuple(str(number) for number in range(len(texts)))
        details = {item_id: {"text": text} for item_id, text in zip(ids, texts, strict=True)}
        return cls(ids, -np.arange(len(ids), dtype=np.float32), "minus places", details=details)

    def _check_details(self) -> None:
        strangers = set(self.details) - set(self.ids)
        if strangers:
            raise DataError(
                f'Ranking.details has "{min(strangers)}", which is not among the ids: details go'
                " by the ids of the ranking"
            )
        for item_id, details in self.details.items():
            if not isinstance(details, Mapping):
                raise DataError(
                    f'Ranking.details["{item_id}"] is {details!r}: write a mapping of names, as in'
                    ' {"reason": "..."}'
                )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Evidence:
    """One reason for an answer: its kind, its id, and its share of the score."""

    kind: str
    """"item": of the history; "event"; "word": of the text; "passage"; "category"; "concept";
    "popularity"; "part": a part of a pipeline that cannot say more.
    """
    id: str
    share: float = 1.0
    """Share of the score or of the support, from 0 to 1."""
    text: str = ""
    """The words quoted, where evidence is a part of a text."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an item was recommended."""

    item_id: str
    evidence: tuple[Evidence, ...] = ()
    """Largest share first."""
    text: str = ""
    """The reasons in a sentence."""
    faithfulness: float | None = None
    """How far the item falls without the evidence; None: not measured."""


@dataclass(frozen=True, eq=False)
class Fact:
    """One proposition about a user, with its evidence."""

    text: str
    """The proposition as a sentence: "prefers the category tent"."""
    evidence: tuple[Evidence, ...] = ()
    """The events, items and texts it was concluded from, largest share first."""
    confidence: float | None = None
    """Probability that it is true, from 0 to 1; None: not estimated."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values by name: slot, object, polarity, valid_from_ms, status, lift, ..."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", tuple(self.evidence))
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise DataError(f"Fact.confidence is {self.confidence}: give a number from 0 to 1")


@dataclass(frozen=True, eq=False)
class Profile:
    """A description of a user: a summary in words, facts with evidence, and attributes."""

    user_id: str | None
    text: str = ""
    """The summary, for readers and prompts."""
    facts: tuple[Fact, ...] = ()
    """Surest first."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Plain values by name, for methods that compute with them."""
    as_of_ms: int | None = None
    """Nothing later than this time was used; None: the events have no times."""
    notes: tuple[str, ...] = ()
    """What the method could not say about this user."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values about the making: tokens, cost_usd, version."""

    def __post_init__(self) -> None:
        facts = tuple(self.facts)
        for fact in facts:
            if not isinstance(fact, Fact):
                raise DataError(f"Profile.facts must be facts, got {fact!r}: write Fact({fact!r})")
        object.__setattr__(self, "facts", facts)


@dataclass(frozen=True, eq=False)
class Act:
    """The intent of a turn in a closed form, such as Act("inform", "category", "tent")."""

    kind: str
    """ask, inform, deny, critique, recommend, accept, reject, explain, call, result, greet, end."""
    name: str = ""
    """The attribute, tool or item that the act concerns."""
    value: str = ""
    """The value that is asked for, stated or rejected."""
    confidence: float = 1.0
    """Probability that the turn was understood so, from 0 to 1."""


@dataclass(frozen=True, eq=False)
class Turn:
    """One contribution to a dialogue."""

    speaker: str
    """"user", "assistant", "system", or the name of a participant."""
    text: str
    item_ids: tuple[str, ...] = ()
    """Items that the turn names or recommends, best first."""
    time_ms: int | None = None
    """Milliseconds since 1970."""
    acts: tuple[Act, ...] = ()
    """The intents of the turn, where they are known."""
    notes: tuple[str, ...] = ()
    """What the method could not do in this turn."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values by name: scores, evidence, tokens, cost_usd, trace."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "item_ids", _checked_ids(self.item_ids, "Turn.item_ids"))


@dataclass(frozen=True, eq=False)
class Output:
    """A generated text or image, with the evidence it was made from."""

    text: str = ""
    """Empty where the output is a picture."""
    image: bytes | None = None
    """The content of a picture file."""
    item_ids: tuple[str, ...] = ()
    """Items that the text names."""
    evidence: tuple[Evidence, ...] = ()
    """Largest share first."""
    notes: tuple[str, ...] = ()
    """What the method could not do for this query."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values by name: status, tokens, cost_usd, drafts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "item_ids", _checked_ids(self.item_ids, "Output.item_ids"))

    @property
    def is_empty(self) -> bool:
        return not self.text and self.image is None


def same(a: Any, b: Any) -> bool:
    """Return whether two nouns, or sequences, mappings, arrays of them, have the same content."""
    # queries and rankings in arrays too: they compare by the nouns they make
    if _is_sequence(a) and _is_sequence(b):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
        )
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a = np.asarray(a)
        b = np.asarray(b)
        is_float = a.dtype.kind == "f" and b.dtype.kind == "f"
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=is_float))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b) or (_is_nan(a) and _is_nan(b))


def plain(noun: Any) -> Any:
    """Return a noun as values that JSON can write: mappings, lists, numbers and strings.

    Fields that say nothing (None, empty) are left out; bytes become their length in bytes.
    """
    if _is_sequence(noun):  # queries and rankings in arrays too
        return [plain(value) for value in noun]
    if is_dataclass(noun) and not isinstance(noun, type):
        values = {f.name: getattr(noun, f.name) for f in fields(noun)}
        return {name: plain(value) for name, value in values.items() if not _says_nothing(value)}
    if isinstance(noun, Mapping):
        return {str(name): plain(value) for name, value in noun.items()}
    if isinstance(noun, np.ndarray):
        return plain(noun.tolist())
    if isinstance(noun, np.generic):
        return plain(noun.item())
    if isinstance(noun, bytes):
        return f"{len(noun)} bytes"
    return None if _is_nan(noun) else noun


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _says_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str | tuple | Mapping) and not value)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
