"""A planted world of slates: people choose at most one item of a list, and change by it.

Shapes: U people, N items, G groups, D width, K places of a slate, S sessions.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of

START_MS = 1_600_000_000_000
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
    items: int = 300
    groups: int = 12
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
        sizes = (self.people, self.groups, self.size, self.width, self.visits, self.warm)
        if min(sizes) < 1 or self.size > self.items or self.groups > self.items:
            raise DataError(
                f"people {self.people}, items {self.items}, groups {self.groups}, size {self.size},"
                f" width {self.width}, visits {self.visits}, warm {self.warm}: at least 1 each, and"
                " at least as many items as groups and places"
            )
        rng = random_of(self.seed, "slates")
        self.catalogue = Vocabulary.of_items(opaque_ids("i-", self.items, self.seed).to_list())
        self.user_ids = np.array(opaque_ids("u-", self.people, self.seed).to_list(), dtype=object)
        self.group_of = rng.integers(self.groups, size=self.items)
        centres = rng.normal(0.0, 1.0, (self.groups, self.width))
        noise = rng.normal(0.0, SPREAD, (self.items, self.width))
        self.vectors = centres[self.group_of] + noise
        home = rng.integers(self.groups, size=self.people)
        self.positions = centres[home] + rng.normal(0.0, SPREAD, (self.people, self.width))
        self.trait = rng.normal(0.0, 1.0, self.people)
        self.states = [rng.normal(0.0, 1.0, self.people)]
        self.visit = 0
        self.chosen: list[list[int]] = [[] for _ in range(self.people)]
        self.chosen_ms: list[list[int]] = [[] for _ in range(self.people)]
        self.tables: dict[str, list[pl.DataFrame]] = {
            "events": [],
            "requests": [],
            "impressions": [],
        }
        for _ in range(self.warm):
            self.step(self.random_slates())

    @property
    def now_ms(self) -> int:
        """Return the time of the present visit."""
        session, visit = divmod(self.visit, self.visits)
        return START_MS + SESSION_MS * session + VISIT_MS * visit

    def ask(self) -> Queries:
        """Return a request of every person, with what they chose as history and excluded."""
        lengths = [len(rows) for rows in self.chosen]
        flat = np.array([row for rows in self.chosen for row in rows], dtype=np.int32)
        times = np.array([ms for column in self.chosen_ms for ms in column], dtype=np.int64)
        histories = Ragged.of_lengths(lengths, flat)
        request_ids = [f"{user_id}-{self.visit}" for user_id in self.user_ids]
        return Queries(
            self.catalogue,
            histories,
            self.user_ids,
            {"times_ms": histories.with_values(times)},
            exclude=histories,
            now_ms=np.full(self.people, self.now_ms),
            request_ids=np.array(request_ids, dtype=object),
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
        rows = lists.reindexed(self.catalogue).rows
        edges = self.choice_probabilities(rows).cumsum(axis=1)
        places = (rng.random(self.people)[:, None] > edges[:, :-1]).sum(axis=1)
        is_chosen = places < rows.shape[1]
        self._write(lists, rows, places, is_chosen)
        for person in np.flatnonzero(is_chosen).tolist():
            row = int(rows[person, places[person]])
            self.chosen[person].append(row)
            self.chosen_ms[person].append(self.now_ms + 1)
            way = self.vectors[row] - self.positions[person]
            self.positions[person] += self.drift * way
        self.visit += 1
        if self.visit % self.visits == 0:
            noise = rng.normal(0.0, np.sqrt(1 - self.carry**2), self.people)
            self.states.append(self.carry * self.states[-1] + noise)
        return is_chosen.astype(np.float64)

    def choice_probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Return (U, K + 1) probabilities of each place of slates (U, K), then of nothing."""
        distances = np.linalg.norm(self.positions[:, None] - self.vectors[rows], axis=2)
        logits = -self.sharpness * distances
        if self.novelty:
            appetite = self.trait + self.states[-1]
            is_new = np.take_along_axis(self.new_groups(), self.group_of[rows], axis=1)
            logits += self.novelty * appetite[:, None] * is_new
        logits = np.where(rows >= 0, logits, -np.inf)
        all_logits = np.c_[logits, np.full(len(rows), self.nothing)]
        weights = np.exp(all_logits - all_logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def new_groups(self) -> np.ndarray:
        """Return (U, G) bool: groups of none of a person's latest choices."""
        is_new = np.ones((self.people, self.groups), dtype=bool)
        for person, rows in enumerate(self.chosen):
            is_new[person, self.group_of[rows[-RECENT:]]] = False
        return is_new

    def log(self) -> Dataset:
        """Return the events, requests, impressions with propensities, items and users so far."""
        tables = {name: pl.concat(frames) for name, frames in self.tables.items()}
        item_ids = self.catalogue.ids.tolist()
        names = [[f"group {group}"] for group in self.group_of.tolist()]
        tables["items"] = pl.DataFrame({"item_id": item_ids, "categories": names})
        tables["users"] = pl.DataFrame({"user_id": self.user_ids.tolist()})
        return Dataset(tables, f"slates-{self.seed}")

    def random_slates(self) -> Rankings:
        """Return slates drawn evenly from the items that a person has not chosen."""
        rng = random_of(self.seed, f"random {self.visit}")
        keys = rng.random((self.people, self.items))
        for person, rows in enumerate(self.chosen):
            keys[person, rows] = -1.0
        rows = np.argsort(-keys, axis=1)[:, : self.size].astype(np.int32)
        scores = np.zeros(rows.shape, np.float32)
        share = np.full(rows.shape, 1 / self.items, np.float32)
        return Rankings(self.catalogue, rows, scores, columns={"propensity": share})

    def _write(
        self, lists: Rankings, rows: np.ndarray, places: np.ndarray, is_chosen: np.ndarray
    ) -> None:
        """Add a visit's requests, impressions and choices to the log."""
        request_ids = np.array([f"{user_id}-{self.visit}" for user_id in self.user_ids])
        requests = pl.DataFrame({"request_id": request_ids, "user_id": self.user_ids.tolist()})
        requests = requests.with_columns(time_ms=pl.lit(self.now_ms, pl.Int64))
        people, position = np.nonzero(rows >= 0)
        propensities = lists.columns.get("propensity", np.ones(rows.shape))
        impressions = pl.DataFrame(
            {
                "request_id": request_ids[people],
                "position": position + 1,
                "item_id": self.catalogue.named(rows[people, position]),
                "propensity": propensities[people, position].astype(np.float64),
            }
        )
        who = np.flatnonzero(is_chosen)
        events = pl.DataFrame(
            {
                "user_id": self.user_ids[who].tolist(),
                "item_id": self.catalogue.named(rows[who, places[who]]),
                "time_ms": np.full(len(who), self.now_ms + 1, dtype=np.int64),
                "request_id": request_ids[who],
            },
            schema_overrides={"user_id": pl.String, "item_id": pl.String},
        )
        for name, frame in (
            ("requests", requests),
            ("impressions", impressions),
            ("events", events),
        ):
            self.tables[name].append(frame)
