"""Features by which the turns of long dialogues are found again: words, meaning, dates, speakers.

An answer often stands beside the turn that has the question's words, in the session that is about
its subject, at the time that it names, and is said by the one it is about.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from tailor.ports.base import Encoder
from tailor.text.bm25 import BM25
from tailor.text.cached import plain
from tailor.text.words import STOP_WORDS, words

NAMES = (
    "words",
    "words beside",
    "words of session",
    "cosine",
    "cosine beside",
    "cosine of session",
    "date",
    "speaker",
    "length",
    "question",
)
REACH = 2  # turns before and after that count as beside
BESIDE_DECAY = 0.5  # of a neighbour's weight, a turn further
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
MONTH = "|".join(MONTHS)
DAY_BEFORE = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?:{MONTH})\b")
DAY_AFTER = re.compile(rf"\b(?:{MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b")
YEAR = re.compile(r"\b(?:19|20)\d\d\b")
# "may" and "march" are verbs too, unless a number or one of these words stands beside them.
VERBAL = re.compile(
    r"(?<!\bin )(?<!\blast )(?<!\bof )(?<!\bsince )(?<!\d )(?<!\dst )(?<!\dnd )(?<!\drd )(?<!\dth )"
    r"\b(?:may|march)\b(?! \d)"
)
PRONOUNS = frozenset(["he", "she", "they", "it", "him", "her", "them", "his", "their", "its"])
NAME = re.compile(r"(?<![\w'])[A-Z][\w'-]*\w")
GREETINGS = frozenset(["hi", "hey", "hello", "thanks", "thank", "yes", "yeah", "oh", "wow", "okay"])


@dataclass(frozen=True)
class DialogueTurn:
    """One turn of a dialogue, as a memory keeps it."""

    speaker: str
    text: str
    time_ms: int | None = None
    """Milliseconds since 1970, UTC."""
    dialogue_id: str = ""
    """The dialogue that it belongs to."""
    number: int | None = None
    """Number in the dialogue; None: nothing is known of the turns beside it."""
    session_id: str = ""
    """Session of the dialogue; "": turns of one time are one session."""

    @property
    def date(self) -> datetime | None:
        """Date and time, where they are known."""
        return None if self.time_ms is None else datetime.fromtimestamp(self.time_ms / 1000, UTC)

    def line(self, is_dated: bool = True) -> str:
        """Return speaker, text and date as they are searched."""
        date = self.date if is_dated else None
        dated = f" ({date.day} {MONTHS[date.month - 1]} {date.year})" if date else ""
        return f"{self.speaker}: {self.text}{dated}"


@dataclass(frozen=True)
class NamedDate:
    """The parts of a date that a text names."""

    years: frozenset[int]
    months: frozenset[int]
    days: frozenset[int]

    @classmethod
    def of(cls, text: str) -> "NamedDate":
        """Read years, names of months, and days beside a month."""
        plain_text = VERBAL.sub(" ", " ".join(text.lower().replace(",", " ").split()))
        names = re.findall(rf"\b(?:{MONTH})\b", plain_text)
        days = DAY_BEFORE.findall(plain_text) + DAY_AFTER.findall(plain_text)
        return cls(
            frozenset(map(int, YEAR.findall(plain_text))),
            frozenset(MONTHS.index(name) + 1 for name in names),
            frozenset(map(int, days)),
        )

    def match(self, date: datetime | None) -> float:
        """Return the share of the named parts that a date has; 0 where no part is named."""
        if date is None:
            return 0.0
        pairs = [(self.years, date.year), (self.months, date.month), (self.days, date.day)]
        hits = [value in named for named, value in pairs if named]
        return sum(hits) / len(hits) if hits else 0.0


def resolved(request: str, context: Sequence[str], most: int = 3) -> str:
    """Return a request with the last names of its context before it, where it has a pronoun.

    `context` are the dialogue's last turns, oldest first. "Where did she go?" after "Ann is back"
    is "Ann: Where did she go?".
    """
    if not PRONOUNS.intersection(words(request)):
        return request
    common = STOP_WORDS["english"] | GREETINGS | PRONOUNS
    names = [
        name
        for turn in reversed(context)
        for name in reversed(NAME.findall(turn))
        if name.lower() not in common
    ]
    last = list(dict.fromkeys(names))[:most]
    return f"{' '.join(reversed(last))}: {request}" if last else request


@dataclass(frozen=True)
class TurnFeatures:
    """Makes the features of turns for requests, named by NAMES.

    words: BM25 of stems over speaker, text and date; cosine of the line; "beside": those of up to
    REACH turns before and after, by half a turn further; "of session": their mean there; date:
    share of the date's named parts; speaker: 1 if the request names the speaker, -1 if it names
    another, 0 for a turn of nobody in particular; length: log of the words; question: the turn
    asks.
    """

    encoder: Encoder | None
    """Encoder of the cosines; None: they are 0."""
    dates: bool = True
    """Whether dates count, among the words and as a feature."""

    def of(self, turns: Sequence[DialogueTurn], requests: Sequence[str]) -> np.ndarray:
        """Return (R, n, 10) float32 features of n turns for R requests, not yet standardised."""
        if not turns or not requests:
            return np.zeros((len(requests), len(turns), len(NAMES)), np.float32)
        return TurnIndex(turns, self.encoder, self.dates).features(requests)


class TurnIndex:
    """Turns ready to be searched: a request costs no reading of the turns again."""

    def __init__(
        self,
        turns: Sequence[DialogueTurn],
        encoder: Encoder | None,
        dates: bool = True,
        vectors: np.ndarray | None = None,
    ) -> None:
        """Read turns; `vectors` (n, D) are those of their lines, None: they are encoded now."""
        self.encoder, self.dates = encoder, dates
        self.turns = list(turns)
        lines = [turn.line(dates) for turn in turns]
        self._words = BM25(language="english")
        self._words.add(lines)
        self.vectors = vectors
        # turns are people's words: they are cached only where the caller's encoder does it
        if encoder is not None and vectors is None:
            self.vectors = encoder.encode(lines)
        self._surroundings = _Surroundings(turns)
        named = [turn.date for turn in turns]
        self._date_parts = np.array(
            [(date.year, date.month, date.day) if date else (0, 0, 0) for date in named]
        ).reshape(-1, 3)
        speakers, self._speaker_codes = np.unique(
            [turn.speaker for turn in turns], return_inverse=True
        )
        self._speaker_words = [frozenset(words(speaker)) for speaker in speakers.tolist()]
        self._of_turns = np.array(
            [(np.log1p(len(words(t.text))), t.text.rstrip().endswith("?")) for t in turns]
        ).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.turns)

    def features(self, requests: Sequence[str]) -> np.ndarray:
        """Return (R, n, 10) float32 features named by NAMES, not yet standardised."""
        matches = self._words.scores(list(requests)).toarray().astype(np.float32)
        of_turns = np.tile(self._of_turns.T[:, None], (1, len(requests), 1))
        columns = [
            *self._surroundings.widened(matches),
            *self._surroundings.widened(self._cosines(requests)),
            self._dates(requests),
            self.speakers(requests),
            *of_turns,
        ]
        return np.stack(columns, axis=2).astype(np.float32)

    def _cosines(self, requests: Sequence[str]) -> np.ndarray:
        if self.encoder is None or self.vectors is None:
            return np.zeros((len(requests), len(self)), np.float32)
        cosines: np.ndarray = plain(self.encoder).encode(list(requests)) @ self.vectors.T
        return cosines

    def _dates(self, requests: Sequence[str]) -> np.ndarray:
        """Return (R, n) shares of the named parts of a date that the turns' dates have."""
        shares = np.zeros((len(requests), len(self)))
        if not self.dates:
            return shares
        has_date = self._date_parts[:, 0] > 0
        for row, request in enumerate(requests):
            date = NamedDate.of(request)
            named = [date.years, date.months, date.days]
            hits = [
                np.isin(self._date_parts[:, column], list(values))
                for column, values in enumerate(named)
                if values
            ]
            if hits:
                shares[row] = np.mean(hits, axis=0) * has_date
        return shares

    def speakers(self, requests: Sequence[str]) -> np.ndarray:
        """Return (R, n): 1 if a request names the turn's speaker, -1 if it names others only.

        0 for a turn that nobody in particular said.
        """
        all_names = frozenset().union(*self._speaker_words)
        signs = np.zeros((len(requests), len(self)))
        for row, request in enumerate(requests):
            # of "Ann's sister" the name is Ann
            named = all_names.intersection(word.removesuffix("'s") for word in words(request))
            if named:
                is_named = np.array([bool(named & speaker) for speaker in self._speaker_words])
                has_words = np.array([bool(speaker) for speaker in self._speaker_words])
                of_speakers = np.where(is_named, 1.0, -1.0) * has_words
                signs[row] = of_speakers[self._speaker_codes]
        return signs


