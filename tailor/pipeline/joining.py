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
    """Append to each ranking of `first` the items of `second` that it lacks, up to k in all.

    The column "stage" holds 0 for items of `first` and 1 for those of `second`; scores keep the
    scale of their own stage.
    """
    first, second = one_catalogue([first, second])
    new_rows = np.where(_is_new(second, first), second.rows, -1)
    rows = np.concatenate([first.rows, new_rows], axis=1)
    order = np.argsort(rows < 0, axis=1, kind="stable")[:, :k]
    joined_rows = np.take_along_axis(rows, order, 1)
    is_item = joined_rows >= 0

    def joined(of_first: np.ndarray, of_second: np.ndarray, absent: float) -> np.ndarray:
        values = np.take_along_axis(np.concatenate([of_first, of_second], axis=1), order, 1)
        return np.where(is_item, values, absent).astype(np.float32)

    columns = {}
    for name in dict.fromkeys([*first.columns, *second.columns]):
        sides = [
            part.columns.get(name, np.full(part.rows.shape, np.nan, np.float32))
            for part in (first, second)
        ]
        columns[name] = joined(sides[0], sides[1], np.nan)
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


def _is_new(lists: Rankings, others: Rankings) -> np.ndarray:
    """Return (n, k) bool: true for items of `lists` that `others` lack for the same query."""
    base = len(lists.catalogue) + 1
    keys = np.arange(len(lists))[:, None] * base
    known_keys = (keys + others.rows)[others.rows >= 0]
    return (lists.rows >= 0) & ~np.isin(keys + lists.rows, known_keys)


def _joined_notes(first: Notes, second: Notes, is_short: np.ndarray) -> Notes:
    """Return the notes of both stages for the lists that are short."""
    noted = {*first, *second} & set(np.flatnonzero(is_short).tolist())
    return {i: (*first.get(i, ()), *second.get(i, ())) for i in noted}


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
    names = [part.name for part in parts]
    return [
        name if names.count(name) == 1 else f"{name} {names[:i].count(name) + 1}"
        for i, name in enumerate(names)
    ]


def part_reports(parts: Sequence[Recommender]) -> dict[str, object]:
    """Return the fit reports of parts by their names, without empty ones."""
    reports = zip(part_names(parts), (part.fit_report_ for part in parts), strict=True)
    return {name: report for name, report in reports if report}


def scattered(parts: Sequence[tuple[np.ndarray, Rankings]], n: int, k: int) -> Rankings:
    """Return n rankings of at most k items: each part's at the query numbers that it comes with.

    `parts` are pairs of query numbers (from 0 to n - 1) and the rankings of these queries.
    """
    if not parts:
        return Rankings.empty(Vocabulary([]), n, k)
    lists = one_catalogue([part.first(k) for _, part in parts])
    out = Rankings.empty(lists[0].catalogue, n, k)
    columns = {name: np.full((n, k), np.nan, np.float32) for part in lists for name in part.columns}
    details = {name: np.full((n, k), None) for part in lists for name in part.details}
    notes: dict[int, tuple[str, ...]] = {}
    for (numbers, _), part in zip(parts, lists, strict=True):
        width = part.rows.shape[1]
        out.rows[numbers, :width] = part.rows
        out.scores[numbers, :width] = part.scores
        for name, values in part.columns.items():
            columns[name][numbers, :width] = values
        for name, values in part.details.items():
            details[name][numbers, :width] = values
        notes |= {int(numbers[i]): note for i, note in part.notes.items()}
    kinds = {part.score_kind for part in lists}
    score_kind = kinds.pop() if len(kinds) == 1 else "score"
    return replace(out, columns=columns, notes=notes, details=details, score_kind=score_kind)
