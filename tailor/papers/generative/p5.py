"""P5: turn every task of recommendation into a sentence, and learn one net for all of them."""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

import numpy as np
import torch

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.nouns import Explanation, Output, Query, Ranking
from tailor.data.queries import Queries
from tailor.errors import DataError, ModelError
from tailor.generative.record_learner import TEXT_WORDS, RecordData, RecordLearner
from tailor.generative.records import ANSWER, ITEM, Part, Record, Task, shared_words
from tailor.generative.user_events import (
    UserEvents,
    rating_word,
    rating_words,
    tell_words,
)
from tailor.text.hashing import HashingEncoder
from tailor.text.words import words
from tailor.training.sequences import TrainingData

PAPER = Paper(
    "p5",
    "Recommendation as Language Processing (RLP): A Unified Pretrain, Personalized Prompt & Predict"
    " Paradigm (P5)",
    "https://arxiv.org/abs/2203.13366",
    "One net for five families of tasks keeps at least 0.8 of the hits at 10 that it has with as"
    " many records of next items alone, finds them within 15 % as often when asked with a sentence"
    " it has never seen, and tells ratings better than their mean does",
)
Family = Literal["sequential", "rating", "explanation", "review", "direct"]
FAMILIES: tuple[Family, ...] = get_args(Family)
CANDIDATES = 10  # items among which direct recommendation chooses
RATED = 10  # most recent ratings that are read
SENTENCES = {
    "sequential": Task.of(
        "sequential",
        "what should {user} buy next {answer}",
        "after {user} comes {answer}",
        "the history is {user} predict the next item {answer}",
        "someone chose {user} name the one thing that this customer is going to want {answer}",
        "here are purchases {user} recommend one more {answer}",
        "given {user} what is the best item to put on the page {answer}",
        "continue the list {user} with {answer}",
        "a visitor had {user} what would the visitor like next {answer}",
    ),
    "rating": Task.of(
        "rating",
        "with ratings {rated} how many stars for {item} {answer}",
        "ratings so far {rated} predict the stars of {item} {answer}",
        "someone rated {rated} what will the rating of {item} be {answer}",
        "given {rated} rate {item} {answer}",
        "{rated} and {item} gets {answer}",
        "how would a person with {rated} rate {item} {answer}",
        "stars for {item} after {rated} are {answer}",
        "a visitor rated {rated} now guess the stars for {item} {answer}",
    ),
    "explanation": Task.of(
        "explanation",
        "explain why {item} suits {user} by {feature} {answer}",
        "someone chose {user} and now {item} because of {feature} tell why {answer}",
        "write about {item} and {feature} for {user} {answer}",
        "given {user} what speaks for {item} and its {feature} {answer}",
        "the {feature} of {item} in words for {user} {answer}",
        "what would {user} say about {item} and {feature} {answer}",
        "{user} then {item} explain with {feature} {answer}",
        "a visitor had {user} describe {item} with its {feature} {answer}",
    ),
    "review": Task.of(
        "review",
        "the review says {review} how many stars {answer}",
        "{review} the stars are {answer}",
        "predict the rating from the words {review} {answer}",
        "someone wrote {review} which rating came with it {answer}",
        "read {review} and give the stars {answer}",
        "words {review} rating {answer}",
        "from {review} guess the rating {answer}",
        "a visitor wrote {review} guess the stars {answer}",
    ),
    "direct": Task.of(
        "direct",
        "which of {candidates} would {user} like {answer}",
        "choose from {candidates} for {user} {answer}",
        "someone chose {user} pick one of {candidates} {answer}",
        "given {user} the best of {candidates} is {answer}",
        "recommend one of {candidates} after {user} {answer}",
        "out of {candidates} what fits {user} {answer}",
        "{user} will like which of {candidates} {answer}",
        "a visitor had {user} select among {candidates} {answer}",
    ),
}


