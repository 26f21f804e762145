"""Make students who practise questions: they learn what is within their reach, and forget."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

MINUTE_MS = 60_000
STAY = 0.7  # chance that the next question of a log is of the same topic
GENERAL = 0.7  # deviation of a student's general ability
SPECIAL = 0.7  # deviation of a student's ability in a topic around the general one


@dataclass(eq=False)
class Classroom:
    """Students with a true ability per topic, and questions with a true difficulty.

    An answer is right with probability 1 / (1 + exp(difficulty - ability)). Answering teaches most
    where that is one half, and nothing where it is 0 or 1; topics that are not practised fall back
    towards where they began. U students, K topics, Q questions.
    """

    question_ids: pl.Series
    topics: np.ndarray
    """(Q,) topic of each question."""
    difficulties: np.ndarray
    """(Q,)."""
    first_abilities: np.ndarray
    """(U, K) abilities at the beginning."""
    abilities: np.ndarray
    """(U, K) abilities now; `answer` changes them."""
    rate: float
    """Ability gained by an answer whose probability is one half."""
    forgetting: float
    """Share of what was learned in other topics that an answer costs."""

    def probabilities(self) -> np.ndarray:
        """Return (U, Q) probabilities of right answers now."""
        chances: np.ndarray = 1 / (1 + np.exp(self.difficulties - self.abilities[:, self.topics]))
        return chances

    def answer(self, questions: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Let each student answer a question (U,); return (U,) bool and change the abilities.

        `draws` (U,) are even numbers from 0 to 1; equal ones make rounds comparable.
        """
        rows = np.arange(len(self.abilities))
        chances = self.probabilities()[rows, questions]
        is_other = np.arange(self.abilities.shape[1]) != self.topics[questions][:, None]
        lost = self.forgetting * (self.abilities - self.first_abilities)
        self.abilities = self.abilities - np.where(is_other, lost, 0.0)
        self.abilities[rows, self.topics[questions]] += self.rate * 4 * chances * (1 - chances)
        is_right: np.ndarray = draws < chances
        return is_right

    def practise(self, answers: int, rng: np.random.Generator) -> Dataset:
        """Let every student answer so many questions, and return the log (value 1: right).

        Students stay within a topic for a while. The topic is a question's category.
        """
        n = len(self.abilities)
        topics = rng.integers(self.abilities.shape[1], size=n)
        questions = np.empty((answers, n), dtype=np.int64)
        is_right = np.empty((answers, n), dtype=bool)
        by_topic = [np.flatnonzero(self.topics == topic) for topic in range(self.topics.max() + 1)]
        for step in range(answers):
            moves = rng.random(n) >= STAY
            topics = np.where(moves, rng.integers(len(by_topic), size=n), topics)
            questions[step] = [rng.choice(by_topic[topic]) for topic in topics.tolist()]
            is_right[step] = self.answer(questions[step], rng.random(n))
        return self._log(questions, is_right)

    def _log(self, questions: np.ndarray, is_right: np.ndarray) -> Dataset:
        """Return answers (T, U) as a data set."""
        answers, n = questions.shape
        columns: dict[str, Any] = {
            "user_id": np.tile([f"student-{number:04d}" for number in range(n)], answers),
            "item_id": self.question_ids[questions.ravel()],
            "time_ms": START_MS + MINUTE_MS * np.repeat(np.arange(answers), n),
            "value": is_right.ravel().astype(float),
        }
        items = {
            "item_id": self.question_ids,
            "categories": [[f"topic {topic}"] for topic in self.topics.tolist()],
        }
        tables = {"events": pl.DataFrame(columns), "items": pl.DataFrame(items)}
        return Dataset(tables, "students")


def classroom(
    students: int = 500,
    topics: int = 8,
    questions: int = 10,
    rate: float = 0.25,
    forgetting: float = 0.01,
    seed: int = 0,
    new_students: int = 0,
) -> Classroom:
    """Return students and `questions` questions for each of some topics.

    `new_students` draws other students, by that number, for the same questions. The same arguments
    give the same room. Raises DataError for sizes below 1 and shares outside 0 to 1.
    """
    if min(students, topics, questions) < 1 or rate < 0 or not 0 <= forgetting <= 1:
        raise DataError(
            f"students {students}, topics {topics}, questions {questions}: at least 1 each; rate"
            f" {rate}: at least 0; forgetting {forgetting}: from 0 to 1"
        )
    rng = random_of(seed, "questions")
    difficulties = rng.normal(size=topics * questions)
    people = random_of(seed, f"students {new_students}")
    general = people.normal(0, GENERAL, (students, 1))
    abilities = general + people.normal(0, SPECIAL, (students, topics))
    return Classroom(
        question_ids=opaque_ids("q-", topics * questions, seed),
        topics=np.repeat(np.arange(topics), questions),
        difficulties=difficulties,
        first_abilities=abilities,
        abilities=abilities.copy(),
        rate=rate,
        forgetting=forgetting,
    )
