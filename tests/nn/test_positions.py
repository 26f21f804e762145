"""Positions: learned vectors for places and for the time since the event before."""

import pytest

torch = pytest.importorskip("torch")

from tailor.nn.positions import LearnedPositions, TimeGapPositions  # noqa: E402


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
