"""Find again what a memory holds: propositions, and the observations behind them.

Pure functions of what is given: no store, no clock. Words, meaning, neighbours, session, date and
speaker are weighed together; confidence and scope come on top.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tailor.data.arrays import in_deviations
from tailor.data.filling import marginal_order
from tailor.errors import DataError
from tailor.llm.prompts import estimated_tokens
from tailor.ports.base import Encoder
from tailor.profiles.propositions import digest_of
from tailor.text.cached import plain
from tailor.text.tfidf import tfidf
from tailor.text.turns import NAMES, DialogueTurn, TurnIndex

WEIGHTS: Mapping[str, float] = {
    "words": 1.0,
    "words beside": 0.75,
    "words of session": 0.75,
    "cosine": 0.75,
    "date": 0.25,
    "speaker": 1.5,
}
"""Of features in standard deviations; chosen on LoCoMo (benchmarks/memory.py)."""
KNEE = 3.0  # weighed deviations of a relevance of one half
ANSWER_WEIGHTS: Mapping[str, float] = {
    "words": 0.39,
    "words beside": 0.26,
    "words of session": 0.22,
    "cosine": 0.51,
    "cosine beside": 0.28,
    "cosine of session": -0.05,
    "date": 0.1,
    "length": 0.79,
    "question": -0.27,
}
"""Of features in deviations: log-odds that a turn holds the answer, whoever says it; learned on
LoCoMo by the reranker MemReranker."""
ANSWER_CONSTANT = -5.86  # of these log-odds
LEAD_WEIGHTS = (0.37, 2.79, 0.25)  # of the leads of `speaker_leads`, and the constant; LoCoMo
LEAST_EXPECTED = 1e-3  # turns expected to hold an answer, that both sides have at least
LEAST_COSINE = 0.2  # of what shares no word with the request, to be recalled at all
OTHER_SCOPE = 0.5  # factor of what holds in another scope than the one asked for
POOL = 4  # candidates a place, from which places are filled
ANSWERS = np.array([ANSWER_WEIGHTS.get(name, 0.0) for name in NAMES])  # F


@dataclass(frozen=True)
class Remembered:
    """Something that can be recalled."""

    id: str
    kind: Literal["proposition", "observation"]
    text: str
    occurred_ms: int = 0
    """When it was said or began to hold, in milliseconds since 1970; 0: not known."""
    speaker: str = ""
    """Who said it; "": nobody in particular."""
    session: str = ""
    """Session of its dialogue; "": turns of one time are one session."""
    number: int | None = None
    """Place in its dialogue; None: nothing stands beside it."""
    confidence: float = 1.0
    """Probability that it holds, from 0 to 1."""
    scope: str = ""
    """When it holds, such as "at work"; "": always."""
    observation_ids: tuple[str, ...] = ()
    """Observations that it rests on."""

    @property
    def turn(self) -> DialogueTurn:
        """It as a turn of a dialogue: the form in which it is searched."""
        return DialogueTurn(
            self.speaker, self.text, self.occurred_ms or None, "", self.number, self.session
        )


@dataclass(frozen=True)
class Recalled:
    """Something that was recalled, and why."""

    id: str
    kind: Literal["proposition", "observation"]
    text: str
    score: float
    """Relevance from 0 to 1, times confidence, times the match of scopes."""
    parts: Mapping[str, float]
    """Weighed deviation of every feature, confidence, scope."""
    observation_ids: tuple[str, ...]


@dataclass(frozen=True)
class Recollection:
    """All that was recalled for a request."""

    items: tuple[Recalled, ...] = ()
    """Best first."""
    answerable: float = 0.0
    """How clearly the memory holds an answer, from 0 to 1; low: better say nothing."""
    tokens: int = 0
    """Upper estimate of the tokens of all texts."""


@dataclass(frozen=True)
class Recall:
    """Finds what of a memory answers a request, with the reasons of each score.

    Each feature of `TurnFeatures` is measured in standard deviations within the memory and weighed;
    a logistic function makes the sum a relevance. What shares no word with the request, and stands
    beside nothing that does, is recalled only by its meaning. Of near-equal texts the second comes
    later (maximal marginal relevance).
    """

    encoder: Encoder | None = None
    """Encoder of texts and requests; None: words, dates and speakers alone."""
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS), hash=False)
    """Feature of `text.turns.NAMES` -> weight; what is not named counts 0."""
    diversity: float = 0.1
    """Weight of unlikeness to what is recalled already, from 0 to below 1."""

    def __post_init__(self) -> None:
        unknown = set(self.weights) - set(NAMES)
        if unknown or not 0 <= self.diversity < 1:
            raise DataError(
                f"weights name {sorted(unknown)}, diversity is {self.diversity}: features are"
                f" {', '.join(NAMES)}, diversity is from 0 to below 1"
            )

    def search(
        self,
        remembered: Sequence[Remembered],
        request: str,
        at_ms: int | None = None,
        k: int = 10,
        budget_tokens: int | None = None,
        scope: str = "",
    ) -> Recollection:
        """Return what answers a request best; `opened(remembered)` is faster when asked again."""
        return self.opened(remembered).search(request, at_ms, k, budget_tokens, scope)

    def opened(
        self, remembered: Sequence[Remembered], vectors: np.ndarray | None = None
    ) -> "OpenedMemory":
        """Return the memory ready for many requests.

        `vectors` (n, D) are those of `lines(remembered)` by this encoder; None: encoded now.
        """
        return OpenedMemory(self, remembered, vectors)

    def vectors(self, remembered: Sequence[Remembered]) -> np.ndarray:
        """Return (n, D) vectors of what is remembered, to be kept and given to `opened`.

        They are in no cache, because they are people's words; D is 0 without an encoder.
        """
        if self.encoder is None:
            return np.zeros((len(remembered), 0), np.float32)
        return plain(self.encoder).encode([entry.turn.line() for entry in remembered])


class OpenedMemory:
    """A memory ready to be searched: what is read once a memory, not once a request."""

    def __init__(
        self, recall: Recall, remembered: Sequence[Remembered], vectors: np.ndarray | None = None
    ) -> None:
        """Read what is remembered; `vectors` are those of `Recall.vectors`."""
        self.recall = recall
        self.remembered = list(remembered)
        if recall.encoder is None:
            vectors = None
        elif vectors is None:
            vectors = recall.vectors(self.remembered)
        self.index = TurnIndex([entry.turn for entry in remembered], recall.encoder, True, vectors)
        self._confidence = np.array([entry.confidence for entry in remembered], float)
        self._times_ms = np.array([entry.occurred_ms for entry in remembered], np.int64)
        self._scopes = np.array([entry.scope for entry in remembered], object)
        # of equals a hash decides, not the order in which they came
        digests = [digest_of([entry.kind, entry.id]) for entry in remembered]
        self._ranks = np.argsort(np.argsort(digests)) if digests else np.zeros(0, np.int64)
        self._weights = np.array([recall.weights.get(name, 0.0) for name in NAMES])

    def __len__(self) -> int:
        return len(self.remembered)

    def search(
        self,
        request: str,
        at_ms: int | None = None,
        k: int = 10,
        budget_tokens: int | None = None,
        scope: str = "",
    ) -> Recollection:
        """Return the k best for a request, within a budget of tokens.

        What occurred after `at_ms` is left out. A scope such as "at work" holds back what is of
        another scope. What does not fit into what is left of the budget is passed over. Raises
        DataError for a k or a budget below 0.
        """
        if k < 0 or (budget_tokens is not None and budget_tokens < 0):
            raise DataError(f"k is {k}, budget_tokens {budget_tokens}: both from 0")
        if not len(self) or not k or not request.strip():
            return Recollection()
        if at_ms is not None and (self._times_ms > at_ms).any():
            return self._until(at_ms).search(request, None, k, budget_tokens, scope)
        raw = self.index.features([request])[0]  # n, F
        deviations = self._deviations(raw)
        parts = deviations * self._weights
        sums = parts.sum(axis=1)
        matches = np.where((self._scopes == scope) | (self._scopes == ""), 1.0, OTHER_SCOPE)
        if not scope:
            matches = np.ones(len(self))
        scores = _logistic(sums - KNEE) * self._confidence * matches
        order = self._ordered(np.where(_is_evident(raw), scores, -np.inf), k)
        items, tokens = self._within_budget(order, k, budget_tokens, scores, parts, matches)
        signs = raw[:, NAMES.index("speaker")]
        return Recollection(items, self._answerable(deviations, sums, signs), tokens)

    def _deviations(self, raw: np.ndarray) -> np.ndarray:
        """Return (n, F) features in deviations; those that count nothing cost nothing."""
        deviations = np.zeros(raw.shape)
        weighed = np.flatnonzero((self._weights != 0) | (ANSWERS != 0))
        columns = [column for column in weighed if raw[:, column].any()]
        values = np.ascontiguousarray(raw.T[columns], np.float64)
        deviations[:, columns] = in_deviations(values).T
        return deviations

    def _until(self, at_ms: int) -> "OpenedMemory":
        """Return the memory as if nothing had occurred after a time.

        It is read anew: later words may not even count for their neighbours.
        """
        rows = np.flatnonzero(self._times_ms <= at_ms)
        vectors = None if self.index.vectors is None else self.index.vectors[rows]
        earlier = [self.remembered[row] for row in rows.tolist()]
        return OpenedMemory(self.recall, earlier, vectors)

    def _ordered(self, scores: np.ndarray, k: int) -> list[int]:
        """Return the rows of the best, near-equal texts apart; of equals by a hash."""
        pool = self._best(scores, POOL * k)
        strength = self.recall.diversity
        rows: list[int] = pool.tolist()
        if not strength or len(rows) < 2:
            return rows
        vectors = tfidf([self.remembered[row].text for row in rows])
        places, _ = marginal_order(
            np.arange(len(pool))[None], scores[pool][None], vectors, strength, len(pool)
        )
        return [rows[position] for position in places[0].tolist()]

    def _best(self, scores: np.ndarray, n: int) -> np.ndarray:
        """Return the rows of the n best that are finite; only those near them are sorted."""
        rows = np.flatnonzero(np.isfinite(scores))
        if len(rows) > n:
            least = np.partition(scores[rows], len(rows) - n)[len(rows) - n]
            rows = rows[scores[rows] >= least]
        return rows[np.lexsort((self._ranks[rows], -scores[rows]))][:n]

    def _within_budget(
        self,
        order: Sequence[int],
        k: int,
        budget_tokens: int | None,
        scores: np.ndarray,
        parts: np.ndarray,
        matches: np.ndarray,
    ) -> tuple[tuple[Recalled, ...], int]:
        """Return the first k that fit into the budget, and their tokens."""
        items: list[Recalled] = []
        tokens = 0
        for row in order:
            entry = self.remembered[row]
            cost = estimated_tokens(entry.text)
            if len(items) == k:
                break
            if budget_tokens is not None and tokens + cost > budget_tokens:
                continue
            reasons = {
                name: round(float(value), 4)
                for name, value in zip(NAMES, parts[row], strict=True)
                if value
            }
            reasons |= {"confidence": entry.confidence, "scope": float(matches[row])}
            observation_ids = entry.observation_ids
            if entry.kind == "observation" and not observation_ids:
                observation_ids = (entry.id,)
            score = round(float(scores[row]), 6)
            items.append(
                Recalled(entry.id, entry.kind, entry.text, score, reasons, observation_ids)
            )
            tokens += cost
        return tuple(items), tokens

    def _answerable(self, deviations: np.ndarray, sums: np.ndarray, signs: np.ndarray) -> float:
        """Return how clearly an answer stands out, from 0 to 1.

        Where the request names a speaker (`signs` of 1 and -1): by how much the turns of that
        speaker lead those of the others, as an answer said by somebody else answers another
        question. Otherwise by the best of all.
        """
        if (signs > 0).any() and (signs < 0).any():
            log_odds = deviations @ ANSWERS + ANSWER_CONSTANT
            leads = [float(lead) for lead in speaker_leads(log_odds, signs)]
            clearness = float(np.dot(LEAD_WEIGHTS, [*leads, 1.0]))
        else:
            clearness = float(sums.max()) - KNEE
        return round(float(_logistic(clearness)), 6)


def speaker_leads(log_odds: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the turns of the speaker asked about lead those of others.

    `log_odds` (..., n) are those of holding the answer; `signs` (..., n) are 1 for a turn of the
    speaker and -1 for others. Returned are the difference of the best turns, and the logarithm of
    the ratio of turns that are expected to hold the answer.
    """
    is_own, is_other = signs > 0, signs < 0
    best_own = np.where(is_own, log_odds, -np.inf).max(axis=-1)
    best_other = np.where(is_other, log_odds, -np.inf).max(axis=-1)
    expected = _logistic(log_odds)
    expected_own = (expected * is_own).sum(axis=-1) + LEAST_EXPECTED
    expected_other = (expected * is_other).sum(axis=-1) + LEAST_EXPECTED
    return best_own - best_other, np.log(expected_own / expected_other)


def _is_evident(raw: np.ndarray) -> np.ndarray:
    """Return (n,) whether rows of features (n, F) share anything with the request."""
    columns = {name: raw[:, column] for column, name in enumerate(NAMES)}
    in_words = (columns["words"] > 0) | (columns["words beside"] > 0)
    is_evident: np.ndarray = (
        in_words
        | (columns["words of session"] > 0)
        | (columns["date"] > 0)
        | (columns["cosine"] >= LEAST_COSINE)
    )
    return is_evident


def _logistic(values: np.ndarray | float) -> np.ndarray:
    probabilities: np.ndarray = np.exp(-np.logaddexp(0, -values))
    return probabilities
