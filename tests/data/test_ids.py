"""Which texts can be ids, and which stand for none."""

import polars as pl
import pytest

from tailor.data.ids import check_ids, holds_control, id_problem, tidy_ids
from tailor.errors import DataError


@pytest.mark.parametrize(
    "text",
    ["pot", "Null", "null", "nan", "NaN", "None", "1.0", "007", "a b", "😀", "a\u200db", "é"],
)
def test_what_can_be_an_id(text):
    assert id_problem(text) is None
    assert tidy_ids(pl.Series([text])).to_list() == [text]


@pytest.mark.parametrize("text", ["", " ", "\u00a0", r"\N", r" \N "])
def test_what_stands_for_no_id(text):
    assert id_problem(text) == "is empty"
    assert tidy_ids(pl.Series([text])).to_list() == [None]


@pytest.mark.parametrize(
    "text", ["pot\n", "\npot", "a\tb", "a\rb", "a\0b", "\x7f", "a\x85b", "a\u2028b", "\x1b[31m"]
)
def test_control_characters_are_no_part_of_an_id(text):
    assert "control character" in (id_problem(text) or "")
    assert holds_control(pl.Series([text, None, "ok"])).to_list() == [True, False, False]
    # blanks around an id go, a line end is never made to vanish
    assert tidy_ids(pl.Series([text])).to_list() == [text]


def test_half_a_letter_is_no_id():
    assert "surrogate" in (id_problem("a\ud800") or "")


def test_blanks_around_ids_go():
    assert tidy_ids(pl.Series([" a ", "a\u3000", None])).to_list() == ["a", "a", None]


def test_a_table_with_such_ids_is_refused_with_its_row():
    check_ids(pl.Series(["a", "b"]), "events.item_id")
    with pytest.raises(DataError, match=r"events.item_id holds a control .*\\n.* 1 rows.*row 1"):
        check_ids(pl.Series(["a", "pot\n"]), "events.item_id")
    with pytest.raises(DataError, match=r"users\.user_id is empty in 2 rows, the first is row 0"):
        check_ids(pl.Series([None, "pot", None]), "users.user_id")
