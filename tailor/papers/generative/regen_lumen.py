"""LUMEN: an item for a critique, and the narrative of the item that it answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
import torch
from torch import Tensor

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.generative.asked_speller import AskedSpeller
from tailor.generative.record_learner import RecordData, RecordLearner
from tailor.generative.records import END, ITEM, Part, Record
from tailor.generative.regen import (
    Titles,
    narrate,
    narrative_words,
    praise,
    wanted_words,
    with_critiques,
    words_by_row,
)
from tailor.generative.wishes import TextVectors
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.ports.base import Encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.words import words
from tailor.training.sequences import Task, TrainingData, Windows, as_tensor
from tailor.training.validation import Validation

PAPER = Paper(
    "regen-lumen",
    "REGEN: A Dataset and Benchmarks with Natural Language Critiques and Narratives",
    "https://arxiv.org/abs/2503.11924",
    "On a planted log of facets (3 seeds) HR@10 with the true critique is above that without one,"
    " a random critique does not help, the hybrid obeys critiques against the history in at least"
    " .8, LUMEN keeps .95 of HR@10 with its narratives, and they name a word of the emitted item in"
    " at least .9",
)
PARTS = 2  # of a critique: what is wanted, and what is not
WANTED, UNWANTED, STORY = "<wanted>", "<unwanted>", "<story>"
NEXT_ITEM, NARRATIVE = range(2)  # tasks of records
MOST_WORDS = 40  # of a narrative
STORY_ITEMS = 3  # of the history that a narrative is told from


@dataclass(eq=False)
class LUMEN(RecordLearner):
    """Say the next item for a critique, then its story, with one net (Su 2025).

    A causal transformer reads the items of the history and the words that `Query.text` wants and
    does not want ("like this but red, not orange"), spells an item, and says words about the item
    that it spelled. It learns both at once from critiques between each two events and narratives
    around them, which templates make of the words of titles (`generative.regen`). `explain` lets it
    tell the story of recommended items.

    Differs from the paper: critiques and narratives are written by templates, not by a language
    model, and learned by a small net from nothing; narratives are told from the latest three items;
    a share of targets is `contrary`.
    """

    unasked: Annotated[float, Range(0.0, 0.9)] = 0.3
    """Share of the training targets without a critique, so that it answers without one too."""
    contrary: Annotated[float, Range(0.0, 0.5)] = 0.2
    """Share of the training targets replaced by any item like the one before, with a critique that
    leads there, so that it obeys against the history too.
    """
    narratives: Annotated[float, Range(0.0, 2.0)] = 1.0
    """Weight of the loss of narratives beside that of items; 0: it learns to tell none."""
    word_dropout: Annotated[float, Range(0.0, 0.6)] = 0.0
    """Share of the words to read that are replaced by the unknown one in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_shares(self.unasked, self.contrary)
        if self.narratives < 0:
            raise DataError(f"narratives is {self.narratives}: it must be at least 0")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, heads=2, length=10, epochs=2)

    # learning

    def _marks(self) -> list[str]:
        return [WANTED, UNWANTED, STORY]

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        self._titles = Titles.of(training.data).take(
            training.data.catalogue.rows(self.items_.ids.tolist())
        )
        return super()._prepare_items(training, run)

    def _told_words(self, training: RecordData) -> Iterable[Sequence[str]]:
        """Yield the words of one pass, then those that only other passes hold."""
        rng = np.random.default_rng(0)
        record_words = set()
        for record in self._make_records(training, rng):
            parts = [part for part in record.parts if isinstance(part, str) and part[0] != "<"]
            record_words.update(parts)
            yield parts
        of_templates = narrative_words() if self.narratives else []
        for further in (*self._titles.words, of_templates):
            yield [word for word in further if word not in record_words]

    def _make_records(self, training: RecordData, rng: np.random.Generator) -> list[Record]:
        """Return a record of items and one of a narrative for each user."""
        records = []
        for user in np.flatnonzero(training.rows.lengths > 1).tolist():
            items = training.rows[user].tolist()
            stop = int(rng.integers(1, len(items)))
            history = items[max(stop - self.length, 0) : stop]
            target = with_contrary(
                items[stop], history[-1], training.item_rows, self.contrary, self._titles, rng
            )
            critique = self._titles.drawn_words(history[-1], target, rng)
            if target == items[stop] and rng.random() < self.unasked:
                critique = ("", "")
            parts = _critique_parts(*([word] if word else [] for word in critique))
            records.append(_item_record(history, parts, target))
            if self.narratives:
                records.append(self._narrative_record(history, parts, target))
        return records

    def _narrative_record(
        self, history: Sequence[int], critique: Sequence[str], target: int
    ) -> Record:
        """Return the record of a narrative: the part that is told comes last."""
        request = _request(critique)
        past = [self._titles.words[row] for row in history]
        story = narrate(self._titles.words[target], past, request)
        story_words = words(f"{story.purchase_reason} {story.explanation}")
        parts = _story_parts(history, critique, target)
        answers = range(len(parts), len(parts) + len(story_words) + 1)
        return Record((*parts, *story_words, END), tuple(answers), NARRATIVE)

    def _answer_loss(self, log_probs: Tensor, tasks: np.ndarray) -> Tensor:
        """Return the mean loss of items, plus that of narratives by its weight."""
        is_story = torch.from_numpy(tasks == NARRATIVE).to(log_probs.device)
        loss = log_probs.new_zeros(())
        for mask, weight in ((~is_story, 1.0), (is_story, self.narratives)):
            if mask.any():
                loss = loss - weight * log_probs[mask].mean()
        return loss

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        """Train the net; its validation asks by critiques, as users will."""
        if validation is not None:
            validation = replace(validation, queries=with_asked(validation))
        return super()._train(training, validation, run)

    # answering

    def _prompts(self, queries: Queries) -> list[Record]:
        prompts = []
        for i in range(len(queries)):
            history = queries.histories[i][-self.length :].tolist()
            prompts.append(
                Record((*history, *_critique_parts(*wanted_words(queries.text(i))), ITEM))
            )
        return prompts

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Tell the narrative of each recommended item, with the events that its code shares.

        Without `narratives` it tells the item's code path.
        """
        by_code = super().explain(queries, rankings)
        if not self.narratives:
            return by_code
        over_items = Queries.of(queries).reindexed(self.items_)
        prompts = []
        for i, explanations in enumerate(by_code):
            critique = _critique_parts(*wanted_words(over_items.text(i)))
            history = over_items.histories[i].tolist()
            rows = self.items_.rows([explanation.item_id for explanation in explanations])
            prompts += [
                Record(tuple(_story_parts(history, critique, row)))
                for row in rows.tolist()
                if row >= 0
            ]
        stories = iter(self._say(prompts, MOST_WORDS) if prompts else [])
        return [
            [
                replace(explanation, text=" ".join(next(stories)))
                if self.items_.rows([explanation.item_id])[0] >= 0
                else explanation
                for explanation in explanations
            ]
            for explanations in by_code
        ]


@dataclass(eq=False)
class HybridLUMEN(AskedSpeller):
    """Answer a critique with an item, and tell its story by templates (Su 2025).

    The vectors of the words that `Query.text` wants and does not want scale and shift the state
    that the next item's code is generated from. It learns from critiques between each two events,
    made of words that one title has and the other lacks (`generative.regen`). `explain` tells the
    narrative of the items that were really recommended: which part of the critique they answer,
    what they share with the history, and what the user wrote.

    Differs from the paper: critiques and narratives are written by templates, not by a language
    model; a critique is two vectors of a frozen encoder, not read word by word.
    """

    contrary: Annotated[float, Range(0.0, 0.5)] = 0.2
    """Share of the training targets replaced by any item like the one before, with a critique that
    leads there, so that it obeys against the history too.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_shares(self.unasked, self.contrary)

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, length=10, epochs=3)

    # learning

    def _prepare_texts(
        self, training: TrainingData, encoder: Encoder, run: Run
    ) -> tuple[int, dict[str, Any]]:
        rows = training.data.catalogue.rows(self.items_.ids.tolist())
        self._titles = Titles.of(training.data).take(rows)
        known_words = self.telling_words_.ids
        # the last one is blank: row -1 is that of no word
        self._words = TextVectors.of(encoder, np.append(known_words, "").astype(object))
        width = PARTS * self._words.vectors.shape[1] if len(known_words) else 0
        return width, {"words_of_critiques": len(known_words)}

    def _ask(self, queries: Queries, validation: Validation) -> Queries:
        """Return the queries with critiques that lead from their last event to their target."""
        return with_asked(validation)

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
        before = training.rows.values[task.events - 1].tolist()
        targets = [
            with_contrary(target, past, training.item_rows, self.contrary, self._titles, rng)
            for target, past in zip(task.targets.tolist(), before, strict=True)
        ]
        return np.array(targets)

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
        rows = self.telling_words_.rows([word for pair in pairs for word in pair])
        conditions = self._words.take(rows.reshape(-1, PARTS)).reshape(len(pairs), -1)
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
        item_words = words_by_row(self.telling_words_, self.item_words_)
        return [
            [self._narrated(query, explanation, item_words) for explanation in explanations]
            for query, explanations in zip(queries, by_code, strict=True)
        ]

    def _narrated(
        self, query: Query, explanation: Explanation, item_words: Sequence[Sequence[str]]
    ) -> Explanation:
        row, *rows = self.items_.rows([explanation.item_id, *query.history.item_ids]).tolist()
        if row < 0:
            return explanation
        history = [item_words[past] for past in rows if past >= 0]
        reviews = query.history.texts or ()
        ratings = query.history.values or [None] * len(reviews)
        praised = praise(reviews, ratings) if reviews else []
        story = narrate(item_words[row], history, query.text, praised)
        evidence = explanation.evidence
        if story.endorsement:
            share = 0.0 if evidence else 1.0  # what is shared is the code's, if any
            evidence = (*evidence, Evidence("passage", "review", share, story.endorsement))
        return replace(explanation, text=story.text, evidence=evidence)


