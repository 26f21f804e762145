"""The items as a table that filters ask and that follows changes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from tailor.store.columns import is_column_name, is_odd, kind_of, main_kind
from tailor.store.datasets import ITEMS, item_frame

Row = Mapping[str, Any]
MOST_COLUMNS = 64  # kept: a filter may name others, and their columns are built then


class Attributes:
    """The names in `more` of a tenant's items, with the kinds of their values.

    Counting a change costs as much as the changed items have names. What was handed out before
    stays as it was.
    """

    def __init__(self) -> None:
        self.counts: Mapping[str, Counter[str]] = {}
        """Name -> how many values of each kind."""

    def count(self, old_rows: Iterable[Row], new_rows: Iterable[Row]) -> "Attributes":
        """Return the attributes once rows are replaced by others."""
        changes: dict[str, Counter[str]] = {}
        for rows, step in ((old_rows, -1), (new_rows, 1)):
            for row in rows:
                for name, value in (row["more"] or {}).items():
                    changes.setdefault(name, Counter())[kind_of(value)] += step
        counts = dict(self.counts)
        for name, change in changes.items():
            total = Counter(counts.get(name, ()))
            total.update(change)
            counts[name] = +total
            if not counts[name]:
                del counts[name]
        changed = Attributes()
        changed.counts = counts
        return changed

    def __contains__(self, name: object) -> bool:
        return name in self.counts

    def __len__(self) -> int:
        return len(self.counts)

    def kinds(self, names: Iterable[str]) -> dict[str, str]:
        """Return the kind of most values of these names, "null" for an unknown name."""
        return {name: main_kind(self.counts.get(name, Counter())) for name in names}

    def odd_names(self, row: Row) -> list[str]:
        """Return the names of an item's `more` that no filter can meet.

        Most values of the name are of another kind, or the name is not one of a column.
        """
        more = row["more"] or {}
        return [
            name
            for name, value in more.items()
            if name in ITEMS
            or not is_column_name(name)
            or is_odd(value, main_kind(self.counts.get(name) or Counter([kind_of(value)])))
        ]


@dataclass(frozen=True, eq=False)
class ItemTable:
    """The stored items with the columns that filters have named so far.

    A column costs some 20 ms for 100,000 items, replacing changed rows less. The columns that
    nobody names cost nothing.
    """

    frame: pl.DataFrame
    rows: Mapping[str, Row]
    """The items by id."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Kind of each further column of the frame."""

    @classmethod
    def of(cls, rows: Mapping[str, Row]) -> "ItemTable":
        """Build the table of items, without a column but their ids."""
        return cls(pl.DataFrame({"item_id": list(rows)}, {"item_id": pl.String}), rows)

    def with_columns(self, names: Sequence[str], attributes: Attributes) -> "ItemTable":
        """Return the table with columns of these names."""
        new_names = [name for name in names if name not in self.frame.columns]
        if not new_names:
            return self
        frame, kinds = self.frame, dict(self.kinds)
        if len(frame.columns) + len(new_names) > MOST_COLUMNS:
            frame = frame.select([name for name in frame.columns if name in ("item_id", *names)])
            kinds = {name: kind for name, kind in kinds.items() if name in frame.columns}
        new_kinds = attributes.kinds(name for name in new_names if name not in ITEMS)
        rows = [self.rows[item_id] for item_id in frame["item_id"].to_list()]
        columns = item_frame(rows, new_kinds, new_names).select(new_names)
        return ItemTable(frame.hstack(columns), self.rows, kinds | new_kinds)

    def updated(
        self, rows: Mapping[str, Row], changed: set[str], attributes: Attributes
    ) -> "ItemTable":
        """Return the table of `rows`, which differ from those of this table in `changed` ids.

        A column whose kind has changed is dropped, to be built when it is named again.
        """
        if not changed:
            return self
        kinds = attributes.kinds(self.kinds)
        names = [name for name in self.frame.columns if kinds.get(name) == self.kinds.get(name)]
        kinds = {name: kind for name, kind in kinds.items() if name in names}
        old = self.frame.select(names)
        fresh = item_frame([rows[item_id] for item_id in changed], kinds, names).select(names)
        is_old = old["item_id"].is_in(fresh["item_id"].implode())
        # relaxed: whole numbers join others
        parts = [old.filter(~is_old), fresh]
        return ItemTable(pl.concat(parts, how="vertical_relaxed", rechunk=True), rows, kinds)


def is_known(name: str, attributes: Attributes) -> bool:
    """Return whether a filter can ask for a column of this name."""
    return name in ITEMS or (name in attributes and is_column_name(name))


def suggested_names(attributes: Attributes, most: int) -> list[str]:
    """Return up to `most` names that an error may suggest: our own and short further ones."""
    return [*ITEMS, *(name for name in attributes.counts if len(name) <= most)][:most]
