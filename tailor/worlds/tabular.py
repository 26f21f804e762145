"""Make a log whose outcomes depend on pairs and triples of field values in known ways."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product, zip_longest

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.crossed import fields_table
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

MINUTE_MS = 60_000
RANK = 4  # numbers in the vector of a value
SHORT = 5  # events that a user with a short history has, at most
OWN_SECTION = 0.8  # share of events from the section that a user's group prefers
MISCOPIED = 0.05  # share of a copied field's values that are drawn anew
CHANNELS = 4  # values of the field that shows a kind of rows
Fields = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Tabular:
    """A log (value 1 or 0) and its truth, which no method may see."""

    data: Dataset
    """Events, and tables of users and items whose columns are the fields."""
    probabilities: np.ndarray
    """(events,) probability that each event was a 1."""
    operations: Mapping[Fields, str]
    """How a pair or triple of fields acts: "table", "product", "xor" or "none"."""
    kinds: np.ndarray
    """(events,) kind of each row, all 0 where there is one."""
    groups: np.ndarray
    """(events,) group of each event's user, all 0 where there is one."""
    copies: Mapping[str, str]
    """Copied field -> the field it repeats."""
    kind_of: Mapping[str, int]
    """Field -> the kind of rows in which it acts, if at all."""

    @property
    def informative(self) -> set[str]:
        """The fields that the probabilities depend on, without copies of them."""
        return _acting_fields(self.operations)


def tabular(
    events: int = 40_000,
    users: int = 40_000,
    items: int = 2_000,
    fields: int = 3,
    values: int = 20,
    linear: float = 0.5,
    strength: float = 1.5,
    tables: int = 0,
    products: int = 0,
    triples: int = 0,
    xor: int = 0,
    copies: int = 0,
    noise: int = 0,
    kinds: int = 0,
    groups: int = 0,
    short: float = 0.0,
    seed: int = 0,
) -> Tabular:
    """Make events of users and items with `fields` fields each, of `values` values.

    Log-odds are the sum of single values (standard deviation `linear` in all) and of terms
    (`strength` in all). A knob at 0 is off:

    - `tables`: pairs of a user's and an item's field with a number for every pair of values;
      `products`: pairs with an inner product of vectors of 4; the other pairs do nothing.
    - `triples`: two user fields and an item field, whose three vectors are multiplied.
    - `xor`: pairs of own fields of two values; the sign tells whether the values are equal.
    - `copies`: user fields that repeat another one, 5 % of it wrongly.
    - `noise`: user fields without effect, each with more values than the one before.
    - `kinds`: kinds of rows, shown by the user's "channel"; field i and its terms act in the rows
      of kind i % kinds only.
    - `groups`: groups of users, each with its own table and vectors for every term. Nothing shows a
      group but the "section" of the items that its users have.
    - `short`: share of users with at most 5 events; the others share the rest.

    With as many users as events every row is a user of its own. The same arguments give the same
    log. Raises DataError for sizes below 1 and for more pairs than there are.
    """
    _check(events, users, items, fields, values, linear, strength, short)
    world = _World(events, users, items, values, max(kinds, 1), max(groups, 1), seed)
    world.draw_entities(short, has_sections=groups > 0)
    names = [f"user_{i}" for i in range(fields)], [f"item_{i}" for i in range(fields)]
    world.add_fields(names[0], world.user_fields, values)
    world.add_fields(names[1], world.item_fields, values)
    world.add_pairs(list(product(*names)), tables, products)
    world.add_triples(*names, triples)
    world.add_xor(xor)
    if kinds:
        world.add_channel()
    log_odds = world.linear_part([*names[0], *names[1]], linear) + world.terms(strength)
    world.add_copies(names[0], copies)
    world.add_noise(noise)
    return world.finished(log_odds)


def _check(
    events: int,
    users: int,
    items: int,
    fields: int,
    values: int,
    linear: float,
    strength: float,
    short: float,
) -> None:
    if min(events, users, items, fields, values) < 1 or linear < 0 or strength < 0:
        raise DataError(
            f"events {events}, users {users}, items {items}, fields {fields}, values {values}: at"
            f" least 1 each; linear {linear} and strength {strength}: at least 0"
        )
    if not 0 <= short < 1 or events < users * (1 + (SHORT - 1) * short):
        raise DataError(
            f"events {events}, users {users}, short {short}: short is below 1, and every user has"
            f" an event, {SHORT} at most where the history is short"
        )


