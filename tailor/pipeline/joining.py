"""Join lists: one behind the other, or back into the order of the queries they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tailor.core.methods import Recommender
from tailor.data.queries import Rankings
from tailor.data.vocabulary import Vocabulary

STAGE = "stage"  # the column that says which list an item came from
Notes = Mapping[int, tuple[str, ...]]


def one_catalogue(parts: Sequence[Rankings]) -> list[Rankings]:
    """Return the same rankings over one catalogue that has the items of all."""
    union = parts[0].catalogue
    for part in parts[1:]:
        union = union.joined(part.catalogue)
    return [part.reindexed(union) for part in parts]


def followed_by(first: Rankings, second: Rankings, k: int) -> Rankings:
    """Append to each ranking of `first` the items of `second` that it lacks.

    A ranking has at most k items in all. The column "stage" holds 0 for items of `first` and 1 for
    those of `second`; scores keep the scale of their own stage.
    """
    first, second = one_catalogue([first, second])
    new_rows = np.where(_is_new(second, first), second.rows, -1)
    rows = np.concatenate([first.rows, new_rows], axis=1)
    order = np.argsort(rows < 0, axis=1, kind="stable")[:, :k]
    joined_rows = np.take_along_axis(rows, order, 1)
    is_item = joined_rows >= 0

    def joined(of_first: np.ndarray, of_second: np.ndarray, absent: float) -> np.ndarray:
        both = np.concatenate([of_first, of_second], axis=1)
        values = np.take_along_axis(both, order, 1)
        return np.where(is_item, values, absent).astype(np.float32)

    columns = {
        name: joined(_column(first, name), _column(second, name), np.nan)
        for name in dict.fromkeys([*first.columns, *second.columns])
    }
    columns[STAGE] = joined(np.zeros(first.rows.shape), np.ones(second.rows.shape), np.nan)
    return replace(
        first,
        rows=joined_rows,
        scores=joined(first.scores, second.scores, -np.inf),
        columns=columns,
        # a list that was filled needs no note on what is missing
        notes=_joined_notes(first.notes, second.notes, is_item.sum(axis=1) < k),
        details=_joined_details(first, second, order, is_item),
    )


def _column(lists: Rankings, name: str) -> np.ndarray:
    """Return (n, k) the scores of an earlier stage, NaN if there are none."""
    if name in lists.columns:
        return lists.columns[name]
    return np.full(lists.rows.shape, np.nan, np.float32)


def _is_new(lists: Rankings, others: Rankings) -> np.ndarray:
    """Return (n, k) bool: true for items of `lists` that `others` lack for the same query."""
    base = len(lists.catalogue) + 1
    keys = np.arange(len(lists))[:, None] * base
    known_keys = (keys + others.rows)[others.rows >= 0]
    return (lists.rows >= 0) & ~np.isin(keys + lists.rows, known_keys)


def _joined_notes(first: Notes, second: Notes, is_short: np.ndarray) -> Notes:
    """Return the notes of both stages for the lists that are short."""
    notes: dict[int, tuple[str, ...]] = {}
    for i in np.flatnonzero(is_short).tolist():
        of_list = (*first.get(i, ()), *second.get(i, ()))
        if of_list:
            notes[i] = of_list
    return notes


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
    """Return a distinct name for every part: its class, numbered if several parts share it."""
    return numbered([part.name for part in parts])


def numbered(names: Sequence[str]) -> list[str]:
    """Return distinct names: those that several share get a number."""
    return [
        name if names.count(name) == 1 else f"{name} {names[:i].count(name) + 1}"
        for i, name in enumerate(names)
    ]


def part_reports(parts: Sequence[Recommender]) -> dict[str, object]:
    """Return the fit reports of parts by their names, without empty ones."""
    names = part_names(parts)
    return {
        name: part.fit_report_ for name, part in zip(names, parts, strict=True) if part.fit_report_
    }


def scattered(parts: Sequence[tuple[np.ndarray, Rankings]], n: int, k: int) -> Rankings:
    """Return n rankings of at most k items: each part's at the query numbers that it comes with.

    `parts` are pairs of query numbers (from 0 to n - 1) and the rankings of these queries.
    """
    if not parts:
        return Rankings.empty(Vocabulary([]), n, k)
    numbers = [of_part for of_part, _ in parts]
    lists = one_catalogue([part.first(k) for _, part in parts])
    out = Rankings.empty(lists[0].catalogue, n, k)
    notes: dict[int, tuple[str, ...]] = {}
    for of_part, part in zip(numbers, lists, strict=True):
        width = part.rows.shape[1]
        out.rows[of_part, :width] = part.rows
        out.scores[of_part, :width] = part.scores
        for i, note in part.notes.items():
            notes[int(of_part[i])] = note
    kinds = {part.score_kind for part in lists}
    return replace(
        out,
        columns=_scattered_arrays(numbers, [part.columns for part in lists], (n, k), np.nan),
        details=_scattered_arrays(numbers, [part.details for part in lists], (n, k), None),
        notes=notes,
        score_kind=kinds.pop() if len(kinds) == 1 else "score",
    )


def _scattered_arrays(
    numbers: Sequence[np.ndarray],
    parts: Sequence[Mapping[str, np.ndarray]],
    shape: tuple[int, int],
    absent: float | None,
) -> dict[str, np.ndarray]:
    """Return arrays by name, each part's values at its query numbers, `absent` elsewhere."""
    arrays: dict[str, np.ndarray] = {}
    for of_part, named_values in zip(numbers, parts, strict=True):
        for name, values in named_values.items():
            if name not in arrays:
                arrays[name] = np.full(shape, absent, dtype=values.dtype)
            arrays[name][of_part, : values.shape[1]] = values
    return arrays
