"""Lists written as texts: categories of an item, items of a turn."""

import ast
import html.entities
import json

import polars as pl

from tailor.data.tables import ITEMS

# such as &amp;
ENTITY = rf"(&(?:#\d+|#[xX][0-9a-fA-F]+|{'|'.join(html.entities.name2codepoint)}));"


def split_lists(
    column: pl.Series, separator: str | None, written: bool = False
) -> tuple[pl.Series, str]:
    """Split texts to lists of strings; return them, and the separator.

    Without `separator` it is the first of | ; > , that any text holds. The ";" that ends an HTML
    entity such as &amp; splits nothing. A column of written lists such as ["a", "b"] is read as
    such; `written` says that this is one, where a bare text is a list of one.
    """
    present = column.drop_nulls()
    brackets = present.str.starts_with("[") & present.str.ends_with("]")
    if written or (separator is None and len(present) and brackets.all()):
        lists = [None if text is None else _listed(text) for text in column]
        return pl.Series(column.name, lists, dtype=ITEMS), "[]"
    if separator is None:
        bare = present.str.replace_all(ENTITY, "")
        held = [
            mark for mark in ("|", ";", " > ", ",") if bare.str.contains(mark, literal=True).any()
        ]
        separator = held[0] if held else "|"
    strip = pl.element().str.strip_chars()
    if separator == ";" and present.str.contains(ENTITY).any():
        column = column.str.replace_all(ENTITY, "${1}\0")
        strip = pl.element().str.replace_all("\0", ";", literal=True).str.strip_chars()
    parts = column.str.split(separator).list.eval(strip)
    return parts.list.eval(pl.element().filter(pl.element() != "")).cast(ITEMS), separator


def _listed(text: str) -> list[str]:
    """Return the list that a text writes; a bare text is a list of one."""
    if not text.startswith("["):
        return [text]
    for read in (json.loads, ast.literal_eval):
        try:
            values = [value for value in read(text) if value is not None]
            return [value if isinstance(value, str) else json.dumps(value) for value in values]
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    parts = [part.strip(" '\"") for part in text[1:-1].split(",")]
    return [part for part in parts if part]
