"""However a model answers, the outcome is an order of everything, and says how it was read."""

import json
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.llm.parsing import read_choice, read_json, read_number, read_order

TITLES = ["Red tent", "Tent", "Copper kettle", "Oil lamp, brass"]


@pytest.mark.parametrize(
    ("answer", "level", "places"),
    [
        ("[3, 1, 4, 2]", 1, (2, 0, 3, 1)),
        ('{"order": [3, 1, 4, 2]}', 1, (2, 0, 3, 1)),
        ('[{"index": 3}, {"index": 1}, {"id": "4"}, {"number": 2}]', 1, (2, 0, 3, 1)),
        ('{"[1]": 5, "[2]": 1, "[3]": 9, "[4]": 3}', 1, (2, 0, 3, 1)),
        ('["Copper kettle", "Red tent", "Oil lamp, brass", "Tent"]', 1, (2, 0, 3, 1)),
        ("Sure!\n```json\n[3, 1, 4, 2]\n```\nHope that helps.", 2, (2, 0, 3, 1)),
        ('{"order": [3, 1, 4, 2', 2, (2, 0, 3, 1)),
        ('{"order": [3, 1, 4, 2], "why": "because the ket', 2, (2, 0, 3, 1)),
        ("[3] > [1] > [4] > [2]", 3, (2, 0, 3, 1)),
        ("The best is [3], then [1], [4], and [2].", 3, (2, 0, 3, 1)),
        ("3, 1, 4, 2", 4, (2, 0, 3, 1)),
        ("３、１、４、２", 4, (2, 0, 3, 1)),
        ("三 一 四 二", 4, (2, 0, 3, 1)),
        ("³ ¹ ⁴ ²", 4, (2, 0, 3, 1)),
        ("C > A > D > B", 4, (2, 0, 3, 1)),
        ("1. Copper kettle\n2. Red tent\n3. Oil lamp, brass\n4. Tent", 4, (2, 0, 3, 1)),
        ("1) 3\n2) 1\n3) 4\n4) 2", 4, (2, 0, 3, 1)),
        ("<think>[1] [2] [3] [4]? no</think>[3, 1, 4, 2]", 1, (2, 0, 3, 1)),
        ("<think>the first is [1] and then", 6, (0, 1, 2, 3)),
        ("I cannot help with that.", 6, (0, 1, 2, 3)),
        ("", 6, (0, 1, 2, 3)),
        ("[99, 100]", 6, (0, 1, 2, 3)),
        ("[3, 3, 99, 1]", 1, (2, 0, 1, 3)),
        ("[2.5, true, null]", 6, (0, 1, 2, 3)),
    ],
)
def test_the_ladder(answer, level, places):
    order = read_order(answer, 4, TITLES)
    assert (order.places, order.level) == (places, level)


def test_every_thing_says_how_it_came_to_its_place():
    assert read_order("[2, 1]", 3).statuses == ("ranked", "ranked", "fallback")
    assert read_order("2, 1, 3", 3).statuses == ("repaired",) * 3
    assert read_order("nothing", 3).statuses == ("fallback",) * 3


def test_one_repetition_is_asked_for_and_quotes_the_faulty_answer():
    asked = []
    order = read_order("hm", 2, again=lambda faulty: asked.append(faulty) or "[2, 1]")
    assert (
        asked == ["hm"]
        and order.places == (1, 0)
        and order.level == 5
        and order.statuses == ("repaired", "repaired")
    )
    assert read_order("[2, 1]", 2, again=lambda faulty: pytest.fail("asked needlessly")).level == 1
    assert read_order("hm", 2, again=lambda faulty: "hm again").level == 6


def test_equal_titles_are_not_told_apart_by_title():
    assert read_order("Tent, Kettle", 3, ["Tent", "Tent", "Kettle"]).places == (2, 0, 1)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=300), st.text(alphabet="[]{}\"',:0123456789 <>think/\\ab", max_size=300)
    ),
    st.integers(0, 12),
)
def test_whatever_is_answered_the_outcome_is_a_permutation(answer, n):
    order = read_order(answer, n, [f"title {i}" for i in range(n)])
    assert sorted(order.places) == list(range(n)) and len(order.statuses) == n
    read_json(answer), read_choice(answer, ["yes", "no"]), read_number(answer, 0, 10)


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        '"' * 100_000,
        "<think>" * 20_000,
        "1," * 100_000,
        "```json" * 20_000,
        "\\" * 100_000,
        "[1" + "[" * 5000,
        "\n" * 100_000,
        "1" + "\n " * 50_000,
        "-\n" * 50_000,
    ],
)
def test_a_hostile_answer_costs_no_time(hostile):
    # quadratic work would take longer than the suite allows a test
    order = read_order(hostile, 10, ["a title"] * 10)
    assert sorted(order.places) == list(range(10))


@pytest.mark.parametrize("cut", range(1, 40))
def test_json_cut_off_anywhere_keeps_what_was_whole(cut):
    whole = json.dumps({"order": [3, 1, 4, 2], "why": 'a "b" c'})
    found = read_json(whole[: len(whole) - cut])
    assert found is None or isinstance(found, dict)
    if len(whole) - cut > 22:
        assert found["order"] == [3, 1, 4, 2]


def test_choices_and_numbers():
    assert read_choice("Yes, because it fits.", ["yes", "no"]) == 0
    assert read_choice("**No**", ["yes", "no"]) == 1
    assert read_choice("The answer is no.", ["yes", "no"]) == 1
    assert (
        read_choice("yes or no", ["yes", "no"]) == 0
        and read_choice("well, yes and no", ["yes", "no"]) is None
    )
    assert read_choice("nothing", ["yes", "no"]) is None and read_choice("", ["yes"]) is None
    assert read_choice("<think>no</think> yes", ["yes", "no"]) == 0
    assert (
        read_number("Grade: 7/10", 0, 10) == 7
        and read_number("8,5", 0, 10) == 8.5
        and read_number("７", 0, 10) == 7
    )
    assert read_number("1998 was 3", 0, 10) == 3 and read_number("none", 0, 10) is None


def test_random_garbage_around_an_answer_does_not_hide_it():
    rng = random.Random(0)
    for _ in range(200):
        order = rng.sample(range(1, 9), 8)
        words = "".join(rng.choice(string.ascii_letters + " ") for _ in range(40))
        assert read_order(f"{words}\n{json.dumps(order)}\n{words}", 8).places == tuple(
            one - 1 for one in order
        )


def test_names_are_read_however_they_are_typed():
    names = ["Café Crème", "O’Neill wetsuit", "ＳＯＮＹ camera"]
    for answer in ('["SONY camera", "cafe creme"]', "1. sony CAMERA\n2. Cafe\u0301 cre\u0300me"):
        assert read_order(answer, 3, names).places == (2, 0, 1)
    assert read_order("the o'neill wetsuit, then the Sony camera", 3, names).places == (1, 2, 0)
    assert read_choice("CAFE CREME!", names) == 0
