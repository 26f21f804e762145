"""Talking to OpenAI-compatible servers through the package `openai`: keys, time limits, and its
errors in our words.
"""

import functools
import os
import re
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any, TypeVar

from tailor.errors import MissingExtraError, ModelError
from tailor.ports.calls import Refused

T = TypeVar("T")
AGAIN = (408, 409, 425, 429)  # and all from 500
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_lock = threading.Lock()


def check_address(base_url: str) -> None:
    """Raise ModelError for an address that is none, or that holds a password: settings are saved
    and shown.
    """
    try:
        parts = urllib.parse.urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that none can be
        is_address = False
    if not is_address:
        raise ModelError(
            f'base_url is "{base_url}": it must be an address such as "http://localhost:8000/v1"'
        )
    if parts.username or parts.password or parts.query:
        raise ModelError(
            f"base_url at {parts.hostname} holds a user, a password or a query: put the key into"
            " the variable that api_key_env names"
        )


def check_variable(name: str) -> None:
    """Raise ModelError for what is no name of a variable: it may be the key itself, so that it is
    not repeated.
    """
    if name and not VARIABLE.fullmatch(name):
        raise ModelError(
            "api_key_env must be the name of an environment variable in capitals, such as"
            " OPENAI_API_KEY: put the key into the variable, not into a setting"
        )


def key_of(variable: str) -> str:
    """The key in the environment variable; a placeholder where no variable is named. Raises
    ModelError where it is empty, or no request can carry it.
    """
    if not variable:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ModelError(
            f"the environment variable {variable} is empty: put the key into it, or set api_key_env"
            ' = "" for a server without keys'
        )
    if not (key.isascii() and key.isprintable()):
        raise ModelError(
            f"the environment variable {variable} holds a character that no key has, such as a line"
            " break: copy the key again"
        )
    return key


def client(base_url: str, variable: str) -> Any:
    """An `openai.OpenAI`; one a process, server and key, for its connections."""
    with _lock:
        return _client(base_url, key_of(variable))


@functools.lru_cache(maxsize=16)
def _client(base_url: str, key: str) -> Any:
    try:
        import openai
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "HTTP models need the package openai: pip install 'tailor-engine[llm]'"
        ) from error
    # who repeats is `remote.Calls`
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)


def called(work: Callable[[], T], variable: str) -> T:
    """The answer, or Refused in words that never hold the key."""
    import openai

    try:
        return work()
    except openai.APITimeoutError:
        raise Refused("no answer in time", again=True) from None
    except openai.APIConnectionError as error:
        raise Refused(
            f"no connection ({type(error.__cause__ or error).__name__})", again=True
        ) from None
    except openai.APIStatusError as error:
        code, said = error.status_code, _without_key(str(error.message), variable)
        wanted = error.response.headers.get("retry-after", "")
        after_s = float(wanted) if wanted.replace(".", "", 1).isdigit() else 0.0
        raise Refused(
            f"HTTP {code}: {said[:300]}{_remedy(code, variable)}",
            code in AGAIN or code >= 500,
            after_s,
        ) from None
    except (
        openai.OpenAIError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:  # a body cut short, or of another shape
        raise Refused(
            f"an answer that cannot be read ({type(error).__name__})", again=True
        ) from None


def _remedy(code: int, variable: str) -> str:
    if code in (401, 403):
        return (
            f"; look at the key in {variable}"
            if variable
            else "; this server wants a key: name its variable in api_key_env"
        )
    return "; look at base_url and model" if code == 404 else ""


def _without_key(text: str, variable: str) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    return text.replace(key, "***") if key else text
