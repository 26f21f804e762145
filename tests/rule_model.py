"""A language model that scores the lines of a prompt by a rule."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tailor.evaluation.closed_lists import LETTERS
from tailor.llm.scripted import LINE
from tailor.ports.base import Completion, LanguageModel


@dataclass(frozen=True)
class Rule(LanguageModel):
    """Gives each line of a prompt the score of a rule, and keeps the prompts."""

    rule: Callable[[str, str, int], float] = field(hash=False)
    """Score of a prompt, a line of it, and the line's place."""
    prompts: list = field(default_factory=list, hash=False, compare=False)
    fingerprint = "rule"

    def capabilities(self):
        return frozenset({"score"})

    def complete(self, prompts, **settings):
        return [Completion(("kettle",)) for _ in prompts]

    def score(self, prompts, answers):
        raise AssertionError("closed answers are asked together")

    def choices(self, prompts, labels):
        self.prompts.extend(prompts)
        assert list(labels) == list(LETTERS[: len(labels)])
        return np.array([self._scores(prompt) for prompt in prompts])

    def _scores(self, prompt):
        lines = [line.group(2) for line in LINE.finditer(prompt)]
        return [float(self.rule(prompt, line, place)) for place, line in enumerate(lines)]
