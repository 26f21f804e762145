"""Make a log of users who choose things by their looks, where tastes may drift."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.assets import asset_table
from tailor.worlds.pictures import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    TEXTURES,
    Thing,
    draw_thing,
)
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

DAY_MS = 86_400_000
KINDS = ("mug", "cushion", "poster", "lamp", "rug", "bag")
BY_LOOKS, BY_KIND, FAME = 3.0, 1.0, 0.6  # worth of a fitting colour or shape, of a kind; deviation


def looks(
    users: int = 500,
    items: int = 600,
    events: int = 13,
    seed: int = 0,
    *,
    drift: bool = True,
) -> Dataset:
    """Make users who like one colour, one shape and two kinds of things.

    An item's title names its kind, and only its picture shows colour and shape (columns colour,
    shape and texture tell them). An event's worths are BY_LOOKS for the colour, the same for the
    shape, BY_KIND for the kind, and the item's fame, normal with the deviation FAME; the item is
    drawn in proportion to the exponential of their sum. With `drift`, colour and shape change once,
    between a third and two thirds of a user's events. The same arguments give the same data.
    Raises DataError for fewer than 3 events, and for no users or items.
    """
    if min(users, items) < 1 or events < 3:
        raise DataError(f"users {users}, items {items}, events {events}: from 1, from 1, from 3")
    rng = random_of(seed, "looks")
    attributes = (SHAPES, tuple(COLOURS), TEXTURES, tuple(SIZES), tuple(BACKGROUNDS))
    columns = [rng.choice(names, items).tolist() for names in attributes]
    things = [Thing(*values) for values in zip(*columns, strict=True)]
    kinds = rng.integers(len(KINDS), size=items)
    fame = rng.normal(0, FAME, items)
    ids = opaque_ids("i-", items, seed).to_list()
    choices = [_choices(things, kinds, fame, events, drift, rng) for _ in range(users)]
    log = {
        "user_id": np.repeat(opaque_ids("u-", users, seed).to_list(), events),
        "item_id": np.array(ids)[np.concatenate(choices)],
        "time_ms": START_MS + DAY_MS * np.tile(np.arange(events), users),
    }
    pictures = [draw_thing(thing, rng) for thing in things]
    tables = {
        "events": pl.DataFrame(log),
        "items": _item_table(ids, things, kinds),
        "assets": asset_table(ids, pictures),
    }
    return Dataset(tables, f"looks-{seed}")


def _choices(
    things: Sequence[Thing],
    kinds: np.ndarray,
    fame: np.ndarray,
    events: int,
    drift: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the item rows (events,) of one user."""
    colours = rng.permutation(list(COLOURS))[:2]
    shapes = rng.permutation(SHAPES)[:2]
    liked_kinds = rng.permutation(len(KINDS))[:2]
    change = int(rng.integers(events // 3, 2 * events // 3 + 1)) if drift else events
    rows = []
    for phase, count in enumerate((change, events - change)):
        looks_worth = [
            BY_LOOKS * ((thing.colour == colours[phase]) + (thing.shape == shapes[phase]))
            for thing in things
        ]
        worths = np.exp(np.array(looks_worth) + BY_KIND * np.isin(kinds, liked_kinds) + fame)
        rows.append(rng.choice(len(things), count, p=worths / worths.sum()))
    return np.concatenate(rows)


def _item_table(ids: Sequence[str], things: Sequence[Thing], kinds: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": ids,
            "asset": ids,
            "title": [KINDS[kind] for kind in kinds.tolist()],
            "colour": [thing.colour for thing in things],
            "shape": [thing.shape for thing in things],
            "texture": [thing.texture for thing in things],
        }
    )
