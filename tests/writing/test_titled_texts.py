"""Texts with titles: without the title that an import puts before them, with what came earlier."""

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.writing.titled_texts import drawn, titled_texts

EVENTS = pl.DataFrame({"user_id": ["u"], "item_id": ["i"]})


def test_titles_are_no_part_of_the_texts():
    texts = pl.DataFrame(
        {
            "user_id": ["u", "v", "u", "u"],
            "text": ["Great tent\nIt is roomy.", "Mine\n", "Small. Very small.", "Untitled."],
            "title": ["Great tent", "Mine", "Small", None],
            "time_ms": [2, 1, 3, 1],
        }
    )
    titled = titled_texts(Dataset({"events": EVENTS, "texts": texts}))
    assert titled == [
        ("It is roomy.", "Great tent", ("Untitled.",)),
        ("Small. Very small.", "Small", ("Untitled.", "It is roomy.")),
    ]


def test_items_with_titles_serve_where_no_text_has_any():
    items = pl.DataFrame({"item_id": ["i", "j"], "title": ["Tent", None], "text": ["Roomy.", "x"]})
    texts = pl.DataFrame({"user_id": ["u"], "text": ["Untitled."]})
    data = Dataset({"events": EVENTS, "items": items, "texts": texts})
    assert titled_texts(data) == [("Roomy.", "Tent", ())]
    assert titled_texts(Dataset({"events": EVENTS, "items": items.drop("text")})) == []


def test_texts_are_drawn_in_their_order():
    titled = [(str(number), "title", ()) for number in range(20)]
    some_texts = drawn(titled, 7, np.random.default_rng(0))
    assert len(some_texts) == 7 and some_texts == sorted(some_texts, key=titled.index)
    assert drawn(titled, 30, np.random.default_rng(0)) == titled
