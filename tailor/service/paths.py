"""Paths in what callers and logs are told: none of the server's own."""

import os
import re
from contextlib import suppress
from pathlib import Path

ABSOLUTE = re.compile(r"(?<![\w./:])/([\w.@+~-]+)/[^\s'\"(),;:]*")  # group 1: the top folder


def shown_folder(folder: str | Path, root: Path | None) -> str:
    """Return how answers and logs name a folder: within the models folder, or by its last part."""
    if root is not None:
        with suppress(OSError, RuntimeError, ValueError):
            return Path(folder).relative_to(root.resolve()).as_posix()
    return Path(folder).name


def without_paths(text: str, folder: str | Path, root: Path | None) -> str:
    """Return a text with `folder` as `shown_folder` names it, and no absolute path."""
    return hide_paths(text.replace(str(folder), shown_folder(folder, root)))


def hide_paths(text: str) -> str:
    """Return a text in which absolute paths of this machine are cut to their last part."""
    return ABSOLUTE.sub(_last_part, text)


def _last_part(match: re.Match[str]) -> str:
    """Return the last part of a path of this machine; another text, such as a route, as it is."""
    if not os.path.isdir(f"/{match[1]}"):
        return match[0]
    return match[0].rstrip("/").rpartition("/")[2]
