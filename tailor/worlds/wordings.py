"""Plant requests for films in many wordings that all mean the same.

A request asks for a genre, an era and a constraint. It is worded twelve ways: other words for each
part, another order, politeness, a person who speaks. Films that have all three are good answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of

GENRES = {
    "comedy": ("comedy", "funny film", "film that makes me laugh"),
    "horror": ("horror film", "scary movie", "film that frightens me"),
    "western": ("western", "cowboy film", "film with gunslingers"),
    "romance": ("romance", "love story", "film about two people in love"),
    "thriller": ("thriller", "suspense film", "film that keeps me on edge"),
    "documentary": ("documentary", "non-fiction film", "film about real events"),
}
ERAS = {
    "1950s": ("1950s", "fifties", "years after the war"),
    "1970s": ("1970s", "seventies", "disco years"),
    "1990s": ("1990s", "nineties", "last years of the old century"),
    "2010s": ("2010s", "twenty-tens", "last decade but one"),
}
CONSTRAINTS = {
    "short": ("under ninety minutes", "short", "that is over soon"),
    "family": ("for the whole family", "suitable for children", "that my kids may see"),
    "silent": ("without dialogue", "silent", "where nobody speaks"),
    "award": ("with an award", "prize-winning", "that a jury honoured"),
}
# a wording and which of the three ways to say its genre, era and constraint it uses
WORDINGS = (
    ("{genre} from the {era}, {constraint}", (0, 0, 0)),
    ("please recommend a {genre} of the {era}, {constraint}", (0, 1, 0)),
    ("{era}, {constraint}: any {genre}?", (1, 0, 1)),
    ("I am a teacher and look for a {genre} {constraint}, from the {era}", (1, 1, 0)),
    ("could you suggest something {constraint}? a {genre} from the {era}", (0, 0, 2)),
    ("{constraint} {genre} {era}", (1, 0, 0)),
    ("my grandmother wants a {genre} of the {era}, best {constraint}", (2, 1, 1)),
    ("what is a good {genre} {constraint} that was shot in the {era}", (2, 0, 2)),
    ("we need a {genre} for tonight: {era}, {constraint}, thanks!", (1, 1, 1)),
    ("as a student on a budget I would love a {constraint} {genre} from the {era}", (0, 1, 1)),
    ("films of the {era}, and only {constraint} ones. I mean a {genre}", (2, 1, 0)),
    ("hi, do you know a {genre}, {constraint}, made in the {era}?", (0, 2, 2)),
)
LEARNED = 8  # wordings of these are learned from
PLOT = (
    "harbour",
    "lighthouse",
    "sailor",
    "orchard",
    "railway",
    "circus",
    "baker",
    "pianist",
    "island",
    "winter",
    "desert",
    "library",
    "twins",
    "inheritance",
    "letter",
    "village",
    "hospital",
    "detective",
    "gardener",
    "bridge",
)


@dataclass(frozen=True, eq=False)
class WordingWorld:
    """Films and requests: wordings to learn from, and other wordings of the same requests."""

    data: Dataset
    """Films, requests with intent_id, and judgements."""
    unseen: Dataset
    """The same films and intents in wordings that are not in `data`."""


def wording_world(films: int = 16, seed: int = 0) -> WordingWorld:
    """Make about `films` films of every genre, era and constraint, and requests for them.

    All films of a request's three parts have grade 1. The same arguments give the same world.
    Raises DataError for fewer than one film.
    """
    if films < 1:
        raise DataError(f"films is {films}: at least 1")
    rng = random_of(seed, "wordings")
    kinds = list(product(GENRES, ERAS, CONSTRAINTS))
    counts = rng.integers(max(films - films // 4, 1), films + films // 4 + 1, len(kinds))
    kind_of_film = rng.permutation(np.repeat(np.arange(len(kinds)), counts))
    item_ids = opaque_ids("f-", len(kind_of_film), seed)
    texts = [_film(kinds[kind], rng) for kind in kind_of_film.tolist()]
    items = pl.DataFrame({"item_id": item_ids, "text": texts})
    good = [
        item_ids.filter(pl.Series(kind_of_film == kind)).to_list() for kind in range(len(kinds))
    ]
    parts = [range(LEARNED), range(LEARNED, len(WORDINGS))]
    learned, unseen = (_requests(kinds, good, items, numbers, seed) for numbers in parts)
    return WordingWorld(learned, unseen)


def _film(kind: tuple[str, str, str], rng: np.random.Generator) -> str:
    """Return a description that says genre, era and constraint in one of three ways each."""
    genre, era, constraint = (
        str(rng.choice(ways[name]))
        for ways, name in zip((GENRES, ERAS, CONSTRAINTS), kind, strict=True)
    )
    first, second, third = rng.choice(PLOT, 3, replace=False)
    return f"A {genre} of the {era}, {constraint}: {first}, {second} and {third}."


def worded(kind: Sequence[str], number: int) -> str:
    """Return a request for a genre, an era and a constraint in one of the wordings."""
    wording, ways = WORDINGS[number]
    genre, era, constraint = kind
    return wording.format(
        genre=GENRES[genre][ways[0]],
        era=ERAS[era][ways[1]],
        constraint=CONSTRAINTS[constraint][ways[2]],
    )


def _requests(
    kinds: Sequence[tuple[str, str, str]],
    good: Sequence[list[str]],
    items: pl.DataFrame,
    numbers: Sequence[int],
    seed: int,
) -> Dataset:
    """Return films, and requests for all kinds in these wordings with their judgements."""
    requests = [
        (f"{'-'.join(kind)} {number}", "-".join(kind), worded(kind, number))
        for kind in kinds
        for number in numbers
    ]
    judgements = [
        (f"{'-'.join(kind)} {number}", item_id, 1.0)
        for kind, of_kind in zip(kinds, good, strict=True)
        for number in numbers
        for item_id in of_kind
    ]
    tables = {
        "items": items,
        "requests": _frame(requests, ["request_id", "intent_id", "text"]),
        "judgements": _frame(judgements, ["query_id", "item_id", "grade"]),
    }
    return Dataset(tables, f"wordings-{seed}")


def _frame(rows: Sequence[tuple[object, ...]], names: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(names), orient="row")
