"""Phrases that texts are about, and what is said of them."""

import html
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from tailor.errors import DataError, MissingExtraError
from tailor.text.words import COMMON, joined, marks, split_words

LONGEST = 3  # words of a phrase
SENTENCE = re.compile(
    r"(?<=[.!?;\n])\s+|<br\s*/?>|\s(?:but|however|although|though|yet)\s+", re.IGNORECASE
)  # these words turn what is said
BREAK = re.compile(r"<[^<>]*>|[^\w\s'-]+|--+")
# words that stand in reviews of anything, praise among them; with COMMON they end a phrase
EMPTY = frozenset(
    [
        "able",
        "again",
        "always",
        "am",
        "amazing",
        "another",
        "anything",
        "around",
        "awesome",
        "back",
        "bad",
        "because",
        "best",
        "better",
        "bit",
        "bought",
        "buy",
        "buying",
        "came",
        "can't",
        "come",
        "day",
        "days",
        "definitely",
        "didn't",
        "doesn't",
        "don't",
        "done",
        "down",
        "easy",
        "enough",
        "even",
        "ever",
        "every",
        "everything",
        "excellent",
        "few",
        "find",
        "first",
        "found",
        "free",
        "fun",
        "gave",
        "get",
        "gets",
        "getting",
        "give",
        "go",
        "goes",
        "going",
        "gonna",
        "good",
        "got",
        "great",
        "happy",
        "hard",
        "having",
        "here",
        "highly",
        "i'd",
        "i'll",
        "i'm",
        "i've",
        "isn't",
        "it's",
        "keep",
        "know",
        "last",
        "let",
        "like",
        "little",
        "long",
        "look",
        "looks",
        "lot",
        "love",
        "loved",
        "loves",
        "made",
        "make",
        "makes",
        "making",
        "many",
        "may",
        "maybe",
        "might",
        "month",
        "months",
        "much",
        "need",
        "never",
        "new",
        "nice",
        "now",
        "off",
        "old",
        "one",
        "ones",
        "order",
        "ordered",
        "own",
        "perfect",
        "pleased",
        "pretty",
        "product",
        "purchase",
        "purchased",
        "put",
        "quite",
        "really",
        "recommend",
        "review",
        "right",
        "said",
        "same",
        "say",
        "see",
        "seems",
        "since",
        "someone",
        "something",
        "star",
        "stars",
        "still",
        "stuff",
        "such",
        "sure",
        "take",
        "thing",
        "things",
        "think",
        "those",
        "though",
        "thought",
        "through",
        "time",
        "times",
        "too",
        "took",
        "top",
        "tried",
        "try",
        "trying",
        "two",
        "use",
        "used",
        "using",
        "want",
        "wanted",
        "wasn't",
        "way",
        "week",
        "weeks",
        "well",
        "went",
        "while",
        "without",
        "won't",
        "work",
        "worked",
        "works",
        "worst",
        "year",
        "years",
        "yes",
        "yet",
        "you'll",
    ]
)


def phrases(text: str, language: str = "english") -> list[str]:
    """Runs of up to three telling words in order, cut at punctuation, numbers and common words;
    longer runs give their pieces of three.

    `phrases("The battery life is great, and it charges fast!")` is ["battery life", "charges
    fast"]. Tags of HTML and plain praise are left out.
    """
    common = COMMON.get(language, frozenset()) | EMPTY
    out: list[str] = []
    told = joined(html.unescape(text).lower())
    for clause in (BREAK if told.isascii() else _marked_break()).split(told):
        run: list[str] = []
        for word in [*split_words(clause), ""]:
            if word and word not in common and not word[0].isdigit() and len(word) > 1:
                run.append(word)
                continue
            out += (
                [" ".join(run)]
                if 0 < len(run) <= LONGEST
                else [" ".join(run[at : at + LONGEST]) for at in range(len(run) - LONGEST + 1)]
            )
            run = []
    return out


