"""Metrics of lists as a whole: closed forms against loops."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.metrics.lists import coverage, exposure, gini, intra_list_diversity, novelty

LISTS = np.array([[0, 1, -1], [1, -1, -1], [-1, -1, -1]])


def test_exposure_and_coverage_count_items_not_padding():
    assert exposure(LISTS, 4).tolist() == [1, 2, 0, 0]
    assert coverage(LISTS, 4) == 0.5
    assert coverage(np.full((2, 3), -1), 4) == 0.0
    assert math.isnan(coverage(np.full((2, 3), -1), 0))


@pytest.mark.parametrize("items", [1, 2, 7])
def test_gini_is_0_for_equal_exposure_and_n_minus_1_over_n_for_one_item(items):
    assert gini(np.arange(items)[None].repeat(3, axis=0), items) == pytest.approx(0)
    assert gini(np.zeros((5, 1), int), items) == pytest.approx((items - 1) / items)


def test_gini_equals_half_the_relative_mean_difference():
    counts = np.array([3, 0, 1, 5])
    rows = np.repeat(np.arange(4), counts)[:, None]
    differences = np.abs(counts[:, None] - counts[None]).sum()
    assert gini(rows, 4) == pytest.approx(differences / (2 * 4 * counts.sum()))


def test_gini_of_empty_lists_is_undefined():
    assert math.isnan(gini(np.full((2, 2), -1), 3))


def test_novelty_in_bits():
    values = novelty(LISTS, np.array([8, 2, 0]), users=8)
    np.testing.assert_allclose(values[:2], [(0 + 2) / 2, 2])
    assert math.isnan(values[2])
    # known to nobody: as if to one
    assert novelty(np.array([[2]]), np.array([8, 2, 0]), users=8)[0] == 3


def pair_loop(row: np.ndarray, vectors: np.ndarray) -> float:
    row = row[row >= 0]
    pairs = [1 - float(vectors[a] @ vectors[b]) for at, a in enumerate(row) for b in row[:at]]
    return float(np.mean(pairs)) if pairs else math.nan


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_diversity_equals_the_loop_over_pairs(seed, width, as_sparse):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[3] = 0  # an item without words
    rows = np.stack([rng.permutation(9)[:width] for _ in range(4)])
    rows[np.arange(width) >= rng.integers(0, width + 1, 4)[:, None]] = -1
    values = intra_list_diversity(rows, sp.csr_matrix(vectors) if as_sparse else vectors)
    np.testing.assert_allclose(values, [pair_loop(row, vectors) for row in rows], atol=1e-12)


def test_diversity_of_float32_vectors_of_equal_items_is_0():
    vectors = np.full((3, 384), 1 / math.sqrt(384), dtype=np.float32)
    assert intra_list_diversity(np.array([[0, 1, 2]]), vectors)[0] == pytest.approx(0, abs=1e-5)
