"""Texts with the titles that their authors gave them, from which writers of titles learn."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset


class TitledText(NamedTuple):
    """A text, its title, and what its author wrote before."""

    text: str
    title: str
    earlier: tuple[str, ...] = ()
    """Earlier texts of the author, oldest first."""


def titled_texts(data: Dataset) -> list[TitledText]:
    """Return the texts of users with a `title`, else the items with `title` and `text`."""
    texts = data.tables.get("texts")
    if texts is not None and "title" in texts.columns:
        return _of_users(texts)
    table = data.item_table
    if not {"title", "text"} <= set(table.columns):
        return []
    rows = table.select("text", "title").drop_nulls().iter_rows()
    return [TitledText(text, title) for text, title in rows if text.strip() and title.strip()]


def _of_users(texts: pl.DataFrame) -> list[TitledText]:
    """Return texts in the order of their times."""
    if "time_ms" in texts.columns:
        texts = texts.sort("time_ms", maintain_order=True)
    titled: list[TitledText] = []
    earlier: dict[str, tuple[str, ...]] = {}
    for user, text, title in texts.select("user_id", "text", "title").iter_rows():
        # an import puts the title before the text, as a line
        body = (text or "").removeprefix(f"{title}\n").strip()
        if body and (title or "").strip():
            titled.append(TitledText(body, title, earlier.get(user, ())))
        if body:
            earlier[user] = (*earlier.get(user, ()), body)
    return titled


def drawn(titled: Sequence[TitledText], most: int, rng: np.random.Generator) -> list[TitledText]:
    """Return at most `most` texts, drawn by chance, in their order."""
    if len(titled) <= most:
        return list(titled)
    rows = np.sort(rng.choice(len(titled), most, replace=False))
    return [titled[row] for row in rows.tolist()]
