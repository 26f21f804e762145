"""A prompt as one turn of a chat."""

from collections.abc import Sequence
from typing import Any

from tailor.errors import ModelError


def sendable(prompt: str) -> str:
    """The prompt without lone surrogates, which no tokenizer and no server takes."""
    return prompt.encode("utf-8", "replace").decode("utf-8")


def unmarked(prompt: str) -> str:
    """The prompt with marks of roles in it taken apart, for models whose chats are put together
    here.
    """
    return sendable(prompt).replace("<|", "< |")


def check_texts(prompts: Sequence[str], answers: Sequence[str] | None = None) -> None:
    """Raise ModelError for one text where a list of them is meant, which would be asked letter by
    letter, and for lists that do not go together.
    """
    for name, given in (("prompts", prompts), ("answers", answers)):
        if isinstance(given, str):
            raise ModelError(f"{name} is one text, {given[:40]!r}: give a list of texts")
    if answers is not None and len(prompts) != len(answers):
        raise ModelError(
            f"there are {len(prompts)} prompts and {len(answers)} answers: one answer for each"
            " prompt"
        )


def check_asked(prompts: Sequence[str], max_tokens: int, temperature: float, n: int) -> None:
    """Raise ModelError for what no model can be asked for."""
    check_texts(prompts)
    if max_tokens < 1 or n < 1 or not temperature >= 0:
        raise ModelError(
            f"max_tokens is {max_tokens}, n {n}, temperature {temperature}: from 1, from 1, from 0"
        )


def messages(system: str, content: Any) -> list[dict[str, Any]]:
    """What is said in the system's name, where it says anything, then by the user."""
    return [{"role": "system", "content": sendable(system)}] * bool(system) + [
        {"role": "user", "content": content}
    ]
