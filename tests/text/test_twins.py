"""Twins and misfits: items that read alike, and events that read unlike their user's others."""

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.text.misfits import misfits
from tailor.text.twins import twins_of


def test_the_same_words_are_twins_in_any_order_and_case():
    texts = ["red copper kettle", "Kettle, copper red", "red copper stove", "", ""]
    assert twins_of(texts, np.array([0])).tolist() == [False, True, False, False, False]
    assert not twins_of(texts, np.array([3])).any()  # without words there is no twin


def test_twins_of_twins_are_found_and_the_rows_themselves_are_not_marked():
    words = [f"w{i}" for i in range(20)]
    texts = [" ".join(words[i : i + 10]) for i in range(4)]
    cosines = twins_of(texts, np.array([0]), least=0.7)
    assert cosines.tolist() == [False, True, True, True]
    assert twins_of(texts, np.array([0]), least=0.95).tolist() == [False] * 4


def log(items_by_user, titles):
    rows = [(f"u{u}", item) for u, items in enumerate(items_by_user) for item in items]
    events = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    items = pl.DataFrame({"item_id": list(titles), "title": list(titles.values())})
    return Dataset({"events": events, "items": items})


def titles_of(kinds=20, each=5):
    return {f"{k}-{i}": f"kind{k} thing{k}x{i}" for k in range(kinds) for i in range(each)}


def test_the_event_of_another_kind_is_the_misfit():
    data = log([["0-0", "0-1", "7-3", "0-2"], ["5-1", "5-2"]], titles_of())
    mask = misfits(data, np.random.default_rng(0))
    assert data.events["item_id"].to_numpy()[mask].tolist() == ["7-3"]


def test_an_only_event_and_an_item_without_words_are_no_misfits():
    titles = titles_of() | {"blank": ""}
    data = log([["0-0"], ["1-0", "1-1", "blank"]], titles)
    assert not misfits(data, np.random.default_rng(0)).any()
    assert not misfits(log([["a", "b"]], {"a": "", "b": ""}), np.random.default_rng(0)).any()
