"""Segments: lookalikes by a classifier, a stable number of groups, cards, drift."""

import numpy as np
import pytest
import scipy.sparse as sp

from tailor.errors import DataError
from tailor.metrics.agreement import adjusted_rand
from tailor.nn.quantizers import nearest_word
from tailor.profiles.segments import (
    association,
    choose_centres,
    lookalike,
    matched,
    segment_cards,
)


def blobs(groups=4, users=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(groups, size=users)
    centres = 6 * np.eye(groups, 8)
    return truth, (centres[truth] + rng.standard_normal((users, 8))).astype(np.float32)


def test_lookalikes_are_ranked_above_others_by_the_direction_that_tells_them_apart():
    truth, vectors = blobs()
    vectors[:, 7] = 100 * np.random.default_rng(1).standard_normal(
        len(vectors)
    )  # loud, says nothing
    members = np.flatnonzero(truth == 2)
    scores = lookalike(vectors, members[:20], np.random.default_rng(0))
    hidden = members[20:]
    others = np.flatnonzero(truth != 2)
    assert scores[hidden].min() > np.quantile(scores[others], 0.95)


def test_an_audience_of_nobody_or_everybody_is_refused():
    _, vectors = blobs(users=20)
    for members in (np.zeros(0, int), np.arange(20)):
        with pytest.raises(DataError, match="of 20 users are members"):
            lookalike(vectors, members, np.random.default_rng(0))


def test_the_planted_number_of_segments_is_the_most_stable():
    truth, vectors = blobs()
    centres, tried = choose_centres(vectors, (2, 3, 4, 6, 9), np.random.default_rng(0))
    agreement = {stability.segments: stability.agreement for stability in tried}
    assert len(centres) == 4 and agreement[4] > 0.95 > agreement[9]
    assert adjusted_rand(truth, nearest_word(vectors, centres)) > 0.95


def test_segments_of_two_versions_are_matched_by_their_users():
    old = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    new = np.array([2, 2, 2, 0, 0, 1, 1, 0])
    assert matched(old, new).tolist() == [1, 2, 0]
    assert matched(np.array([0, 0]), np.array([0, 1])).tolist() in ([0, -1], [-1, 0])


def test_a_card_names_what_is_chosen_more_than_usual_and_who_came():
    segments = np.repeat([0, 1], 50)
    counts = np.zeros((100, 3))
    counts[:50] = (4, 1, 5)
    counts[50:] = (1, 4, 5)
    before = np.r_[np.repeat([1, 0], [40, 10]), np.repeat(0, 50)]
    for table in (counts, sp.csr_matrix(counts)):
        first, second = segment_cards(segments, table, ["tent", "lamp", "rope"], before=before)
        assert (first.users, second.users) == (50, 50)
        assert [name for name, _ in first.attributes] == ["tent"]
        # log-odds of .4 against .25, shrunk by 10 imagined events among 500
        share = (200 + 10 * 0.25) / 510
        assert first.attributes[0][1] == pytest.approx(np.log(share / (1 - share) * 3))
        assert first.drift == pytest.approx(0.2) and first.previous == 1
        assert second.plain()["attributes"].keys() == {"lamp"} and "lamp" in second.text


def test_rare_values_are_shrunk():
    counts = np.zeros((40, 2))
    counts[:, 0] = 50
    counts[0, 1] = 1  # one event is no trait
    card = segment_cards(np.repeat([0, 1], 20), counts, ["bag", "kayak"])[0]
    assert dict(card.attributes)["kayak"] < np.log(2)


def test_what_segments_say_of_protected_groups():
    segments = np.repeat([0, 1], 50)
    assert association(segments, ["f"] * 50 + ["m"] * 50) == pytest.approx(1)
    assert association(segments, ["f", "m"] * 50) == pytest.approx(0)
    assert association(segments, [None] * 100) == 0 and association(segments, ["f"] * 100) == 0
