"""Items that are a value of each facet, told by titles, by pictures, or by neither.

Shapes: N items, F facets, U people, L events of a person, n rows of a request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest
from tailor.worlds.assets import asset_table
from tailor.worlds.pictures import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES, Thing, draw_thing
from tailor.worlds.seeds import opaque_ids, random_of

WORDS: dict[str, tuple[str, ...]] = {
    "kind": (
        "mug",
        "cushion",
        "poster",
        "lamp",
        "rug",
        "bag",
        "clock",
        "tray",
        "candle",
        "vase",
        "scarf",
        "blanket",
    ),
    "maker": (
        "Harrow",
        "Velden",
        "Ostrik",
        "Maruya",
        "Calder",
        "Brisken",
        "Tolvaj",
        "Ennis",
        "Pallot",
        "Grevin",
        "Sundby",
        "Idrisa",
    ),
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "texture": TEXTURES,
}
FACETS = tuple(WORDS)
DRAWABLE = ("colour", "shape", "texture")  # facets that a picture can show
ANY = -1  # stands for every value of a facet


@dataclass(frozen=True, eq=False)
class FacetItems:
    """A catalogue with every combination of the facets' values, and what each item is.

    Rows are those of `catalogue`.
    """

    facets: tuple[str, ...]
    """(F,) names of the facets, the first of FACETS."""
    words: tuple[tuple[str, ...], ...]
    """(F,) the words of each facet's values."""
    codes: np.ndarray
    """(N, F) value of each facet of each item."""
    catalogue: Vocabulary
    """Ids of the items."""

    @classmethod
    def make(cls, values: Sequence[int], copies: int, seed: int) -> "FacetItems":
        """Make `copies` items of every combination of `values` (F,) values.

        Raises DataError for a number of facets or values that has no words.
        """
        facets = FACETS[: len(values)]
        most = [len(WORDS[facet]) for facet in facets]
        fits = 1 <= len(values) <= len(FACETS) and all(
            1 <= count <= limit for count, limit in zip(values, most, strict=True)
        )
        if not fits or copies < 1:
            limits = ", ".join(f"{facet} {len(words)}" for facet, words in WORDS.items())
            raise DataError(
                f"values {tuple(values)}, copies {copies}: at least 1 each, at most {limits}"
            )
        combinations = np.indices(values).reshape(len(values), -1).T.repeat(copies, axis=0)
        ids = opaque_ids("i-", len(combinations), seed).to_list()
        catalogue = Vocabulary.of_items(ids)
        codes = np.empty_like(combinations)
        codes[catalogue.rows(ids)] = combinations
        words = tuple(WORDS[facet][:count] for facet, count in zip(facets, values, strict=True))
        return cls(facets, words, codes, catalogue)

    @property
    def sizes(self) -> np.ndarray:
        """Return (F,) the number of values of each facet."""
        return np.array([len(words) for words in self.words])

    def columns(self, names: Sequence[str], purpose: str) -> list[int]:
        """Return the numbers of facets. Raises DataError for a name that is no facet."""
        for name in names:
            if name not in self.facets:
                raise DataError(f'{purpose} "{name}" is no facet.{nearest(name, self.facets)}')
        return [self.facets.index(name) for name in names]

    def matching(self, codes: np.ndarray) -> np.ndarray:
        """Return (n, N) bool: items that match codes (n, F), where -1 is any value."""
        codes = np.atleast_2d(codes)
        mask = np.ones((len(codes), len(self.codes)), dtype=bool)
        for column in range(len(self.facets)):
            value = codes[:, column, None]
            mask &= (value == ANY) | (value == self.codes[:, column])
        return mask

    def draw(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an item row for each of codes (..., F), drawn among those that match."""
        flat = codes.reshape(-1, codes.shape[-1])
        any_values = rng.integers(self.sizes, size=flat.shape)
        combinations = np.where(flat == ANY, any_values, flat)
        copies = len(self.codes) // int(self.sizes.prod())
        keys = np.ravel_multi_index(tuple(combinations.T), tuple(self.sizes.tolist()))
        order = np.argsort(
            np.ravel_multi_index(tuple(self.codes.T), tuple(self.sizes.tolist())), kind="stable"
        )
        rows: np.ndarray = order[keys * copies + rng.integers(copies, size=len(keys))]
        return rows.reshape(codes.shape[:-1])

    def ways(
        self,
        people: int,
        length: int,
        kept: Sequence[str],
        walked: Sequence[str],
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return (U, L, F) values of facets kept and walked along; -1 for the others.

        Each person has a start of their own; a walk goes to the next value at every event.
        """
        ways = np.full((people, length, len(self.facets)), ANY)
        starts = rng.integers(self.sizes, size=(people, len(self.facets)))
        for column in self.columns(kept, "kept"):
            ways[:, :, column] = starts[:, column, None]
        for column in self.columns(walked, "walked"):
            steps = starts[:, column, None] + np.arange(length)
            ways[:, :, column] = steps % self.sizes[column]
        return ways

    def tables(
        self, named: Sequence[str] | None, drawn: Sequence[str], side: int, seed: int
    ) -> dict[str, pl.DataFrame]:
        """Return the items, and pictures of `side` pixels where facets are drawn.

        Titles hold the words of the facets `named` (None: all), and a column each tells them too;
        nothing in the tables tells another facet, except pictures those `drawn`. Raises DataError
        for a facet that cannot be drawn.
        """
        named = self.facets if named is None else tuple(named)
        columns = {name: self._named(name) for name in self._checked(named, "named")}
        titles = [" ".join(parts) for parts in zip(*columns.values(), strict=True)]
        ids = self.catalogue.ids.tolist()
        table: dict[str, list[str]] = {"item_id": ids, "title": titles or [""] * len(ids)}
        if not drawn:
            return {"items": pl.DataFrame(table | columns)}
        rng = random_of(seed, "pictures")
        pictures = [draw_thing(thing, rng, side) for thing in self._things(drawn, rng)]
        items = pl.DataFrame(table | {"asset": ids} | columns)
        return {"items": items, "assets": asset_table(ids, pictures)}

    def _checked(self, names: Sequence[str], purpose: str) -> Sequence[str]:
        self.columns(names, purpose)
        return names

    def _named(self, facet: str) -> list[str]:
        """Return (N,) the word of each item's value of a facet."""
        column = self.facets.index(facet)
        return [self.words[column][value] for value in self.codes[:, column].tolist()]

    def _things(self, drawn: Sequence[str], rng: np.random.Generator) -> list[Thing]:
        """Return (N,) looks of the items; what is not drawn of them is drawn by chance."""
        cannot = [name for name in drawn if name not in DRAWABLE]
        if cannot:
            raise DataError(f'drawn "{cannot[0]}" cannot be drawn.{nearest(cannot[0], DRAWABLE)}')
        self.columns(drawn, "drawn")
        n = len(self.codes)
        choices = {
            "shape": SHAPES,
            "colour": tuple(COLOURS),
            "texture": TEXTURES,
            "size": tuple(SIZES),
            "background": tuple(BACKGROUNDS),
        }
        looks = {
            name: self._named(name) if name in drawn else rng.choice(words, n).tolist()
            for name, words in choices.items()
        }
        return [
            Thing(**dict(zip(looks, values, strict=True)))
            for values in zip(*looks.values(), strict=True)
        ]


def check_disjoint(**names: Sequence[str]) -> None:
    """Raise DataError for a facet under two rules, and for text in place of names."""
    for purpose, facet_names in names.items():
        if isinstance(facet_names, str):
            raise DataError(f'{purpose} is "{facet_names}": write ("{facet_names}",)')
    every = [name for facet_names in names.values() for name in facet_names]
    doubled = {name for name in every if every.count(name) > 1}
    if doubled:
        raise DataError(f'"{min(doubled)}" is in two of {", ".join(names)}: one rule a facet')
