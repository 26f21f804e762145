"""Prompts that begin alike: grouped so that few tokens are read, and read as each alone."""

import numpy as np
import pytest

from tailor.llm.prefixes import LEAST, clusters

START = list(range(100, 100 + LEAST))


def tokens_read(prompts):
    """Return how many tokens are read with common beginnings read once."""
    groups = clusters(prompts)
    rests = sum(len(prompts[row]) - part.shared for part in groups for row in part.rows)
    return rests + sum(part.shared for part in groups)


def test_lists_of_two_requests_share_the_beginning_of_each():
    first, second = [*START, 1, 2, 3, 4], [*START, 5, 6, 7, 8]
    prompts = [[*beginning, doc] for doc in range(10, 15) for beginning in (first, second)]
    groups = clusters(prompts)
    assert [part.shared for part in groups] == [LEAST + 4] * 2
    assert sorted(row for part in groups for row in part.rows) == list(range(10))
    assert tokens_read(prompts) == 10 + 2 * (LEAST + 4)


def test_a_prompt_that_is_the_beginning_of_another_keeps_a_token():
    (group,) = clusters([[*START, 1, 2], [*START, 1]])
    assert group == ([1, 0], LEAST)
    assert clusters([START, START]) == [([0, 1], 0)]  # of which one token fewer is shared


def test_what_shares_too_little_is_read_as_it_is():
    prompts = [[1, 2, 3], [1, 2, 4], [7]]
    assert clusters(prompts) == [([0, 1, 2], 0)]
    assert clusters([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_never_more_tokens_are_read_than_without(seed):
    rng = np.random.default_rng(seed)
    roots = [rng.integers(3, size=30).tolist() for _ in range(3)]
    prompts = [
        roots[rng.integers(3)][: rng.integers(1, 30)] + rng.integers(3, size=5).tolist()
        for _ in range(40)
    ]
    assert tokens_read(prompts) <= sum(map(len, prompts))
