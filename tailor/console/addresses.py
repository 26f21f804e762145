"""Addresses of the pages of one person and of one item."""

from urllib.parse import quote

from nicegui import ui


def person_path(user_id: str) -> str:
    """Return the address of a person's page."""
    return f"/people/{quote(user_id, safe='')}"


def item_path(item_id: str) -> str:
    """Return the address of an item's page."""
    return f"/items/{quote(item_id, safe='')}"


def open_person(user_id: str) -> None:
    """Go to the page of a person."""
    ui.navigate.to(person_path(user_id))


def open_item(item_id: str) -> None:
    """Go to the page of an item."""
    ui.navigate.to(item_path(item_id))
