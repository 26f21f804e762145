"""Questions asked again: a request id has one answer, the list that is logged under it.

Events that name the id are counted for that list.
"""

from contextlib import suppress
from dataclasses import dataclass

from tailor.service.problems import ProblemError
from tailor.service.state import Service
from tailor.store.engine import UNAVAILABLE
from tailor.store.impressions import ServedList, stored_list

NOTE = "this request id was answered before: the list is the same"


@dataclass(frozen=True)
class Question:
    """A question, as the log of lists keeps it."""

    tenant: str
    surface: str
    request_id: str
    user_id: str | None = None
    """None: a caller without an id."""
    text: str | None = None
    """Of items like one: that item's id. None: a question without words."""


def logged_answer(service: Service, question: Question) -> ServedList | None:
    """Return the list that is logged under the question's request id, written or waiting.

    None for a new id, and while the store is away. Raises ProblemError where the id belongs to
    another question.
    """
    logged = service.list_log.find(question.tenant, question.request_id)
    if logged is None:
        with suppress(*UNAVAILABLE):
            logged = stored_list(
                service.engine, question.tenant, question.request_id, question.user_id
            )
    if logged is not None:
        check_same(question, logged)
    return logged


def check_same(question: Question, logged: ServedList) -> None:
    """Raise ProblemError for a list that answered another question."""
    for name, is_same in (
        ("user", logged.user_id == question.user_id),
        ("kind of question", logged.surface == question.surface),
        _words(question, logged),
    ):
        if not is_same:
            raise ProblemError(
                409,
                f"request_id: it was answered before, for another {name}: give every question an"
                " id of its own, or leave it out",
            )


def _words(question: Question, logged: ServedList) -> tuple[str, bool]:
    """Return how errors name a question's words, and whether the list has them."""
    if question.surface != "similar":
        return "text", logged.text == question.text
    # earlier versions did not log which item was asked about
    return "item", logged.text in (None, question.text)
