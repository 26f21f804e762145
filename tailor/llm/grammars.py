"""Grammars: what a language model is asked to answer about shown documents, and how it is read.

A grammar owns the question at the end of the prompt, the JSON schema of the answer, the reader of
the answer, the closed labels for models with log-probabilities, and the writer of an answer by a
model that knows the worth of every document (`ScriptedModel`). Rerankers, judges and writers use
the same grammars.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tailor.llm.parsing import (
    Status,
    read_choice,
    read_json,
    read_number,
    read_order,
    spoken,
)

HIGHEST_GRADE = 10
TOKENS_PER_NUMBER = 4
TOKENS_AROUND = 16  # of brackets and names
THOUGHTS = re.compile(r"<(think|reason)>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)


def statuses(status: Status, n: int) -> tuple[Status, ...]:
    """Return one status for each of n documents."""
    return (status,) * n


@dataclass(frozen=True, eq=False)
class Reading:
    """Scores and words that an answer gives to the n documents of a prompt."""

    scores: np.ndarray
    """(n,) higher is better; NaN: nothing is said."""
    statuses: tuple[Status, ...]
    """By document: read as it was, repaired, or nothing could be read."""
    words: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Position of a document -> name (contribution, evidence, reason) -> words of the model."""

    @classmethod
    def unread(cls, n: int) -> "Reading":
        """Return a reading that says nothing."""
        return cls(np.full(n, np.nan), statuses("fallback", n))

    @property
    def is_unread(self) -> bool:
        """True if nothing could be read of any document."""
        return bool(np.isnan(self.scores).all())


class Grammar(ABC):
    """A closed form of answers."""

    name: str
    """Title of the schema, by which a scripted model knows what is asked."""
    is_absolute: bool = False
    """Whether scores of different groups are comparable."""
    is_alone: bool = False
    """Whether one document is shown at a time."""

    @abstractmethod
    def ask(self, n: int) -> str:
        """Return the question about n documents, the last words of a prompt."""

    @abstractmethod
    def schema(self, n: int) -> dict[str, Any]:
        """Return the JSON schema of the answer about n documents."""

    @abstractmethod
    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        """Return what an answer says; `names` (n,) may stand in it instead of numbers."""

    @abstractmethod
    def write(self, worths: np.ndarray) -> str:
        """Return the answer of a model that knows the worth (n,) of the documents, 0 to 1."""

    def labels(self, n: int) -> tuple[str, ...]:
        """Return the closed answers whose log-probabilities can be compared; () for none."""
        return ()

    def of_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        """Return (n,) scores of the documents from the log-probabilities (L,) of the labels."""
        raise NotImplementedError

    def tokens(self, n: int) -> int:
        """Return the most tokens that an answer takes."""
        return TOKENS_PER_NUMBER * n + TOKENS_AROUND

    def _titled(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "title": self.name,
            "type": "object",
            "properties": dict(properties),
            "required": list(properties),
            "additionalProperties": False,
        }


class OrderGrammar(Grammar):
    """All documents, best first."""

    name = "order"

    def ask(self, n: int) -> str:
        return (
            f"Order the {n} documents by how well each answers the request, best first. Answer with"
            ' the numbers of all documents as JSON, like {"order": [2, 1, 3]}.'
        )

    def schema(self, n: int) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 1, "maximum": n}
        return self._titled(
            {"order": {"type": "array", "items": number, "minItems": n, "maxItems": n}}
        )

    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        order = read_order(answer, n, names)
        if order.level == 6:
            return Reading.unread(n)
        scores = np.empty(n)
        scores[list(order.places)] = -np.arange(n)
        by_place = dict(zip(order.places, order.statuses, strict=True))
        return Reading(scores, tuple(by_place[doc] for doc in range(n)))

    def write(self, worths: np.ndarray) -> str:
        return json.dumps({"order": (np.argsort(-worths, kind="stable") + 1).tolist()})


