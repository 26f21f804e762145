"""Ports to the outside: language models and text encoders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailor.errors import ModelError


class Port(ABC):
    """A frozen dataclass of settings that methods take, and that reaches something outside.

    The settings are written into pipeline files and saved models, and so hold no secret: keys are
    read from environment variables when a call is made. Weights are loaded when first needed.
    """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Everything that decides the answers, as text.

        Two ports of the same fingerprint may answer for each other.
        """


@dataclass(frozen=True)
class Completion:
    """The answer of a language model to one prompt: `n` texts, or an error."""

    texts: tuple[str, ...]
    tokens_in: int = 0
    """Tokens of the prompt."""
    tokens_out: int = 0
    """Tokens of all texts."""
    finish: tuple[str, ...] = ()
    """By text: "stop", or "length" where it was cut off at max_tokens."""
    error: str = ""
    """Why there is no answer; empty where there is one."""
    is_cached: bool = False
    """Whether it was read from a cache, at no cost."""

    @property
    def text(self) -> str:
        """The first text. Raises ModelError where there is no answer."""
        if self.error or not self.texts:
            raise ModelError(f"the language model gave no answer: {self.error or 'no text'}")
        return self.texts[0]


class LanguageModel(Port):
    """The port to language models; adapters live in `tailor.llm`."""

    @abstractmethod
    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        n: int = 1,
        seed: int = 0,
        schema: Mapping[str, Any] | None = None,
        images: Sequence[bytes] = (),
    ) -> list[Completion]:
        """Return one completion per prompt, in order.

        `n` texts are drawn per prompt; `schema` is a JSON schema that they must meet. A prompt that
        could not be answered has a completion with an `error`. Raises ModelError for what concerns
        all prompts.
        """

    @abstractmethod
    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Return (n,) float64 log-probabilities of each answer after its prompt.

        Raises ModelError where "score" is no capability.
        """

    def choices(self, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        """Return (P, L) float64 log-probabilities of each label as the answer to each prompt.

        A model with the capability "choices" reads each prompt once, another once for every label.
        Raises ModelError where "score" is no capability.
        """
        pairs = [(prompt, label) for prompt in prompts for label in labels]
        scores = self.score([prompt for prompt, _ in pairs], [label for _, label in pairs])
        return scores.reshape(len(prompts), len(labels))

    @abstractmethod
    def capabilities(self) -> frozenset[str]:
        """Return a subset of "score", "choices", "schema", "images", "seed"."""


class Encoder(Port):
    """The port to text encoders; adapters live in `tailor.text`."""

    @property
    @abstractmethod
    def space(self) -> str:
        """Name of the vector space: vectors of two encoders are comparable in equal spaces."""

    @property
    def fingerprint(self) -> str:
        """The space and, where an encoder has several, the number format."""
        return self.space

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, D) float32 vectors of unit length."""

    def exact(self) -> "Encoder":
        """Return an encoder of the same space without approximation.

        A text's vector then does not depend on the texts it is encoded with, to 1e-6.
        """
        return self
