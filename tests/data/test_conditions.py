"""The language of rules and labels: what it means, what it refuses, and that nothing else gets
through.
"""

import contextlib
import math
import time

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.data.conditions import Condition
from tailor.errors import DataError

ITEMS = pl.DataFrame(
    {
        "id": list("abcdef"),
        "title": ["Camping KIT", "kit", "it's", 'say "hi"', None, "ÄRMEL"],
        "categories": [["adult", "toys"], ["toys"], [], None, [None, "adult"], ["home"]],
        "sizes": [[1, 2], [3], [], None, [None], [2]],
        "price": [10.0, 200.0, float("nan"), None, -5.5, 250.0],
        "stock": [1, 0, 3, None, 5, 2],
        "country": ["DE", "FR", "DE", "DE", "DE", None],
        "adult": [True, False, None, False, False, True],
        "kind": pl.Series(["x", "y", None, "x", "y", "x"], dtype=pl.Categorical),
        "cost": [5.0, 300.0, 1.0, 1.0, None, 250.0],
        "nothing": pl.Series([None] * 6, dtype=pl.Null),
        "my col": [1, 2, 3, 4, 5, 6],
        "or": [1, 2, 3, 4, 5, 6],
        "when": pl.Series([0] * 6).cast(pl.Datetime),
    }
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("price <= 200", "abe"),
        ("price < 200", "ae"),
        ("price >= 200", "bf"),
        ("price > -5.5", "abf"),
        ("price > 1e2", "bf"),
        ("price = 10", "a"),
        ("price == +10.0", "a"),
        ("price != 10", "bef"),
        ("price <> 10", "bef"),
        ("not price <= 200", "f"),
        ("not (price <= 200)", "f"),
        ("price is missing", "cd"),
        ("price IS NOT NULL", "abef"),
        ("price in (10, 250, -5.5)", "aef"),
        ("price not in (10)", "bef"),
        ("stock in (1, 2.0)", "af"),
        ("stock = 1.5", ""),
        ("stock < 99999999999999999999", "abcef"),
        ("country = 'DE'", "acde"),
        ("country != 'DE'", "b"),
        ("COUNTRY = 'x'", None),
        ("country IN ('FR', \"DE\")", "abcde"),
        ("kind = 'x'", "adf"),
        ("kind in ('y')", "be"),
        ("kind contains 'X'", "adf"),
        ("title contains 'kit'", "ab"),
        ("title contains 'ärm'", "f"),
        ("title = 'it''s'", "c"),
        ('title = "it\'s"', "c"),
        ('title = "say ""hi"""', "d"),
        ("title contains '.*'", ""),
        ("not title contains 'kit'", "cdf"),
        ("adult", "af"),
        ("not adult", "bde"),
        ("adult = false", "bde"),
        ("adult is missing", "c"),
        ("categories has 'adult'", "ae"),
        ("not categories has 'adult'", "bcf"),
        ("not (categories has 'adult') or country == 'DE'", "abcdef"),
        ("categories has ('toys', 'home')", "abf"),
        ("sizes has 2", "af"),
        ("sizes has (3, 1.0)", "ab"),
        ("cost <= price", "af"),
        ("cost = price", "f"),
        ("country != kind", "abde"),
        ("nothing = 3", ""),
        ("not nothing = 3", ""),
        ("nothing is missing", "abcdef"),
        ("`my col` = 3", "c"),
        ("`or` = 3 or `or` = 4", "cd"),
        ("country = 'DE' and price > 0 or country = 'FR'", "ab"),
        ("country = 'DE' and (price > 0 or country = 'FR')", "a"),
        ("not country = 'DE' and price > 0", "b"),
        ("price < 0 or adult", "aef"),
        ("price < 0 and adult is missing", ""),
        ("when is missing", ""),
        ("  price\n<=\t200  ", "abe"),
    ],
)
def test_what_holds(text, holds):
    if holds is None:
        with pytest.raises(DataError):
            Condition(text).holds(ITEMS)
        return
    mask = Condition(text).holds(ITEMS)
    assert mask.dtype == bool and "".join(ITEMS.filter(pl.Series(mask))["id"]) == holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "prise <= 200",
            'at "prise" (character 1): there is no column "prise". Did you mean "price"?',
        ),
        ("adult and prise > 1", 'at "prise" (character 11)'),
        ("price <= two", 'no column "two"'),
        ("price <= '200'", "price is a number, '200' is a text"),
        ("title = 3", "title is a text, 3 is a number"),
        ("adult = 1", "adult is true or false, 1 is a number"),
        ("price = true", "True is true or false"),
        ("price in (1, 'a')", "'a' is a text"),
        ("title", "title is a text: compare it"),
        ("categories = 'adult'", "write has"),
        ("categories", "write has"),
        ("title has 'kit'", "for columns of lists"),
        ("categories has 3", "3 is a number"),
        ("price contains '1'", '"contains" is for texts'),
        ("title contains 3", 'at "3" (character 16): a text in quotation marks'),
        ("price = title", "title is a text"),
        ("when = 3", "Datetime"),
        ("when < when", "Datetime"),
        ("price", "compare it"),
        ("price <=", "at its end: a value is expected"),
        ("", "at its end: a column is expected"),
        ("price <= 1 price", 'at "price" (character 12)'),
        ("(price <= 1", "at its end: ) is expected"),
        ("price <= 1)", 'at ")" (character 11)'),
        ("price in ()", 'at ")"'),
        ("price in 3", "( is expected"),
        ("title = 'kit", "a quotation mark is not closed"),
        ("price is 3", "missing is expected"),
        ("price not 3", "in is expected"),
        ("not", "a column is expected"),
        ("or = 3", 'at "or" (character 1)'),
        ("price => 3", 'at ">"'),
        ("price = 3; drop table items", 'at ";"'),
        ("price = (select 3)", 'at "("'),
        ("exists(price)", "there is no column"),
        ("read_csv('x') = 1", 'at "("'),
        ("price + 1 > 3", 'at "+"'),
        ("price = 3x", 'at "3"'),
        ("price = 'a' -- comment", 'at "-"'),
        ("(" * 10_000 + "adult", "more than 50"),
        ("not " * 10_000 + "adult", "more than 50"),
    ],
)
def test_what_is_refused_and_where(text, says):
    with pytest.raises(DataError) as error:
        Condition(text, "rule").holds(ITEMS)
    assert says in str(error.value) or says == "there is no column"
    assert str(error.value).startswith("the rule ") and len(str(error.value)) < 600


