"""Proposers: what observations say about a user, as drafts in closed form.

A proposer concludes and never decides: what is believed of all drafts is computed by
`profiles.revision`. Without a language model drafts come from patterns, opinions and counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Protocol, get_args

from tailor.data.dataset import Dataset
from tailor.data.nouns import Fact, History, Query
from tailor.errors import DataError
from tailor.llm.fencing import fenced
from tailor.llm.metered import without_cache
from tailor.llm.parsing import read_json
from tailor.llm.prompts import Template, estimated_tokens
from tailor.ports.base import LanguageModel
from tailor.profiles.interaction_profile import InteractionProfile
from tailor.profiles.propositions import (
    DAY_MS,
    EDITED,
    GUESSED,
    INFERRED,
    STATED,
    Draft,
    Observation,
    Slot,
    digest_of,
)
from tailor.profiles.rules import statements
from tailor.profiles.sensitive_words import sensitivity_of
from tailor.profiles.wishes import MAX_CHARACTERS, asks_to_forget
from tailor.text.keywords import mentions, phrases

MOST_ASPECTS = 50  # of a review
TEXT_KINDS = ("chat", "review", "edit", "import")
SLOTS: tuple[str, ...] = get_args(Slot)
SHORT_REQUEST = 9  # words of a request not to remember that has no subject of its own
HABITS = {
    "part of the day": "is active in",
    "repeats": "often takes",
    "price": "chooses the",
}
"""Names of labels that are habits, not likes -> predicate."""


class Proposer(Protocol):
    """Concludes drafts from observations; the same observations give the same drafts."""

    @property
    def name(self) -> str:
        """Name and version, such as "rules@1": it stands in every draft."""

    def propose(self, observations: Sequence[Observation]) -> list[Draft]:
        """Return what each observation says, in the order of the observations."""


@dataclass(frozen=True)
class RuleProposer:
    """Reads what users say of themselves in plain sentences, by patterns (`profiles.rules`).

    Words of other speakers, quotes, questions and wishes say nothing. What a text asks not to
    remember is not concluded, nor is what the same speaker said just before.
    """

    speakers: tuple[str, ...] = ("user",)
    """Speakers who are the user."""

    @property
    def name(self) -> str:
        return "rules@1"

    def propose(self, observations: Sequence[Observation]) -> list[Draft]:
        texts = [
            observation for observation in observations if _is_own_text(observation, self.speakers)
        ]
        withdrawn = withdrawn_ids(texts)
        return [
            Draft(
                observation.observation_id,
                statement.slot,
                statement.predicate,
                statement.object,
                statement.sign,
                STATED if observation.kind != "edit" else EDITED,
                observation.occurred_ms if statement.since_ms is None else statement.since_ms,
                statement.scope,
                self.name,
                statement.span,
                statement.sensitivity,
                statement.act,
            )
            for observation in texts
            if observation.observation_id not in withdrawn
            for statement in statements(observation.text, observation.occurred_ms)
        ]


def _is_own_text(observation: Observation, speakers: Sequence[str]) -> bool:
    is_text = observation.kind in TEXT_KINDS and bool(observation.text.strip())
    return is_text and observation.speaker in speakers


def withdrawn_ids(observations: Sequence[Observation]) -> set[str]:
    """Return the observations that must not be concluded from.

    A request not to remember takes back its own text, and where that says nothing of the user,
    what was said before it in the same place.
    """
    withdrawn: set[str] = set()
    for i, observation in enumerate(observations):
        if not asks_to_forget(observation.text):
            continue
        withdrawn.add(observation.observation_id)
        is_about_before = len(observation.text.split()) <= SHORT_REQUEST
        if i and is_about_before and observations[i - 1].source == observation.source:
            withdrawn.add(observations[i - 1].observation_id)
    return withdrawn


@dataclass(frozen=True)
class AspectProposer:
    """Concludes from reviews which aspects a user likes or not, by the words' polarity.

    "The stitching is superb" supports "likes stitching" with the weight of an inference times the
    strength of the opinion. Where a rating contradicts the words, nothing is concluded. English;
    needs the package vaderSentiment.
    """

    aspects: tuple[str, ...] = ()
    """Aspects to look for; empty: every phrase of up to three telling words."""
    least_polarity: float = 0.3
    """Strength of an opinion below which nothing is concluded, from 0 to 1."""
    middle_rating: float = 3.0
    """Rating that is neither good nor bad."""

    def __post_init__(self) -> None:
        if not 0 < self.least_polarity <= 1:
            raise DataError(f"least_polarity is {self.least_polarity}: above 0, up to 1")

    @property
    def name(self) -> str:
        return "aspects@1"

    def propose(self, observations: Sequence[Observation]) -> list[Draft]:
        reviews = [
            observation
            for observation in observations
            if observation.kind == "review" and observation.text.strip()
        ]
        return [draft for observation in reviews for draft in self._of_review(observation)]

    def _of_review(self, review: Observation) -> list[Draft]:
        if asks_to_forget(review.text):
            return []
        drafts: dict[str, Draft] = {}
        text = review.text[:MAX_CHARACTERS]
        aspects = self.aspects or _aspects(text)
        for mention in mentions(text, aspects[:MOST_ASPECTS]):
            rating_sign = 0.0 if review.value is None else review.value - self.middle_rating
            is_contradicted = mention.polarity * rating_sign < 0
            if abs(mention.polarity) < self.least_polarity or is_contradicted:
                continue
            start = text.find(mention.clause)
            drafts.setdefault(
                mention.aspect,
                Draft(
                    review.observation_id,
                    "preference",
                    "likes",
                    mention.aspect,
                    1 if mention.polarity > 0 else -1,
                    INFERRED * abs(mention.polarity),
                    review.occurred_ms,
                    "",
                    self.name,
                    None if start < 0 else (start, start + len(mention.clause)),
                    sensitivity_of(mention.aspect),
                ),
            )
        return list(drafts.values())


def _aspects(text: str) -> tuple[str, ...]:
    """Return the phrases of a text that are no praise or blame themselves."""
    names = dict.fromkeys(phrases(text))
    return tuple(name for name in names if not any(m.polarity for m in mentions(name, [name])))


@dataclass(frozen=True)
class LogProposer:
    """Concludes from events what a user chooses more often than usual.

    Statistics are those of a fitted `InteractionProfile`: over-represented attributes and halves
    of the price, parts of the day, repeats; besides the price band, and items bought again and
    again at like distances. The events of the items named as evidence support a conclusion.
    """

    profiler: InteractionProfile
    """A fitted profiler: the usual shares, and the attributes of the items."""
    least_repeats: int = 3
    """Purchases of one item from which on a cycle is concluded."""
    most_spread: float = 0.35
    """Deviation of the distances of a cycle, in shares of their mean, at most."""

    def __post_init__(self) -> None:
        if self.least_repeats < 3 or not self.most_spread > 0:
            raise DataError(
                f"least_repeats is {self.least_repeats}, most_spread {self.most_spread}: from 3,"
                " above 0"
            )

    @classmethod
    def of(cls, data: Dataset, **settings: Any) -> "LogProposer":
        """Return a proposer that knows a data set's usual shares."""
        return cls(InteractionProfile(**settings).fit(data))

    @property
    def name(self) -> str:
        return "log@1"

    def propose(self, observations: Sequence[Observation]) -> list[Draft]:
        events = [
            observation
            for observation in observations
            if observation.kind == "event" and observation.item_id
        ]
        events.sort(key=lambda observation: (observation.occurred_ms, observation.observation_id))
        if not events:
            return []
        history = History(
            tuple(str(observation.item_id) for observation in events),
            tuple(observation.occurred_ms for observation in events),
        )
        (profile,) = self.profiler.profile([Query("user", history)])
        drafts = [draft for fact in profile.facts for draft in self._of_fact(fact, events)]
        band = profile.attributes.get("price_band")
        if band:
            drafts.append(
                self._draft(events[-1], "constraint", "price band", f"{band[0]:g} to {band[1]:g}")
            )
        return [*drafts, *self._cycles(events)]

    def _of_fact(self, fact: Fact, events: Sequence[Observation]) -> list[Draft]:
        items = {evidence.id for evidence in fact.evidence}
        name, value = str(fact.details["slot"]), str(fact.details["object"])
        slot: Slot = "style" if name in HABITS else "preference"
        predicate = HABITS.get(name, "likes")
        supporting = [observation for observation in events if observation.item_id in items]
        return [self._draft(observation, slot, predicate, value) for observation in supporting]

    def _cycles(self, events: Sequence[Observation]) -> list[Draft]:
        """Return a draft for each item that comes back at like distances."""
        by_item: dict[str, list[Observation]] = {}
        for observation in events:
            by_item.setdefault(str(observation.item_id), []).append(observation)
        drafts = []
        for item_id, of_item in by_item.items():
            days = [observation.occurred_ms / DAY_MS for observation in of_item]
            gaps = [later - earlier for earlier, later in pairwise(days)]
            if len(of_item) < self.least_repeats or min(gaps) < 1:
                continue
            mean = sum(gaps) / len(gaps)
            spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
            if spread <= self.most_spread * mean:
                text = f"{item_id} every {mean:.0f} days"
                drafts.append(self._draft(of_item[-1], "style", "buys again", text))
        return drafts

    def _draft(self, event: Observation, slot: Slot, predicate: str, text: str) -> Draft:
        return Draft(
            event.observation_id,
            slot,
            predicate,
            text,
            1,
            INFERRED,
            event.occurred_ms,
            "",
            self.name,
            None,
            sensitivity_of(text),
        )


