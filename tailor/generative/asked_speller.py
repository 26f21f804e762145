"""A speller that reads what is asked for in words, beside the history.

Shapes: B queries, M targets of a batch, E width of a condition.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from tailor.core.defaults import encoder as encoder_of
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.generative.speller import Speller
from tailor.generative.wishes import TextVectors
from tailor.ports.base import Encoder
from tailor.text.cached import asking
from tailor.training.sequences import TrainingData
from tailor.training.validation import Validation


@dataclass(eq=False)
class AskedSpeller(Speller):
    """Change the state after the history by the vector of `Query.text`, then generate the code.

    Subclasses say which texts fit the targets that they learn from. Without a text the history
    alone decides.
    """

    unasked: Annotated[float, Range(0.0, 0.9)] = 0.3
    """Share of the training targets that nobody asks for, so that it answers without a text too."""

    condition_width_: int = field(init=False, repr=False)
    """Width of the vector of a text; 0 where there was nothing to learn texts from."""
    condition_space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space that texts are read in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.unasked < 1:
            raise DataError(f"unasked is {self.unasked}: it must be from 0 to below 1")

    @abstractmethod
    def _prepare_texts(
        self, training: TrainingData, encoder: Encoder, run: Run
    ) -> tuple[int, dict[str, Any]]:
        """Encode texts that ask for targets; return their width and report entries.

        The width is 0 where there are no texts."""

    @abstractmethod
    def _ask(self, queries: Queries, validation: Validation) -> Queries:
        """Return the queries of a validation with texts that ask for their targets."""

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        report = super()._prepare_items(training, run)
        encoder = encoder_of(self.encoder)
        self.condition_space_ = encoder.space
        self.condition_width_, texts_report = self._prepare_texts(training, encoder, run)
        return report | texts_report

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        """Train the net; its validation asks in words, as users will."""
        if validation is not None and self.condition_width_:
            validation = replace(validation, queries=self._ask(validation.queries, validation))
        return super()._train(training, validation, run)

    def _condition_width(self) -> int:
        return self.condition_width_

    def _parts(self, text: str) -> tuple[str, ...]:
        """Return the parts of a text that are encoded apart, always as many."""
        return (text,)

    def _some_unasked(self, conditions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return conditions (M, E), a share of them zero: those targets nobody asks for."""
        is_asked = rng.random((len(conditions), 1)) >= self.unasked
        return conditions * is_asked

    def _conditions(self, queries: Queries) -> np.ndarray | None:
        texts = [queries.text(i) for i in range(len(queries))]
        if not self.condition_width_ or not any(text.strip() for text in texts):
            return None
        encoder = asking(encoder_of(self.encoder), self.condition_space_)
        parts = np.array([self._parts(text) for text in texts], dtype=object)
        return TextVectors.of(encoder, parts).take().reshape(len(texts), -1)
