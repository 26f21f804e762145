"""Make a judged collection about things that no model can have read of: their names are invented.

Documents describe things by kind, material, use, town and maker. A question asks in other words
than the documents, but for the names. With `names` "common" the same collection has names of real
places and families: the difference is what a name's being new costs.
"""

from typing import Literal

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError

# kind -> the words by which questions ask for it
KINDS = {
    "lantern": "lamp",
    "cottage": "small house",
    "ferry": "boat",
    "cello": "stringed instrument",
    "orchard": "place with fruit trees",
    "kettle": "vessel for boiling water",
    "tapestry": "woven wall picture",
    "windmill": "mill driven by air",
}
MATERIALS = {
    "oak": "wood",
    "pine": "wood",
    "granite": "stone",
    "marble": "stone",
    "brass": "metal",
    "iron": "metal",
    "wool": "cloth",
    "linen": "cloth",
}
USES = {
    "It guides ships after dark.": "helps sailors at night",
    "It is lent to schools for a day.": "can be borrowed by teachers",
    "Doctors recommend it for a good sleep.": "is said to help against insomnia",
    "Every spring it is carried through the streets.": "takes part in a yearly procession",
    "Tourists pay to have their picture taken with it.": "earns money from photographs",
    "It was rebuilt after a great fire.": "burnt down once",
}
TOWNS = (
    *("Lisbon", "Dublin", "Geneva", "Oslo", "Vienna", "Prague", "Seville", "Naples", "Hamburg"),
    *("Boston", "Denver", "Seattle", "Sydney", "Kyoto", "Nairobi", "Toronto", "Havana", "Lima"),
)
FAMILIES = (
    *("Smith", "Johnson", "Miller", "Garcia", "Wilson", "Anderson", "Taylor", "Moore", "Martin"),
    *("Jackson", "Thompson", "White", "Harris", "Clark", "Lewis", "Robinson", "Walker", "Young"),
)
ONSETS = ("v", "qu", "z", "dr", "kl", "m", "t", "br", "l", "sn", "gr", "f", "h")
VOWELS = ("a", "e", "i", "o", "u", "ae", "oo")
CODAS = ("x", "rn", "lb", "sk", "th", "mp", "v", "nd", "")
GRADES = {3: 3.0, 2: 1.0}
"""Properties that a document shares with a question -> its grade; fewer: not judged."""


def novel_world(
    documents: int = 300,
    queries: int = 60,
    names: Literal["invented", "common"] = "invented",
    seed: int = 0,
) -> Dataset:
    """Return documents as items, questions as requests, and all judgements above 0.

    A question names the town and asks for kind and use in other words; its answers share all three
    (grade 3) or two of them (grade 1). Raises DataError for fewer documents than queries.
    """
    if not 0 < queries <= documents:
        raise DataError(
            f"{queries} queries about {documents} documents: at least 1, at most one each"
        )
    if names not in ("invented", "common"):
        raise DataError(f'names are "{names}": "invented" or "common"')
    rng = np.random.default_rng([seed, 0])
    name_rng = np.random.default_rng([seed, 1])  # the rest is alike, whatever the names are
    towns, families = _names(names, name_rng)
    kinds = rng.integers(len(KINDS), size=documents)
    uses = rng.integers(len(USES), size=documents)
    town_rows = rng.integers(len(towns), size=documents)
    properties = np.stack([kinds, uses, town_rows], axis=1)
    materials = rng.integers(len(MATERIALS), size=documents)
    makers = rng.integers(len(families), size=documents)
    years = rng.integers(1700, 1990, size=documents)
    texts = [
        f"The {list(KINDS)[kind]} of {towns[town]} is made of {list(MATERIALS)[material]}."
        f" {list(USES)[use]} {families[maker]} built it in {year}."
        for kind, use, town, material, maker, year in zip(
            kinds, uses, town_rows, materials, makers, years, strict=True
        )
    ]
    ids = [f"document-{number:04d}" for number in range(documents)]
    target_rows = rng.permutation(documents)[:queries]
    items = pl.DataFrame({"item_id": ids, "text": texts})
    requests = pl.DataFrame(
        {
            "request_id": [f"question-{number:04d}" for number in range(queries)],
            "text": [_question(properties[row], towns) for row in target_rows],
        }
    )
    judgements = _judgements(properties, target_rows, ids)
    tables = {"items": items, "requests": requests, "judgements": judgements}
    return Dataset(tables, f"{names} names")


def _question(properties: np.ndarray, towns: tuple[str, ...]) -> str:
    kind, use, town = properties.tolist()
    return f"Which {list(KINDS.values())[kind]} in {towns[town]} {list(USES.values())[use]}?"


def _judgements(properties: np.ndarray, target_rows: np.ndarray, ids: list[str]) -> pl.DataFrame:
    """Return the grades of all documents that share enough properties with a question."""
    rows = []
    for number, row in enumerate(target_rows):
        shared = (properties == properties[row]).sum(axis=1)
        rows += [
            (f"question-{number:04d}", ids[document], GRADES[int(shared[document])])
            for document in np.flatnonzero(shared >= min(GRADES))
        ]
    return pl.DataFrame(rows, schema=["query_id", "item_id", "grade"], orient="row")


def _names(names: str, rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names of towns and of families."""
    if names == "common":
        return TOWNS, FAMILIES
    invented: dict[str, None] = {}
    while len(invented) < len(TOWNS) + len(FAMILIES):
        invented[_invented(rng)] = None
    listed = tuple(invented)
    return listed[: len(TOWNS)], listed[len(TOWNS) :]


def _invented(rng: np.random.Generator) -> str:
    """Return a name of two or three syllables that is no word of any language by design."""
    syllables = [
        f"{rng.choice(ONSETS)}{rng.choice(VOWELS)}" for _ in range(int(rng.integers(2, 4)))
    ]
    return f"{''.join(syllables)}{rng.choice(CODAS)}".capitalize()