@dataclass(frozen=True, eq=False)
class Keywords:
    """The phrases of a collection, and how much each says of each thing that the texts are about.

    Weight: how many of a thing's texts name the phrase, times ln(texts / texts that name it) (term
    by inverse review frequency, TF-IRF). A phrase of several words also counts for the single words
    in it.
    """

    names: tuple[str, ...]
    """(V,) most frequent first."""
    weights: sp.csr_matrix
    """(N, V)."""

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        things: Sequence[int] | np.ndarray,
        n: int,
        least: int = 3,
        most_share: float = 0.2,
        language: str = "english",
    ) -> "Keywords":
        """From texts and the row of what each is about (-1: nothing), of `n` things. A phrase must
        stand in `least` texts, and in no more than `most_share` of them.
        """
        rows = np.asarray(things, dtype=np.int64)
        if len(rows) != len(texts) or (len(rows) and (rows.max() >= n or rows.min() < -1)):
            raise DataError(f"{len(texts)} texts need as many rows of {n} things")
        found = [_with_words(phrases(text, language)) for text in texts]
        counts = Counter(name for one in found for name in one)
        kept = [
            (name, count)
            for name, count in counts.items()
            if least <= count <= max(least, most_share * len(texts))
        ]
        kept.sort(key=lambda one: (-one[1], one[0]))
        column = {name: i for i, (name, _) in enumerate(kept)}
        pairs = [
            (row, column[name])
            for row, one in zip(rows.tolist(), found, strict=True)
            if row >= 0
            for name in one
            if name in column
        ]
        at = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        said = sp.coo_matrix((np.ones(len(at), np.float32), at.T), shape=(n, len(kept))).tocsr()
        rare = np.array([math.log(len(texts) / count) for _, count in kept], dtype=np.float32)
        return cls(
            tuple(column),
            sp.csr_matrix(said.multiply(rare[None]) if kept else said, dtype=np.float32),
        )

    def best(self, row: int, k: int = 10) -> list[tuple[str, float]]:
        """The k phrases of largest weight of a thing."""
        mine = self.weights[row]
        order = np.lexsort((mine.indices, -mine.data))[:k]
        return [(self.names[mine.indices[at]], float(mine.data[at])) for at in order]

    def vector(self, said: Sequence[str], language: str = "english") -> np.ndarray:
        """(V,) 1 for every known phrase in these texts."""
        column, out = (
            {name: i for i, name in enumerate(self.names)},
            np.zeros(len(self.names), dtype=np.float32),
        )
        out[
            [
                column[name]
                for text in said
                for name in _with_words(phrases(text, language))
                if name in column
            ]
        ] = 1
        return out


@cache
def _marked_break() -> re.Pattern[str]:
    return re.compile(rf"<[^<>]*>|[^\w\s'{marks()}-]+|--+")


def _with_words(found: Sequence[str]) -> set[str]:
    return {part for name in found for part in (name, *name.split())}


@dataclass(frozen=True)
class Mention:
    """That a text names an aspect, and how it speaks of it."""

    aspect: str
    polarity: float
    """Of the clause it stands in: -1 as bad as can be, 1 as good."""
    clause: str


def mentions(
    text: str, aspects: Sequence[str] | frozenset[str] | set[str], language: str = "english"
) -> list[Mention]:
    """Where a text names one of these aspects, with the polarity of the clause by VADER's lexicon
    and its rules for negation and degree (Hutto and Gilbert 2014).

    A clause ends at a full stop, and at a word such as "but". English only. Raises DataError for
    another language, MissingExtraError without the package vaderSentiment.
    """
    if language != "english":
        raise DataError(f'polarity is known for "english" only, not for "{language}"')
    wanted = set(aspects)
    out = []
    for clause in SENTENCE.split(html.unescape(text)):
        named = sorted(_with_words(phrases(clause)) & wanted) if clause and clause.strip() else []
        if named:
            polarity = float(_vader().polarity_scores(clause)["compound"])
            out += [Mention(name, polarity, clause.strip()) for name in named]
    return out


@cache
def _vader() -> Any:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "polarity needs the package vaderSentiment: pip install 'tailor-engine[text]'"
        ) from error
    return SentimentIntensityAnalyzer()
