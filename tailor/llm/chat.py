"""A prompt as one turn of a chat."""

from typing import Any


def sendable(prompt: str) -> str:
    """The prompt without lone surrogates, which no tokenizer and no server takes."""
    return prompt.encode("utf-8", "replace").decode("utf-8")


def unmarked(prompt: str) -> str:
    """The prompt with marks of roles in it taken apart, for models whose chats are put together here."""
    return sendable(prompt).replace("<|", "< |")


def messages(system: str, content: Any) -> list[dict[str, Any]]:
    """What is said in the system's name, where it says anything, then by the user."""
    return [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": content}]
