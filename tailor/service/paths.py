"""Paths in what callers and logs are told: none of the server's own."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

NAME = r"[^\s/\"'`:;,()?]+"
ROUTE = r"v\d+/|health\b|ready\b|metrics\b|openapi\.json"
# an absolute path, but no route; its last name is a group
ABSOLUTE = re.compile(rf"(?<![\w.:/<])/(?!{ROUTE})(?:{NAME}/)*({NAME})/?")


def shown_folder(folder: str | Path, root: Path | None) -> str:
    """Return how answers and logs name a folder: within the models folder, or by its last part."""
    if root is not None:
        with suppress(OSError, RuntimeError, ValueError):
            return Path(folder).relative_to(root.resolve()).as_posix()
    return Path(folder).name


def without_paths(text: str, folder: str | Path, root: Path | None) -> str:
    """Return a text with `folder` as `shown_folder` names it, and no absolute path."""
    return hide_paths(text.replace(str(folder), shown_folder(folder, root)))


def hide_paths(text: str, roots: Iterable[str] = ()) -> str:
    """Return a text with the last name only of every absolute path of the server.

    Of a path within one of `roots`, which may hold blanks, all that follows the root stays. Routes
    stay, since they say what to ask.
    """
    for root in roots:
        text = text.replace(f"{root}/", "").replace(root, "models")
    return ABSOLUTE.sub(lambda path: path[1], text)
