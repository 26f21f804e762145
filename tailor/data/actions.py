"""Which events speak against an item: dislikes, refunds, negative values.

Such an event tells that a user does not want the item, so it must never count for it. A data set
can say it by itself: a label `against` in dataset.toml takes the place of the defaults here.
"""

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset

LABEL = "against"
# as `_plain` writes them
AGAINST = frozenset(
    """
    dislike disliked negative thumbsdown votedown thumbdown downvote downvoted down hate hated angry
    refund refunded return returned chargeback cancel canceled cancelled cancellation
    unlike unliked unsave unsaved unfollow unfollowed unsubscribe unsubscribed unfavorite
    unfavourite unbookmark remove removed delete deleted removefromcart removefromwishlist
    removefromlist removefromplaylist removefromfavorites removefromfavourites
    hide hidden dismiss dismissed notinterested nointerest notforme block blocked mute muted
    ban banned report reported complaint complain skip skipped reject rejected
    """.split()  # noqa: SIM905
)


def speaks_against(action: str | None, value: float | None = None) -> bool:
    """Return whether one event speaks against its item, by its action or a negative value."""
    negative = value is not None and value < 0
    return negative or (action is not None and _plain(action) in AGAINST)


def events_against(data: Dataset) -> np.ndarray:
    """(events,) bool: True where an event speaks against its item.

    A label `against` of the data set decides where there is one. Else the action does (dislike,
    refund, hide ...), or a value below zero. Where no value is above zero the sign says nothing.
    """
    if LABEL in data.labels:
        return data.where(LABEL)
    return against_by_default(data.events)


def against_by_default(events: pl.DataFrame) -> np.ndarray:
    """(events,) bool: as `events_against`, for a table alone."""
    against = np.zeros(len(events), dtype=bool)
    if "action" in events.columns:
        actions = actions_against(events)
        against |= events["action"].is_in(actions).fill_null(False).to_numpy()
    if "value" in events.columns and (events["value"] > 0).any():
        against |= (events["value"] < 0).fill_null(False).to_numpy()
    return against


def actions_against(events: pl.DataFrame) -> list[str]:
    """Return the actions of a table that speak against an item by their name, sorted."""
    if "action" not in events.columns:
        return []
    names = events["action"].drop_nulls().unique().sort().to_list()
    return [name for name in names if _plain(name) in AGAINST]


def condition_for(events: pl.DataFrame) -> str | None:
    """Return the condition of events that do not speak against their item; None if all do not.

    It is one that `tailor data split --only` and labels take.
    """
    actions = actions_against(events)
    parts = []
    if actions:
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in actions)
        missing = "action is missing or " if events["action"].null_count() else ""
        parts.append(f"({missing}action not in ({names}))")
    if "value" in events.columns and (events["value"] > 0).any() and (events["value"] < 0).any():
        missing = "value is missing or " if events["value"].null_count() else ""
        parts.append(f"({missing}value >= 0)")
    return " and ".join(parts) or None


def _plain(action: str) -> str:
    return "".join(letter for letter in action.lower() if letter.isalpha())
