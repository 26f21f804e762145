"""Placeholder until the page of papers lands."""

from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.session import Session


@page("/papers", title="Papers", icon="menu_book", order=90)
async def papers(session: Session) -> None:
    """Say that nothing is there yet."""
    widgets.empty("The papers are not here yet", "See docs/papers.md.")
