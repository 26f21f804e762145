"""Lists put together: one after the other, over one catalogue."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tailor.core.methods import Recommender
from tailor.data.queries import Rankings
from tailor.data.vocabulary import Vocabulary


def one_catalogue(parts: Sequence[Rankings]) -> list[Rankings]:
    """The same rankings over one catalogue that knows the items of all."""
    union = parts[0].catalogue
    for part in parts[1:]:
        union = union.joined(part.catalogue)
    return [part.reindexed(union) for part in parts]


def followed_by(first: Rankings, second: Rankings, k: int) -> Rankings:
    """Each ranking of `first`, then the items of `second` that it lacks, k at most.

    The column "stage" says which of the two an item came from (0, 1); scores keep the scale of
    their own stage.
    """
    first, second = one_catalogue([first, second])
    n, base = len(first), len(first.catalogue) + 1
    keys = np.arange(n)[:, None] * base
    fresh = (second.rows >= 0) & ~np.isin(keys + second.rows, (keys + first.rows)[first.rows >= 0])
    rows = np.concatenate([first.rows, np.where(fresh, second.rows, -1)], axis=1)
    order = np.argsort(rows < 0, axis=1, kind="stable")[:, :k]
    taken = np.take_along_axis(rows, order, 1)

    def joined(a: np.ndarray, b: np.ndarray, empty: float) -> np.ndarray:
        values = np.take_along_axis(np.concatenate([a, b], axis=1), order, 1)
        return np.where(taken >= 0, values, empty).astype(np.float32)

    names = dict.fromkeys([*first.columns, *second.columns])
    nothing = [np.full(part.rows.shape, np.nan, np.float32) for part in (first, second)]
    columns = {
        name: joined(
            first.columns.get(name, nothing[0]), second.columns.get(name, nothing[1]), np.nan
        )
        for name in names
    }
    columns["stage"] = joined(np.zeros(first.rows.shape), np.ones(second.rows.shape), np.nan)
    scores = joined(first.scores, second.scores, -np.inf)
    details = _joined_details(first, second, order, taken >= 0)
    # a list that was filled has nothing to excuse
    short = set(np.flatnonzero((taken >= 0).sum(axis=1) < k).tolist())
    notes = {
        i: (*first.notes.get(i, ()), *second.notes.get(i, ()))
        for i in {*first.notes, *second.notes} & short
    }
    return replace(first, rows=taken, scores=scores, columns=columns, notes=notes, details=details)


def _joined_details(
    first: Rankings, second: Rankings, order: np.ndarray, is_item: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the details of the places `order` of both lists side by side."""
    details = {}
    for name in dict.fromkeys([*first.details, *second.details]):
        sides = [part.details.get(name, np.full(part.rows.shape, None)) for part in (first, second)]
        values = np.take_along_axis(np.concatenate(sides, axis=1), order, 1)
        values[~is_item] = None
        details[name] = values
    return details


def part_names(parts: Sequence[Recommender]) -> list[str]:
    """A distinct name for every part: its class, numbered where several share it."""
    names = [part.name for part in parts]
    return [
        name if names.count(name) == 1 else f"{name} {names[:i].count(name) + 1}"
        for i, name in enumerate(names)
    ]


def scattered(parts: Sequence[tuple[np.ndarray, Rankings]], n: int, k: int) -> Rankings:
    """n rankings of at most k items: those of each part stand at the places (numbers from 0 to n -
    1) that it is given with.
    """
    if not parts:
        return Rankings.empty(Vocabulary([]), n, k)
    lists = one_catalogue([part.first(k) for _, part in parts])
    out = Rankings.empty(lists[0].catalogue, n, k)
    columns = {name: np.full((n, k), np.nan, np.float32) for part in lists for name in part.columns}
    details = {name: np.full((n, k), None) for part in lists for name in part.details}
    notes: dict[int, tuple[str, ...]] = {}
    for (places, _), part in zip(parts, lists, strict=True):
        width = part.rows.shape[1]
        out.rows[places, :width], out.scores[places, :width] = part.rows, part.scores
        for name, values in part.columns.items():
            columns[name][places, :width] = values
        for name, values in part.details.items():
            details[name][places, :width] = values
        notes |= {int(places[i]): note for i, note in part.notes.items()}
    kinds = {part.score_kind for part in lists}
    return replace(
        out,
        columns=columns,
        notes=notes,
        details=details,
        score_kind=kinds.pop() if len(kinds) == 1 else "score",
    )
