"""Semantic ids: worked by hand, and what must hold for any vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.nn.quantizers import (
    ResidualKMeans,
    code_report,
    k_means,
    nearest_word,
    with_last_digit,
    with_next_digit,
)


def planted(seed=0, groups=4, inner=3, each=6):
    """Vectors in `groups` groups of `inner` smaller ones: (N, D), coarse and fine truth."""
    rng = np.random.default_rng(seed)
    coarse, fine = (
        np.eye(groups + groups * inner, dtype=np.float32)[:groups],
        np.eye(groups + groups * inner, dtype=np.float32)[groups:],
    )
    truth = np.repeat(np.arange(groups * inner), each)
    noise = rng.normal(scale=0.01, size=(len(truth), groups + groups * inner)).astype(np.float32)
    return coarse[truth // inner] + 0.4 * fine[truth] + noise, truth // inner, truth


def same_partition(a, b):
    return len(set(zip(a.tolist(), b.tolist()))) == len(set(a.tolist())) == len(set(b.tolist()))


def test_digits_go_from_coarse_to_fine():
    vectors, coarse, fine = planted()
    books = ResidualKMeans(levels=2, words=4).fit(vectors, np.random.default_rng(0))
    codes = books.encode(vectors)
    assert same_partition(codes[:, 0], coarse)
    books = ResidualKMeans(levels=2, words=12, shared=1).fit(vectors, np.random.default_rng(0))
    assert same_partition(books.encode(vectors)[:, 0], fine)


def test_two_words_by_hand():
    vectors = np.array([[1, 0], [0.8, 0.6], [-1, 0]], dtype=np.float32)
    centres = k_means(vectors, 2, 25, np.random.default_rng(0))
    assert sorted(centres.tolist()) == [pytest.approx([-1, 0]), pytest.approx([0.9, 0.3])]
    assert nearest_word(vectors, np.array([[0.9, 0.3], [-1, 0]], dtype=np.float32)).tolist() == [
        0,
        0,
        1,
    ]


def test_what_is_decoded_is_nearer_with_every_level():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(400, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    errors = []
    for levels in (1, 2, 3):
        books = ResidualKMeans(levels, 32).fit(vectors, np.random.default_rng(0))
        errors.append(
            float(((books.decode(books.encode(vectors)) - vectors) ** 2).sum(axis=1).mean())
        )
    assert errors[0] < 0.9  # no word at all leaves 1
    assert errors[1] < 0.8 * errors[0]
    assert errors[2] < 0.8 * errors[1]


def test_the_same_seed_gives_the_same_words_and_a_row_its_own_code():
    vectors = planted(2)[0]
    one, two = (ResidualKMeans(3, 8).fit(vectors, np.random.default_rng(5)) for _ in range(2))
    assert (one.words == two.words).all()
    codes = one.encode(vectors)
    assert (np.concatenate([one.encode(row[None]) for row in vectors]) == codes).all()


def test_every_word_is_used():
    vectors = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    codes = ResidualKMeans(3, 64).fit(vectors, np.random.default_rng(0)).encode(vectors)
    assert code_report(codes, [64, 64, 64])["words_used"] == [1.0, 1.0, 1.0]


def test_fewer_vectors_than_words():
    same = np.ones((5, 3), dtype=np.float32)
    books = ResidualKMeans(3, 256).fit(same, np.random.default_rng(0))
    codes = books.encode(same)
    assert (codes == codes[0]).all()
    assert with_last_digit(codes, np.random.default_rng(0))[:, -1].tolist() != [0] * 5
    assert ResidualKMeans(2, 256).fit(same[:1], np.random.default_rng(0)).encode(
        same[:1]
    ).shape == (1, 2)
    nothing = np.zeros((4, 3), dtype=np.float32)
    assert ResidualKMeans().fit(nothing, np.random.default_rng(0)).encode(nothing).shape == (4, 3)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="1 values that are no number"):
        ResidualKMeans().fit(np.array([[np.nan, 0.0]]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="0 vectors"):
        ResidualKMeans().fit(np.empty((0, 4)), np.random.default_rng(0))
    with pytest.raises(ValueError, match="words is 1"):
        ResidualKMeans(words=1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_no_two_share_a_code_and_digits_have_no_gap(codes, seed):
    codes = np.array(codes, dtype=np.int32)
    spread = with_last_digit(codes, np.random.default_rng(seed))
    assert (spread[:, :-1] == codes).all()
    assert len(np.unique(spread, axis=0)) == len(codes)
    for one in np.unique(codes, axis=0):
        assert sorted(spread[(codes == one).all(axis=1), -1].tolist()) == list(
            range(int((codes == one).all(axis=1).sum()))
        )


def test_last_digits_are_drawn_by_seed_and_are_never_clipped():
    codes = np.zeros((500, 3), dtype=np.int32)
    one, two, other = (
        with_last_digit(codes, np.random.default_rng(seed))[:, -1] for seed in (0, 0, 1)
    )
    assert (one == two).all()
    assert (one != other).any()
    assert (one != np.arange(500)).any()
    assert one.max() == 499


def test_a_new_item_gets_the_next_free_digit():
    known = np.array([[1, 1, 0], [1, 1, 2], [2, 0, 0]])
    assert with_next_digit(np.array([[1, 1], [1, 1], [3, 3], [2, 0]]), known).tolist() == [
        [1, 1, 1],
        [1, 1, 3],
        [3, 3, 0],
        [2, 0, 1],
    ]


def test_the_report_by_hand():
    codes = np.array([[0, 0], [0, 0], [1, 1], [1, 0]])
    assert code_report(codes, [2, 4]) == {
        "distinct_codes": 3,
        "largest_group": 2,
        "words_used": [1.0, 0.5],
        "bits": [1.0, 0.811],
    }
