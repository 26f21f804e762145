"""Run the plans of many queries in lockstep, with a second try for what could not be read."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tailor.llm.grammars import Reading
from tailor.llm.parsing import Status
from tailor.reranking.strategies import Group, Plan, settled

Asked = tuple[int, Group]
"""Number of a plan, and the group of places that is shown."""
Ask = Callable[[Sequence[Asked]], Sequence[Reading]]
SLICE = 64  # groups asked between two looks at the clock


@dataclass(eq=False)
class Outcome:
    """The scores that a plan ended with, and what it took."""

    scores: np.ndarray
    """(n,) of the documents; NaN: nothing could be read of it."""
    statuses: list[Status]
    """By document: the worst that happened to it in the last group that it stood in."""
    words: dict[int, dict[str, str]] = field(default_factory=dict)
    """Place -> name -> words of the model about the document."""
    calls: int = 0
    """Groups that were asked; one asked before in the same plan is not asked again."""
    fallbacks: int = 0
    """Groups of which nothing could be read, after halving them."""
    halved: int = 0
    """Groups that were asked again as two halves."""
    late: int = 0
    """Groups that were not asked, because the time was over."""


def run(
    plans: Sequence[Plan],
    sizes: Sequence[int],
    ask: Ask,
    is_absolute: bool,
    until_s: float = float("inf"),
) -> list[Outcome]:
    """Return the outcome of every plan over its `sizes` documents.

    Each step asks the waiting groups of all plans together. A group of which nothing can be read is
    asked again as two halves, once. Halves of an absolute grammar keep their scores; others keep
    the places that they held. After the time `until_s` (of `time.monotonic`) nothing is asked, and
    all groups are unread, so that plans end by themselves.
    """
    outcomes = [Outcome(np.full(n, np.nan), ["fallback"] * n) for n in sizes]
    runners = [_Runner(plan, outcome) for plan, outcome in zip(plans, outcomes, strict=True)]
    while True:
        waiting = [
            (number, group)
            for number, runner in enumerate(runners)
            for group in dict.fromkeys(runner.waiting)
            if group not in runner.known
        ]
        if not waiting and all(runner.is_done for runner in runners):
            if is_absolute:
                _mark_scored(outcomes)
            return outcomes
        readings = _ask_in_slices(waiting, ask, outcomes, until_s)
        readings = _ask_halves(waiting, readings, ask, outcomes, is_absolute, until_s)
        for (number, group), reading in zip(waiting, readings, strict=True):
            runners[number].take(group, reading)
        for runner in runners:
            runner.advance()


def _mark_scored(outcomes: Sequence[Outcome]) -> None:
    """Mark documents as repaired that some group scored, though the last could not be read."""
    for outcome in outcomes:
        is_scored = ~np.isnan(outcome.scores)
        for doc, status in enumerate(outcome.statuses):
            if status == "fallback" and is_scored[doc]:
                outcome.statuses[doc] = "repaired"


class _Runner:
    """A plan, the groups it waits for, and the readings of those that were asked."""

    def __init__(self, plan: Plan, outcome: Outcome) -> None:
        self.plan = plan
        self.outcome = outcome
        self.known: dict[Group, Reading] = {}
        self.waiting: list[Group] = []
        self.is_done = False
        self._send(None)

    def take(self, group: Group, reading: Reading) -> None:
        """Keep a reading, and what it says of its documents."""
        self.known[group] = reading
        self.outcome.fallbacks += reading.is_unread
        for position, doc in enumerate(group):
            self.outcome.statuses[doc] = reading.statuses[position]
            if position in reading.words:
                self.outcome.words[doc] = dict(reading.words[position])

    def advance(self) -> None:
        """Send the plan what it waits for."""
        if not self.is_done:
            self._send([self.known[group].scores for group in self.waiting])

    def _send(self, answers: list[np.ndarray] | None) -> None:
        try:
            self.waiting = self.plan.send(answers)  # type: ignore[arg-type]
        except StopIteration as stop:
            self.outcome.scores = stop.value
            self.waiting = []
            self.is_done = True


def _ask_in_slices(
    waiting: Sequence[Asked], ask: Ask, outcomes: Sequence[Outcome], until_s: float
) -> list[Reading]:
    readings: list[Reading] = []
    for start in range(0, len(waiting), SLICE):
        part = waiting[start : start + SLICE]
        if time.monotonic() < until_s:
            readings += ask(part)
            for number, _ in part:
                outcomes[number].calls += 1
        else:
            readings += [Reading.unread(len(group)) for _, group in part]
            for number, _ in part:
                outcomes[number].late += 1
    return readings


def _ask_halves(
    waiting: Sequence[Asked],
    readings: Sequence[Reading],
    ask: Ask,
    outcomes: Sequence[Outcome],
    is_absolute: bool,
    until_s: float,
) -> list[Reading]:
    """Return the readings; unread groups of several documents are asked again in two halves."""
    joined = list(readings)
    unread = [
        i
        for i, (_, group) in enumerate(waiting)
        if readings[i].is_unread and len(group) > 2 and time.monotonic() < until_s
    ]
    halves = []
    for i in unread:
        number, group = waiting[i]
        middle = (len(group) + 1) // 2
        halves += [(number, group[:middle]), (number, group[middle:])]
        outcomes[number].halved += 1
    of_halves = _ask_in_slices(halves, ask, outcomes, until_s)
    for position, i in enumerate(unread):
        first, second = of_halves[2 * position : 2 * position + 2]
        joined[i] = _together(first, second, is_absolute)
    return joined


def _together(first: Reading, second: Reading, is_absolute: bool) -> Reading:
    """Return the reading of a group from those of its halves."""
    start = len(first.scores)
    words = {**first.words, **{start + i: words for i, words in second.words.items()}}
    statuses = (*first.statuses, *second.statuses)
    scores = np.concatenate([first.scores, second.scores])
    if not is_absolute and not np.isnan(scores).all():
        order = settled(range(start), first.scores)
        order += settled(range(start, len(scores)), second.scores)
        ranks = np.empty(len(scores))
        ranks[order] = -np.arange(len(scores))
        scores = np.where(np.isnan(scores), np.nan, ranks)
    repaired: list[Status] = ["repaired" if s == "ranked" else s for s in statuses]
    return Reading(scores, tuple(repaired), words)
