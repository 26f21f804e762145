"""Sentences that a person reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailor.data.nouns import Evidence, Explanation
from tailor.evaluation.explanation_text import LONGEST, clean_title, sentence
from tailor.evaluation.explanations import Counterfactual

TITLES = {"a": "Kettle", "b": "Tent", "c": 'The "big" {lamp} %s'}


def told(*evidence: tuple[str, str, float]) -> Explanation:
    return Explanation("x", tuple(Evidence(*one) for one in evidence))


def missing(*removed: str, k: int = 10, rank: int | None = 1) -> Counterfactual:
    return Counterfactual("x", k, removed, rank, True)


A, B, C = ("item", "a", 0.5), ("item", "b", 0.28), ("item", "c", 0.1)


@pytest.mark.parametrize(
    ("explanation", "without", "says"),
    [
        (
            told(A, B, C),
            missing("a", "b"),
            (
                'Because you looked at "Kettle" and "Tent" (together 78 % of the score); without'
                " them it would not be among the first ten."
            ),
        ),
        (
            told(A),
            missing("a", k=1),
            (
                'Because you looked at "Kettle" (50 % of the score); without it this would not be'
                " the first."
            ),
        ),
        (
            told(A),
            missing("b", "c", k=20),
            """Because you looked at "Kettle" (50 % of the score); without "Tent" and "The 'big' {lamp} %s" it would not be among the first 20.""",
        ),
        (
            told(A),
            missing(),
            (
                'Because you looked at "Kettle" (50 % of the score); it would be among the first'
                " ten even without your history."
            ),
        ),
        (
            told(A),
            missing(rank=None, k=3),
            'Because you looked at "Kettle" (50 % of the score); it is not among the first three.',
        ),
        (
            told(("item", "unknown", 0.001)),
            None,
            'Because you looked at "unknown" (under 1 % of the score).',
        ),
        (
            told(("popularity", "x", 1.0)),
            None,
            "Because many people choose it (100 % of the score).",
        ),
        (
            told(("word", "kettl", 0.6), ("word", "red", 0.4)),
            None,
            'Because the words "kettl" and "red" speak for it (together 100 % of the score).',
        ),
        (
            told(("word", "red", 1.0)),
            None,
            'Because the word "red" speaks for it (100 % of the score).',
        ),
        (
            told(A, ("popularity", "x", 0.3), ("part", "Model 1", 0.2)),
            None,
            (
                'Because you looked at "Kettle" (50 % of the score), and because many people choose'
                ' it (30 %), and because the part "Model 1" of the pipeline proposes it (20 %).'
            ),
        ),
        (
            told(("proposition", "likes tea", 1.0)),
            None,
            'Because "likes tea" speaks for it (100 % of the score).',
        ),
        (told(), None, "Nothing is known that speaks for it."),
        (
            told(),
            missing(),
            (
                "Nothing is known that speaks for it; it would be among the first ten even without"
                " your history."
            ),
        ),
    ],
)
def test_sentences(explanation, without, says):
    assert sentence(explanation, TITLES, without) == says


def test_the_verb_and_the_number_of_names_can_be_chosen():
    assert sentence(told(A, B, C), TITLES, most=3, verb="bought").startswith(
        'Because you bought "Kettle", "Tent" and "The'
    )


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        ("a\nb\t c\r\n", "a b c"),
        ("red\x1b[31m", "red[31m"),
        ("abc\u202edef", "abcdef"),
        ("\x00\x07", ""),
        ("x" * 200, "x" * (LONGEST - 1) + "…"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\ud800half", "half"),
    ],
)
def test_titles_are_cleaned(title, clean):
    assert clean_title(title) == clean


def test_a_title_of_nothing_but_control_characters_gives_way_to_the_id():
    assert '"a"' in sentence(told(A), {"a": "\x00\x1b"})


@given(st.text(), st.text(), st.floats(0, 1))
def test_no_title_breaks_a_sentence(title, item_id, share):
    said = sentence(
        told(("item", item_id, share), ("word", title, share)), {item_id: title}, missing(item_id)
    )
    assert (
        said.startswith("Because you looked at ")
        and said.endswith(".")
        and said.count('"') == 4
        and "\n" not in said
    )
    said.encode("utf-8")
