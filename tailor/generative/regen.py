"""Critiques and narratives around a log, as in REGEN (Su et al. 2025), written by templates.

A critique steers from one item to the next ("like this rug but red, not orange"), a narrative tells
why an item is recommended. Both are made of words that titles share; no language model writes.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.event_columns import event_texts
from tailor.data.queries import Queries
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.generative.code_paths import telling_words_of
from tailor.text.title_words import telling_words
from tailor.text.words import words

# with a title, a word to add and a word to drop
CRITIQUES = (
    "like {title} but {added}, not {dropped}",
    "{added} instead of {dropped}",
    "{added}, not {dropped}",
    "more {added} and less {dropped}",
)
ONLY_ADDED = ("like {title} but {added}", "with {added}", "{added}", "more {added}")
ONLY_DROPPED = ("like {title} but not {dropped}", "not {dropped}", "no {dropped}", "less {dropped}")
NEGATION = re.compile(r"\b(?:not|no|without|less|instead|than|avoid)\b(?:\s+of\b)?")
BREAK = re.compile(r"[,.;]|\bbut\b|\band\b")
REVIEW = "review"  # kind of the texts that users wrote about items
SUMMARY_WORDS = 3  # that a user often chooses


def differences(
    before: Sequence[str], after: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words that one item adds to another, and those that it drops."""
    added = tuple(word for word in after if word not in before)
    dropped = tuple(word for word in before if word not in after)
    return added, dropped


def drawn_words(
    before: Sequence[str], after: Sequence[str], rng: np.random.Generator
) -> tuple[str, str]:
    """Return a word that one item adds to another, and one it drops.

    "" for none. Only one each, drawn by chance, so that they do not give the item away.
    """
    added, dropped = (
        words[int(rng.integers(len(words)))] if words else ""
        for words in differences(before, after)
    )
    return added, dropped


def critique(added: str, dropped: str, title: str, rng: np.random.Generator) -> str:
    """Return a remark that asks for one word and not for another.

    The wording is drawn by chance; "" without words.
    """
    if not added and not dropped:
        return ""
    patterns = CRITIQUES
    if not added:
        patterns = ONLY_DROPPED
    elif not dropped:
        patterns = ONLY_ADDED
    pattern = patterns[int(rng.integers(len(patterns)))]
    return pattern.format(title=title, added=added, dropped=dropped)


def wanted_words(text: str) -> tuple[list[str], list[str]]:
    """Return the words that a request wants, and those that it does not want.

    A word after "not", "no", "without", "less", "instead of" or "rather than" is not wanted, up to
    the next comma, "but" or "and". What follows a "like" at the beginning is no wish, but the item
    that the request starts from.
    """
    positives: list[str] = []
    negatives: list[str] = []
    for part in BREAK.split(text.lower()):
        if part.strip().startswith("like "):
            continue
        pieces = NEGATION.split(part)
        positives += telling_words(pieces[0])
        for piece in pieces[1:]:
            negatives += telling_words(piece)
    return positives, negatives


@dataclass(frozen=True)
class Narrative:
    """The story around a recommended item; an empty part says nothing."""

    purchase_reason: str = ""
    """The part of the request that the item answers, and the part that it does not."""
    explanation: str = ""
    """The words that it shares with the user's history."""
    endorsement: str = ""
    """A sentence of the user's own praise that has one of its words."""
    user_summary: str = ""
    """The words of what the user often chooses."""

    @property
    def text(self) -> str:
        """Return the parts as one text."""
        quoted = f'You wrote: "{self.endorsement}"' if self.endorsement else ""
        parts = (self.purchase_reason, self.explanation, quoted, self.user_summary)
        return " ".join(part for part in parts if part)


