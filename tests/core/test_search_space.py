"""Ranges refuse what is none, and every declared one holds its own default and is accepted by its
class.
"""

import math
import typing

import pytest

from tailor.bench.space import space_of
from tailor.core.search_space import Choices, Range
from tailor.core.specs import build, discover
from tailor.errors import ModelError

DECLARING = [
    one.path
    for one in discover()
    if one.cls is not None
    if any(
        hasattr(hint, "__metadata__")
        for hint in typing.get_type_hints(one.cls, include_extras=True).values()
    )
]


@pytest.mark.parametrize(
    "ends",
    [
        (1, 1),
        (2, 1),
        (math.nan, 1),
        (0, math.inf),
        (True, 3),
        ("1", 2),
        (0.0, 1.0, True),
        (-1, 1, True),
    ],
    ids=str,
)
def test_what_is_no_range_is_refused(ends):
    with pytest.raises(ValueError, match="low is"):
        Range(*ends)


@pytest.mark.parametrize("values", [(), ("a",)])
def test_one_value_is_no_choice(values):
    with pytest.raises(ValueError, match="at least two"):
        Choices(*values)


@pytest.mark.parametrize("name", DECLARING)
def test_a_declared_range_holds_the_default_and_its_class_takes_both_ends(name):
    parts = {"base": {"class": "EASE"}} if name.endswith("HRLNovelty") else {}
    for one in space_of({"class": name, **parts}):
        if one.path[0] == "base":
            continue
        inside = (
            one.initial in one.domain.values
            if isinstance(one.domain, Choices)
            else one.domain.low <= one.initial <= one.domain.high
        )
        assert inside, (name, one)
        assert isinstance(one.domain, Choices) or one.domain.is_whole == isinstance(
            one.initial, int
        ), (name, one)


def test_what_a_class_refuses_of_its_parent_s_ranges_is_not_searched():
    pytest.importorskip("torch")
    names = {one.path[-1] for one in space_of({"class": "PI2I"})}
    assert "popularity_power" not in names and {"window", "width", "lr"} <= names
    with pytest.raises(ModelError, match="cannot be"):  # asked for by name, it is an error
        space_of({"class": "PI2I", "tune": {"popularity_power": {"low": 0.0, "high": 0.5}}})


def test_the_item_to_item_methods_declare_ranges():
    assert {"retrieval.covisitation.CoVisitation", "retrieval.ease.EASE"} <= set(DECLARING)


def test_annotations_leave_building_as_it_was():
    assert build({"class": "CoVisitation", "window": 3}).window == 3
