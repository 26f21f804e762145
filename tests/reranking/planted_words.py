"""Lists whose better documents share more of the request's words; the prior knows nothing."""

from dataclasses import replace

from tailor.reranking.examples import Example
from tailor.reranking.shortlist import Shortlist


def worded_lists(count, rng):
    """That many lists of twelve documents, one with gain 2 and one with gain 1."""
    lists = []
    for number in range(count):
        gains = rng.permutation([2.0, 1.0] + [0.0] * 10)
        texts = tuple(
            " ".join(["rope", "knot", "sail"][: int(gain) + 1] + [f"word{rng.integers(99)}"] * 2)
            for gain in gains
        )
        shortlist = Shortlist.of_texts(f"sail knot {number}", texts)
        lists.append(Example(replace(shortlist, prior=rng.standard_normal(12)), gains))
    return lists
