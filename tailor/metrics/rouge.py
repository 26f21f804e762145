"""Measure how many words a text shares with a reference: ROUGE (Lin 2004).

Texts are lists of words, so that the caller decides what a word is. All figures are F1, from 0 to
1, and 0 where a text has no n words in a row.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise


def rouge_n(words: Sequence[str], reference: Sequence[str], n: int = 1) -> float:
    """Return the F1 of runs of n words, each counted as often as both have it.

    2 shared / (runs of the text + runs of the reference).
    """
    text_runs = runs(words, n)
    reference_runs = runs(reference, n)
    shared = (text_runs & reference_runs).total()
    return _f1(shared, text_runs.total(), reference_runs.total())


def rouge_l(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence of words."""
    return _f1(_common_length(words, reference), len(words), len(reference))


def runs(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Return how often each run of n words, or of characters of a string, occurs."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _f1(shared: int, n_text: int, n_reference: int) -> float:
    return 2 * shared / (n_text + n_reference) if shared else 0.0


def _common_length(words: Sequence[str], reference: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, row by row of the usual table."""
    lengths = [0] * (len(reference) + 1)
    for word in words:
        row = [0]
        for (diagonal, above), other in zip(pairwise(lengths), reference, strict=True):
            row.append(diagonal + 1 if word == other else max(above, row[-1]))
        lengths = row
    return lengths[-1]