def test_long_conditions_are_no_deeper_than_short_ones():
    assert Condition(" or ".join(["stock = 5"] * 5000)).holds(ITEMS).tolist() == [False] * 4 + [
        True,
        False,
    ]
    assert Condition(f"stock in ({', '.join(map(str, range(3, 2000)))})").holds(ITEMS).sum() == 2


@pytest.mark.parametrize(
    "part", ["1", "'", "''", '"', "a", ".", "-", " ", "(", "1.", "1e", "not ", "`", "\n"]
)
def test_a_hostile_text_costs_no_more_than_its_length(part):
    def seconds(n: int) -> float:
        started = time.process_time()
        for text in (part * n + "x", "price = " + part * n, "title = '" + part * n):
            with contextlib.suppress(DataError):
                Condition(text)
        return time.process_time() - started

    seconds(1_000)
    # twenty times the length: were it quadratic, the time would be four hundred times as long
    assert seconds(100_000) < 100 * max(seconds(5_000), 0.001)


def test_no_rows_and_the_facts_asked_about():
    assert Condition("price <= 200").holds(ITEMS.clear()).tolist() == []
    assert [one.column.text for one in Condition("a = 1 or not (b has 'x' and c)").tests] == [
        "a",
        "b",
        "c",
    ]


# --- against a plain reading of the same rules, row by row
# --------------------------------------------------------------------

COLUMNS = {
    "price": st.sampled_from([None, math.nan, 0.0, 1.0, 2.5, -1.0]),
    "stock": st.sampled_from([None, 0, 1, 2]),
    "title": st.sampled_from([None, "", "kit", "Kit b", "it's"]),
    "adult": st.sampled_from([None, True, False]),
    "tags": st.one_of(st.none(), st.lists(st.sampled_from([None, "kit", "b"]), max_size=3)),
}
TYPES = {
    "price": pl.Float64,
    "stock": pl.Int64,
    "title": pl.String,
    "adult": pl.Boolean,
    "tags": pl.List(pl.String),
}
SIGNS = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def value_of(row, column):
    found = row[column]
    return None if isinstance(found, float) and math.isnan(found) else found


