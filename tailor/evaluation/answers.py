"""Judge answers to questions, and the passages that they were read from, by right answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tailor.data.passage_lists import PassageList
from tailor.errors import DataError
from tailor.evaluation.significance import bootstrap
from tailor.metrics.answers import exact_match, first_hit, hits_at, token_f1


class Figure(NamedTuple):
    """A mean over questions, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class AnswerReport:
    """Figures of answered questions; questions without a right answer are left out."""

    questions: int
    """Questions with a right answer."""
    values: dict[str, np.ndarray]
    """Metric -> (n,) one value a question."""
    seed: int = 0
    """Seed of the intervals."""

    def figure(self, metric: str) -> Figure:
        """Return the mean of a metric and its bootstrap interval over questions."""
        column = self.values[metric]
        low, high = bootstrap(column[:, None], seed=self.seed)
        return Figure(float(np.nanmean(column)), float(low[0]), float(high[0]))

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON values."""
        figures = {metric: self.figure(metric)._asdict() for metric in self.values}
        return {"questions": self.questions, "figures": figures}


def judge_answers(
    answers: Sequence[str],
    retrieved: Sequence[PassageList],
    reordered: Sequence[PassageList],
    k: int = 10,
    seed: int = 0,
) -> AnswerReport:
    """Return exact match and token F1 of answers, and hits of passages before and after reranking.

    A hit is a passage among the first k that holds a right answer as whole words. Raises DataError
    unless there is one answer a list, and where no question has a right answer.
    """
    if not len(answers) == len(retrieved) == len(reordered):
        raise DataError(
            f"{len(answers)} answers for {len(retrieved)} lists before and {len(reordered)} after:"
            " give one each"
        )
    rows = [i for i, of_question in enumerate(retrieved) if of_question.answers]
    if not rows:
        raise DataError('no question has a right answer: write "answers": ["..."] into its line')
    right = [retrieved[i].answers for i in rows]
    return AnswerReport(
        len(rows),
        {
            "exact match": np.array([exact_match(answers[i], r) for i, r in zip(rows, right)]),
            "token F1": np.array([token_f1(answers[i], r) for i, r in zip(rows, right)]),
            f"hit@{k} before": _hits([retrieved[i] for i in rows], k),
            f"hit@{k} after": _hits([reordered[i] for i in rows], k),
        },
        seed,
    )


def _hits(lists: Sequence[PassageList], k: int) -> np.ndarray:
    """Return (n,) 1.0 where one of the first k passages holds a right answer."""
    ranks = [
        first_hit([passage.whole for passage in of_question.passages[:k]], of_question.answers)
        for of_question in lists
    ]
    return hits_at(ranks, k)
