"""Sensitivity: one list of words, in every form, and no ordinary word."""

import pytest

from tailor.profiles.sensitive_words import is_sensitive, sensitivity_of


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("Pregnancy yoga", 3),
        ("religions", 3),
        ("is ALLERGIC to wool", 3),
        ("a church, a mosque", 3),
        ("is a union member", 3),
        ("erotica", 3),
        ("debts", 2),
        ("was divorced", 2),
        ("the prison museum", 2),
        ("tramway timetable", 0),
        ("erosion of nudges and jewels", 0),
        ("a sextant in Essex", 0),
        ("", 0),
    ],
)
def test_words_are_told_by_their_sensitivity(text, level):
    assert sensitivity_of(text) == level
    assert is_sensitive(text) == (level > 0)


def test_further_words_count_in_every_form():
    assert is_sensitive("pokers", frozenset(["poker"])) and not is_sensitive("poker")