def known(column, test):
    """Undecided where the value is missing."""
    return lambda row: None if (found := value_of(row, column)) is None else test(found)


def quote(text):
    return "'" + text.replace("'", "''") + "'"


@st.composite
def facts(draw):
    """A fact as written, and as a function of a row to true, false or None."""
    kind = draw(
        st.sampled_from(["number", "text", "bool", "in", "has", "contains", "missing", "two"])
    )
    number, sign = st.sampled_from([0, 1, 2.5, -1]), draw(st.sampled_from(sorted(SIGNS)))
    text = draw(st.sampled_from(["", "kit", "it's", "b", "KIT"]))
    column = draw(st.sampled_from(["price", "stock"]))
    if kind == "number":
        bound = draw(number)
        return f"{column} {sign} {bound}", known(column, lambda found: SIGNS[sign](found, bound))
    if kind == "text":
        return f"title {sign} {quote(text)}", known("title", lambda found: SIGNS[sign](found, text))
    if kind == "bool":
        return "adult", known("adult", lambda found: found)
    if kind == "in":
        bounds = draw(st.lists(number, min_size=1, max_size=3))
        return f"{column} in ({', '.join(map(str, bounds))})", known(
            column, lambda found: found in bounds
        )
    if kind == "has":
        return f"tags has {quote(text)}", known("tags", lambda found: text in found)
    if kind == "contains":
        return f"title contains {quote(text)}", known(
            "title", lambda found: text.lower() in found.lower()
        )
    if kind == "missing":
        column = draw(st.sampled_from(sorted(COLUMNS)))
        return f"{column} is missing", lambda row: value_of(row, column) is None
    return (
        f"price {sign} stock",
        lambda row: (
            None
            if None in (value_of(row, "price"), row["stock"])
            else SIGNS[sign](row["price"], row["stock"])
        ),
    )


def negated(one):
    return f"not ({one[0]})", lambda row: None if (found := one[1](row)) is None else not found


def both(parts):
    def holds(row):
        found = [one[1](row) for one in parts]
        return False if False in found else None if None in found else True

    return " and ".join(f"({one[0]})" for one in parts), holds


def either(parts):
    def holds(row):
        found = [one[1](row) for one in parts]
        return True if True in found else None if None in found else False

    return " OR ".join(f"({one[0]})" for one in parts), holds


RULES = st.recursive(
    facts(),
    lambda inner: st.one_of(
        inner.map(negated),
        st.lists(inner, min_size=2, max_size=3).map(both),
        st.lists(inner, min_size=2, max_size=3).map(either),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(RULES, st.lists(st.fixed_dictionaries(COLUMNS), max_size=6))
def test_rules_mean_what_a_reading_row_by_row_finds(rule, rows):
    frame = pl.DataFrame(rows, schema=TYPES)
    assert Condition(rule[0]).holds(frame).tolist() == [rule[1](row) is True for row in rows], rule[
        0
    ]


BITS = [
    "price",
    "stock",
    "title",
    "adult",
    "tags",
    "nope",
    "and",
    "or",
    "not",
    "in",
    "has",
    "contains",
    "is",
    "missing",
    "(",
    ")",
    ",",
    "=",
    "<=",
    "<>",
    "3",
    "-1.5",
    "'kit'",
    '"',
    "'",
    "`",
    "true",
    "null",
    "SELECT",
    "*",
    ";",
    "\x00",
    "日本",
]


@settings(deadline=None, max_examples=400)
@given(
    st.one_of(
        st.lists(st.sampled_from(BITS), max_size=12).map(" ".join),
        st.text(max_size=30),
        st.lists(st.sampled_from(BITS), max_size=8).map("".join),
    )
)
def test_whatever_is_written_gives_a_mask_or_an_error_of_ours(text):
    frame = pl.DataFrame({name: [None] for name in TYPES}, schema=TYPES)
    with contextlib.suppress(DataError):
        assert len(Condition(text).holds(frame)) == 1


@pytest.mark.parametrize("name", ["*", "^a.*$", "^$", "^a (b) [c] -~# é$"])
def test_a_name_that_polars_would_take_for_a_pattern_is_one_column(name):
    frame = pl.DataFrame({name: [1, 2], "ab": [2, 1], "a": [2, 1]})
    assert Condition(f"`{name}` = 1").holds(frame).tolist() == [True, False]
