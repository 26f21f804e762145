"""Records: sequences of words, items and pictures, some of which a net learns to say; templates.

A task of recommendation becomes a sentence with slots. `Template("after {history} buys {answer}")`
filled with items is a `Record`, and `TokenRows` are records as numbers.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tailor.data.arrays import Ragged
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.packing import pad_rows
from tailor.text.words import words


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is shown at a place of a record, until the next one."""

    pixels: np.ndarray
    """(S, S, 3) uint8; S is the same in all records of a net."""


Part = str | int | Picture
"""A word, the row of an item, or a picture."""
UNKNOWN, ANSWER, END, ITEM, PICTURE = "<unknown>", "<answer>", "<end>", "<item>", "<picture>"
SPECIAL = (UNKNOWN, ANSWER, END, ITEM)
WRITERS = 3  # users who must have written a word of reviews before it can be said
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Record:
    """A sequence of words, items and pictures, some of which a net learns to say."""

    parts: tuple[Part, ...]
    """Words, rows of items, and pictures. Words in angle brackets are marks: no word of a text is
    like it.
    """
    answers: tuple[int, ...] = ()
    """Ascending positions, from 1 on, of the parts that are told from those before them. Pictures
    never are.
    """
    task: int = 0
    """Number of the task that the record is of."""


@dataclass(frozen=True)
class Template:
    """A sentence with slots in braces, of which {answer} is what the net says."""

    text: str
    """The sentence. Its last slot is {answer}."""

    def __post_init__(self) -> None:
        if not self.text.rstrip().endswith("{answer}"):
            raise DataError(f'template "{self.text}": it must end with {{answer}}')

    @cached_property
    def pieces(self) -> tuple[tuple[str, bool], ...]:
        """Words, and names of slots with True."""
        pieces: list[tuple[str, bool]] = []
        for number, piece in enumerate(SLOT.split(self.text)):
            is_slot = number % 2 == 1
            pieces += [(piece, True)] if is_slot else [(word, False) for word in words(piece)]
        return tuple(pieces)

    def fill(
        self,
        fields: Mapping[str, Sequence[Part]],
        answer: Sequence[Part] | None = None,
        spoken: Collection[str] = (),
        task: int = 0,
    ) -> Record:
        """Return the record with these fields; those named in `spoken` are told part by part.

        An answer follows the mark of answers: an item after the mark of items, words before the
        mark of the end. Without an answer the record ends with the mark of answers. Raises
        DataError for a slot that no field fills.
        """
        parts: list[Part] = []
        answers: list[int] = []
        for piece, is_slot in self.pieces[:-1]:
            if not is_slot:
                parts.append(piece)
                continue
            if piece not in fields:
                raise DataError(f'template "{self.text}": nothing fills {{{piece}}}')
            start = len(parts)
            parts += fields[piece]
            if piece in spoken:
                answers += range(max(start, 1), len(parts))
        parts.append(ANSWER)
        if answer is not None:
            start = len(parts)
            parts += said(answer)
            answers += range(start, len(parts))
        return Record(tuple(parts), tuple(answers), task)


def said(answer: Sequence[Part]) -> list[Part]:
    """Return an answer as a net says it: an item after its mark, words before the end's."""
    if answer and isinstance(answer[0], int):
        return [ITEM, *answer]
    return [*answer, END]


