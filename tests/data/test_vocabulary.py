"""Outside ids and inside rows."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from tailor.data.vocabulary import Vocabulary, tie_hash

ODD = ["", " ", "a", "a ", "A", "é", "e\u0301", "日本", "\ud800", "a\0b", "0", "-1", "None"]


def test_rows_do_not_depend_on_the_order_given():
    ids = [f"item-{at}" for at in range(200)] + ODD
    shuffled = np.random.default_rng(0).permutation(np.array(ids, dtype=object)).tolist()
    one, other = Vocabulary.of_items(ids), Vocabulary.of_items([*shuffled, *ids])
    assert one.ids.tolist() == other.ids.tolist()
    assert one.fingerprint == other.fingerprint
    assert one.mapping_to(other) is None


@pytest.mark.parametrize("form", ["{}", "{:05d}", "B00{:07d}"])
def test_the_row_says_nothing_about_the_number_in_the_id(form):
    """Ids numbered by time or popularity must not leak through ties, which stand in row order."""
    numbers = np.arange(5000)
    catalogue = Vocabulary.of_items(form.format(at) for at in numbers)
    rows = catalogue.rows(form.format(at) for at in numbers)
    assert abs(spearmanr(numbers, rows).statistic) < 0.05
    assert abs(spearmanr(rows[1:], rows[:-1]).statistic) < 0.05


def test_rows_are_in_order_of_the_seeded_hash():
    ids = [f"{at}" for at in range(50)]
    assert Vocabulary.of_items(ids).ids.tolist() == sorted(ids, key=tie_hash)
    assert Vocabulary.of_items(ids, seed=1).ids.tolist() != Vocabulary.of_items(ids).ids.tolist()


@pytest.mark.parametrize("length", [10, 999, 1000, 3000])
def test_a_column_codes_as_its_values_do_one_by_one(length):
    known = [f"item-{at}" for at in range(700)] + [one for one in ODD if one != "\ud800"]
    catalogue = Vocabulary.of_items(known)
    pool = np.array([*known, "not known", "item", None], dtype=object)
    values = np.random.default_rng(0).choice(pool, length).tolist()
    values[:3] = [None, "not known", "item-1"]
    codes = catalogue.codes(pl.Series(values, dtype=pl.String))
    assert codes.dtype == np.int32
    assert codes.tolist() == catalogue.rows(values).tolist()


@pytest.mark.parametrize("length", [0, 5, 1500])
def test_an_empty_vocabulary_knows_nothing(length):
    assert (
        Vocabulary([]).codes(pl.Series(["a"] * length, dtype=pl.String)).tolist() == [-1] * length
    )


def test_rows_and_names_are_inverse_for_odd_ids():
    catalogue = Vocabulary.of_items(ODD)
    assert len(catalogue) == len(ODD)
    assert catalogue.named(catalogue.rows(ODD)) == ODD
    assert catalogue.rows(["nobody", None]).tolist() == [-1, -1]
    assert "é" in catalogue
    assert "nobody" not in catalogue


def test_mapping_to_another_vocabulary():
    one, other = Vocabulary(["a", "b", "c"]), Vocabulary(["c", "x", "a"])
    assert one.mapping_to(other).tolist() == [2, -1, 0]
    assert other.mapping_to(one).tolist() == [2, -1, 0]
    assert one.mapping_to(Vocabulary(["a", "b", "c"])) is None
    assert one.mapping_to(Vocabulary(["b", "a", "c"])).tolist() == [1, 0, 2]
    assert Vocabulary([]).mapping_to(one).tolist() == []


def test_ids_that_only_join_to_the_same_text_are_not_the_same_vocabulary():
    one, other = Vocabulary(["a\0b", "c"]), Vocabulary(["a", "b\0c"])
    assert one.mapping_to(other).tolist() == [-1, -1]


def test_the_catalogue_of_two_is_that_of_all_their_items_and_made_once():
    one, other = Vocabulary.of_items(["a", "b", "c"]), Vocabulary.of_items(["c", "d"])
    both = one.joined(other)
    assert both.ids.tolist() == Vocabulary.of_items(["a", "b", "c", "d"]).ids.tolist()
    assert one.joined(other) is both and other.joined(one).ids.tolist() == both.ids.tolist()
    assert both.joined(other) is both and other.joined(both).ids.tolist() == both.ids.tolist()
    assert one.joined(Vocabulary.of_items(["c", "b", "a"])) is one
    out_of_order = Vocabulary(both.ids[::-1])  # ties go by the hash, whoever comes first
    assert out_of_order.joined(other).ids.tolist() == both.ids.tolist()


def test_a_catalogue_with_further_items_says_how_arrays_follow():
    before = Vocabulary.of_items(["tent", "rope", "lamp"])
    after, order = before.with_items(["stove", "axe"])
    assert (
        after.ids.tolist()
        == Vocabulary.of_items(["tent", "rope", "lamp", "stove", "axe"]).ids.tolist()
    )
    names = np.array([*before.ids.tolist(), "stove", "axe"], dtype=object)
    assert names[order].tolist() == after.ids.tolist()
