"""LUMEN: an item for a critique, and the narrative of the item that it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.generative.asked_speller import AskedSpeller
from tailor.generative.regen import Titles, narrate, praise, with_critiques, words_by_row
from tailor.generative.wishes import TextVectors
from tailor.ports.base import Encoder
from tailor.text.hashing import HashingEncoder
from tailor.training.sequences import Task, TrainingData
from tailor.training.validation import Validation

PAPER = Paper(
    "regen-lumen",
    "REGEN: A Dataset and Benchmarks with Natural Language Critiques and Narratives",
    "https://arxiv.org/abs/2503.11924",
    "On a planted log of facets (3 seeds) HR@10 with the true critique is above that without one,"
    " a random critique does not help, critiques against the history are obeyed in at least .8, and"
    " narratives name a word of the emitted item in at least .9",
)


@dataclass(eq=False)
class LUMEN(AskedSpeller):
    """Answer a critique, "like this but red, not orange", with an item and its story (Su 2025).

    The vector of `Query.text` scales and shifts the state that the next item's code is generated
    from. It learns from critiques between each two events, made of words that one title adds and
    the other has (`generative.regen`). `explain` tells the narrative of the items that were really
    recommended: which part of the critique they answer, what they share with the history, and what
    the user wrote.

    Differs from the paper: critiques and narratives are written by templates, not by a language
    model; the critique is a single vector of a frozen encoder, not read word by word.
    """

    critiques: int = 4
    """Critiques made of each two events, each of other words."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critiques < 1:
            raise DataError(f"critiques is {self.critiques}: it must be at least 1")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, length=10, epochs=3, critiques=1)

    # learning

    def _prepare_texts(
        self, training: TrainingData, encoder: Encoder, run: Run
    ) -> tuple[int, dict[str, Any]]:
        texts = self._critiques_of(training, run.rng("critiques"))
        self._critiques = TextVectors.of(encoder, texts)
        events = int((self._critiques.rows > 0).any(axis=1).sum())
        width = self._critiques.vectors.shape[1] if events else 0
        return width, {"events_with_critiques": events}

    def _ask(self, queries: Queries, validation: Validation) -> Queries:
        """Return the queries with critiques that lead from their last event to their target."""
        data = validation.split.data
        return with_critiques(queries, validation.targets, data, np.random.default_rng(0))

    def _critiques_of(self, training: TrainingData, rng: np.random.Generator) -> np.ndarray:
        """Return (events, C) critiques that lead from the event before to each; "" for none."""
        data_rows = training.data.catalogue.rows(self.items_.ids.tolist())
        rows = data_rows[training.rows.values]
        has_before = training.rows.from_start > 0
        titles = Titles.of(training.data)
        texts = np.full((len(rows), self.critiques), "", dtype=object)
        for event in np.flatnonzero(has_before).tolist():
            before, after = rows[event - 1 : event + 1].tolist()
            texts[event] = [titles.critique(before, after, rng) for _ in range(self.critiques)]
        return texts

    def _target_conditions(
        self, task: Task, training: TrainingData, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Return (M, E) critiques that lead to the targets, zeros for those not asked for."""
        if not self.condition_width_:
            return None
        numbers = rng.integers(self.critiques, size=len(task.events))
        return self._some_unasked(self._critiques.take(task.events, numbers), rng)

    # answering

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Tell the narrative of each recommended item, with the events that its code shares.

        A sentence of the user's own reviews (`History.texts`, of events that are rated well) is
        evidence too.
        """
        by_code = super().explain(queries, rankings)
        words = words_by_row(self.telling_words_, self.item_words_)
        return [
            [self._narrated(query, explanation, words) for explanation in explanations]
            for query, explanations in zip(queries, by_code, strict=True)
        ]

    def _narrated(
        self, query: Query, explanation: Explanation, words: Sequence[Sequence[str]]
    ) -> Explanation:
        row, *rows = self.items_.rows([explanation.item_id, *query.history.item_ids]).tolist()
        if row < 0:
            return explanation
        history = [words[past] for past in rows if past >= 0]
        reviews = query.history.texts or ()
        praised = praise(reviews, query.history.values or [None] * len(reviews))
        story = narrate(words[row], history, query.text, praised)
        evidence = explanation.evidence
        if story.endorsement:
            evidence = (*evidence, Evidence("passage", "review", 0.0, story.endorsement))
        return replace(explanation, text=story.text, evidence=evidence)