class BestGrammar(Grammar):
    """The one best document."""

    name = "best"

    def ask(self, n: int) -> str:
        return (
            f"Which one of the {n} documents answers the request best? Answer with its number as"
            ' JSON, like {"best": 2}.'
        )

    def schema(self, n: int) -> dict[str, Any]:
        return self._titled({"best": {"type": "integer", "minimum": 1, "maximum": n}})

    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        value = read_json(answer)
        if isinstance(value, dict) and len(value) == 1:
            answer = str(next(iter(value.values())))
        order = read_order(answer, n, names)
        if order.level == 6:
            return Reading.unread(n)
        scores = np.zeros(n)
        scores[order.places[0]] = 1
        status: Status = "ranked" if value is not None else "repaired"
        return Reading(scores, statuses(status, n))

    def write(self, worths: np.ndarray) -> str:
        return json.dumps({"best": int(np.argmax(worths)) + 1})

    def labels(self, n: int) -> tuple[str, ...]:
        return tuple(f"[{number}]" for number in range(1, n + 1))

    def of_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        return log_probs

    def tokens(self, n: int) -> int:
        return TOKENS_AROUND


class GradesGrammar(Grammar):
    """A grade from 0 to HIGHEST_GRADE for each document of a group."""

    name = "grades"
    is_absolute = True

    def ask(self, n: int) -> str:
        return (
            f"Grade each of the {n} documents from 0 (does not answer the request) to"
            f" {HIGHEST_GRADE} (answers it fully), in their order. Answer as JSON, like"
            ' {"grades": [7, 0, 3]}.'
        )

    def schema(self, n: int) -> dict[str, Any]:
        grade = {"type": "integer", "minimum": 0, "maximum": HIGHEST_GRADE}
        return self._titled(
            {"grades": {"type": "array", "items": grade, "minItems": n, "maxItems": n}}
        )

    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        value = read_json(spoken(answer))
        grades = value
        if isinstance(value, dict):
            lists = [part for part in value.values() if isinstance(part, list)]
            grades = lists[0] if lists else _labelled_grades(value, n)
        if not isinstance(grades, list):
            return Reading.unread(n)
        scores = np.array([_grade(grade) for grade in grades[:n]] + [np.nan] * (n - len(grades)))
        is_read = ~np.isnan(scores)
        return Reading(scores, tuple("ranked" if read else "fallback" for read in is_read))

    def write(self, worths: np.ndarray) -> str:
        grades = np.clip(np.rint(HIGHEST_GRADE * worths), 0, HIGHEST_GRADE).astype(int)
        return json.dumps({"grades": grades.tolist()})


def _labelled_grades(value: Mapping[str, Any], n: int) -> list[Any] | None:
    """Return the grades (n,) of an object {"[2]": 7, ...}; None where no document has one."""
    by_label = {key.strip("[] "): grade for key, grade in value.items()}
    grades = [by_label.get(str(number)) for number in range(1, n + 1)]
    return None if all(grade is None for grade in grades) else grades


