"""Positions: learned vectors for places and for the time since the event before."""

import pytest

torch = pytest.importorskip("torch")

from tailor.nn.positions import (  # noqa: E402
    LearnedPositions,
    MomentPositions,
    TimeGapPositions,
)


def test_gaps_of_one_order_of_magnitude_share_a_vector():
    positions = TimeGapPositions(4, 3)
    x = torch.zeros(1, 4, 3)
    minute = 60_000
    times_ms = torch.tensor([[0, 0, 2 * minute, 2 * minute + 1_000_000 * minute]])
    vectors = positions(x, times_ms=times_ms)[0] - positions.table
    # log2(1 + minutes): 0 at the start and at once, 1 for two minutes, 19 for a million
    assert torch.allclose(vectors, positions.gaps[[0, 0, 1, 19]], atol=1e-6)


def test_without_times_only_places_count():
    positions = TimeGapPositions(4, 3)
    x = torch.zeros(2, 2, 3)
    assert torch.equal(positions(x), LearnedPositions.forward(positions, x))


def test_moments_add_a_vector_for_each_column_that_is_read():
    positions = MomentPositions(3, 4, [5, 0, 2])
    slots = torch.tensor([[[4, 9, 1], [0, 9, 0]]])
    added = positions(torch.zeros(1, 2, 4), slots=slots)
    hours, halves = positions.moments
    expected = positions.table[:2] + hours.weight[[4, 0]] + halves.weight[[1, 0]]
    assert torch.equal(added[0], expected)
