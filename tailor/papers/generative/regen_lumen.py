"""LUMEN: an item for a critique, and the narrative of the item that it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
from torch import Tensor

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.generative.asked_speller import AskedSpeller
from tailor.generative.regen import (
    Titles,
    narrate,
    praise,
    wanted_words,
    with_critiques,
    words_by_row,
)
from tailor.generative.wishes import TextVectors
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.ports.base import Encoder
from tailor.text.hashing import HashingEncoder
from tailor.training.sequences import Task, TrainingData, Windows, as_tensor
from tailor.training.validation import Validation

PAPER = Paper(
    "regen-lumen",
    "REGEN: A Dataset and Benchmarks with Natural Language Critiques and Narratives",
    "https://arxiv.org/abs/2503.11924",
    "On a planted log of facets (3 seeds) HR@10 with the true critique is above that without one,"
    " a random critique does not help, critiques against the history are obeyed in at least .8, and"
    " narratives name a word of the emitted item in at least .9",
)
PARTS = 2  # of a critique: what is wanted, and what is not


@dataclass(eq=False)
class LUMEN(AskedSpeller):
    """Answer a critique, "like this but red, not orange", with an item and its story (Su 2025).

    The vectors of the words that `Query.text` wants and does not want scale and shift the state
    that the next item's code is generated from. It learns from critiques between each two events, made of words that one title adds and
    the other has (`generative.regen`). `explain` tells the narrative of the items that were really
    recommended: which part of the critique they answer, what they share with the history, and what
    the user wrote.

    Differs from the paper: critiques and narratives are written by templates, not by a language
    model; a critique is two vectors of a frozen encoder, not read word by word.
    """

    contrary: Annotated[float, Range(0.0, 0.5)] = 0.2
    """Share of the training targets replaced by any item like the one before, with a critique that
    leads there, so that it obeys against the history too.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.contrary < 1:
            raise DataError(f"contrary is {self.contrary}: it must be from 0 to below 1")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, length=10, epochs=3)

    # learning

    def _prepare_texts(
        self, training: TrainingData, encoder: Encoder, run: Run
    ) -> tuple[int, dict[str, Any]]:
        rows = training.data.catalogue.rows(self.items_.ids.tolist())
        self._titles = Titles.of(training.data).take(rows)
        words = self.telling_words_.ids
        self._words = TextVectors.of(encoder, np.append(words, "").astype(object))
        width = PARTS * self._words.vectors.shape[1] if len(words) else 0
        return width, {"words_of_critiques": len(words)}

    def _ask(self, queries: Queries, validation: Validation) -> Queries:
        """Return the queries with critiques that lead from their last event to their target."""
        data = validation.split.data
        return with_critiques(queries, validation.targets, data, np.random.default_rng(0))

    def _parts(self, text: str) -> tuple[str, ...]:
        """Return the words that a critique wants, and those that it does not want."""
        return tuple(" ".join(words) for words in wanted_words(text))

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        net: SemanticIdDecoder = self._net
        task = self._make_task(batch, rng)
        if self.condition_width_:
            task = replace(task, targets=self._with_contrary(task, training, rng))
        states = self._task_states(task, training, rng)
        return net.loss(states, as_tensor(task.targets, net), self.closed)

    def _with_contrary(
        self, task: Task, training: TrainingData, rng: np.random.Generator
    ) -> np.ndarray:
        """Return (M,) the targets, a share of them any item like the one before it."""
        targets = task.targets.copy()
        before = training.rows.values[task.events - 1]
        drawn = training.item_rows[rng.integers(len(training.item_rows), size=len(targets))]
        for i in np.flatnonzero(rng.random(len(targets)) < self.contrary).tolist():
            if self._titles.are_alike(before[i], drawn[i]):
                targets[i] = drawn[i]
        return targets

    def _target_conditions(
        self, task: Task, training: TrainingData, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Return (M, E) critiques that lead to the targets, zeros for those not asked for.

        A target that is not what came next is always asked for.
        """
        if not self.condition_width_:
            return None
        before = training.rows.values[task.events - 1].tolist()
        pairs = [
            self._titles.drawn_words(past, target, rng)
            for past, target in zip(before, task.targets.tolist(), strict=True)
        ]
        words = self.telling_words_.rows(np.array(pairs, dtype=object).ravel().tolist())
        conditions = self._words.take(words.reshape(-1, PARTS)).reshape(len(pairs), -1)
        is_next = task.targets == training.rows.values[task.events]
        is_asked = (rng.random(len(pairs)) >= self.unasked) | ~is_next
        return np.asarray(conditions * is_asked[:, None])

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
