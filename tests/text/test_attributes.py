"""Things told as names and words of their attributes."""

import numpy as np
import polars as pl

from tailor.data.vocabulary import Vocabulary
from tailor.text.attributes import NAME, VALUE, sentences, tell
from tailor.text.sentences import leading

TABLE = pl.DataFrame(
    {
        "title": ["Rose Soap", None, "", "Tent"],
        "made_by": ["Dove", "Acme", None, None],
        "categories": [["bath", "soap bars"], [], None, ["camping"]],
        "price": [2.5, None, None, 30.0],
    }
)


def said(told):
    return [" ".join(word for word, _ in row) for row in told]


def test_attributes_are_told_in_order_with_their_names():
    told = tell(TABLE, ("title", "made_by", "categories"), 20)
    assert said(told) == [
        "title rose soap made by dove categories bath soap bars",
        "made by acme",
        "",
        "title tent categories camping",
    ]
    assert [kind for _, kind in told[0]] == [
        NAME,
        VALUE,
        VALUE,
        NAME,
        NAME,
        VALUE,
        NAME,
        VALUE,
        VALUE,
        VALUE,
    ]
    assert said(tell(TABLE, ("categories", "title"), 20))[3] == "categories camping title tent"


def test_numbers_and_missing_columns():
    assert said(tell(TABLE, ("nothing", "price"), 20)) == ["price 2 5", "", "", "price 30 0"]
    assert said(tell(TABLE, ("nothing",), 20)) == ["", "", "", ""]


def test_a_sentence_ends_where_it_must_and_never_with_a_name():
    assert said(tell(TABLE, ("title", "made_by"), 4))[0] == "title rose soap"
    assert said(tell(TABLE, ("title", "made_by"), 6))[0] == "title rose soap made by dove"
    assert said(tell(TABLE, ("title", "made_by"), 2))[0] == "title rose"


def test_rows_kinds_taking_and_joining():
    words = Vocabulary(["title", "rose", "tent"])  # soap is not known
    made = sentences(tell(TABLE, ("title",), 20), words)
    assert [made.word_rows[i].tolist() for i in range(4)] == [[0, 1], [], [], [0, 2]]
    taken = made.take(np.array([3, 0, 3]))
    assert [taken.word_rows[i].tolist() for i in range(3)] == [
        [0, 2],
        [0, 1],
        [0, 2],
    ] and taken.kinds.tolist() == [NAME, VALUE] * 3
    both = made.beside(taken)
    assert (
        len(both.word_rows) == 7
        and both.word_rows[6].tolist() == [0, 2]
        and both.kinds.tolist() == [NAME, VALUE] * 5
    )


def test_the_leading_directions_keep_what_differs_most():
    rng = np.random.default_rng(0)
    # six numbers that vary in two directions
    flat = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 6)) + 5
    seen = leading(flat.astype(np.float32), 2)
    far = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    kept = ((seen[:, None] - seen[None]) ** 2).sum(-1)
    scale = kept.sum() / far.sum()
    np.testing.assert_allclose(kept, far * scale, atol=1e-3)
    np.testing.assert_allclose(
        [np.linalg.norm(seen, axis=1).mean(), *seen.mean(axis=0)], [1, 0, 0], atol=1e-5
    )
    assert leading(flat, 9).shape == (200, 9) and not leading(flat, 9)[:, 6:].any()
    assert leading(np.zeros((0, 6), np.float32), 3).shape == (0, 3)
