"""SimHash against its definition and the known probability of a collision."""

import numpy as np
import pytest
import torch

from tailor.nn.hashing import SimHash


def test_buckets_are_the_signs_read_as_binary_numbers():
    torch.manual_seed(0)
    simhash = SimHash(5, hashes=3, bits=4)
    vectors = torch.randn(6, 5)
    buckets = simhash(vectors)
    for row, vector in enumerate(vectors.numpy()):
        for number, directions in enumerate(simhash.directions.numpy()):
            digits = "".join("1" if direction @ vector > 0 else "0" for direction in directions)
            assert buckets[row, number] == int(digits[::-1], 2)
    assert simhash(vectors[:, None]).shape == (6, 1, 3)


@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("degrees", [10, 60, 120])
def test_the_share_of_collisions_is_that_of_the_angle(bits, degrees):
    torch.manual_seed(1)
    angle = np.deg2rad(degrees)
    pair = torch.tensor([[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]]).float()
    one, other = SimHash(3, hashes=20_000, bits=bits)(pair)
    wanted = (1 - angle / np.pi) ** bits
    assert (one == other).float().mean().item() == pytest.approx(wanted, abs=0.015)


def test_directions_are_saved_and_never_learned():
    simhash = SimHash(4, hashes=2, bits=3)
    assert "directions" in simhash.state_dict()
    assert not list(simhash.parameters())
    vectors = torch.randn(3, 4, requires_grad=True)
    assert not simhash(vectors).requires_grad
