"""A planted world of slates: people choose at most one item of a list, and change by it.

Shapes: U people, N items, G groups, D width, K places of a slate, S sessions.
"""

from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

VISIT_MS = 60_000  # from one visit of a session to the next
SESSION_MS = 86_400_000  # from one session to the next
SPREAD = 0.35  # of the items of a group around its centre, whose coordinates spread by 1
RECENT = 10  # latest choices; an item of none of their groups is new to the person


@dataclass(eq=False)
class Slates:
    """People who are shown slates, and choose one item or nothing.

    A person stands at a place among the items, and chooses by a softmax over the slate and
    "nothing": minus the distance of an item, times `sharpness`. After a choice they move towards
    the item by a share `drift`. With `novelty`, items of groups that the person has not chosen
    lately are better or worse for them, by a lasting trait and a state that changes from session to
    session. A person never chooses an item twice: what they chose is excluded from their requests.

    It begins with `warm` visits of random slates. The same arguments and lists give the same
    answers.
    """

    people: int = 200
    """People, each of whom asks at every visit."""
    items: int = 300
    """Items of the catalogue."""
    groups: int = 12
    """Groups of items, which stand near each other."""
    size: int = 8
    """Places of a slate."""
    width: int = 3
    """Dimensions of the space of people and items."""
    sharpness: float = 3.0
    """Log-odds per unit of distance."""
    nothing: float = -1.0
    """Log-odds of choosing nothing; those of an item at a distance of 1 are minus `sharpness`."""
    drift: float = 0.1
    """Share of the way to a chosen item that a person moves."""
    novelty: float = 0.0
    """Log-odds per unit of the person's appetite that an item of a new group gains; 0: none."""
    carry: float = 0.6
    """Correlation of the states of two sessions in a row."""
    visits: int = 5
    """Visits of a session."""
    warm: int = 5
    """Visits with random slates at the beginning."""
    seed: int = 0
    """Seed of the world and of all choices."""

    trait: np.ndarray = field(init=False, repr=False)
    """(U,) lasting appetite for what is new, standard normal."""
    states: list[np.ndarray] = field(init=False, repr=False)
    """S times (U,): the appetite of each session beside it, standard normal."""
    group_of: np.ndarray = field(init=False, repr=False)
    """(N,) group of each item."""
    vectors: np.ndarray = field(init=False, repr=False)
    """(N, D) places of the items."""
    positions: np.ndarray = field(init=False, repr=False)
    """(U, D) where people stand now."""

    def __post_init__(self) -> None:
        self._check_sizes()
        rng = random_of(self.seed, "slates")
        item_ids = opaque_ids("i-", self.items, self.seed)
        self.catalogue = Vocabulary.of_items(item_ids.to_list())
        user_ids = opaque_ids("u-", self.people, self.seed)
        self.user_ids = np.array(user_ids.to_list(), dtype=object)
        centres = rng.normal(0.0, 1.0, (self.groups, self.width))
        self.group_of = rng.integers(self.groups, size=self.items)
        self.vectors = rng.normal(centres[self.group_of], SPREAD)
        homes = rng.integers(self.groups, size=self.people)
        self.positions = rng.normal(centres[homes], SPREAD)
        self.trait = rng.normal(0.0, 1.0, self.people)
        self.states = [rng.normal(0.0, 1.0, self.people)]
        self.visit = 0
        self.chosen: list[list[int]] = [[] for _ in range(self.people)]
        self.chosen_ms: list[list[int]] = [[] for _ in range(self.people)]
        names = ("events", "requests", "impressions")
        self.tables: dict[str, list[pl.DataFrame]] = {name: [] for name in names}
        for _ in range(self.warm):
            self.step(self.random_slates())

    def _check_sizes(self) -> None:
        """Raise DataError for sizes that cannot be."""
        sizes = (self.people, self.groups, self.size, self.width, self.visits, self.warm)
        if min(sizes) < 1 or self.items < max(self.size, self.groups):
            raise DataError(
                f"people {self.people}, items {self.items}, groups {self.groups}, size {self.size},"
                f" width {self.width}, visits {self.visits}, warm {self.warm}: at least 1 each, and"
                " at least as many items as groups and places"
            )

    @property
    def now_ms(self) -> int:
        """Return the time of the present visit."""
        session, visit = divmod(self.visit, self.visits)
        return START_MS + SESSION_MS * session + VISIT_MS * visit

    @property
    def _request_ids(self) -> list[str]:
        """Return the ids of the requests of the present visit."""
        return [f"{user_id}-{self.visit}" for user_id in self.user_ids]

    def ask(self) -> Queries:
        """Return a request of every person, with what they chose as history and excluded."""
        lengths = [len(rows) for rows in self.chosen]
        rows = np.array(list(chain(*self.chosen)), dtype=np.int32)
        times = np.array(list(chain(*self.chosen_ms)), dtype=np.int64)
        histories = Ragged.of_lengths(lengths, rows)
        return Queries(
            self.catalogue,
            histories,
            self.user_ids,
            {"times_ms": histories.with_values(times)},
            exclude=histories,
            now_ms=np.full(self.people, self.now_ms),
            request_ids=np.array(self._request_ids, dtype=object),
        )

    def step(self, lists: Rankings) -> np.ndarray:
        """Show the lists, and return (U,) 1 where an item was chosen.

        Raises DataError unless there is a list of at most `size` items for every person.
        """
        if len(lists) != self.people or lists.rows.shape[1] > self.size:
            raise DataError(
                f"{len(lists)} lists of up to {lists.rows.shape[1]} items: {self.people} of at most"
                f" {self.size} are asked for"
            )
        rng = random_of(self.seed, f"visit {self.visit}")
        slates = lists.reindexed(self.catalogue)
        edges = self.choice_probabilities(slates.rows).cumsum(axis=1)
        draws = rng.random((self.people, 1))
        places = (draws > edges[:, :-1]).sum(axis=1)
        people = np.flatnonzero(places < slates.rows.shape[1])
        rows = slates.rows[people, places[people]]
        self._write_slates(slates)
        self._write_choices(people, rows)
        self._move(people, rows)
        self._end_visit(rng)
        return np.isin(np.arange(self.people), people).astype(np.float64)

    def _move(self, people: np.ndarray, rows: np.ndarray) -> None:
        """Move people towards the items that they chose."""
        ways = self.vectors[rows] - self.positions[people]
        self.positions[people] += self.drift * ways
        time_ms = self.now_ms + 1
        for person, row in zip(people.tolist(), rows.tolist(), strict=True):
            self.chosen[person].append(row)
            self.chosen_ms[person].append(time_ms)

    def _end_visit(self, rng: np.random.Generator) -> None:
        """Go on to the next visit; states change with the session."""
        self.visit += 1
        if self.visit % self.visits == 0:
            deviation = np.sqrt(1 - self.carry**2)
            noise = rng.normal(0.0, deviation, self.people)
            carried = self.carry * self.states[-1]
            self.states.append(carried + noise)

    def choice_probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Return (U, K + 1) probabilities of each place of slates (U, K), then of nothing."""
        logits = np.full((len(rows), rows.shape[1] + 1), self.nothing)
        of_items = self._item_logits(rows)
        of_items[rows < 0] = -np.inf
        logits[:, :-1] = of_items
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        total = weights.sum(axis=1, keepdims=True)
        return np.asarray(weights / total)

    def _item_logits(self, rows: np.ndarray) -> np.ndarray:
        """Return (U, K) the log-odds of choosing each item."""
        people = self.positions[:, None]  # U, 1, D
        distances = np.linalg.norm(people - self.vectors[rows], axis=2)
        logits = -self.sharpness * distances
        if self.novelty:
            groups = self.group_of[rows]
            is_new = np.take_along_axis(self.new_groups(), groups, axis=1)
            appetite = self.trait + self.states[-1]
            gain = self.novelty * appetite
            logits += gain[:, None] * is_new
        return np.asarray(logits)

    def new_groups(self) -> np.ndarray:
        """Return (U, G) bool: groups of none of a person's latest choices."""
        is_new = np.ones((self.people, self.groups), dtype=bool)
        for person, rows in enumerate(self.chosen):
            is_new[person, self.group_of[rows[-RECENT:]]] = False
        return is_new

    def log(self) -> Dataset:
        """Return the events, requests, impressions with propensities, items and users so far."""
        tables = {}
        for name, frames in self.tables.items():
            tables[name] = pl.concat(frames)
        item_ids = self.catalogue.ids.tolist()
        names = [[f"group {group}"] for group in self.group_of.tolist()]
        tables["items"] = pl.DataFrame({"item_id": item_ids, "categories": names})
        tables["users"] = pl.DataFrame({"user_id": self.user_ids.tolist()})
        return Dataset(tables, f"slates-{self.seed}")

    def random_slates(self) -> Rankings:
        """Return slates drawn evenly from the items that a person has not chosen."""
        rng = random_of(self.seed, f"random {self.visit}")
        keys = rng.random((self.people, self.items))
        for person, chosen in enumerate(self.chosen):
            keys[person, chosen] = -1.0
        order = np.argsort(-keys, axis=1)
        rows = order[:, : self.size].astype(np.int32)
        scores = np.zeros(rows.shape, np.float32)
        share = np.full(rows.shape, 1 / self.items, np.float32)
        return Rankings(self.catalogue, rows, scores, columns={"propensity": share})

    def _write_slates(self, slates: Rankings) -> None:
        """Add a visit's requests and impressions to the log."""
        request_ids = np.array(self._request_ids)
        requests = pl.DataFrame({"request_id": request_ids, "user_id": self.user_ids.tolist()})
        requests = requests.with_columns(time_ms=pl.lit(self.now_ms, pl.Int64))
        people, places = np.nonzero(slates.rows >= 0)
        propensities = slates.columns.get("propensity", np.ones(slates.rows.shape))
        columns = {
            "request_id": request_ids[people],
            "position": places + 1,
            "item_id": self.catalogue.named(slates.rows[people, places]),
            "propensity": propensities[people, places].astype(np.float64),
        }
        self.tables["requests"].append(requests)
        self.tables["impressions"].append(pl.DataFrame(columns))

    def _write_choices(self, people: np.ndarray, rows: np.ndarray) -> None:
        """Add the choices of some people to the log."""
        columns = {
            "user_id": self.user_ids[people].tolist(),
            "item_id": self.catalogue.named(rows),
            "time_ms": np.full(len(people), self.now_ms + 1, dtype=np.int64),
            "request_id": np.array(self._request_ids)[people],
        }
        strings = {"user_id": pl.String, "item_id": pl.String}
        self.tables["events"].append(pl.DataFrame(columns, schema_overrides=strings))