def _check_shares(unasked: float, contrary: float) -> None:
    """Raise DataError for shares of targets that cannot be."""
    if not 0 <= unasked < 1 or not 0 <= contrary < 1:
        raise DataError(f"unasked is {unasked}, contrary {contrary}: from 0 to below 1 each")


def with_contrary(
    target: int,
    before: int,
    item_rows: np.ndarray,
    share: float,
    titles: Titles,
    rng: np.random.Generator,
) -> int:
    """Return a target, or with probability `share` any item like the one before it."""
    if rng.random() >= share:
        return target
    drawn = int(item_rows[rng.integers(len(item_rows))])
    return drawn if titles.are_alike(before, drawn) else target


def with_asked(validation: Validation) -> Queries:
    """Return queries with critiques that lead from their last event to their target."""
    rng = np.random.default_rng(0)
    return with_critiques(validation.queries, validation.targets, validation.split.data, rng)


def _critique_parts(positives: Sequence[str], negatives: Sequence[str]) -> list[str]:
    """Return a critique as parts of a record: marks, and the words that they introduce."""
    parts = [WANTED, *positives] if positives else []
    return [*parts, UNWANTED, *negatives] if negatives else parts


def _request(critique: Sequence[str]) -> str:
    """Return the parts of a critique as a request that `wanted_words` reads."""
    return " ".join(critique).replace(WANTED, "").replace(UNWANTED, ", not")


def _item_record(history: Sequence[int], critique: Sequence[str], target: int) -> Record:
    """Return the record of an item, told from those before, as the history is."""
    parts: tuple[Part, ...] = (*history, *critique, ITEM, target)
    return Record(parts, (*range(1, len(history)), len(parts) - 1), NEXT_ITEM)


def _story_parts(history: Sequence[int], critique: Sequence[str], target: int) -> list[Part]:
    """Return the parts that a narrative is told from."""
    return [*history[-STORY_ITEMS:], *critique, ITEM, target, STORY]
