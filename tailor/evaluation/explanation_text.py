"""Write explanations in plain English from templates.

Titles and ids are data: they are cleaned, quoted and never read as a format.
"""

import unicodedata
from collections.abc import Mapping, Sequence

from tailor.data.nouns import Evidence, Explanation
from tailor.evaluation.explanations import Counterfactual

LONGEST = 80  # characters of a title
JOINERS = "\u200c\u200d"  # zero-width characters that Persian, Hindi and emoji need
NUMBERS = ("", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def clean_title(title: str) -> str:
    """Return the title as one line of at most `LONGEST` characters.

    Control characters, direction marks and half surrogates are removed.
    """
    spaced = "".join(" " if character.isspace() else character for character in title)
    visible = "".join(
        character
        for character in " ".join(spaced.split())
        if character in JOINERS or unicodedata.category(character)[0] != "C"
    )
    return visible if len(visible) <= LONGEST else visible[: LONGEST - 1].rstrip() + "…"


def quote_title(item_id: str, titles: Mapping[str, str]) -> str:
    """Return the title, or the id without one, in quotation marks with none inside."""
    title = clean_title(titles.get(item_id) or "") or clean_title(item_id)
    return '"' + title.replace('"', "'") + '"'


def join_names(names: Sequence[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def percent(share: float) -> str:
    """Return a share as a whole percentage."""
    if 0 < share < 0.005:
        return "under 1 %"
    return str(round(100 * min(max(share, 0.0), 1.0))) + " %"


def sentence(
    explanation: Explanation,
    titles: Mapping[str, str],
    counterfactual: Counterfactual | None = None,
    most: int = 2,
    verb: str = "looked at",
) -> str:
    """Return one sentence that says why an item is recommended.

    It names the `most` strongest pieces of evidence of each kind: Because you looked at "A" and "B"
    (together 78 % of the score); without them it would not be among the first ten.
    """
    kinds: dict[str, list[Evidence]] = {}
    for evidence in explanation.evidence:
        kinds.setdefault(evidence.kind, []).append(evidence)
    strongest = {kind: evidence[:most] for kind, evidence in kinds.items()}
    ending = "."
    if counterfactual is not None:
        named_ids = {evidence.id for evidence in strongest.get("item", [])}
        ending = f"; {_counterfactual_clause(counterfactual, named_ids, titles)}."
    if not strongest:
        return "Nothing is known that speaks for it" + ending
    clauses = [
        _clause(kind, evidence, titles, verb) + _share_of_score(evidence, i == 0)
        for i, (kind, evidence) in enumerate(strongest.items())
    ]
    return "Because " + ", and because ".join(clauses) + ending


def _clause(kind: str, evidence: Sequence[Evidence], titles: Mapping[str, str], verb: str) -> str:
    """Return the clause of one kind of evidence."""
    if kind == "popularity":
        return "many people choose it"
    if kind == "item":
        return f"you {verb} " + join_names([quote_title(entry.id, titles) for entry in evidence])
    names = join_names([quote_title(entry.id, {}) for entry in evidence])
    is_plural = len(evidence) > 1
    if kind == "word":
        return f"the words {names} speak for it" if is_plural else f"the word {names} speaks for it"
    if kind == "part":
        if is_plural:
            return f"the parts {names} of the pipeline propose it"
        return f"the part {names} of the pipeline proposes it"
    return f"{names} speak for it" if is_plural else f"{names} speaks for it"


def _share_of_score(evidence: Sequence[Evidence], is_first: bool) -> str:
    """Return the evidence's share of the score in brackets; only the first names the unit."""
    share = percent(sum(entry.share for entry in evidence))
    together = "together " if len(evidence) > 1 else ""
    unit = " of the score" if is_first else ""
    return f" ({together}{share}{unit})"


def _counterfactual_clause(
    counterfactual: Counterfactual, named_ids: set[str], titles: Mapping[str, str]
) -> str:
    """Return the clause on what would happen without some items of the history."""
    k = counterfactual.k
    if k == 1:
        position = "the first"
    else:
        position = "among the first " + (NUMBERS[k] if k < len(NUMBERS) else str(k))
    if counterfactual.rank is None:
        return f"it is not {position}"
    if not counterfactual.is_found:
        return f"it would be {position} even without your history"
    if set(counterfactual.removed) != named_ids:
        names = join_names([quote_title(item_id, titles) for item_id in counterfactual.removed])
        return f"without {names} it would not be {position}"
    if len(named_ids) > 1:
        return f"without them it would not be {position}"
    return f"without it this would not be {position}"
