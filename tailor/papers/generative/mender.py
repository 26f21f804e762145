"""Mender: a wish in words beside the history, that the code of the next item obeys."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from torch import Tensor

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.event_columns import with_typed_texts
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.generative.asked_speller import AskedSpeller
from tailor.generative.wishes import (
    TextVectors,
    drawn_words,
    logged_texts,
    phrased,
)
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.ports.base import Encoder
from tailor.text.hashing import HashingEncoder
from tailor.training.sequences import Task, TrainingData, Windows, as_tensor
from tailor.training.validation import Validation

PAPER = Paper(
    "mender",
    "Preference Discerning with LLM-Enhanced Generative Retrieval",
    "https://arxiv.org/abs/2412.08604",
    "On a planted log with wishes (3 seeds) HR@10 with the user's wish is at least 1.15 times that"
    " of TIGER at equal steps, a random item's wish does not help, and an item ranks higher when it"
    " is wanted than when it is to be avoided, more often so with the loss of avoided items",
)
WANTED = ("{}", "I want {}", "preferably {}", "show me {}")
AVOIDED = ("avoid {}", "no {}", "without {}", "I do not want {}")


@dataclass(frozen=True, eq=False)
class _Wishes:
    """Hold vectors of the texts that ask for targets in training."""

    logged: TextVectors
    """(events,) what users typed before each event."""
    positive: TextVectors
    """(N, W) phrases that want words of each item's title."""
    negative: TextVectors
    """(N, W) phrases that avoid the same words."""


@dataclass(eq=False)
class Mender(AskedSpeller):
    """Obey a wish in words, such as "fragrance free", beside the history (Paischer et al. 2024).

    The vector of `Query.text` scales and shifts the state that the next item's code is generated
    from. It learns from the wishes that users typed before their events (texts of kind "query"),
    and from phrases made of words of the next item's title. The same words as a thing to avoid must
    make that item unlikely. Without a text it answers by the history alone.

    Differs from the paper (MenderEmb, for a CPU): the wish is a single vector of a frozen encoder
    and changes the last state, instead of being read with the titles by an encoder that learns; no
    language model writes preferences out of reviews; what to avoid is said of words of the target,
    not taken from bad reviews; the loss of an avoided item ends at `enough`.
    """

    from_titles: Annotated[float, Range(0.0, 1.0)] = 0.5
    """Share of wishes made of the target's title where the user typed one; all where not."""
    against: Annotated[float, Range(0.0, 1.0)] = 0.3
    """Weight of the loss of items that a phrase avoids; 0: no such phrases are learned from."""
    enough: float = 8.0
    """Minus log-probability from which an avoided item is unlikely enough."""
    phrases: int = 4
    """Phrases made of each title, each of other words."""
    most_words: int = 2
    """Words of a phrase, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.from_titles <= 1:
            raise DataError(f"from_titles is {self.from_titles}: it must be from 0 to 1")
        if self.against < 0 or not self.enough > 0 or min(self.phrases, self.most_words) < 1:
            raise DataError(
                f"against is {self.against}, enough {self.enough}, phrases {self.phrases},"
                f" most_words {self.most_words}: from 0, above 0, and at least 1 each"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, length=10, epochs=3, phrases=1)

    # learning

    def _prepare_texts(
        self, training: TrainingData, encoder: Encoder, run: Run
    ) -> tuple[int, dict[str, Any]]:
        words = drawn_words(
            self.item_words_, self.telling_words_, self.phrases, self.most_words, run.rng("words")
        )
        rng = run.rng("phrases")
        self._wishes = _Wishes(
            TextVectors.of(encoder, logged_texts(training, self.items_)),
            TextVectors.of(encoder, phrased(words, WANTED, rng)),
            TextVectors.of(encoder, phrased(words, AVOIDED, rng)),
        )
        typed = int((self._wishes.logged.rows > 0).sum())
        titled = int((self._wishes.positive.rows > 0).any(axis=1).sum())
        width = self._wishes.positive.vectors.shape[1] if typed or titled else 0
        return width, {"wishes_typed": typed, "items_with_phrases": titled}

    def _ask(self, queries: Queries, validation: Validation) -> Queries:
        return with_typed_texts(queries, validation.targets, validation.split.data)

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        net: SemanticIdDecoder = self._net
        task = self._make_task(batch, rng)
        states = self._history_states(task)
        targets = as_tensor(task.targets, net)
        wishes = self._target_conditions(task, training, rng)
        loss = net.loss(net.conditioned(states, wishes), targets, self.closed)
        if not self.against:
            return loss
        avoided = self._wishes.negative.take(task.targets, self._numbers(task, rng))
        with_phrase = np.flatnonzero(avoided.any(axis=1))
        if not len(with_phrase):
            return loss
        rows = as_tensor(with_phrase, net)
        turned = net.conditioned(states[rows], avoided[with_phrase])
        surprise = -net.item_log_probs(turned, targets[rows], self.closed)
        return loss - self.against * surprise.clamp_max(self.enough).mean()

    def _target_conditions(
        self, task: Task, training: TrainingData, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Return (M, E) wishes that fit the targets: typed ones, or phrases of their titles."""
        if not self.condition_width_:
            return None
        typed = self._wishes.logged.take(task.events)
        titled = self._wishes.positive.take(task.targets, self._numbers(task, rng))
        has_none = ~typed.any(axis=1, keepdims=True)
        by_title = has_none | (rng.random((len(typed), 1)) < self.from_titles)
        wishes = np.where(by_title & titled.any(axis=1, keepdims=True), titled, typed)
        return self._some_unasked(wishes, rng)

    def _numbers(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        """Return (M,) which phrase of each target's title is drawn."""
        return rng.integers(self.phrases, size=len(task.targets))
