"""Locality-sensitive hashing: vectors in like directions meet in the same bucket.

Shapes: D width, G hashes, K buckets of a hash.
"""

import torch
from torch import Tensor, nn


class SimHash(nn.Module):
    """Bucket numbers from the signs of a vector along random directions (Charikar 2002).

    Two vectors at angle a share a bucket of one hash with probability (1 - a / pi) ^ bits. The
    directions are drawn once from torch's random state, never learned, and saved with the weights.
    """

    directions: Tensor

    def __init__(self, width: int, hashes: int, bits: int) -> None:
        """Draw the directions of G = `hashes` hashes with K = 2 ^ `bits` buckets each."""
        super().__init__()
        self.buckets = 2**bits
        self.register_buffer("directions", torch.randn(hashes, bits, width))

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., D) -> (..., G) int64 bucket numbers below K."""
        hashes, bits, _ = self.directions.shape
        directions = self.directions.flatten(0, 1).float()
        with torch.autocast(vectors.device.type, enabled=False):  # signs are those of serving
            along = vectors.detach().float() @ directions.T  # ..., G * bits
        signs = (along > 0).unflatten(-1, (hashes, bits))
        return (signs * (1 << torch.arange(bits, device=signs.device))).sum(dim=-1)
