"""Texts asked for as JSON: a schema where the model keeps to one, a lenient reader everywhere."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tailor.llm.parsing import read_json
from tailor.ports.base import Completion, LanguageModel


class TextField(NamedTuple):
    """A text that is asked for as the one property of a JSON object."""

    name: str
    """Name of the property, and title of its schema."""
    ask: str
    """Words that ask for it."""
    tokens: int
    """Most tokens of the answer."""

    @property
    def question(self) -> str:
        """The last words of a prompt."""
        return f'{self.ask} Answer as JSON: {{"{self.name}": "..."}}'

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the answer."""
        return {
            "title": self.name,
            "type": "object",
            "properties": {self.name: {"type": "string"}},
            "required": [self.name],
            "additionalProperties": False,
        }

    def read(self, answer: str) -> str:
        """Return the text of an answer, which is the answer itself where it is no JSON."""
        value = read_json(answer)
        text = value.get(self.name) if isinstance(value, dict) else answer
        return " ".join(str(text or "").split())

    def asked(
        self, llm: LanguageModel, prompts: Sequence[str], temperature: float = 0.0, seed: int = 0
    ) -> list[tuple[str, Completion]]:
        """Return the text of each answer, "" where there is none, and its completion."""
        if not prompts:
            return []
        completions = llm.complete(
            prompts,
            max_tokens=self.tokens,
            temperature=temperature,
            seed=seed,
            schema=self.schema if "schema" in llm.capabilities() else None,
        )
        texts = ["" if answer.error else self.read(answer.text) for answer in completions]
        return list(zip(texts, completions, strict=True))
