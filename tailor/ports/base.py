"""Ports: how the outside is reached. Language models and text encoders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailor.errors import ModelError


class Port(ABC):
    """A part that methods are given: a frozen dataclass of settings, which stand in pipeline files
    and saved models and so hold no secret.

    Keys are read from environment variables when a call is made; weights are loaded when first
    needed.
    """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What decides the answers: two parts of the same fingerprint may answer for each other."""


@dataclass(frozen=True)
class Completion:
    """What a language model answered to one prompt: `n` texts, and what they cost; or, where
    `error` says so, nothing.
    """

    texts: tuple[str, ...]
    tokens_in: int = 0
    tokens_out: int = 0
    finish: tuple[str, ...] = ()
    """By text: "stop", or "length" where it was cut off at max_tokens."""
    error: str = ""
    """Why there is no answer."""
    is_cached: bool = False

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
        """One completion a prompt, in order; `schema` is a JSON schema that the texts must meet.

        A prompt that could not be answered has a completion with an `error`; what concerns all of
        them raises ModelError.
        """

    @abstractmethod
    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """(n,) float64 log-probability of each answer after its prompt. Raises ModelError where
        "score" is no capability.
        """

    @abstractmethod
    def capabilities(self) -> frozenset[str]:
        """Of "score", "schema", "images", "seed"."""


class Encoder(Port):
    """The port to text encoders; adapters live in `tailor.text`."""

    @property
    @abstractmethod
    def space(self) -> str:
        """Which vectors these are: vectors of two encoders may be compared where their spaces are
        equal.
        """

    @property
    def fingerprint(self) -> str:  # the space and, where an encoder has several, the number format
        return self.space

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32 of unit length."""

    def exact(self) -> "Encoder":
        """The same space without approximation: a text's vector does not depend on what it is
        encoded with, to 1e-6.
        """
        return self
