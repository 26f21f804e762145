"""The error tree. Every message quotes the bad value and says what to do about it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_NAMED = 40  # names listed in an error; a catalogue has too many


class TailorError(Exception):
    """Something the caller can mend; the message says how."""


class DataError(TailorError):
    """The data given cannot be used as it stands."""


class NotFittedError(TailorError):
    """A method was asked before it was fitted."""


class ModelError(TailorError):
    """A method, a pipeline file or a saved model is not usable as given."""


class StoreError(TailorError):
    """The store's database cannot be used as it is, or not now."""


class ServiceError(TailorError):
    """What a server answered that is not what was asked for."""

    def __init__(
        self, message: str, status: int = 0, errors: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        # 0: no answer at all; fields and what is wrong with them
        self.status, self.errors = status, tuple(errors)


class MissingExtraError(TailorError):
    """A feature needs an optional part that is not installed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean "x"?` for the closest of `known`, or a list of them when nothing is close and
    they are few.
    """
    known = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if close:
        return f' Did you mean "{close[0]}"?'
    return f" Known: {', '.join(sorted(known))}." if 0 < len(known) <= MOST_NAMED else ""
