"""Metrics of short answers to questions, compared word by word with the right ones.

Words are compared without capitals, punctuation and articles, as SQuAD does (Rajpurkar et al.
2016). A question may have several right answers: the best match counts. Without any right answer a
metric is NaN.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

ARTICLES = frozenset(["a", "an", "the"])
MARKS = re.compile(f"[{re.escape(string.punctuation)}‘’“”–—…]")
NUMBER_COMMA = re.compile(r"(?<=\d),(?=\d{3}\b)")


def answer_words(text: str) -> list[str]:
    """Return the words of an answer that are compared; of nothing but articles, the articles."""
    spaced = MARKS.sub(" ", NUMBER_COMMA.sub("", text.lower().replace("'", "").replace("’", "")))
    tokens = spaced.split()
    return [token for token in tokens if token not in ARTICLES] or tokens


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Return 1.0 if the answer has the same words in the same order as a right one, else 0.0."""
    if not right:
        return float("nan")
    tokens = answer_words(answer)
    return float(any(tokens == answer_words(text) for text in right))


def token_f1(answer: str, right: Sequence[str]) -> float:
    """Return the highest F1 of the words shared with a right answer, from 0 to 1.

    A word counts as often as it stands in both. Two answers without words match.
    """
    if not right:
        return float("nan")
    return max(_f1(answer_words(answer), answer_words(text)) for text in right)


def _f1(tokens: list[str], right: list[str]) -> float:
    if not tokens or not right:
        return float(tokens == right)
    shared = sum((Counter(tokens) & Counter(right)).values())
    return 2 * shared / (len(tokens) + len(right))


def has_answer(text: str, right: Sequence[str]) -> bool:
    """Return whether a text holds a right answer as whole words in a row.

    "no" is not in "north", and "7 May" is not in "17 May".
    """
    held = f" {' '.join(answer_words(text))} "
    spoken = [" ".join(answer_words(answer)) for answer in right]
    return any(answer and f" {answer} " in held for answer in spoken)


def first_hit(texts: Sequence[str], right: Sequence[str]) -> float:
    """Return the rank, from 1, of the first text that holds a right answer; infinite for none."""
    for rank, text in enumerate(texts, start=1):
        if has_answer(text, right):
            return float(rank)
    return float("inf")


def hits_at(ranks: Sequence[float], k: int) -> np.ndarray:
    """Return (n,) 1.0 where the first hit has at most rank k, else 0.0; NaN stays NaN."""
    values = np.asarray(ranks, dtype=np.float64)
    return np.where(np.isnan(values), np.nan, (values <= k).astype(np.float64))
