"""Calls of OpenAI-compatible servers through the package `openai`: keys, time limits, errors."""

import functools
import os
import re
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any, TypeVar

from tailor.errors import MissingExtraError, ModelError
from tailor.ports.calls import CallFailed

T = TypeVar("T")
RETRYABLE_CODES = (408, 409, 425, 429)  # and all from 500
SHOWN_CHARACTERS = 300  # of a server's message
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_lock = threading.Lock()


def check_address(base_url: str) -> None:
    """Raise ModelError for an invalid address, or one that holds a password.

    Settings are saved and shown, so that no address may hold a secret.
    """
    try:
        parts = urllib.parse.urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # impossible brackets or an impossible port
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
    """Raise ModelError for an invalid name of a variable.

    The name may be the key itself, so that it is not quoted.
    """
    if name and not VARIABLE.fullmatch(name):
        raise ModelError(
            "api_key_env must be the name of an environment variable in capitals, such as"
            " OPENAI_API_KEY: put the key into the variable, not into a setting"
        )


def key_of(variable: str) -> str:
    """Return the key in an environment variable; a placeholder where no variable is named.

    Raises ModelError where it is empty, or no request can carry it.
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
    """Return an `openai.OpenAI`: one per process, server and key, for its connections."""
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
    # repetitions are those of `RetryPolicy`
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)


def called(work: Callable[[], T], variable: str) -> T:
    """Return the answer of a call. Raises CallFailed in words that never hold the key."""
    import openai

    try:
        return work()
    except openai.APITimeoutError:
        raise CallFailed("no answer in time", retryable=True) from None
    except openai.APIConnectionError as error:
        cause = type(error.__cause__ or error).__name__
        raise CallFailed(f"no connection ({cause})", retryable=True) from None
    except openai.APIStatusError as error:
        raise _refusal(error, variable) from None
    except (
        openai.OpenAIError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:  # a body cut short, or of another shape
        kind = type(error).__name__
        raise CallFailed(f"an answer that cannot be read ({kind})", retryable=True) from None


def _refusal(error: Any, variable: str) -> CallFailed:
    """Return the failure that an error of status means."""
    code = error.status_code
    message = _without_key(str(error.message), variable)[:SHOWN_CHARACTERS]
    retry_after = error.response.headers.get("retry-after", "")
    is_number = retry_after.replace(".", "", 1).isdigit()
    return CallFailed(
        f"HTTP {code}: {message}{_remedy(code, variable)}",
        retryable=code in RETRYABLE_CODES or code >= 500,
        after_s=float(retry_after) if is_number else 0.0,
    )


def _remedy(code: int, variable: str) -> str:
    if code == 404:
        return "; look at base_url and model"
    if code not in (401, 403):
        return ""
    if variable:
        return f"; look at the key in {variable}"
    return "; this server wants a key: name its variable in api_key_env"


def _without_key(text: str, variable: str) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    return text.replace(key, "***") if key else text