def narrate(
    item: Sequence[str],
    history: Sequence[Sequence[str]],
    request: str = "",
    reviews: Sequence[str] = (),
) -> Narrative:
    """Return the narrative of an item, from its words, the history and the request.

    `history` holds the words of each earlier item, oldest first; `reviews` are the user's own
    praise, the newest last. Nothing is said that the item's words do not bear out.
    """
    counts = Counter(word for words in history for word in set(words))
    often = [word for word, count in counts.most_common(SUMMARY_WORDS) if count > 1]
    summary = f"You often choose {_listed(often)}." if often else ""
    return Narrative(
        _reason(item, history, request), _explanation(item, history), _quote(item, reviews), summary
    )


def narrative_words() -> list[str]:
    """Return the words that templates put around those of titles, where a request is answered.

    They are those of the reason and the explanation.
    """
    story = narrate(("aaa", "bbb"), [("aaa", "ccc")], "aaa, not ccc")
    story_words = set(words(f"{story.purchase_reason} {story.explanation}"))
    return sorted(story_words - {"aaa", "bbb", "ccc"})


def praise(reviews: Sequence[str | None], ratings: Sequence[float | None]) -> list[str]:
    """Return a user's reviews that are not rated below their mean."""
    values = np.array([np.nan if rating is None else rating for rating in ratings], dtype=float)
    is_rated = np.isfinite(values)
    mean = values[is_rated].mean() if is_rated.any() else 0.0
    return [
        review
        for review, value in zip(reviews, values.tolist(), strict=True)
        if review and not value < mean
    ]


