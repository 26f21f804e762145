"""Explanations in plain English, from templates. Titles and ids are data: they are cleaned, quoted
and never read as a format.
"""

import unicodedata
from collections.abc import Mapping, Sequence

from tailor.data.nouns import Evidence, Explanation
from tailor.evaluation.explanations import Counterfactual

LONGEST = 80  # characters of a title
JOINERS = "\u200c\u200d"  # zero width, and yet part of how Persian, Hindi and emoji are written
COUNTS = ("", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def clean_title(title: str) -> str:
    """One line without control characters, direction marks and half surrogates, cut after `LONGEST`
    characters.
    """
    spaced = " ".join("".join(" " if one.isspace() else one for one in title).split())
    seen = "".join(one for one in spaced if one in JOINERS or unicodedata.category(one)[0] != "C")
    return seen if len(seen) <= LONGEST else seen[: LONGEST - 1].rstrip() + "…"


def quote_title(item_id: str, titles: Mapping[str, str]) -> str:
    """The title, or the id where there is none, in quotation marks of which none stands inside."""
    return (
        '"'
        + (clean_title(titles.get(item_id) or "") or clean_title(item_id)).replace('"', "'")
        + '"'
    )


def join_names(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.005 else str(round(100 * min(max(share, 0.0), 1.0))) + " %"


def sentence(
    explanation: Explanation,
    titles: Mapping[str, str],
    counterfactual: Counterfactual | None = None,
    most: int = 2,
    verb: str = "looked at",
) -> str:
    """Why an item is recommended, as one would say it; the `most` strongest pieces of evidence of
    each kind are named.

    Because you looked at "A" and "B" (together 78 % of the score); without them it would not be
    among the first ten.
    """
    kinds: dict[str, list[Evidence]] = {}
    for one in explanation.evidence:
        kinds.setdefault(one.kind, []).append(one)
    clauses = [_clause(kind, evidence[:most], titles, verb) for kind, evidence in kinds.items()]
    named = {one.id for one in kinds.get("item", [])[:most]}
    last = "" if counterfactual is None else _without(counterfactual, named, titles)
    if not clauses:
        return "Nothing is known that speaks for it" + (f"; {last}." if last else ".")
    shares = [percent(sum(one.share for one in evidence[:most])) for evidence in kinds.values()]
    told = [
        clause + _share(share, len(evidence[:most]), at == 0)
        for at, (clause, share, evidence) in enumerate(
            zip(clauses, shares, kinds.values(), strict=True)
        )
    ]
    return "Because " + ", and because ".join(told) + (f"; {last}." if last else ".")


def _clause(kind: str, evidence: Sequence[Evidence], titles: Mapping[str, str], verb: str) -> str:
    several = len(evidence) > 1
    if kind == "popularity":
        return "many people choose it"
    if kind == "item":
        return "you " + verb + " " + join_names([quote_title(one.id, titles) for one in evidence])
    names = join_names([quote_title(one.id, {}) for one in evidence])
    if kind == "word":
        return (
            ("the words " if several else "the word ")
            + names
            + (" speak for it" if several else " speaks for it")
        )
    if kind == "part":
        return (
            ("the parts " if several else "the part ")
            + names
            + (" of the pipeline propose it" if several else " of the pipeline proposes it")
        )
    return names + (" speak for it" if several else " speaks for it")


def _share(share: str, n: int, is_first: bool) -> str:
    return (
        " (" + ("together " if n > 1 else "") + share + (" of the score" if is_first else "") + ")"
    )


def _without(found: Counterfactual, named: set[str], titles: Mapping[str, str]) -> str:
    place = (
        "the first"
        if found.k == 1
        else "among the first " + (COUNTS[found.k] if found.k < len(COUNTS) else str(found.k))
    )
    if found.rank is None:
        return "it is not " + place
    if not found.is_found:
        return "it would be " + place + " even without your history"
    if set(found.removed) == named:
        return (
            ("without them it" if len(named) > 1 else "without it this") + " would not be " + place
        )
    return (
        "without "
        + join_names([quote_title(one, titles) for one in found.removed])
        + " it would not be "
        + place
    )
