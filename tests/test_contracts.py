"""Every method that can be found keeps the contract."""

import pytest

from tailor.core.specs import discover
from tailor.testing.contracts import contracts

FOUND = [found for found in discover() if found.cls is not None]


@pytest.mark.parametrize(
    ("found", "check"),
    [(found, check) for found in FOUND for check in contracts(found.cls)],
    ids=lambda one: one.__name__ if callable(one) else one.path.rpartition(".")[2],
)
def test_contract(found, check):
    check(found.cls)


def test_everything_built_is_found():
    names = {found.path.rpartition(".")[2] for found in FOUND}
    assert {
        "CoVisitation",
        "EASE",
        "Popularity",
        "TextMatch",
        "TextNeighbours",
        "Cascade",
        "Fallback",
        "Filter",
        "Fuse",
    } <= names
