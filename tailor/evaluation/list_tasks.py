"""Tasks of prompt and answer over closed lists: what a language model is taught, and judged by.

Shapes: U lists, K items of a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.evaluation.closed_lists import (
    LETTERS,
    ClosedLists,
    history_text,
    list_prompt,
    list_scores,
    names_of,
    training_lists,
)
from tailor.evaluation.runs import Candidates
from tailor.llm.torch_model import TorchModel
from tailor.llm.word_model import word_model
from tailor.ports.base import LanguageModel

SOMEBODY = "a person"
QUESTIONS = (
    "Which candidate does {who} choose next? Answer with its letter only.",
    "Pick the candidate that {who} of this taste takes next. Reply with one letter.",
    "Given what was chosen so far, which letter has the candidate that {who} likes best?",
    "One of the candidates was chosen next by {who}. Name its letter.",
)
"""Wordings of one question; the last one is not among the tasks that are taught."""
YES_NO = "{history}\nDoes this person choose {item} next? Answer yes or no."
NEXT = "{history}\nName what is chosen next."


class Pairs(NamedTuple):
    """Prompts, and the answers that a model is to give."""

    prompts: list[str]
    answers: list[str]

    def joined(self, other: "Pairs") -> "Pairs":
        """Return these pairs and others behind them."""
        return Pairs(self.prompts + other.prompts, self.answers + other.answers)


@dataclass(frozen=True, eq=False)
class ListTasks:
    """The tasks of closed lists: name the next item, judge one, choose its letter."""

    lists: ClosedLists
    names: Sequence[str]
    """(N,) names of the items."""

    # --- pairs

    def next_titles(self) -> Pairs:
        """Return a pair a list: the history, and the name of the item that is chosen next."""
        lists = self.lists
        targets = lists.rows[np.arange(len(lists)), lists.targets].tolist()
        return Pairs(
            [self.next_prompt(i) for i in range(len(lists))], [self.names[row] for row in targets]
        )

    def judgements(self) -> Pairs:
        """Return two pairs a list: yes for the item that was chosen, no for another one."""
        lists = self.lists
        pairs = Pairs([], [])
        for i, target in enumerate(lists.targets.tolist()):
            for position, answer in ((target, "yes"), ((target + 1) % lists.size, "no")):
                pairs.prompts.append(self.yes_no_prompt(i, int(lists.rows[i, position])))
                pairs.answers.append(answer)
        return pairs

    def letters(self, wording: str) -> Pairs:
        """Return a pair a list: the list with a question, and the letter of the chosen item."""
        answers = [LETTERS[target] for target in self.lists.targets.tolist()]
        return Pairs(self.list_prompts(wording), answers)

    def all_tasks(self) -> Pairs:
        """Return judgements, and every list in one of the wordings that may be taught."""
        pairs = self.judgements()
        for number, wording in enumerate(QUESTIONS[:-1]):
            prompts, answers = self.letters(wording)
            pairs = pairs.joined(Pairs(prompts[number::3], answers[number::3]))
        return pairs

    # --- prompts

    def history(self, i: int) -> str:
        """Return the beginning of the prompts of a list."""
        return history_text([self.names[row] for row in self.lists.histories[i].tolist()])

    def next_prompt(self, i: int) -> str:
        """Return the prompt that asks for the next item's name."""
        return NEXT.format(history=self.history(i))

    def yes_no_prompt(self, i: int, row: int) -> str:
        """Return the prompt that asks whether an item is chosen next."""
        return YES_NO.format(history=self.history(i), item=self.names[row])

    def list_prompts(self, wording: str, who: str = SOMEBODY) -> list[str]:
        """Return a prompt a list, with a wording of the question about somebody."""
        question = wording.format(who=who)
        return [
            list_prompt(
                [self.names[row] for row in history.tolist()],
                [self.names[row] for row in rows.tolist()],
                question,
            )
            for history, rows in zip(self.lists.histories, self.lists.rows, strict=True)
        ]

    # --- scores

    def scores_of_titles(self, model: TorchModel) -> np.ndarray:
        """Return (U, K) log-probabilities per token of each name as what is chosen next."""
        prompts: list[str] = []
        answers: list[str] = []
        for i, rows in enumerate(self.lists.rows.tolist()):
            prompts += [self.next_prompt(i)] * self.lists.size
            answers += [self.names[row] for row in rows]
        counts = np.array([model.tokens(answer) for answer in answers])
        scores: np.ndarray = model.score(prompts, answers) / np.maximum(counts, 1)
        return scores.reshape(self.lists.rows.shape)

    def scores_of_judgements(self, model: LanguageModel) -> np.ndarray:
        """Return (U, K) log-odds of yes against no for each item."""
        prompts = [
            self.yes_no_prompt(i, row)
            for i, rows in enumerate(self.lists.rows.tolist())
            for row in rows
        ]
        log_probs = model.choices(prompts, ["yes", "no"])  # U * K, 2
        log_odds: np.ndarray = log_probs[:, 0] - log_probs[:, 1]
        return log_odds.reshape(self.lists.rows.shape)

    def scores_of_letters(self, model: LanguageModel, wording: str) -> np.ndarray:
        """Return (U, K) scores of the letters of each list."""
        return list_scores(model, self.list_prompts(wording), self.lists.size)


def examples_in_context(train: Dataset, history: int, run: Run) -> list[str]:
    """Return two training users' histories with what each chose next, to stand before prompts."""
    rng = run.rng("examples in context")
    samples = ListTasks(training_lists(train, 2, history, 2, rng), names_of(train))
    titles = samples.next_titles().answers
    return [f"{samples.history(i)}\nChosen next: {title}" for i, title in enumerate(titles)]


def untaught_word_model(
    tasks: Sequence[ListTasks], folder: str, width: int, run: Run, others: Sequence[str] = ()
) -> TorchModel:
    """Return a word model whose tokens are the words of these tasks, and of other texts."""
    texts = ["yes no", YES_NO, NEXT, *QUESTIONS, *LETTERS, *others]
    for part in tasks:
        texts += [*part.names, *part.list_prompts(QUESTIONS[0])]
    return word_model(texts, folder, width=width, run=run)


def recommender_scores(
    method: Recommender, queries: Queries, split: Split, lists: ClosedLists
) -> np.ndarray:
    """Return (U, K) minus the place that a fitted recommender gives each item of its list.

    What it leaves out is below all that it names.
    """
    rows = Ragged.of(np.sort(lists.rows, axis=1).tolist())
    queries = queries.reindexed(split.data.catalogue)
    candidates = Candidates("closed lists", queries.user_ids, rows).over(queries)
    rankings = method.recommend(queries, lists.size, candidates).reindexed(split.data.catalogue)
    scores = np.full(lists.rows.shape, -float(lists.size))
    for position in range(rankings.rows.shape[1]):
        is_here = lists.rows == rankings.rows[:, position : position + 1]
        scores[is_here] = -position
    return scores