@dataclass(eq=False)
class _World:
    """A log while it is made: codes of fields, and the terms of its log-odds."""

    events: int
    users: int
    items: int
    values: int
    kinds: int
    groups: int
    seed: int
    user_fields: dict[str, np.ndarray] = field(default_factory=dict)
    """Name -> (users,) codes."""
    item_fields: dict[str, np.ndarray] = field(default_factory=dict)
    """Name -> (items,) codes."""
    operations: dict[Fields, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    kind_of: dict[str, int] = field(default_factory=dict)
    user_groups: np.ndarray = field(init=False)
    user_of: np.ndarray = field(init=False)
    """(events,) user of each event, in the order of time."""
    item_of: np.ndarray = field(init=False)

    def rng(self, part: str) -> np.random.Generator:
        """Return the random stream of a part of the world."""
        return random_of(self.seed, f"tabular {part}")

    def draw_entities(self, short: float, has_sections: bool) -> None:
        """Draw the user and item of every event; groups prefer sections of items."""
        rng = self.rng("entities")
        counts = _event_counts(self.events, self.users, short, rng)
        self.user_of = rng.permutation(np.repeat(np.arange(self.users), counts))
        self.item_of = rng.integers(self.items, size=self.events)
        self.user_groups = rng.integers(self.groups, size=self.users)
        if not has_sections:
            return
        sections = np.arange(self.items) % self.groups
        self.item_fields["section"] = sections
        by_section = [np.flatnonzero(sections == group) for group in range(self.groups)]
        is_own = rng.random(self.events) < OWN_SECTION
        for group, section_items in enumerate(by_section):
            rows = np.flatnonzero(is_own & (self.user_groups[self.user_of] == group))
            self.item_of[rows] = rng.choice(section_items, len(rows))

    def add_fields(self, names: Sequence[str], codes: dict[str, np.ndarray], values: int) -> None:
        """Add fields of the users or items with evenly drawn values."""
        n = self.users if codes is self.user_fields else self.items
        for i, name in enumerate(names):
            codes[name] = self.rng(name).integers(values, size=n)
            self.kind_of[name] = i % self.kinds

    def add_pairs(self, pairs: list[Fields], tables: int, products: int) -> None:
        """Choose which pairs act by a table, which by a product, and which not at all."""
        self.operations |= dict.fromkeys(pairs, "none")
        chosen = self._choose(pairs, tables + products, "pairs")
        for position, pair in enumerate(chosen):
            self.operations[pair] = "table" if position < tables else "product"

    def add_triples(
        self, user_names: Sequence[str], item_names: Sequence[str], triples: int
    ) -> None:
        """Choose triples of two different user fields and an item field."""
        pairs = combinations(user_names, 2)
        choices = [(*pair, item_name) for pair, item_name in product(pairs, item_names)]
        self.operations |= dict.fromkeys(self._choose(choices, triples, "triples"), "product")

    def _choose(self, choices: Sequence[Fields], n: int, name: str) -> list[Fields]:
        """Draw n of some tuples of fields, as many of each kind of rows; no tuple mixes kinds."""
        by_kind: list[list[Fields]] = [[] for _ in range(self.kinds)]
        for i in self.rng(name).permutation(len(choices)).tolist():
            kinds = {self.kind_of[name] for name in choices[i]}
            if len(kinds) == 1:
                by_kind[kinds.pop()].append(choices[i])
        in_turn = [fields for row in zip_longest(*by_kind) for fields in row if fields is not None]
        if n > len(in_turn):
            raise DataError(f"{n} {name}: these fields make {len(in_turn)}; ask for more fields")
        return in_turn[:n]

    def add_xor(self, pairs: int) -> None:
        """Add pairs of fields of two values that act together only."""
        user_names = [f"xor_user_{i}" for i in range(pairs)]
        item_names = [f"xor_item_{i}" for i in range(pairs)]
        self.add_fields(user_names, self.user_fields, 2)
        self.add_fields(item_names, self.item_fields, 2)
        self.operations |= dict.fromkeys(zip(user_names, item_names, strict=True), "xor")

    def add_channel(self) -> None:
        """Add the field that shows of which kind a user's rows are."""
        codes = self.rng("channel").integers(self.kinds * CHANNELS, size=self.users)
        self.user_fields["channel"] = codes

    def add_copies(self, names: Sequence[str], copies: int) -> None:
        """Add user fields that repeat others, those that act first."""
        acting = _acting_fields(self.operations)
        order = sorted(names, key=lambda name: name not in acting)
        for i in range(copies):
            rng = self.rng(f"copy {i}")
            source = order[i % len(order)]
            copy = (self.user_fields[source] + 1 + i) % self.values
            is_wrong = rng.random(self.users) < MISCOPIED
            copy = np.where(is_wrong, rng.integers(self.values, size=self.users), copy)
            self.user_fields[f"copy_{i}"] = copy
            self.copied[f"copy_{i}"] = source

    def add_noise(self, fields: int) -> None:
        """Add user fields without effect, of two values up to one for every three users."""
        sizes = np.geomspace(2, max(2, self.users / 3), fields).astype(int)
        for i, size in enumerate(sizes.tolist()):
            self.user_fields[f"noise_{i}"] = self.rng(f"noise {i}").integers(size, size=self.users)

    @property
    def row_kinds(self) -> np.ndarray:
        """(events,) the kind of each row."""
        channel = self.user_fields.get("channel", np.zeros(self.users, dtype=int))
        kinds: np.ndarray = channel[self.user_of] % self.kinds
        return kinds

    def codes(self, name: str) -> np.ndarray:
        """Return (events,) the codes of a field."""
        table, rows = self.user_fields, self.user_of
        if name in self.item_fields:
            table, rows = self.item_fields, self.item_of
        codes: np.ndarray = table[name][rows]
        return codes

    def linear_part(self, names: Sequence[str], deviation: float) -> np.ndarray:
        """Return (events,) the sum of a number for each value, of the fields of a row's kind."""
        effects = self.rng("linear").normal(size=(len(names), self.values))
        columns = [effects[i][self.codes(name)] for i, name in enumerate(names)]
        return deviation * self._normalised_sum(columns, [self.kind_of[name] for name in names])

    def terms(self, deviation: float) -> np.ndarray:
        """Return (events,) the sum of the terms of a row's kind, by the rules of its group."""
        rng = self.rng("terms")
        acting = [term for term in self.operations.items() if term[1] != "none"]
        columns = [self._term(*term, rng) for term in acting]
        return deviation * self._normalised_sum(
            columns, [self.kind_of[fields[0]] for fields, _ in acting]
        )

    def _normalised_sum(self, columns: list[np.ndarray], kinds: list[int]) -> np.ndarray:
        """Return (events,) sums of unit deviation; columns count in the rows of their kind."""
        row_kinds = self.row_kinds
        total: np.ndarray = np.zeros(self.events)
        for kind, column in zip(kinds, columns, strict=True):
            total += np.where(row_kinds == kind, column, 0.0)
        counts = np.bincount(np.array(kinds, dtype=int), minlength=self.kinds)
        normalised: np.ndarray = total / np.sqrt(np.maximum(counts, 1))[row_kinds]
        return normalised

    def _term(self, fields: Fields, operation: str, rng: np.random.Generator) -> np.ndarray:
        """Return (events,) the effect of some fields, with a deviation of 1."""
        groups = self.user_groups[self.user_of]
        codes = [self.codes(name) for name in fields]
        if operation == "xor":
            signs = rng.permutation(np.arange(self.groups) % 2) * 2 - 1
            equal: np.ndarray = signs[groups] * (2.0 * (codes[0] == codes[1]) - 1)
            return equal
        if operation == "table":
            table = rng.normal(size=(self.groups, self.values, self.values))
            effects: np.ndarray = table[groups, codes[0], codes[1]]
            return effects
        vectors = rng.normal(size=(len(fields), self.groups, self.values, RANK))
        factors = [vectors[i][groups, codes[i]] for i in range(len(fields))]
        products: np.ndarray = np.prod(factors, axis=0).sum(axis=1) / np.sqrt(RANK)
        return products

    def finished(self, log_odds: np.ndarray) -> Tabular:
        """Return the log of these log-odds (events,), with its truth."""
        probabilities = 1 / (1 + np.exp(-log_odds))
        user_ids = opaque_ids("u-", self.users, self.seed)
        item_ids = opaque_ids("i-", self.items, self.seed)
        is_one = self.rng("outcomes").random(self.events) < probabilities
        log = pl.DataFrame(
            {
                "user_id": user_ids[self.user_of],
                "item_id": item_ids[self.item_of],
                "time_ms": START_MS + MINUTE_MS * np.arange(self.events),
                "value": is_one.astype(float),
            }
        )
        tables = {
            "events": log,
            "users": fields_table("user_id", user_ids, self.user_fields),
            "items": fields_table("item_id", item_ids, self.item_fields),
        }
        return Tabular(
            Dataset(tables, f"tabular-{self.seed}", {"liked": "value = 1"}),
            probabilities,
            self.operations,
            self.row_kinds,
            self.user_groups[self.user_of],
            self.copied,
            self.kind_of,
        )


def _acting_fields(operations: Mapping[Fields, str]) -> set[str]:
    """Return the fields of all terms."""
    acting = [fields for fields, operation in operations.items() if operation != "none"]
    return {name for fields in acting for name in fields}


def _event_counts(events: int, users: int, short: float, rng: np.random.Generator) -> np.ndarray:
    """Return (users,) numbers of events, at most SHORT for a share of the users."""
    n_short = int(users * short)
    counts = np.ones(users, dtype=np.int64)
    counts[:n_short] = rng.integers(1, SHORT + 1, size=n_short)
    spare = events - int(counts.sum())
    others = users - n_short
    counts[n_short:] += spare // others
    counts[n_short : n_short + spare % others] += 1
    return counts