@dataclass(eq=False)
class P5(RecordLearner):
    """Learn five families of tasks as sentences: next items, ratings, reasons, reviews, choices.

    Each family has eight sentences, of which one is never learned from. Items of a history and
    ratings are told from those before them. A question ends with a mark; after it the net says
    words, or the mark of an item and then the item, so the answer's kind is its own choice
    (`ask`). Recommendations ask the question of next items.

    Differs from the paper: a small net of its own that has read nothing before; a user is told by
    what they chose instead of an id, so strangers are served and a saved model names nobody; an
    item is one token, the sum of the vectors of its sub-tokens, so no whole-word vector has to join
    them; items are generated within those that exist; a rating is the mean of the net's
    probabilities; each user gives each family one record an epoch; sentences are our own.
    """

    families: tuple[str, ...] = FAMILIES
    """Families that are learned: sequential, rating, explanation, review, direct."""
    ids: Literal["sid", "collab", "order", "random"] = "sid"
    """What an item's sub-tokens are made from: its text or vectors (`ids_from`), users' choices,
    its number along the histories that are learned from, or chance.
    """
    template: int = 0
    """Number of the sentence that recommendations ask with, from 0; 7 is the one held out."""

    rating_words_: list[str] = field(init=False, repr=False)
    """Ratings as words, ascending; empty where there are none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted(set(self.families) - set(FAMILIES))
        if unknown or not self.families:
            raise DataError(f"families are {self.families}: they must be among {FAMILIES}")
        sentences = len(SENTENCES["sequential"].templates)
        if not 0 <= self.template < sentences:
            raise DataError(f"template is {self.template}: it must be from 0 to {sentences - 1}")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, epochs=1, batch_places=512)

    # ids

    def _code_vectors(self, training: TrainingData, run: Run) -> np.ndarray:
        source = copy.copy(self)
        source.ids_from = "behaviour" if self.ids == "collab" else self.ids_from
        vectors = super(P5, source)._code_vectors(training, run)
        self.space_ = source.space_ if self.ids == "sid" else ""
        self._first_seen = np.full(len(self.items_), len(training.rows.values))
        seen, first = np.unique(training.rows.values, return_index=True)
        self._first_seen[seen[seen >= 0]] = first[seen >= 0]
        return vectors

    def _encode_items(
        self, vectors: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Any]]:
        first_seen = self.__dict__.pop("_first_seen")
        if self.ids in ("sid", "collab") or not len(vectors):
            return super()._encode_items(vectors, rng)
        order = np.argsort(first_seen, kind="stable")
        if self.ids == "random":
            order = rng.permutation(len(vectors))
        numbers = np.empty(len(vectors), dtype=np.int64)
        numbers[order] = np.arange(len(vectors))
        self.codebooks_ = {}
        return digits_of(numbers, self.levels + 1), {}

    # learning

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        assert isinstance(training, RecordData)
        self.rating_words_ = rating_words(training.users)
        return super()._prepare_items(training, run)

    def _told_words(self, training: RecordData) -> Iterable[Sequence[str]]:
        for family in self.families:
            for template in SENTENCES[family].seen:
                yield [piece for piece, is_slot in template.pieces if not is_slot]
        yield self.rating_words_
        if {"explanation", "review"} & set(self.families):
            yield from (words(text) for text in self._item_texts(training.data))
            if "texts" in training.users.columns:
                texts = training.users.columns["texts"]
                by_user = [[text or "" for text in texts[user]] for user in range(len(texts))]
                shared = set(shared_words(by_user))
                for text in texts.values:
                    yield [word for word in words(text or "")[:TEXT_WORDS] if word in shared]

    def _make_records(self, training: RecordData, rng: np.random.Generator) -> list[Record]:
        users = training.users
        records = []
        for user in np.flatnonzero(users.histories.lengths > 1).tolist():
            events = UserEvents.of(users, user)
            for family in self.families:
                record = self._record(family, events, rng)
                if record is not None:
                    records.append(replace(record, task=FAMILIES.index(family)))
        return records

    def _record(self, family: str, events: UserEvents, rng: np.random.Generator) -> Record | None:
        """Return a record of a family about a user; None where the data do not have one."""
        event = int(rng.integers(1, len(events.rows)))
        row = events.rows[event]
        template = SENTENCES[family].draw(rng)
        fields: dict[str, Sequence[Part]] = {
            "user": events.rows[max(0, event - self.length) : event],
            "item": [row],
        }
        if family == "sequential":
            later = events.rows[event : event + self.length]
            return template.fill(fields, later, spoken=["user"])
        if family == "direct":
            others = rng.choice(len(self.items_), min(CANDIDATES, len(self.items_)), replace=False)
            candidates = [*others[others != row].tolist()[: CANDIDATES - 1], row]
            fields["candidates"] = rng.permutation(candidates).tolist()
            return template.fill(fields, [row])
        rating = self._rating_word(events.values[event])
        if family == "rating":
            fields["rated"] = self._rated(events, event)
            record = template.fill(fields, [rating], spoken=["rated"])
            return tell_words(record) if rating else None
        text = words(events.texts[event])[:TEXT_WORDS]
        if not text:
            return None
        if family == "review":
            return template.fill({"review": text}, [rating]) if rating else None
        fields["feature"] = self._feature(row, text)
        return template.fill(fields, text)

    def _rating_word(self, value: float) -> str:
        word = rating_word(value)
        return word if word in self.rating_words_ else ""

    def _rated(self, events: UserEvents, stop: int) -> list[Part]:
        """Return the items before an event that were rated, each with its rating."""
        parts: list[Part] = []
        for event in range(max(0, stop - RATED), stop):
            word = self._rating_word(events.values[event])
            parts += [events.rows[event], word] if word else []
        return parts

    def _feature(self, row: int, text: Sequence[str] = ()) -> list[Part]:
        """Return the rarest telling word of an item, of those that a text says where it does."""
        start, stop = self.item_words_.indptr[row : row + 2]
        rarest_first = start + np.argsort(-self.item_words_.data[start:stop], kind="stable")
        telling = self.telling_words_.ids[self.item_words_.indices[rarest_first]].tolist()
        in_text = [word for word in telling if word in text]
        best = in_text or telling
        return list(best[:1])

    # answering

    def _prompts(self, queries: Queries) -> list[Record]:
        template = SENTENCES["sequential"].templates[self.template]
        records = []
        for i in range(len(queries)):
            history: list[Part] = queries.histories[i][-self.length :].tolist()
            record = template.fill({"user": history})
            records.append(Record((*record.parts, ITEM)))
        return records

    def rate(self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return the expected ratings (K,) of named items by each query, NaN for unknown items.

        The net reads the ratings in the history (`History.values`). Raises ModelError where it has
        learned no ratings.
        """
        self._check_fitted()
        if not self.rating_words_ or "rating" not in self.families:
            raise ModelError(f"{self.name} has learned no ratings: fit it on events with values")
        batch = Queries.of(queries).reindexed(self.items_)
        if len(item_ids) != len(batch):
            raise DataError(f"{len(item_ids)} lists of item ids for {len(batch)} queries")
        template = SENTENCES["rating"].seen[0]
        rows = Ragged.of([self.items_.rows(ids) for ids in item_ids])
        records = []
        for query, row in zip(rows.row_ids.tolist(), rows.values.tolist(), strict=True):
            events = UserEvents.of(batch, query)
            rated = self._rated(events, len(events.rows))
            records.append(template.fill({"rated": rated, "item": [max(row, 0)]}))
        ratings = self._expected_ratings(records, self.rating_words_)
        return np.split(np.where(rows.values >= 0, ratings, np.nan), rows.offsets[1:-1])

    def ask(self, text: str, query: Query | None = None, k: int = 1) -> Output:
        """Answer a question in words: with up to k items, or with words.

        The name of the user in `text` (`query.user_id`) stands for what they chose, and ids of
        items for the items; where no name is in it, the history comes first. The net says itself
        whether items or words answer.
        """
        self._check_fitted()
        if not text.strip():
            raise DataError("the question is empty: ask for something")
        query = query or Query()
        batch = Queries.of([query]).reindexed(self.items_)
        history: list[Part] = batch.histories[0][-self.length :].tolist()
        parts = self._parts_of(text, query, history)
        record = Record((*parts, ANSWER))
        if self._says_item(record):
            with torch.inference_mode():
                states = self._states_after([Record((*record.parts, ITEM))])
                rows, _ = self._rank_by_beam(states, k, batch, None)
            ids = tuple(self.items_.named(rows[0][rows[0] >= 0]))
            return Output(", ".join(ids), item_ids=ids)
        return Output(" ".join(self._say([record], TEXT_WORDS)[0]))

    def _parts_of(self, text: str, query: Query, history: list[Part]) -> list[Part]:
        """Return a question as the net reads it."""
        parts: list[Part] = []
        names_user = False
        for token in re.findall(r"\S+", text):
            bare = token.strip("?!.,;:()'\"")
            row = int(self.items_.rows([bare])[0])
            if query.user_id is not None and bare == query.user_id:
                parts += history
                names_user = True
            elif row >= 0:
                parts.append(row)
            else:
                parts += words(token)
        return parts if names_user else [*history, *parts]

    def _says_item(self, record: Record) -> bool:
        """Return whether the net begins its answer with the mark of an item."""
        with torch.inference_mode():
            logits = self._body(self._ready()).word_logits(self._states_after([record]))
        return int(logits.argmax()) == self._row_of(ITEM)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Explain items in words that the net says, as users say them of items that they chose.

        The evidence is that of `Speller.explain`, similarities of codes: the words are made for
        item and history, and are no account of what the net computed.
        """
        explanations = super().explain(queries, rankings)
        if "explanation" in self.families:
            self._add_reasons(explanations, queries, rankings, self._why)
        return explanations

    def _why(self, queries: Queries, i: int, row: int) -> Record:
        """Return the question why an item suits a query over `items_`."""
        history: list[Part] = queries.histories[i][-self.length :].tolist()
        feature = self._feature(row)
        fields: dict[str, Sequence[Part]] = {"user": history, "item": [row], "feature": feature}
        return SENTENCES["explanation"].seen[0].fill(fields)


def digits_of(numbers: np.ndarray, length: int) -> np.ndarray:
    """Return the digits (N, length) of numbers from 0 to N - 1, in the smallest base that does."""
    base = max(2, int(np.ceil(len(numbers) ** (1 / length) - 1e-9)))
    powers = base ** np.arange(length - 1, -1, -1)
    return (numbers[:, None] // powers % base).astype(np.int32)
