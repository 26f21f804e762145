"""Answerer: the base of methods that answer questions from passages."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tailor.core.methods import Generator
from tailor.data.nouns import Output, Query
from tailor.data.passage_lists import PassageList
from tailor.data.queries import Queries


@dataclass(eq=False)
class Answerer(Generator):
    """Answers a question in three steps, each a verb of its own: retrieve, reorder, answer.

    The items that it is fitted on are the documents. `reorder` and `answer` take lists that were
    retrieved elsewhere too, and need no fit.
    """

    @abstractmethod
    def retrieve(self, queries: Queries) -> list[PassageList]:
        """Return the passages of every query's text, best first, without excluded items."""

    @abstractmethod
    def reorder(self, lists: Sequence[PassageList]) -> list[PassageList]:
        """Return the lists with their passages in a better order."""

    @abstractmethod
    def answer(self, lists: Sequence[PassageList]) -> list[Output]:
        """Return one answer a list; its evidence are the passages that it cites.

        Evidence of the kind "passage" has the passage's id and the words quoted from it.
        """

    def retrieve_missing(self, lists: Sequence[PassageList]) -> list[PassageList]:
        """Return the lists with passages; those that brought theirs stay as they are."""
        bare = [of_question for of_question in lists if not of_question.is_retrieved]
        queries = [Query(text=part.question, request_id=part.id or None) for part in bare]
        answers = iter(self.retrieve(Queries.of(queries)) if queries else [])
        return [
            of_question
            if of_question.is_retrieved
            else replace(of_question, passages=next(answers).passages, is_retrieved=True)
            for of_question in lists
        ]

    def _generate(self, queries: Queries) -> list[Output]:
        return self.answer(self.reorder(self.retrieve(queries)))
