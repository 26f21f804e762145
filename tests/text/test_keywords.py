"""Phrases and what is said of them: by hand, and on real reviews."""

import json

import numpy as np
import pytest
from shared_data import data_folder

from tailor.errors import DataError
from tailor.text.keywords import Keywords, mentions, phrases


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The battery life is great, and it charges fast!", ["battery life", "charges fast"]),
        ("", []),
        ("अच्छी बैटरी, तेज़ चार्जर", ["अच्छी बैटरी", "तेज़ चार्जर"]),
        ("It is. And so?", []),
        ("USB-C cable 2 m<br />red case", ["usb", "cable", "red case"]),
        (
            "soft thick warm winter coat",
            ["soft thick warm", "thick warm winter", "warm winter coat"],
        ),
        ("Tom &amp; Jerry", ["tom", "jerry"]),
        ("\ud800 odd", ["odd"]),
        ("привет мир", ["привет мир"]),
    ],
)
def test_phrases_by_hand(text, found):
    assert phrases(text) == found


def test_weights_are_texts_that_name_it_times_how_rare_it_is():
    texts = ["red coat", "red coat", "red scarf", "blue scarf", "blue coat"]
    made = Keywords.of(texts, [0, 0, 0, 1, -1], 2, least=1, most_share=1.0)
    weight = dict(zip(made.names, made.weights.toarray().T.tolist(), strict=True))
    assert weight["red coat"] == pytest.approx([2 * np.log(5 / 2), 0])
    assert weight["red"] == pytest.approx([3 * np.log(5 / 3), 0]) and weight[
        "scarf"
    ] == pytest.approx([np.log(5 / 2)] * 2)
    assert made.names[0] in ("coat", "red") and made.best(0, 1)[0][0] == "red coat"
    # the text is about nothing that is known, yet it counts for how rare words are
    assert weight["blue coat"] == [0, 0]


def test_rare_and_all_too_common_phrases_are_left_out():
    made = Keywords.of(["red coat"] * 8 + ["blue hat"] * 2, [0] * 10, 1, least=3, most_share=0.5)
    assert made.names == () and made.weights.shape == (1, 0) and made.best(0) == []
    assert Keywords.of([], [], 3).weights.shape == (3, 0)


def test_what_a_newcomer_types_meets_the_known_phrases():
    made = Keywords.of(["red coat", "red scarf"], [0, 1], 2, least=1, most_share=1.0)
    vector = made.vector(["A red coat, please", "zebra"])
    assert {made.names[at] for at in np.flatnonzero(vector)} == {"red", "coat", "red coat"}


def test_rows_that_do_not_fit_are_refused():
    for rows in ([0], [0, 5], [0, -2]):
        with pytest.raises(DataError, match="rows of 2 things"):
            Keywords.of(["a b", "c d"], rows, 2)


def test_a_turn_within_a_sentence_keeps_what_is_said_apart():
    pytest.importorskip("vaderSentiment")
    said = {
        one.aspect: one.polarity
        for one in mentions(
            "The battery life is great but the charger is terrible. Not a good case!",
            {"battery life", "charger", "case"},
        )
    }
    assert said["battery life"] > 0.3 and said["charger"] < -0.3 and said["case"] < 0
    assert mentions("", {"case"}) == [] and mentions("A good case", set()) == []
    with pytest.raises(DataError, match="english"):
        mentions("gut", {"gut"}, language="german")


@pytest.mark.parametrize("gap", [" " * 100_000, "\n" * 100_000, "\n " * 50_000], ids=len)
def test_white_space_without_end_costs_no_time(gap):
    pytest.importorskip("vaderSentiment")
    # quadratic work would take longer than the suite allows a test
    assert [
        one.aspect for one in mentions(f"A good case{gap}and a charger", {"case", "charger"})
    ] == ["case", "charger"]


def test_polarity_follows_the_stars_of_real_reviews():
    pytest.importorskip("vaderSentiment")
    folder = data_folder() / "amazon-reviews"
    if not folder.exists():
        pytest.skip(f"{folder} is not there: set TAILOR_DATA to the folder of the shared data")
    lines = [
        json.loads(line)
        for name in ("training", "validation")
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    reviews = [
        (one["review_full"] or "", one["rating"]) for line in lines for one in line["history"]
    ]
    known = set(Keywords.of([text for text, _ in reviews], [-1] * len(reviews), 1).names)
    means = [
        (np.mean([one.polarity for one in found]), stars)
        for text, stars in reviews
        if (found := mentions(text, known))
    ]
    good, bad = (
        np.array([polarity for polarity, stars in means if keep(stars)])
        for keep in (lambda stars: stars >= 4, lambda stars: stars <= 2)
    )
    auc = (good[:, None] > bad).mean() + (good[:, None] == bad).mean() / 2
    assert len(good) > 1_500 and len(bad) > 200 and auc > 0.8


def test_accents_and_apostrophes_make_no_other_phrase():
    texts = ["Crème brûlée", "crème brûlée", "creme brulee", "salt’s grain"]
    names = Keywords.of(texts, [0, 0, 0, 0], 1, least=3, most_share=1.0).names
    assert set(names) == {"crème brûlée", "crème", "brûlée"}
    known = Keywords.of(texts, [0, 0, 0, 0], 1, least=1, most_share=1.0)
    for typed in ("CREME BRULEE", "cre\u0300me brûlée"):
        assert known.vector([typed]).sum() == 3
    assert known.vector(["salt's grain"]).sum() == 3
