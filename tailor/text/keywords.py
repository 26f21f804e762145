"""Phrases that texts are about, and opinions on them."""

import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from tailor.errors import DataError, MissingExtraError
from tailor.text.words import STOP_WORDS, fold, marks, normalise, split_words

MAX_WORDS = 3  # of a phrase
# A clause ends with a sentence, and at words that turn the opinion.
CLAUSE_END = re.compile(
    r"(?<=[.!?;\n])\s+|<br\s*/?>|\s(?:but|however|although|though|yet)\s+", re.IGNORECASE
)
PUNCTUATION = re.compile(r"<[^<>]*>|[^\w\s'-]+|--+")
# Words that reviews of anything hold, praise among them; with the stop words they end a phrase.
REVIEW_WORDS = """
able again always am amazing another anything around awesome back bad because best better bit
bought buy buying came can't come day days definitely didn't doesn't don't done down easy enough
even ever every everything excellent few find first found free fun gave get gets getting give go
goes going gonna good got great happy hard having here highly i'd i'll i'm i've isn't it's keep
know last let like little long look looks lot love loved loves made make makes making many may
maybe might month months much need never new nice now off old one ones order ordered own perfect
pleased pretty product purchase purchased put quite really recommend review right said same say
see seems since someone something star stars still stuff such sure take thing things think those
though thought through time times too took top tried try trying two use used using want wanted
wasn't way week weeks well went while without won't work worked works worst year years yes yet
you'll
"""
EMPTY = frozenset(REVIEW_WORDS.split())


def phrases(text: str, language: str = "english") -> list[str]:
    """Return runs of up to three telling words in order.

    `phrases("The battery life is great, and it charges fast!")` is ["battery life", "charges
    fast"]. Runs are cut at punctuation, numbers and stop words; longer runs give their pieces of
    three. Tags of HTML and plain praise are left out.
    """
    common_words = STOP_WORDS.get(language, frozenset()) | EMPTY
    text = normalise(text)
    punctuation = PUNCTUATION if text.isascii() else _punctuation_beside_marks()
    out: list[str] = []
    for clause in punctuation.split(text):
        run: list[str] = []
        for word in [*split_words(clause), ""]:
            if word and word not in common_words and not word[0].isdigit() and len(word) > 1:
                run.append(word)
            else:
                out += _pieces(run)
                run = []
    return out


def _pieces(run: Sequence[str]) -> list[str]:
    if not run:
        return []
    starts = range(max(1, len(run) - MAX_WORDS + 1))
    return [" ".join(run[start : start + MAX_WORDS]) for start in starts]


@dataclass(frozen=True, eq=False)
class Keywords:
    """The phrases of a collection, and their weight for each item.

    A weight is the number of an item's texts that hold the phrase, times ln(texts / texts that hold
    it): term by inverse review frequency, TF-IRF. A phrase of several words also counts for its
    single words. Spellings that differ by accents only are one phrase.
    """

    names: tuple[str, ...]
    """(V,) phrases, most frequent first."""
    weights: sp.csr_matrix
    """(N, V) weights."""

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
        """Find the phrases of texts about `n` items.

        `things` holds the row of the item that each text is about, -1 for none. A phrase must stand
        in `least` texts, and in no more than `most_share` of them. Raises DataError for rows that
        do not fit.
        """
        item_rows = np.asarray(things, dtype=np.int64)
        is_outside = len(item_rows) and (item_rows.max() >= n or item_rows.min() < -1)
        if len(item_rows) != len(texts) or is_outside:
            raise DataError(f"{len(texts)} texts need as many rows of {n} things")
        text_phrases = [_by_key(phrases(text, language)) for text in texts]
        counts = Counter(key for spelled in text_phrases for key in spelled)
        max_count = max(least, most_share * len(texts))
        keys = [key for key, count in counts.items() if least <= count <= max_count]
        keys.sort(key=lambda key: (-counts[key], key))
        columns = {key: i for i, key in enumerate(keys)}
        idf = np.array([math.log(len(texts) / counts[key]) for key in keys], dtype=np.float32)
        text_counts = _item_counts(text_phrases, item_rows, columns, n)
        weights = text_counts.multiply(idf[None]) if keys else text_counts
        names = _commonest_spellings(text_phrases, keys)
        return cls(names, sp.csr_matrix(weights, dtype=np.float32))

    def best(self, row: int, k: int = 10) -> list[tuple[str, float]]:
        """Return the k phrases of largest weight of an item, with their weights."""
        weights = self.weights[row]
        order = np.lexsort((weights.indices, -weights.data))[:k]
        return [(self.names[weights.indices[i]], float(weights.data[i])) for i in order]

    def vector(self, texts: Sequence[str], language: str = "english") -> np.ndarray:
        """Return (V,) 1 for every phrase that stands in these texts, else 0."""
        columns = {fold(name): i for i, name in enumerate(self.names)}
        keys = {key for text in texts for key in _by_key(phrases(text, language))}
        vector = np.zeros(len(self.names), dtype=np.float32)
        vector[[columns[key] for key in keys if key in columns]] = 1
        return vector