@dataclass(frozen=True)
class RatingProposer:
    """Concludes from rated events which attributes a user likes more, or less, than the rest.

    Every rating above the user's mean speaks for each attribute of its item, every one below it
    against it; one at the mean says nothing. Events without a value say nothing: to come across
    something is not to like it.
    """

    profiler: InteractionProfile
    """A fitted profiler: the attributes of the items."""
    names: tuple[str, ...] = ("categories",)
    """Attributes that are weighed."""

    @property
    def name(self) -> str:
        return "ratings@1"

    def propose(self, observations: Sequence[Observation]) -> list[Draft]:
        rated = [o for o in observations if o.kind == "event" and o.item_id and o.value is not None]
        if not rated:
            return []
        mean = sum(o.value or 0.0 for o in rated) / len(rated)
        rows = self.profiler.items_.rows([str(o.item_id) for o in rated]).tolist()
        return [
            Draft(
                observation.observation_id,
                "preference",
                "likes",
                text,
                1 if (observation.value or 0.0) > mean else -1,
                INFERRED,
                observation.occurred_ms,
                "",
                self.name,
                None,
                sensitivity_of(text),
            )
            for observation, row in zip(rated, rows, strict=True)
            if row >= 0 and observation.value != mean
            for text in self._attributes(row)
        ]

    def _attributes(self, row: int) -> list[str]:
        """Return the values of the weighed attributes of an item."""
        labels = [self.profiler.labels_.ids[i] for i in self.profiler.item_labels_[row].tolist()]
        parts = [label.partition(": ") for label in labels]
        return [value for name, _, value in parts if name in self.names]