def _grade(value: Any) -> float:
    """Return a grade, NaN for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= HIGHEST_GRADE else np.nan


class GradeGrammar(Grammar):
    """A grade from 0 to HIGHEST_GRADE for one document."""

    name = "grade"
    is_absolute = True
    is_alone = True

    def ask(self, n: int) -> str:
        return (
            f"Grade from 0 to {HIGHEST_GRADE} how well the document answers the request. Answer"
            ' with the number as JSON, like {"grade": 7}.'
        )

    def schema(self, n: int) -> dict[str, Any]:
        return self._titled({"grade": {"type": "integer", "minimum": 0, "maximum": HIGHEST_GRADE}})

    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        grade = read_number(answer, 0, HIGHEST_GRADE)
        if grade is None:
            return Reading.unread(n)
        status: Status = "ranked" if read_json(answer) is not None else "repaired"
        return Reading(np.full(n, grade), statuses(status, n))

    def write(self, worths: np.ndarray) -> str:
        grade = int(np.clip(np.rint(HIGHEST_GRADE * worths.max(initial=0)), 0, HIGHEST_GRADE))
        return json.dumps({"grade": grade})

    def labels(self, n: int) -> tuple[str, ...]:
        return tuple(json.dumps({"grade": grade}) for grade in range(HIGHEST_GRADE + 1))

    def of_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        shares = np.exp(log_probs - log_probs.max())
        return np.array([float(shares @ np.arange(len(shares)) / shares.sum())])

    def tokens(self, n: int) -> int:
        return TOKENS_AROUND


class YesNoGrammar(Grammar):
    """Yes or no: does one document answer the request."""

    name = "yes_no"
    is_absolute = True
    is_alone = True

    def ask(self, n: int) -> str:
        return "Does the document answer the request? Answer yes or no."

    def schema(self, n: int) -> dict[str, Any]:
        return self._titled({"answer": {"type": "string", "enum": ["yes", "no"]}})

    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        value = read_json(answer)
        reply = str(value.get("answer", "")) if isinstance(value, dict) else answer
        choice = read_choice(reply, ("yes", "no"))
        if choice is None:
            return Reading.unread(n)
        return Reading(np.full(n, 1.0 - choice), statuses("ranked", n))

    def write(self, worths: np.ndarray) -> str:
        return json.dumps({"answer": "yes" if worths.max(initial=0) > 0.5 else "no"})

    def labels(self, n: int) -> tuple[str, ...]:
        return ("yes", "no")

    def of_log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        return np.array([1 / (1 + np.exp(log_probs[1] - log_probs[0]))])

    def tokens(self, n: int) -> int:
        return TOKENS_AROUND


class VerdictGrammar(YesNoGrammar):
    """Yes or no for one document, and after yes the words of it that show it."""

    name = "verdict"

    def ask(self, n: int) -> str:
        return (
            "Does the document answer the request? Answer as JSON with yes or no first; after yes,"
            " what it contributes, and the words of the document that show it, like"
            ' {"answer": "yes", "contribution": "names the price", "evidence": "it costs 9"}.'
        )

    def schema(self, n: int) -> dict[str, Any]:
        text = {"type": "string"}
        schema = self._titled(
            {
                "answer": {"type": "string", "enum": ["yes", "no"]},
                "contribution": text,
                "evidence": text,
            }
        )
        return {**schema, "required": ["answer"]}

    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        reading = super().read(answer, n, names)
        value = read_json(answer)
        if not isinstance(value, dict) or not reading.scores.max(initial=0) > 0:
            return reading
        words = {
            name: str(value[name]).strip()
            for name in ("contribution", "evidence")
            if isinstance(value.get(name), str) and value[name].strip()
        }
        return Reading(reading.scores, reading.statuses, {0: words} if words else {})

    def tokens(self, n: int) -> int:
        return 120


@dataclass(frozen=True, eq=False)
class Reasoned(Grammar):
    """An answer of another grammar after the thoughts that lead to it.

    Thoughts may stand before the answer, in <think> or <reason> marks (DeepSeek-R1, 2025), or in
    its first property, "reason". They come back as words of every document that the answer scores
    above all others.
    """

    inner: Grammar
    """The grammar of the answer itself."""
    reason_tokens: int = 256
    """Most tokens of the thoughts."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"reasoned {self.inner.name}"

    @property
    def is_absolute(self) -> bool:  # type: ignore[override]
        return self.inner.is_absolute

    @property
    def is_alone(self) -> bool:  # type: ignore[override]
        return self.inner.is_alone

    def ask(self, n: int) -> str:
        return (
            "Think first, in few sentences, and write that as the first property of the answer,"
            f' "reason". {self.inner.ask(n)}'
        )

    def schema(self, n: int) -> dict[str, Any]:
        return self._titled({"reason": {"type": "string"}, **self.inner.schema(n)["properties"]})

    def read(self, answer: str, n: int, names: Sequence[str] = ()) -> Reading:
        thoughts = [match.group(2) for match in THOUGHTS.finditer(answer)]
        answer = THOUGHTS.sub(" ", answer)
        value = read_json(answer)
        if isinstance(value, dict) and isinstance(value.get("reason"), str):
            thoughts.append(value["reason"])
            answer = json.dumps({key: part for key, part in value.items() if key != "reason"})
        reading = self.inner.read(answer, n, names)
        reason = " ".join(" ".join(thoughts).split())
        if not reason or reading.is_unread:
            return reading
        best = np.flatnonzero(reading.scores == np.nanmax(reading.scores))
        words = {doc: {**reading.words.get(doc, {}), "reason": reason} for doc in best.tolist()}
        return Reading(reading.scores, reading.statuses, {**reading.words, **words})

    def write(self, worths: np.ndarray) -> str:
        reason = f"I compared {len(worths)} documents."
        return json.dumps({"reason": reason, **json.loads(self.inner.write(worths))})

    def tokens(self, n: int) -> int:
        return self.reason_tokens + self.inner.tokens(n)


ORDER, BEST, GRADES = OrderGrammar(), BestGrammar(), GradesGrammar()
GRADE, YES_NO, VERDICT = GradeGrammar(), YesNoGrammar(), VerdictGrammar()
GRAMMARS: dict[str, Grammar] = {
    grammar.name: grammar
    for plain in (ORDER, BEST, GRADES, GRADE, YES_NO, VERDICT)
    for grammar in (plain, Reasoned(plain))
}