def _by_key(spelled_phrases: Iterable[str]) -> dict[str, str]:
    """Return phrases and their single words as spelled, by their form without accents."""
    return {fold(part): part for phrase in spelled_phrases for part in (phrase, *phrase.split())}


def _item_counts(
    text_phrases: Sequence[dict[str, str]],
    item_rows: np.ndarray,
    columns: dict[str, int],
    n: int,
) -> sp.csr_matrix:
    """Return (N, V) how many texts about each item hold each phrase."""
    pairs = [
        (row, columns[key])
        for row, spelled in zip(item_rows.tolist(), text_phrases, strict=True)
        if row >= 0
        for key in spelled
        if key in columns
    ]
    positions = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    ones = np.ones(positions.shape[1], np.float32)
    return sp.coo_matrix((ones, positions), shape=(n, len(columns))).tocsr()


def _commonest_spellings(
    text_phrases: Sequence[dict[str, str]], keys: Sequence[str]
) -> tuple[str, ...]:
    spellings: dict[str, Counter[str]] = {key: Counter() for key in keys}
    for spelled in text_phrases:
        for key, spelling in spelled.items():
            if key in spellings:
                spellings[key][spelling] += 1
    return tuple(spellings[key].most_common(1)[0][0] for key in keys)


@cache
def _punctuation_beside_marks() -> re.Pattern[str]:
    return re.compile(rf"<[^<>]*>|[^\w\s'{marks()}-]+|--+")


@dataclass(frozen=True)
class Mention:
    """A text that names an aspect, and its opinion of it."""

    aspect: str
    polarity: float
    """Polarity of the clause: -1 as bad as can be, 1 as good."""
    clause: str
    """The clause that names the aspect."""


def mentions(
    text: str, aspects: Sequence[str] | frozenset[str] | set[str], language: str = "english"
) -> list[Mention]:
    """Find the aspects that a text names, with the polarity of their clauses.

    The polarity is that of VADER's lexicon and its rules for negation and degree (Hutto and Gilbert
    2014). A clause ends at a full stop, and at a word such as "but". English only. Raises DataError
    for another language, MissingExtraError without the package vaderSentiment.
    """
    if language != "english":
        raise DataError(f'polarity is known for "english" only, not for "{language}"')
    aspect_of = {fold(normalise(aspect)): aspect for aspect in aspects}
    out = []
    for clause in CLAUSE_END.split(html.unescape(text)):
        if not clause or not clause.strip():
            continue
        named = sorted(aspect_of[key] for key in _by_key(phrases(clause)) if key in aspect_of)
        if named:
            polarity = float(_vader().polarity_scores(clause)["compound"])
            out += [Mention(aspect, polarity, clause.strip()) for aspect in named]
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