def _reason(item: Sequence[str], history: Sequence[Sequence[str]], request: str) -> str:
    positives, negatives = wanted_words(request)
    lexicon = {word for words in (item, *history) for word in words}
    has = [word for word in positives if word in item]
    lacks = [word for word in positives if word in lexicon and word not in item]
    spared = [word for word in negatives if word in lexicon and word not in item]
    still = [word for word in negatives if word in item]
    sentences = [
        f"You asked for {_listed(has)}, and it is." if has else "",
        f"As you wished, it is not {_listed(spared)}." if spared else "",
        f"It is not {_listed(lacks)}, though you asked for that." if lacks else "",
        f"It is {_listed(still)}, though you asked for something else." if still else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _explanation(item: Sequence[str], history: Sequence[Sequence[str]]) -> str:
    described = f"It is {_listed(item)}" if item else ""
    for past in reversed(history):
        shared = [word for word in item if word in past]
        if shared:
            return f"{described}; {_listed(shared)} like what you chose before."
    return f"{described}." if described else ""


def _quote(item: Sequence[str], reviews: Sequence[str]) -> str:
    for review in reversed(reviews):
        for sentence in re.split(r"(?<=[.!?])\s+", review.strip()):
            if set(telling_words(sentence)) & set(item):
                return sentence
    return ""


def _listed(words: Sequence[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def words_by_row(vocabulary: Vocabulary, item_words: sp.csr_matrix) -> list[list[str]]:
    """Return the words of each row of a matrix (N, V) over a vocabulary."""
    starts = item_words.indptr[:-1].tolist()
    stops = item_words.indptr[1:].tolist()
    return [
        vocabulary.ids[item_words.indices[start:stop]].tolist()
        for start, stop in zip(starts, stops, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Titles:
    """Titles of a data set's items, their words that other items share, and their categories."""

    titles: Sequence[str]
    """(N,)."""
    words: Sequence[Sequence[str]]
    """(N,) lists of words."""
    categories: np.ndarray | None
    """(N,) number of each item's finest category; None: the data has none."""

    @classmethod
    def of(cls, data: Dataset) -> "Titles":
        """Read the items of a data set."""
        has_categories = "categories" in data.item_table.columns
        return cls(
            data.texts_of("title"),
            words_by_row(*telling_words_of(data.item_texts)),
            data.finest_categories if has_categories else None,
        )

    def are_alike(self, row: int, other: int) -> bool:
        """Say whether two items share their finest category, or a word where there are none."""
        if self.categories is not None:
            return bool(self.categories[row] == self.categories[other])
        return bool(set(self.words[row]) & set(self.words[other]))

    def critique(self, before: int, after: int, rng: np.random.Generator) -> str:
        """Return a remark that leads between two items; "" where they are not alike."""
        added, dropped = self.drawn_words(before, after, rng)
        return critique(added, dropped, self.titles[before], rng)

    def drawn_words(self, before: int, after: int, rng: np.random.Generator) -> tuple[str, str]:
        """Return a word to add and one to drop, from an item to another.

        "" for none, and where the two are not alike.
        """
        if not self.are_alike(before, after):
            return "", ""
        return drawn_words(self.words[before], self.words[after], rng)

    def take(self, rows: np.ndarray) -> "Titles":
        """Return the titles of these rows, in this order."""
        return Titles(
            [self.titles[row] for row in rows.tolist()],
            [self.words[row] for row in rows.tolist()],
            None if self.categories is None else self.categories[rows],
        )


def with_critiques(
    queries: Queries, targets: Ragged, data: Dataset, rng: np.random.Generator
) -> Queries:
    """Return queries with critiques that lead from their last event to their target.

    "" where there is no event, or where the two are not alike. `targets` hold rows of the queries'
    catalogue, which is that of `data`. It is made for the target: figures with it are none of
    plain next items.
    """
    titles = Titles.of(data)
    first = targets.values[targets.offsets[:-1]].tolist()
    histories = [queries.histories[i] for i in range(len(queries))]
    texts = [
        titles.critique(int(history[-1]), target, rng) if len(history) else ""
        for history, target in zip(histories, first, strict=True)
    ]
    return replace(queries, texts=np.array(texts, dtype=object))


def regen_records(data: Dataset, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield per user the steps of their history, with critiques and narratives in between.

    A step is {item_id, title, time_ms, rating, review, critique, narrative, origin}; rating and
    review are those of the data, null and "" where it has none. There is a critique only between
    items that share a category, or a word where the data has no categories. Nothing of a step reads
    the step's own review or a later one. Raises DataError where no two titles share a word.
    """
    titles = Titles.of(data)
    if not any(titles.words):
        raise DataError(f"{data.name}: no two titles share a word that a critique could name")
    rng = np.random.default_rng(seed)
    ordered = data.events[data.sequences.events]
    steps = pl.DataFrame(
        {
            "item_id": ordered["item_id"],
            "title": [titles.titles[row] for row in data.sequences.rows.values.tolist()],
            "time_ms": _column(ordered, "time_ms"),
            "rating": _column(ordered, "value"),
            "review": event_texts(data, ordered, REVIEW),
        }
    )
    rows = data.sequences.rows
    for number, user_id in enumerate(data.users.ids.tolist()):
        start, stop = rows.offsets[number : number + 2].tolist()
        user_steps = steps[start:stop].to_dicts()
        yield {"user_id": user_id, "steps": _told(user_steps, rows[number].tolist(), titles, rng)}


def _column(events: pl.DataFrame, name: str) -> list[Any]:
    """Return a column of events, None for each where there is no such column."""
    return events[name].to_list() if name in events.columns else [None] * len(events)


def _told(
    steps: list[dict[str, Any]], rows: list[int], titles: Titles, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the steps of a user with critique and narrative."""
    reviews = [step["review"] for step in steps]
    ratings = [step["rating"] for step in steps]
    history = [titles.words[row] for row in rows]
    told_steps = []
    for event, (step, row) in enumerate(zip(steps, rows, strict=True)):
        remark = titles.critique(rows[event - 1], row, rng) if event else ""
        praised = praise(reviews[:event], ratings[:event])
        story = narrate(titles.words[row], history[:event], remark, praised)
        told_steps.append(
            {**step, "critique": remark, "narrative": vars(story), "origin": "template"}
        )
    return told_steps