class _Surroundings:
    """Neighbours and sessions of turns, by their rows in a list."""

    def __init__(self, turns: Sequence[DialogueTurn]) -> None:
        place_of = {
            (turn.dialogue_id, turn.number): row
            for row, turn in enumerate(turns)
            if turn.number is not None
        }
        self.beside = {
            step: np.array(
                [
                    -1
                    if turn.number is None
                    else place_of.get((turn.dialogue_id, turn.number + step), -1)
                    for turn in turns
                ]
            )
            for step in range(-REACH, REACH + 1)
            if step
        }
        sessions = [
            f"alone {row}"
            if turn.number is None
            else f"{turn.dialogue_id} {turn.session_id or turn.time_ms}"
            for row, turn in enumerate(turns)
        ]
        _, self.session_codes = np.unique(sessions, return_inverse=True)

    def widened(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scores (R, n), those of the turns beside, and the means of sessions."""
        beside = np.zeros_like(scores)
        for step, rows in self.beside.items():
            weight = BESIDE_DECAY ** abs(step)
            beside += weight * np.where(rows >= 0, scores[:, rows], 0)
        sizes = np.bincount(self.session_codes)
        sums = [np.bincount(self.session_codes, row, len(sizes)) for row in scores]
        means = (np.reshape(sums, (-1, len(sizes))) / sizes)[:, self.session_codes]
        return scores, beside, means