@dataclass(frozen=True)
class Task:
    """A task that several templates word; the last of them is never learned from."""

    name: str
    templates: tuple[Template, ...]

    def __post_init__(self) -> None:
        if len(self.templates) < 2:
            raise DataError(
                f'task "{self.name}" has {len(self.templates)} templates: it must have 2, one to'
                " learn from and one held out"
            )

    @property
    def seen(self) -> tuple[Template, ...]:
        """The templates that are learned from."""
        return self.templates[:-1]

    @property
    def unseen(self) -> Template:
        """The template that is held out."""
        return self.templates[-1]

    def draw(self, rng: np.random.Generator) -> Template:
        """Return one of the templates that are learned from."""
        return self.seen[int(rng.integers(len(self.seen)))]

    @classmethod
    def of(cls, name: str, *texts: str) -> "Task":
        """Return the task that these sentences word, the last one held out."""
        return cls(name, tuple(Template(text) for text in texts))


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Records as numbers: words are rows of a vocabulary, items follow the words."""

    tokens: Ragged
    """Tokens of each record."""
    is_answer: np.ndarray
    """(m,) bool, parallel to the values of `tokens`: told from the tokens before it."""
    tasks: np.ndarray
    """(R,) number of each record's task."""
    pictures: np.ndarray | None = None
    """(m,) number in `pixels` of the picture that each token is, -1 for others; None: no picture.
    """
    pixels: np.ndarray | None = None
    """(P, S, S, 3) uint8 pictures that the records show."""

    @classmethod
    def of(cls, records: Sequence[Record], vocabulary: Vocabulary) -> "TokenRows":
        """Return the numbers of records; a word that the vocabulary lacks is the unknown one.

        A picture is the mark of pictures, which the vocabulary must have then.
        """
        parts = [part for record in records for part in record.parts]
        lengths = [len(record.parts) for record in records]
        pictures, pixels = _pictures_in(parts)
        said_parts = parts
        if pictures is not None:
            said_parts = [PICTURE if isinstance(part, Picture) else part for part in parts]
        is_word = np.fromiter((isinstance(part, str) for part in said_parts), bool, len(parts))
        tokens = np.empty(len(parts), dtype=np.int64)
        word_rows = vocabulary.rows([part for part in said_parts if isinstance(part, str)])
        unknown = int(vocabulary.rows([UNKNOWN])[0])
        tokens[is_word] = np.where(word_rows >= 0, word_rows, unknown)
        item_rows = [part for part in parts if isinstance(part, int)]
        tokens[~is_word] = np.array(item_rows, dtype=np.int64) + len(vocabulary)
        rows = Ragged.of_lengths(lengths, tokens)
        starts = rows.offsets[:-1].tolist()
        positions = [
            start + position
            for start, record in zip(starts, records, strict=True)
            for position in record.answers
        ]
        is_answer = np.zeros(len(parts), dtype=bool)
        is_answer[positions] = True
        is_answer &= tokens != unknown  # nothing is learned from a word that cannot be said
        if pictures is not None:
            is_answer &= pictures < 0
        tasks = np.array([record.task for record in records], dtype=np.int64)
        return cls(rows, is_answer, tasks, pictures, pixels)

    def dropped(
        self, share: float, droppable: np.ndarray, unknown: int, rng: np.random.Generator
    ) -> "TokenRows":
        """Return the same rows with a share of the words to read replaced by the unknown word.

        `droppable` (W,) bool says which words may be; answers are never replaced.
        """
        tokens = self.tokens.values
        is_word = np.append(droppable, False)[np.minimum(tokens, len(droppable))]
        is_dropped = is_word & ~self.is_answer & (rng.random(len(tokens)) < share)
        return replace(self, tokens=self.tokens.with_values(np.where(is_dropped, unknown, tokens)))

    def batch(self, numbers: np.ndarray) -> "TokenBatch":
        """Return the records of these numbers, padded."""
        starts = self.tokens.offsets[:-1][numbers]
        lengths = self.tokens.lengths[numbers]
        tokens, _ = pad_rows(self.tokens.values, starts, lengths)
        is_answer, _ = pad_rows(self.is_answer, starts, lengths)
        pictures, pixels = self._last_pictures(starts, lengths)
        tasks = self.tasks[numbers]
        return TokenBatch(tokens, is_answer.astype(bool), lengths, tasks, pictures, pixels)

    def _last_pictures(
        self, starts: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the last picture (B, T) up to each token of records, and their pixels."""
        if self.pictures is None or self.pixels is None:
            return None, None
        padded, _ = pad_rows(self.pictures + 1, starts, lengths)  # 0: no picture
        columns = np.where(padded > 0, np.arange(padded.shape[1]), 0)
        last_columns = np.maximum.accumulate(columns, axis=1)
        numbers = np.take_along_axis(padded, last_columns, axis=1) - 1
        used, pictures = np.unique(numbers, return_inverse=True)
        pictures = pictures.reshape(numbers.shape)
        if len(used) and used[0] < 0:
            used, pictures = used[1:], pictures - 1
        return pictures, self.pixels[used]


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Records of similar length, padded at the right."""

    tokens: np.ndarray
    """(B, T) tokens, 0 in the padding."""
    is_answer: np.ndarray
    """(B, T) bool: told from the tokens before it."""
    lengths: np.ndarray
    """(B,) tokens of each record."""
    tasks: np.ndarray
    """(B,) number of each record's task."""
    pictures: np.ndarray | None = None
    """(B, T) number in `pixels` of the last picture up to each token, -1: none; None: no picture.
    """
    pixels: np.ndarray | None = None
    """(P, S, S, 3) uint8 pictures that the records show."""


def _pictures_in(parts: Sequence[Part]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return each part's number of a picture, -1 for others, and all pixels."""
    numbers: dict[Picture, int] = {}
    pictures = [
        numbers.setdefault(part, len(numbers)) if isinstance(part, Picture) else -1
        for part in parts
    ]
    if not numbers:
        return None, None
    return np.array(pictures, dtype=np.int64), np.stack([picture.pixels for picture in numbers])


def shared_words(texts: Sequence[Sequence[str]]) -> list[str]:
    """Return the words that several users wrote, the most frequent first, from each one's texts."""
    writers = Counter(word for of_user in texts for word in set(words(" ".join(of_user))))
    shared = [word for word, count in writers.items() if count >= WRITERS]
    return sorted(shared, key=lambda word: (-writers[word], word))


def frequent_words(texts: Iterable[Sequence[str]], most: int) -> list[str]:
    """Return the `most` most frequent words of texts, ties in the order of the alphabet."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in text:
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]