TEMPLATE = Template(
    "You read what one person wrote or did, line by line, and note what it says about that person."
    "\nLines:\n{lines}\n\n"
    "Note only what the lines say of the person who wrote them, not of others, and nothing that a"
    " line asks not to keep. Seeing something is not liking it. Answer with JSON alone:"
    ' {"notes": [{"line": 1, "slot": "preference", "predicate": "likes", "object": "green tea",'
    ' "sign": 1}]}. Slots: ' + ", ".join(SLOTS) + ". sign is -1 for a denial. At most 12 notes;"
    ' {"notes": []} where there is nothing to note.',
    listed=("lines",),
)
NOTES_SCHEMA: dict[str, Any] = {
    "title": "notes",
    "type": "object",
    "properties": {
        "notes": {
            "type": "array",
            "maxItems": 12,
            "items": {
                "type": "object",
                "properties": {
                    "line": {"type": "integer", "minimum": 1},
                    "slot": {"enum": list(SLOTS)},
                    "predicate": {"type": "string", "maxLength": 40},
                    "object": {"type": "string", "maxLength": 120},
                    "sign": {"enum": [1, -1]},
                },
                "required": ["line", "slot", "predicate", "object", "sign"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["notes"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class LLMProposer:
    """Asks a language model what observations say; its notes weigh as guesses.

    Texts are fenced and never instructions. A note must name its line; its object must stand in
    that line, so that nothing invented is remembered. Answers are kept in no cache: they hold
    people's words.
    """

    llm: LanguageModel
    """The language model."""
    is_repeatable: ClassVar[bool] = False
    lines: int = 20
    """Observations of one prompt."""
    budget: int = 2_000
    """Tokens of a prompt, at most."""
    max_tokens: int = 400
    """Tokens of an answer, at most."""
    speakers: tuple[str, ...] = ("user",)
    """Speakers who are the user."""

    def __post_init__(self) -> None:
        if self.lines < 1 or self.budget < 1 or self.max_tokens < 1:
            raise DataError(
                f"lines is {self.lines}, budget {self.budget}, max_tokens {self.max_tokens}: from 1"
            )

    @property
    def name(self) -> str:
        return f"llm@1 {digest_of(self.llm.fingerprint)[:8]}"

    def propose(self, observations: Sequence[Observation]) -> list[Draft]:
        texts = [
            observation for observation in observations if _is_own_text(observation, self.speakers)
        ]
        withdrawn = withdrawn_ids(texts)
        readable = [
            observation for observation in texts if observation.observation_id not in withdrawn
        ]
        batches = [
            readable[start : start + self.lines] for start in range(0, len(readable), self.lines)
        ]
        if not batches:
            return []
        prompts = [
            TEMPLATE.filled(
                self.budget,
                estimated_tokens,
                lines=[fenced(observation.text) for observation in batch],
            ).text
            for batch in batches
        ]
        answers = without_cache(self.llm).complete(
            prompts, max_tokens=self.max_tokens, schema=NOTES_SCHEMA
        )
        return [
            draft
            for batch, answer in zip(batches, answers, strict=True)
            if not answer.error
            for draft in self._drafts(batch, answer.text)
        ]

    def _drafts(self, batch: Sequence[Observation], answer: str) -> list[Draft]:
        """Return the drafts of an answer; notes that break the form are passed over."""
        value = read_json(answer)
        notes = value.get("notes") if isinstance(value, dict) else value
        drafts = [self._draft(batch, note) for note in notes] if isinstance(notes, list) else []
        return [draft for draft in drafts if draft is not None]

    def _draft(self, batch: Sequence[Observation], note: Any) -> Draft | None:
        if not isinstance(note, dict):
            return None
        line = note.get("line")
        predicate = str(note.get("predicate", "")).strip()
        text = str(note.get("object", "")).strip()
        is_line = isinstance(line, int) and 1 <= line <= len(batch)
        if not is_line or note.get("slot") not in SLOTS or not predicate or not text:
            return None
        slot: Slot = note["slot"]
        observation = batch[note["line"] - 1]
        start = observation.text.casefold().find(text.casefold())
        if start < 0:
            return None
        sign: Literal[1, -1] = -1 if note.get("sign") == -1 else 1
        return Draft(
            observation.observation_id,
            slot,
            " ".join(predicate.split()).casefold(),
            text,
            sign,
            GUESSED,
            observation.occurred_ms,
            "",
            self.name,
            (start, start + len(text)),
            sensitivity_of(f"{predicate} {text}"),
        )
