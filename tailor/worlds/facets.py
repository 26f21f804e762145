"""A planted log of items with facets: kept, walked along, drawn by chance, or asked for in words.

    world = facets(500, 10, seed=0, kept=("kind",), walked=("maker",), wished=("colour",))
    split = last_out(world.data)
    queries, targets = split.queries("test")
    queries = world.asking(queries)  # each with the text of its own wish

Shapes: U people, L events of a person, N items, F facets, n requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.worlds.facet_items import ANY, FacetItems, check_disjoint
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

DAY_MS = 86_400_000
WISHES = ("something {}", "{} please", "I am looking for {}", "it should be {}")
AVOIDED = ("nothing {}", "not {} please", "I am avoiding {}", "it should not be {}")
MET = ("I asked for {wish} and got {wish}.", "I like {wish}, and this is it.", "{wish} suits me.")
MISSED = (
    "I asked for {wish} and got {value}.",
    "I like {wish}, not {value}.",
    "{value} is not for me, {wish} is.",
)
EARLY = ("I like {wish}.", "{wish} is what I am after.", "I would choose {wish}.")
GOOD, BAD = 5.0, 2.0  # ratings of events that follow the person's ways, and of others


@dataclass(frozen=True, eq=False)
class FacetTruth:
    """The truth that no method may see. Rows of people and items are those of the data."""

    items: FacetItems
    """The catalogue: `facets`, `words`, `codes` (N, F), `matching(codes)`."""
    ways: np.ndarray
    """(U, L, F) values that the person's ways ask for at each event, wishes left out; -1: any."""
    wishes: np.ndarray
    """(U, L, F) values that the person wishes for at each event; -1: none."""
    tastes: np.ndarray
    """(U, F) the lasting wish of each person, which events follow with `lasting`; -1: none."""
    is_noise: np.ndarray
    """(U, L) bool: events of any item."""
    noise: float
    """Probability of an event of any item."""
    late: int
    """Number of a person's last events that follow wishes; 0: all do."""

    @property
    def follows(self) -> np.ndarray:
        """Return (L,) bool: events that follow wishes."""
        length = self.wishes.shape[1]
        return np.arange(length) >= (length - self.late if self.late else 0)

    def chances(
        self, people: np.ndarray, event: int = -1, wishes: np.ndarray | None = None
    ) -> np.ndarray:
        """Return (n, N) the probability of every item at an event of people (n,).

        The oracle: nothing that reads the log can rank better. `event` counts from 0, or from the
        end; `wishes` (n, F) stand in place of the person's own, -1 for none.
        """
        if wishes is None:
            wishes = np.where(self.follows[event], self.wishes[people, event], ANY)
        codes = np.where(wishes == ANY, self.ways[people, event], wishes)
        fits = self.items.matching(codes)
        shares = fits / np.maximum(fits.sum(axis=1, keepdims=True), 1)
        chances: np.ndarray = (1 - self.noise) * shares + self.noise / fits.shape[1]
        return chances


@dataclass(frozen=True, eq=False)
class Facets:
    """A log, and the truth that no method may see.

    The catalogue is that of `data`, and so are the users.
    """

    data: Dataset
    """Events with value (a rating, 5 or 2), items, assets where facets are drawn; texts where
    facets are wished for: reviews of kind "review", and wishes of kind "query", both with the user,
    item and time of their event.
    """
    truth: FacetTruth
    """Facets of the items, and what every event asked for."""

    def asking(self, queries: Queries) -> Queries:
        """Return the same queries with the wish of their event as text.

        It is looked up by user and time of the request. It was made for the target, as words typed
        just before it are: figures with it are no figures of plain next items.
        """
        texts = self.data.tables["texts"].filter(pl.col("kind") == "query")
        rows = texts.select("user_id", "time_ms", "text").iter_rows()
        wishes = {(user_id, time_ms): text for user_id, time_ms, text in rows}
        times = [None] * len(queries) if queries.now_ms is None else queries.now_ms.tolist()
        texts_of = [wishes.get(key, "") for key in zip(queries.user_ids, times, strict=True)]
        return replace(queries, texts=np.array(texts_of, dtype=object))


def wish_text(words: Sequence[str], phrasing: int = 0, avoid: bool = False) -> str:
    """Return a wish for words, or against them; "" without words.

    There are four phrasings of each; the number counts modulo 4.
    """
    if not words:
        return ""
    if avoid:
        return AVOIDED[phrasing % len(AVOIDED)].format(" or ".join(words))
    return WISHES[phrasing % len(WISHES)].format(" ".join(words))


