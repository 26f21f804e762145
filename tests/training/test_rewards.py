"""Rewards of items, by hand."""

import numpy as np
import pytest

from tailor.training.rewards import alike, by_rank, hit, legal, share_of, varied, weighted

ITEMS = np.array([[0, 1, -1], [2, 2, 0]])
TARGETS = np.array([1, 2])


def test_hits_and_items_that_exist():
    assert hit(ITEMS, TARGETS).tolist() == [[0, 1, 0], [1, 1, 0]]
    assert legal(ITEMS).tolist() == [[1, 1, 0], [1, 1, 1]]


def test_a_share_of_a_group_counts_no_missing_item_as_the_last():
    assert share_of(ITEMS, np.array([False, True, True])).tolist() == [[0, 1, 0], [1, 1, 0]]


def test_a_likely_wrong_answer_is_worse_and_penalties_add_up():
    rewards = by_rank(np.array([[0, 1, 2]]), np.array([1]), np.array([[-1.0, -2.0, -3.0]]))
    assert rewards[0, 1] == 1 and rewards[0, 0] < rewards[0, 2] < 0
    assert rewards[0, [0, 2]].sum() == pytest.approx(-1)
    assert by_rank(np.array([[1, 1]]), np.array([1]), np.zeros((1, 2))).tolist() == [[1, 1]]


def test_alike_is_a_cosine_and_variety_a_mean_distance():
    vectors = np.array([[1.0, 0], [0, 1], [0.6, 0.8]])
    assert alike(np.array([[0, 1, -1]]), vectors, np.array([2]))[0] == pytest.approx([0.6, 0.8, 0])
    lists = np.array([[[0, 1], [0, 0], [0, -1], [2, 0]]])
    assert varied(lists, vectors)[0] == pytest.approx([1, 0, 0, 0.4])
    assert varied(lists[..., :1], vectors)[0].tolist() == [0, 0, 0, 0]


def test_rewards_are_weighted_and_an_unknown_one_is_refused():
    parts = {"hit": hit(ITEMS, TARGETS), "legal": legal(ITEMS)}
    total = weighted(parts, {"hit": 1, "legal": 0.5})
    assert total.tolist() == [[0.5, 1.5, 0], [1.5, 1.5, 0.5]]
    with pytest.raises(KeyError):
        weighted(parts, {"speed": 1})
