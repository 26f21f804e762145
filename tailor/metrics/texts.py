"""Compare generated texts with references, and measure how varied they are.

Texts are lists of words where words count, so that the caller decides what a word is. All figures
are from 0 to 1. `metrics/rouge.py` has ROUGE.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from tailor.metrics.rouge import runs

LONGEST_RUN = 4  # words of BLEU's longest runs
CHARACTERS = 6  # characters of chrF's longest runs
RECALL_WEIGHT = 2  # how many times as much as precision recall counts in chrF


def bleu(
    texts: Sequence[Sequence[str]], references: Sequence[Sequence[str]], n: int = LONGEST_RUN
) -> float:
    """Return BLEU of a whole set of texts with one reference each (Papineni et al. 2002).

    The geometric mean of the precisions of runs of 1 to n words, summed over all texts before
    division, times exp(1 - length of references / length of texts) where texts are shorter. 0 where
    no run of some length is shared: nothing is smoothed.
    """
    log_precision = 0.0
    for length in range(1, n + 1):
        shared, total = 0, 0
        for text, reference in zip(texts, references, strict=True):
            text_runs = runs(text, length)
            shared += (text_runs & runs(reference, length)).total()
            total += text_runs.total()
        if not shared:
            return 0.0
        log_precision += math.log(shared / total) / n
    size = sum(len(text) for text in texts)
    reference_size = sum(len(reference) for reference in references)
    return math.exp(log_precision + min(0.0, 1 - reference_size / size))


def chrf(text: str, reference: str) -> float:
    """Return chrF2, the F-score of shared runs of 1 to 6 characters (Popović 2015).

    Spaces do not count. Precision and recall are means over the lengths of which both texts have a
    run; recall counts twice as much.
    """
    characters, reference_characters = ("".join(part.split()) for part in (text, reference))
    precisions, recalls = [], []
    for length in range(1, CHARACTERS + 1):
        text_runs = runs(characters, length)
        reference_runs = runs(reference_characters, length)
        if text_runs and reference_runs:
            shared = (text_runs & reference_runs).total()
            precisions.append(shared / text_runs.total())
            recalls.append(shared / reference_runs.total())
    if not sum(precisions):
        return 0.0
    precision = sum(precisions) / len(precisions)
    recall = sum(recalls) / len(recalls)
    weight = RECALL_WEIGHT**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def distinct(texts: Sequence[Sequence[str]], n: int = 1) -> float:
    """Return distinct-n, the share of different ones among all runs of n words (Li et al. 2016).

    NaN where no text has n words.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts += runs(text, n)
    return len(counts) / counts.total() if counts else float("nan")


def jensen_shannon(left: Mapping[Hashable, float], right: Mapping[Hashable, float]) -> float:
    """Return the Jensen-Shannon divergence of two sets of counts, in bits.

    0 for the same shares, 1 for sets that have nothing in common, NaN where one is empty.
    """
    left_total, right_total = sum(left.values()), sum(right.values())
    if not left_total or not right_total:
        return float("nan")
    divergence = 0.0
    for name in left.keys() | right.keys():
        shares = left.get(name, 0) / left_total, right.get(name, 0) / right_total
        middle = sum(shares) / 2
        divergence += sum(share * math.log2(share / middle) / 2 for share in shares if share)
    return divergence
