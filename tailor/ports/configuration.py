"""tailor.toml and environment variables: what "default" means here. Keys never stand in it."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tailor.errors import ModelError, nearest

T = TypeVar("T")
# the environment variable that names the file; else tailor.toml of the current folder
FILE = "TAILOR_CONFIG"
KNOWN = ("models_folder", "cache_folder", "encoder", "language_model")


def configuration() -> dict[str, Any]:
    """What the file says, empty where there is none. Raises ModelError for a file that cannot be
    read or says something unknown.
    """
    path = Path(os.environ.get(FILE) or "tailor.toml")
    if not path.exists():
        if os.environ.get(FILE):
            raise ModelError(f"{FILE} names {path}, which is not there")
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    for name in found:
        if name not in KNOWN:
            raise ModelError(f'{path} has no setting "{name}".{nearest(name, KNOWN)}')
    return found


def configured(name: str, kind: type[T]) -> T | None:
    """One setting, or None. Raises ModelError where it is of another kind."""
    value = configuration().get(name)
    if value is not None and not isinstance(value, kind):
        raise ModelError(
            f"{name} = {value!r} in {os.environ.get(FILE) or 'tailor.toml'}: it must be"
            f" {_name(kind)}"
        )
    return value


def _name(kind: type) -> str:
    return "a table with a line class" if issubclass(kind, Mapping) else f"a {kind.__name__}"


def cache_folder() -> Path:
    """TAILOR_CACHE, else `cache_folder` of tailor.toml, else the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(
        os.environ.get("TAILOR_CACHE") or configured("cache_folder", str) or Path(home) / "tailor"
    ).expanduser()
