"""A planted log of days: routines by the hour, rare behaviours that follow a cue, and noise.

Rare behaviours and noise are as frequent as each other, but only one of them can be learned.
Shapes: U users, E events of a user, N behaviours (items), P pairs of cue and answer.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SLOT_HOURS = (7, 9, 12, 15, 18, 21)  # a day has an event in the hour from each of these
COMMON, CUE, ANSWER, NOISE = range(4)
"""Kinds of behaviours."""


@dataclass(frozen=True, eq=False)
class Days:
    """A log, and the truth that no method may see; rows are those of the data."""

    data: Dataset
    """Timed events of behaviours."""
    kinds: np.ndarray
    """(N,) kind of each behaviour: COMMON, CUE, ANSWER or NOISE."""
    answers: np.ndarray
    """(N,) the answer of each cue, -1 for other behaviours."""


def days(
    people: int = 300,
    length: int = 10,
    common: int = 24,
    pairs: int = 12,
    noises: int = 24,
    seed: int = 0,
    *,
    routine: float = 0.7,
    rare: float = 0.02,
    noise: float = 0.04,
    obeyed: float = 0.9,
) -> Days:
    """Make a log of `length` days of six events each.

    A user has a behaviour of their own for each hour, done in a share `routine` of the events;
    else it is any common one. A share `rare` of the events are cues, one of `pairs`, each of which
    is followed by its answer with probability `obeyed`. A share `noise` is one of `noises`
    behaviours that nothing foretells. The same arguments give the same log. Raises DataError for
    sizes that cannot be.
    """
    if min(people, length, common, pairs, noises) < 1 or not 0 <= rare + noise < 1:
        raise DataError(
            f"people {people}, length {length}, common {common}, pairs {pairs}, noises {noises},"
            f" rare {rare}, noise {noise}: at least 1 each, shares below 1 together"
        )
    rng = random_of(seed, "days")
    slots = len(SLOT_HOURS)
    events = length * slots
    habits = rng.integers(common, size=(people, slots))
    chosen = np.empty((people, events), np.int64)
    for number in range(events):
        is_routine = rng.random(people) < routine
        usual = np.where(is_routine, habits[:, number % slots], rng.integers(common, size=people))
        share = rng.random(people)
        cues = common + rng.integers(pairs, size=people)
        others = common + 2 * pairs + rng.integers(noises, size=people)
        chosen[:, number] = np.select([share < rare, share < rare + noise], [cues, others], usual)
        if number:
            before = chosen[:, number - 1]
            is_cue = (before >= common) & (before < common + pairs)
            is_answered = is_cue & (rng.random(people) < obeyed)
            chosen[:, number] = np.where(is_answered, before + pairs, chosen[:, number])
    return _log(chosen, [common, pairs, pairs, noises], seed, rng)


def _log(chosen: np.ndarray, sizes: list[int], seed: int, rng: np.random.Generator) -> Days:
    """Return the data of behaviours `chosen` (U, E), and the truth; `sizes` are of the kinds."""
    people, events = chosen.shape
    user_ids = opaque_ids("u-", people, seed)
    item_ids = opaque_ids("b-", sum(sizes), seed)
    day, slot = np.divmod(np.arange(events), len(SLOT_HOURS))
    hours = day * 24 + np.array(SLOT_HOURS)[slot]
    times_ms = START_MS - START_MS % DAY_MS + hours * HOUR_MS
    times_ms = times_ms + rng.integers(HOUR_MS, size=chosen.shape)
    log = pl.DataFrame(
        {
            "user_id": user_ids[np.repeat(np.arange(people), events)],
            "item_id": item_ids[chosen.ravel()],
            "time_ms": times_ms.ravel(),
        }
    ).sort("time_ms", maintain_order=True)
    data = Dataset({"events": log, "items": pl.DataFrame({"item_id": item_ids})}, f"days-{seed}")
    kinds = np.repeat([COMMON, CUE, ANSWER, NOISE], sizes)
    answers = np.where(kinds == CUE, np.arange(len(kinds)) + sizes[CUE], -1)
    rows = data.catalogue.rows(item_ids.to_list())
    order = np.argsort(rows)
    return Days(data, kinds[order], np.where(answers >= 0, rows[answers], -1)[order])
