"""RecommendationText: a sentence that says what is recommended, and why."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from tailor.core.methods import Generator, Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Output, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError
from tailor.evaluation.explanation_text import quote_title, sentence

ITEM = "item_id"
"""The name in `Query.context` of an item to write about."""


@dataclass(eq=False)
class RecommendationText(Generator):
    """Recommends the best item of a recommender in a sentence, with the recommender's reasons.

    The sentence is a template filled with the evidence that the recommender states for its own
    score, so it holds no reason that the recommender did not have. A query whose context names an
    "item_id" gets the sentence for that item, if it may be recommended.
    """

    recommender: Recommender
    """A recommender that explains its lists; a list that it cannot explain has no reasons."""
    max_reasons: int = 2
    """Pieces of evidence named of each kind."""
    verb: str = "chose"
    """What users do with items: "because you VERB ..."."""

    recommender_: Recommender = field(init=False, repr=False)
    items_: Vocabulary = field(init=False, repr=False)
    titles_: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.recommender, Recommender) or self.recommender.needs_candidates:
            raise ModelError(
                f"RecommendationText.recommender is {self.recommender!r}: it must be a recommender"
                " that finds items by itself"
            )

    @classmethod
    def tiny(cls) -> Self:
        described = {"class": "RecommendationText", "recommender": {"class": "CoVisitation"}}
        return build(described, cls)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.titles_ = {}
        if "title" in data.item_table.columns:
            titles = data.item_table.select("item_id", "title").drop_nulls()
            self.titles_ = dict(titles.iter_rows())
        self.recommender_ = clone(self.recommender).fit(data, run, valid)
        self.fit_report_ = {self.recommender_.name: self.recommender_.fit_report_}

    def _generate(self, queries: Queries) -> list[Output]:
        named = [str(item) if item is not None else None for item in queries.context(ITEM)]
        free = np.flatnonzero([item is None for item in named])
        bound = np.flatnonzero([item is not None for item in named])
        outputs: dict[int, Output] = {}
        for rows, candidates in (
            (free, None),
            (bound, [Ranking((str(named[i]),), np.ones(1)) for i in bound.tolist()]),
        ):
            part = queries.take(rows)
            lists = self.recommender_.recommend(part, 1, candidates)
            reasons = self._reasons(part, lists)
            for i, ranking, explanations in zip(rows.tolist(), lists, reasons, strict=True):
                outputs[i] = self._output(ranking, explanations)
        return [outputs[i] for i in range(len(queries))]

    def _reasons(self, queries: Queries, lists: Rankings) -> list[list[Explanation]]:
        """Return the recommender's explanations; without evidence where it has none."""
        if self.recommender_.explains():
            try:
                return self.recommender_.explain(queries, lists)
            except ModelError:  # a pipeline whose parts cannot explain
                pass
        return [[Explanation(item_id) for item_id in ranking.ids] for ranking in lists]

    def _output(self, ranking: Ranking, explanations: list[Explanation]) -> Output:
        if not ranking.ids:
            notes = ranking.notes or (f"{self.name}: no item can be recommended",)
            return Output(notes=notes, details={"status": "empty"})
        reason = explanations[0]
        has_reasons = bool(reason.evidence)
        text = quote_title(reason.item_id, self.titles_)
        if has_reasons:
            why = sentence(reason, self.titles_, most=self.max_reasons, verb=self.verb)
            text = f"{text}: {why}"
        notes = () if has_reasons else (f"{self.recommender_.name} states no reasons",)
        return Output(
            text,
            item_ids=(reason.item_id,),
            evidence=reason.evidence,
            notes=notes,
            details={"score": float(ranking.scores[0]), "status": "ranked"},
        )