def facets(
    people: int = 500,
    length: int = 10,
    seed: int = 0,
    *,
    values: Sequence[int] = (6, 5, 6, 4),
    kept: Sequence[str] = ("kind",),
    walked: Sequence[str] = ("maker",),
    wished: Sequence[str] = ("colour",),
    named: Sequence[str] | None = None,
    drawn: Sequence[str] = (),
    noise: float = 0.2,
    lasting: float = 0.0,
    late: int = 0,
    copies: int = 1,
    side: int = 32,
) -> Facets:
    """Make a log of `people` with `length` events each, one a day; a knob at 0 or () is off.

    `values` are the numbers of values of kind (12 at most), maker (12), colour (6), shape (6) and
    texture (3), in this order; fewer numbers make fewer facets. There are `copies` items of every
    combination. Events are of any item with probability `noise`; else

    - a facet `kept` has one value in all events of a person,
    - a facet `walked` goes to the next value at every event, from a start of the person's own,
    - a facet `wished` has the value that the person asks for, any value but with probability
      `lasting` the person's taste. Words of the event tell it (kind "query"), and a review after
      it tells whether the item has it,
    - any other facet is drawn by chance.

    Titles name the facets `named` (None: all), columns of the items table too; pictures of `side`
    pixels show those `drawn` (colour, shape, texture). With `late` only the last events of a person
    follow wishes; the ones before draw these facets by chance, and only their reviews tell what the
    person likes (with `lasting` 1 the taste): the items of a history tell nothing of it.

    The same arguments give the same log. Raises DataError for sizes and names that cannot be.
    """
    if min(people, length) < 1 or not 0 <= noise <= 1 or not 0 <= lasting <= 1:
        raise DataError(
            f"people {people}, length {length}, noise {noise}, lasting {lasting}: from 1, from 1,"
            " from 0 to 1, from 0 to 1"
        )
    if not 0 <= late <= length:
        raise DataError(f"late is {late}: it must be from 0 to the length, {length}")
    items = FacetItems.make(values, copies, seed)
    check_disjoint(kept=kept, walked=walked, wished=wished)
    rng = random_of(seed, "facets")
    ways = items.ways(people, length, kept, walked, rng)
    tastes, wishes = _wishes(people, length, items, wished, lasting, rng)
    is_noise = rng.random((people, length)) < noise
    truth = FacetTruth(items, ways, wishes, tastes, is_noise, noise, late)
    follows = truth.follows[:, None] & (wishes != ANY)
    codes = np.where(follows, wishes, ways)
    rows = items.draw(np.where(is_noise[:, :, None], ANY, codes), rng)
    users = Vocabulary(opaque_ids("u-", people, seed).to_list())
    tables = _logs(users, rows, truth, rng) | items.tables(named, drawn, side, seed)
    data = Dataset(tables, f"facets-{seed}", catalogue=items.catalogue, users=users)
    return Facets(data, truth)


def _wishes(
    people: int,
    length: int,
    items: FacetItems,
    wished: Sequence[str],
    lasting: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return tastes (U, F) and wishes (U, L, F); -1 for facets that nobody wishes for."""
    columns = items.columns(wished, "wished")
    is_wished = np.isin(np.arange(len(items.facets)), columns)
    tastes = rng.integers(items.sizes, size=(people, len(items.facets)))
    any_values = rng.integers(items.sizes, size=(people, length, len(items.facets)))
    is_taste = rng.random((people, length, 1)) < lasting
    wishes = np.where(is_taste, tastes[:, None], any_values)
    return np.where(is_wished, tastes, ANY), np.where(is_wished, wishes, ANY)


def _logs(
    users: Vocabulary, rows: np.ndarray, truth: FacetTruth, rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Return the events and, where facets are wished for, the texts."""
    people, length = rows.shape
    times = START_MS + DAY_MS * np.arange(length) + rng.integers(DAY_MS, size=(people, 1))
    events = pl.DataFrame(
        {
            "user_id": users.ids.repeat(length).tolist(),
            "item_id": truth.items.catalogue.ids[rows.ravel()].tolist(),
            "time_ms": times.ravel(),
            "value": np.where(truth.is_noise, BAD, GOOD).ravel(),
        }
    )
    tables = {"events": events.sort("time_ms", maintain_order=True)}
    wished = np.flatnonzero((truth.tastes != ANY).any(axis=0)).tolist()
    if wished:
        keys = events.select("user_id", "item_id", "time_ms")
        reviews = pl.Series(_reviews(rows, truth, wished, rng))
        queries = pl.Series(_queries(truth, wished, rng))
        follows = pl.Series(np.tile(truth.follows, people))
        parts = [
            keys.with_columns(kind=pl.lit("review"), text=reviews),
            keys.with_columns(kind=pl.lit("query"), text=queries).filter(follows),
        ]
        # reviews first: they are the words of an event in a history
        tables["texts"] = pl.concat(parts).sort("time_ms", maintain_order=True)
    return tables


def _queries(truth: FacetTruth, wished: list[int], rng: np.random.Generator) -> list[str]:
    """Return the text of the wish of each event, person by person."""
    wishes = truth.wishes.reshape(-1, len(truth.items.facets))
    phrasings = rng.integers(len(WISHES), size=len(wishes)).tolist()
    words = truth.items.words
    return [
        wish_text([words[column][wish[column]] for column in wished], phrasing)
        for wish, phrasing in zip(wishes.tolist(), phrasings, strict=True)
    ]


def _reviews(
    rows: np.ndarray, truth: FacetTruth, wished: list[int], rng: np.random.Generator
) -> list[str]:
    """Return the review of each event, with a sentence for each facet wished for."""
    people, length = rows.shape
    wishes = truth.wishes.reshape(people * length, -1).tolist()
    values = truth.items.codes[rows].reshape(people * length, -1).tolist()
    is_early = np.broadcast_to(~truth.follows, rows.shape).ravel().tolist()
    phrasings = rng.integers(len(MET), size=people * length).tolist()
    words = truth.items.words
    texts = []
    for wish, value, alone, phrasing in zip(wishes, values, is_early, phrasings, strict=True):
        sentences = []
        for column in wished:
            patterns = MET if wish[column] == value[column] else MISSED
            pattern = (EARLY if alone else patterns)[phrasing]
            word = words[column][value[column]]
            sentences.append(pattern.format(wish=words[column][wish[column]], value=word))
        texts.append(" ".join(sentences))
    return texts
