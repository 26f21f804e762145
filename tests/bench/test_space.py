"""What is searched: by the table [tune], or by what the classes declare."""

import tomllib

import pytest

from tailor.bench.space import apply_settings, short_names, space_of, untouched
from tailor.core.search_space import Choices, Range
from tailor.core.specs import build, read_pipeline
from tailor.errors import ModelError
from tailor.pipeline.default import FILES

FUSE = """
class = "Fuse"
[[parts]]
class = "CoVisitation"
window = 3
[[parts]]
class = "TwoStep"
[[parts]]
class = "TwoStep"
first = "texts"
"""


def space(table: str):
    return space_of(tomllib.loads(FUSE + table))


def test_a_table_names_settings_by_part_number_or_class():
    found = space(
        """
[tune]
depth = { low = 50, high = 400, log = true }
kind = ["score", "rank"]
[tune.parts]
CoVisitation.window = { low = 1, high = 9 }
2.history_decay = { low = 0, high = 1 }
""".replace("low = 0,", "low = 0.1,")
    )
    assert [(one.name, one.domain, one.initial) for one in found] == [
        ("depth", Range(50, 400, True), 200),
        ("kind", Choices("score", "rank"), "score"),
        ("parts.0.window", Range(1, 9), 3),
        ("parts.2.history_decay", Range(0.1, 1.0), 0.5),
    ]


def test_whole_ends_of_a_setting_that_takes_fractions_are_fractions():
    (one,) = space("[tune.parts.0]\nreverse = { low = 0, high = 1 }\n")
    assert not one.domain.is_whole and isinstance(one.domain.low, float)


def test_true_asks_for_what_the_class_declares():
    whole = {one.name: one for one in space("[tune]\nparts = { CoVisitation = true }\n")}
    single = space("[tune.parts.CoVisitation]\nwindow = true\n")
    assert len(whole) == 5 and single == [whole["parts.0.window"]]


def test_without_a_table_all_that_is_declared_is_searched():
    names = [one.name for one in space("")]
    assert "parts.0.window" in names and "parts.2.twins" in names and "depth" not in names
    assert space_of({"class": "CoVisitation"})[0].name == "history_decay"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("[tune.parts.0]\nwindw = [1, 2]", 'Did you mean "window"'),
        ("[tune.parts.TwoStep]\ntwins = true", "2 parts are of this class"),
        ("[tune.parts.EASE]\nl2 = true", "no part is of this class"),
        ("[tune.parts.3]\nl2 = true", "3 parts, numbered from 0"),
        ("[tune.parts.0]\nwindow = { low = 1 }", "low = 1, high"),
        ("[tune.parts.0]\nwindow = { low = 9, high = 1 }", "low must be below high"),
        ("[tune.parts.0]\nwindow = { low = 1, high = 9, step = 2 }", "step"),
        ("[tune.parts.0]\nwindow = { low = 1, high = 900 }", "900 cannot be"),
        ("[tune.parts.0]\nwindow = { low = 1.0, high = 9.5 }", "cannot be"),
        ("[tune.parts.0]\nwindow = [3]", "at least two"),
        ("[tune.parts.0]\nwindow = 3", "window = 3"),
        ("[tune.parts.0]\ntop_n = true", "declares no range"),
        ("[tune.parts]\n0 = 3", "true for all"),
        ("[tune.parts.2]\nfirst = ['texts', 'text']", "'text' cannot be"),
        ("[tune]\n", "no setting is searched"),
    ],
)
def test_a_space_that_does_not_fit_is_named(table, says):
    with pytest.raises(ModelError, match=r"(?s).*") as found:
        space(table)
    assert says in str(found.value)


def test_a_class_that_declares_nothing_says_how_to_go_on():
    with pytest.raises(ModelError, match=r"\[tune\]"):
        space_of({"class": "Popularity"})


def test_a_table_within_a_part_is_refused_and_at_the_top_it_leaves_the_pipeline_alone():
    about = tomllib.loads(FUSE + "[tune.parts.0]\nwindow = true\n")
    assert build(about).parts[0].window == 3
    with pytest.raises(ModelError, match="tune"):
        build(
            tomllib.loads(
                'class = "Fuse"\n[[parts]]\nclass = "CoVisitation"\ntune = { window = true }\n'
            )
        )


def test_values_are_put_in_their_places_and_the_rest_stays():
    about = tomllib.loads(FUSE)
    found = space_of(about)
    made = apply_settings(about, {"parts.0.window": 7, "parts.2.twins": 5}, found)
    assert made["parts"][0]["window"] == 7 and made["parts"][2] == {
        "class": "TwoStep",
        "first": "texts",
        "twins": 5,
    }
    assert about["parts"][0]["window"] == 3 and made["parts"][1] == about["parts"][1]


def test_names_for_people():
    about = tomllib.loads(FUSE)
    names = short_names(about, space_of(about))
    assert (
        names["parts.0.window"] == "CoVisitation.window"
        and names["parts.2.twins"] == "TwoStep 2.twins"
    )
    assert short_names({"class": "EASE"}, space_of({"class": "EASE"})) == {
        "history_decay": "history_decay",
        "l2": "l2",
    }


def test_parts_without_a_searched_setting_are_found_at_their_largest():
    about = read_pipeline(FILES["counting"])
    about["tune"] = {"inner": {"parts": {"Fuse": {"parts": {"0": {"window": True}}}}}}
    fuse = ("inner", "parts", 0)
    others = len(about["inner"]["parts"][0]["parts"])
    assert untouched(about, space_of(about)) == [
        *((*fuse, "parts", number) for number in range(1, others)),
        ("inner", "parts", 1),
    ]
