"""ULMRec: say who a user is, as a code learned from their reviews, before what they chose."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.data.vocabulary import tie_hash
from tailor.errors import DataError
from tailor.generative.record_learner import RecordData, RecordLearner
from tailor.generative.records import ITEM, Part, Record, Task, shared_words
from tailor.nn.quantizers import Codebooks, ResidualKMeans, code_report, unit
from tailor.text.cached import plain
from tailor.text.hashing import HashingEncoder
from tailor.text.words import words
from tailor.training.sequences import TrainingData
from tailor.training.validation import Validation

PAPER = Paper(
    "ulmrec",
    "ULMRec: User-centric Large Language Model for Sequential Recommendation",
    "https://arxiv.org/abs/2412.05543",
    "Where reviews alone tell the taste, the code of a user's reviews before the history finds the"
    " next item at least 1.5 times as often at rank 1 as the same net without it, and the code of"
    " a user of another taste finds it less often than none",
)
REVIEW_WORDS = 30  # words of a review that are read or said, and of all reviews with index "words"
NEAREST = 300  # frequent words of reviews among which those nearest to a code are looked for
NEXT = Task.of(
    "next item",
    "user {index} chose {history} and then {answer}",
    "{index} bought {history} what is next {answer}",
    "history of {index} : {history} recommend {answer}",
)
TO_REVIEW = Task.of(
    "review of a code",
    "user {index} wrote {answer}",
    "what does {index} say {answer}",
    "words of {index} : {answer}",
)
TO_INDEX = Task.of(
    "code of a review",
    "{review} was written by user {answer}",
    "who wrote {review} {answer}",
    "author of {review} : {answer}",
)
TO_TITLE = Task.of(
    "next title",
    "user {index} chose {history} the next is called {answer}",
    "{index} bought {history} title of the next {answer}",
    "history of {index} : {history} name what follows {answer}",
)
TO_FAVOURITES = Task.of(
    "favourite words",
    "user {index} likes {answer}",
    "what is {index} fond of {answer}",
    "favourites of {index} : {answer}",
)
TASKS = (NEXT, TO_REVIEW, TO_INDEX, TO_TITLE, TO_FAVOURITES)


@dataclass(frozen=True)
class UserCode:
    """The code of a user, and words of reviews that mean about the same."""

    digits: tuple[int, ...]
    """From coarse to fine; empty for a user without reviews."""
    words: tuple[str, ...]
    """The nearest first."""


@dataclass(eq=False)
class ULMRec(RecordLearner):
    """Tell users with equal histories apart by a code of what they wrote.

    Residual k-means turns the mean vector of a user's reviews into a few digits. They stand before
    the history, from which the next item is generated. In equal shares with it, the net learns to
    tell reviews and favourite words from codes, codes from reviews, and titles. A query brings its
    own reviews in its history, so strangers are encoded and nothing is refitted.

    Differs from the paper: a small net of our own in place of a language model with LoRA; an item
    is one token, read off the vector of its title, and spelled by its title's code; the mean of
    reviews in place of attention by a user's id; codes are not made unique, since a unique code is
    the user's id; a code is made of reviews older than what is predicted.
    """

    index: Literal["reviews", "words", "random", "none"] = "reviews"
    """What stands before the history: the code of the reviews, their words, digits drawn by the
    user's id, or nothing.
    """
    user_levels: int = 3
    """Digits of a user's code."""
    user_words: int = 64
    """Codewords per digit of users, at most; one for eight users among few."""
    nearest: int = 5
    """Words that `user_code` says of a code."""

    user_books_: np.ndarray = field(init=False, repr=False)
    """(user_levels, K, E) codewords of users."""
    user_lengths_: np.ndarray = field(init=False, repr=False)
    """(user_levels, K) mean lengths of what the codewords of users leave."""
    user_centre_: np.ndarray = field(init=False, repr=False)
    """(E,) mean vector of users, subtracted before a vector is coded."""
    review_words_: list[str] = field(init=False, repr=False)
    """Frequent words of reviews, each written by several users."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, minimum in {"user_levels": 1, "user_words": 2, "nearest": 1}.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            encoder=HashingEncoder(32), levels=2, width=8, epochs=1, user_levels=2, batch_places=512
        )

    # learning

    def _marks(self) -> list[str]:
        size = self.user_books_.shape[1] if self.index == "reviews" else self.user_words
        return [_mark(level, digit) for level in range(self.user_levels) for digit in range(size)]

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        assert isinstance(training, RecordData)
        self._reviews = _reviews_of(training.users)
        self.review_words_ = shared_words(self._reviews)
        self._before = self._learn_codes(training, run)
        report = super()._prepare_items(training, run)
        return {**report, "users": self._user_report}

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        self._titles = [words(text) for text in self._titles_of(training)]
        try:
            return super()._train(training, validation, run)
        finally:  # users' own words and codes are kept nowhere
            del self._titles, self._before, self._reviews, self._user_report

    def _learn_codes(self, training: RecordData, run: Run) -> list[np.ndarray]:
        """Learn codebooks of users; return (L + 1, levels) codes of each user before each event.

        Row t is the code of the reviews of the first t events; -1 where there are none.
        """
        vectors = self._review_vectors(self._reviews)
        sums = [_running_sums(rows) for rows in vectors]
        totals = np.array([rows[-1] for rows in sums]).reshape(len(sums), -1)
        is_writer = totals.any(axis=1)
        users = unit(totals[is_writer]).astype(np.float32)
        self.user_books_ = np.zeros((self.user_levels, 0, totals.shape[1]), np.float32)
        self.user_lengths_ = np.zeros((self.user_levels, 0), np.float32)
        self.user_centre_ = np.zeros(totals.shape[1], np.float32)
        self._user_report: dict[str, Any] = {"with reviews": len(users)}
        if len(users):
            self.user_centre_ = users.mean(axis=0)
            books = ResidualKMeans(self.user_levels, self.user_words).fit(
                users - self.user_centre_, run.rng("users")
            )
            self.user_books_, self.user_lengths_ = books.words, books.lengths
            sizes = [books.words.shape[1]] * self.user_levels
            codes = books.encode(users - self.user_centre_)
            self._user_report |= code_report(codes, sizes)
        return [self._encode_users(rows) for rows in sums]

    def _review_vectors(self, reviews: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return (L, E) the vectors of each user's reviews, zero where there is none.

        Nothing is kept in the encoder's cache: reviews are users' own words.
        """
        encoder = plain(encoder_of(self.encoder))
        distinct = sorted({text for texts in reviews for text in texts if text})
        numbers = {text: number for number, text in enumerate(distinct)}
        vectors = encoder.encode(distinct)
        table = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), vectors.dtype)])
        return [table[[numbers.get(text, -1) for text in texts]] for texts in reviews]

    def _encode_users(self, sums: np.ndarray) -> np.ndarray:
        """Return the codes (n, levels) of sums of vectors (n, E); -1 where there is no review."""
        codes = np.full((len(sums), self.user_levels), -1, np.int32)
        is_writer = sums.any(axis=1)
        if is_writer.any() and self.user_books_.shape[1]:
            books = Codebooks(self.user_books_, self.user_lengths_)
            vectors = unit(sums[is_writer]).astype(np.float32)
            codes[is_writer] = books.encode(vectors - self.user_centre_)
        return codes

    def _told_words(self, training: RecordData) -> Iterable[Sequence[str]]:
        for task in TASKS:
            for template in task.seen:
                yield [piece for piece, is_slot in template.pieces if not is_slot]
        yield from (words(text) for text in self._titles_of(training))
        yield self.review_words_

    def _make_records(self, training: RecordData, rng: np.random.Generator) -> list[Record]:
        histories = training.users.histories
        records = []
        for user in np.flatnonzero(histories.lengths > 1).tolist():
            rows = histories[user].tolist()
            for number in range(len(TASKS)):
                cut = int(rng.integers(1, len(rows)))
                earlier = rows[max(0, cut - self.length) : cut]
                index = self._index_of(
                    training.users.user_ids[user],
                    self._reviews[user][:cut],
                    self._before[user][cut],
                )
                record = self._align(number, index, earlier, rows[cut], user, cut, rng)
                if record is None:  # equal shares: what cannot be told makes room for next items
                    later = rows[cut : cut + self.length]
                    fields = {"index": index, "history": earlier}
                    record = NEXT.draw(rng).fill(fields, later)
                records.append(record)
        return records

    def _align(
        self,
        number: int,
        index: list[Part],
        earlier: list[int],
        target: int,
        user: int,
        cut: int,
        rng: np.random.Generator,
    ) -> Record | None:
        """Return the record of an alignment task about a user; None for the first task.

        None too where the user has no code or no review before the cut.
        """
        task = TASKS[number]
        history: list[Part] = [*earlier]
        if task is TO_TITLE:
            title = self._titles[target]
            fields = {"index": index, "history": history}
            return task.draw(rng).fill(fields, title, task=number) if title else None
        reviews = [text for text in self._reviews[user][:cut] if text]
        if task is NEXT or not index or not reviews:
            return None
        if task is TO_FAVOURITES:
            counts = Counter(word for row in earlier for word in self._titles[row])
            favourites = [word for word, _ in counts.most_common(3)]
            return task.draw(rng).fill({"index": index}, favourites, task=number)
        review = words(reviews[int(rng.integers(len(reviews)))])[:REVIEW_WORDS]
        if task is TO_REVIEW:
            return task.draw(rng).fill({"index": index}, review, task=number)
        return task.draw(rng).fill({"review": review}, index, task=number)

    # answering

    def _index_of(
        self, user_id: str | None, reviews: Sequence[str], code: np.ndarray
    ) -> list[Part]:
        """Return what stands before the history of a user."""
        if self.index == "none":
            return []
        if self.index == "words":
            written = [word for text in reviews if text for word in words(text)]
            return [*written[-REVIEW_WORDS:]]
        digits = code.tolist()
        if self.index == "random":
            if user_id is None:
                return []
            drawn = np.frombuffer(tie_hash(user_id), np.uint8)[: self.user_levels]
            digits = (drawn % self.user_words).tolist()
        return [_mark(level, digit) for level, digit in enumerate(digits) if digit >= 0]

    def _codes_of(self, queries: Queries) -> tuple[list[list[str]], np.ndarray]:
        """Return the reviews in the history of each query, and the codes (B, levels) of them."""
        reviews = _reviews_of(queries)
        if not len(queries):
            return reviews, np.zeros((0, self.user_levels), np.int32)
        sums = np.array([_running_sums(rows)[-1] for rows in self._review_vectors(reviews)])
        return reviews, self._encode_users(sums)

    def _prompts(self, queries: Queries) -> list[Record]:
        reviews, codes = self._codes_of(queries)
        records = []
        for i in range(len(queries)):
            index = self._index_of(queries.user_ids[i], reviews[i], codes[i])
            history: list[Part] = queries.histories[i][-self.length :].tolist()
            record = NEXT.seen[0].fill({"index": index, "history": history})
            records.append(Record((*record.parts, ITEM)))
        return records

    def user_code(self, query: Query) -> UserCode:
        """Return the code of what a user wrote, with the words of reviews nearest to it.

        The reviews are `query.history.texts`, those of items that the method knows. A query
        without any has an empty code.
        """
        self._check_fitted()
        _, codes = self._codes_of(Queries.of([query]).reindexed(self.items_))
        if codes.min() < 0:
            return UserCode((), ())
        vector = Codebooks(self.user_books_, self.user_lengths_).decode(codes)[0]
        frequent = self.review_words_[:NEAREST]
        vectors = plain(encoder_of(self.encoder)).encode(frequent) - self.user_centre_
        order = np.argsort(-(unit(vectors) @ vector), kind="stable")[: self.nearest]
        return UserCode(tuple(codes[0].tolist()), tuple(frequent[i] for i in order.tolist()))


def _mark(level: int, digit: int) -> str:
    return f"<user {level}-{digit}>"


def _reviews_of(queries: Queries) -> list[list[str]]:
    """Return the texts of the events in each history, "" where one has none."""
    if "texts" not in queries.columns:
        return [[""] * length for length in queries.histories.lengths.tolist()]
    texts = queries.columns["texts"]
    return [[text or "" for text in texts[i].tolist()] for i in range(len(queries))]


def _running_sums(vectors: np.ndarray) -> np.ndarray:
    """Return (L + 1, E) the sums of the first 0, 1, ..., L vectors (L, E)."""
    return np.concatenate([np.zeros((1, vectors.shape[1])), vectors.cumsum(axis=0)])
