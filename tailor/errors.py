"""The error tree. Every message quotes the bad value and says how to mend it.

TailorError
  DataError          data or an argument that cannot be used
  NotFittedError     a method used before it was fitted
  ModelError         a method, a pipeline file or a saved model that cannot be used
  StoreError         the service's database
  ServiceError       an error that a server answered
  MissingExtraError  an optional package that is not installed
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_NAMES_LISTED = 40  # names listed in an error; a catalogue has too many


class TailorError(Exception):
    """An error that the caller can mend; the message says how."""


class DataError(TailorError):
    """Data or an argument that cannot be used as it is."""


class NotFittedError(TailorError):
    """A method was used before it was fitted."""


class ModelError(TailorError):
    """A method, a pipeline file or a saved model that cannot be used."""


class StoreError(TailorError):
    """The store's database cannot be used as it is, or not now."""


class ServiceError(TailorError):
    """A server answered with an error, or not at all.

    `status` is the HTTP status, 0 if there was no answer. `errors` name the fields of the request
    that were refused, and why.
    """

    def __init__(
        self, message: str, status: int = 0, errors: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.errors = tuple(errors)


class MissingExtraError(TailorError):
    """A feature needs an optional package that is not installed."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` for the choice closest to `word`.

    If none is close, returns the list of names, or "" if they are too many to list.
    """
    names = [str(name) for name in choices]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f' Did you mean "{close[0]}"?'
    return f" Known: {', '.join(sorted(names))}." if 0 < len(names) <= MAX_NAMES_LISTED else ""
