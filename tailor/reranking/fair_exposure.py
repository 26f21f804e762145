"""FairExposure: groups of items get their share of the places that people look at."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl

from tailor.core.specs import build
from tailor.data.dataset import Dataset
from tailor.data.filling import fill_places, scaled_scores
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError
from tailor.metrics.discovery import long_tail
from tailor.reranking.reordering import Reordering

POPULARITY = "popularity"
HEAD, TAIL = "popular", "long tail"
MOST_GROUPS = 5_000


@dataclass(eq=False)
class FairExposure(Reordering):
    """Gives each place to an item that is good, or whose group was shown too little so far.

    A place is worth 1 / log2(1 + rank), since people look at first places most (Singh and Joachims
    2018). At each place the value of an item is (1 - strength) x its score from `inner`, the best
    of a list at 1, plus strength x what its group lacks of its share of the places so far, in units
    of this place: a proportional controller (Morik et al. 2020) within each list. Items without a
    group lack nothing.
    """

    value_kind: ClassVar[str] = "relevance and exposure"

    groups: str = POPULARITY
    """Column of the items that holds the group, such as brand; "popularity": the items that have
    four fifths of the events, and the long tail."""
    share: Literal["catalogue", "relevance", "equal"] = "catalogue"
    """Share of a group: that of its items in the catalogue, that of its items' scores in the list,
    or the same for all."""

    group_names_: list[str] = field(init=False, repr=False)
    """Names of the G groups."""
    groups_: np.ndarray = field(init=False, repr=False)
    """(N,) number of the item's group; -1: it has none."""
    shares_: np.ndarray = field(init=False, repr=False)
    """(G,) shares of the catalogue's items."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share not in ("catalogue", "relevance", "equal"):
            raise DataError(
                f'share is "{self.share}": it must be "catalogue", "relevance" or "equal"'
            )

    @classmethod
    def tiny(cls) -> Self:
        return build({"class": "FairExposure", "inner": {"class": "CoVisitation"}}, cls)

    def _learn(self, data: Dataset) -> dict[str, Any]:
        self.group_names_, self.groups_ = item_groups(data, self.groups)
        counts = np.bincount(self.groups_[self.groups_ >= 0], minlength=len(self.group_names_))
        self.shares_ = counts / max(counts.sum(), 1)
        ungrouped = int((self.groups_ < 0).sum())
        return {"groups": len(self.group_names_), "items_without_group": ungrouped}

    def _order(self, queries: Queries, lists: Rankings, k: int) -> tuple[np.ndarray, np.ndarray]:
        is_item = lists.rows >= 0
        groups = np.where(is_item, self.groups_[np.maximum(lists.rows, 0)], -1)
        scores = scaled_scores(lists.scores, is_item)
        shares = self._list_shares(groups, scores)
        return exposure_order(scores, is_item, groups, shares, self.strength, k)

    def _list_shares(self, groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return (B, G) the share of exposure that each group should get of each list."""
        shape = (len(groups), len(self.group_names_))
        if self.share == "catalogue":
            return np.broadcast_to(self.shares_, shape)
        if self.share == "equal":
            return np.full(shape, 1 / max(shape[1], 1))
        merits = np.zeros(shape)
        lists, places = np.nonzero(groups >= 0)
        np.add.at(merits, (lists, groups[lists, places]), scores[lists, places])
        sums = merits.sum(axis=1, keepdims=True)
        return merits / np.where(sums > 0, sums, 1)


def item_groups(data: Dataset, column: str) -> tuple[list[str], np.ndarray]:
    """Return the names of groups, and the number (N,) of each item's group, -1 for none.

    Raises DataError for a column that is absent, or that holds no single name an item.
    """
    if column == POPULARITY:
        users = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue))
        return [HEAD, TAIL], long_tail(users).astype(np.int64)
    table = data.item_table
    if column not in table.columns:
        raise DataError(
            f'groups is "{column}": the items have the columns {", ".join(table.columns[1:])};'
            f' name one, or "{POPULARITY}"'
        )
    values = table[column]
    if values.dtype.is_nested() or values.dtype.is_float():
        raise DataError(
            f'groups is "{column}", a column of {values.dtype}: name one with a single name for'
            " each item, such as brand"
        )
    names = values.cast(pl.String)
    names_present = names.drop_nulls().unique().sort().to_list()
    if len(names_present) > MOST_GROUPS:
        raise DataError(
            f'groups is "{column}", which has {len(names_present):,} values: at most'
            f" {MOST_GROUPS:,}"
        )
    numbers = {name: number for number, name in enumerate(names_present)}
    return names_present, np.array([numbers.get(name, -1) for name in names.to_list()], np.int64)


def exposure_order(
    scores: np.ndarray,
    is_item: np.ndarray,
    groups: np.ndarray,
    shares: np.ndarray,
    strength: float,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Order lists by score and by what groups lack of their exposure.

    `scores` (B, L) from 0 to 1, `groups` (B, L) numbers of groups or -1, `shares` (B, G). Returns
    (B, k) places in the lists in the order taken, -1 where a list ends, and (B, k) values.
    """
    is_grouped = groups >= 0
    columns = np.maximum(groups, 0)
    exposure = np.zeros(shares.shape)
    discounts = 1 / np.log2(np.arange(k) + 2)

    def gains(step: int) -> np.ndarray:
        lacking = (shares * discounts[: step + 1].sum() - exposure) / discounts[step]  # B, G
        of_item = np.take_along_axis(lacking, columns, axis=1) if lacking.size else 0.0
        result: np.ndarray = strength * np.where(is_grouped, of_item, 0.0)
        return result

    def note(step: int, lists: np.ndarray, places: np.ndarray) -> None:
        is_counted = is_grouped[lists, places]
        taken_groups = columns[lists, places][is_counted]
        exposure[lists[is_counted], taken_groups] += discounts[step]

    value = np.where(is_item, (1 - strength) * scores, -np.inf)
    return fill_places(value, k, gains, note)
