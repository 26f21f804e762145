"""Settings of this machine: tailor.toml and environment variables. They never hold keys."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tailor.errors import ModelError, nearest

T = TypeVar("T")
# the environment variable that names the file; else tailor.toml of the current folder
FILE = "TAILOR_CONFIG"
KNOWN = ("models_folder", "cache_folder", "encoder", "language_model", "language")


def configuration() -> dict[str, Any]:
    """Return the settings of the file, none where there is no file.

    Raises ModelError for a file that cannot be read or that holds an unknown setting.
    """
    path = Path(os.environ.get(FILE) or "tailor.toml")
    if not path.exists():
        if os.environ.get(FILE):
            raise ModelError(f"{FILE} names {path}, which is not there")
        return {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    for name in settings:
        if name not in KNOWN:
            raise ModelError(f'{path} has no setting "{name}".{nearest(name, KNOWN)}')
    return settings


def configured(name: str, kind: type[T]) -> T | None:
    """Return one setting of the file, or None.

    Raises ModelError where the value is not of this kind.
    """
    value = configuration().get(name)
    if value is not None and not isinstance(value, kind):
        raise ModelError(
            f"{name} = {value!r} in {os.environ.get(FILE) or 'tailor.toml'}: it must be"
            f" {_kind_name(kind)}"
        )
    return value


def _kind_name(kind: type) -> str:
    return "a table with a line class" if issubclass(kind, Mapping) else f"a {kind.__name__}"


def cache_folder() -> Path:
    """Return TAILOR_CACHE, else `cache_folder` of tailor.toml, else the user's cache folder."""
    user_caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(
        os.environ.get("TAILOR_CACHE")
        or configured("cache_folder", str)
        or Path(user_caches) / "tailor"
    ).expanduser()


def catalogue_language() -> str | None:
    """Return the language of the items that the service searches; None for none.

    It is TAILOR_LANGUAGE, else `language` of tailor.toml, else "english". The value "none" leaves
    words as they are, without stems.
    """
    language = os.environ.get("TAILOR_LANGUAGE") or configured("language", str) or "english"
    return None if language == "none" else language
