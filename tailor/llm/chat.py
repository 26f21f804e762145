"""Prompts as turns of a chat, and the checks that all adapters share."""

from collections.abc import Sequence
from typing import Any

from tailor.errors import ModelError


def sendable(prompt: str) -> str:
    """Return a prompt without lone surrogates, which no tokenizer and no server takes."""
    return prompt.encode("utf-8", "replace").decode("utf-8")


def unmarked(prompt: str) -> str:
    """Return a prompt whose marks of roles are broken up, for models that read them."""
    return sendable(prompt).replace("<|", "< |")


def check_texts(prompts: Sequence[str], answers: Sequence[str] | None = None) -> None:
    """Raise ModelError for one text in place of a list, and for unequal lengths.

    One text would be read letter by letter.
    """
    for name, texts in (("prompts", prompts), ("answers", answers)):
        if isinstance(texts, str):
            raise ModelError(f"{name} is one text, {texts[:40]!r}: give a list of texts")
    if answers is not None and len(prompts) != len(answers):
        raise ModelError(
            f"there are {len(prompts)} prompts and {len(answers)} answers: one answer for each"
            " prompt"
        )


def check_labels(prompts: Sequence[str], labels: Sequence[str]) -> None:
    """Raise ModelError for one text in place of a list of prompts or of labels."""
    check_texts(prompts)
    if isinstance(labels, str):
        raise ModelError(f"labels is one text, {labels[:40]!r}: give a list of texts")


def check_request(prompts: Sequence[str], max_tokens: int, temperature: float, n: int) -> None:
    """Raise ModelError for arguments of `complete` that no model can serve."""
    check_texts(prompts)
    if max_tokens < 1 or n < 1 or not temperature >= 0:
        raise ModelError(
            f"max_tokens is {max_tokens}, n {n}, temperature {temperature}: from 1, from 1, from 0"
        )


def messages(system: str, content: Any) -> list[dict[str, Any]]:
    """Return the system's turn, where it has words, and the user's."""
    user_turn = {"role": "user", "content": content}
    if not system:
        return [user_turn]
    return [{"role": "system", "content": sendable(system)}, user_turn]
