"""A prompt as one turn of a chat."""

from typing import Any

from tailor.errors import ModelError


def sendable(prompt: str) -> str:
    """The prompt without lone surrogates, which no tokenizer and no server takes."""
    return prompt.encode("utf-8", "replace").decode("utf-8")


def unmarked(prompt: str) -> str:
    """The prompt with marks of roles in it taken apart, for models whose chats are put together here."""
    return sendable(prompt).replace("<|", "< |")


def check_asked(max_tokens: int, temperature: float, n: int) -> None:
    """Raise ModelError for what no model can be asked for."""
    if max_tokens < 1 or n < 1 or not temperature >= 0:
        raise ModelError(f"max_tokens is {max_tokens}, n {n}, temperature {temperature}: from 1, from 1, from 0")


def messages(system: str, content: Any) -> list[dict[str, Any]]:
    """What is said in the system's name, where it says anything, then by the user."""
    return [{"role": "system", "content": sendable(system)}] * bool(system) + [{"role": "user", "content": content}]
