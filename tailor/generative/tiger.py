"""TIGER: generate the next item's semantic id."""

from dataclasses import dataclass
from typing import Self

from tailor.generative.speller import Speller
from tailor.text.hashing import HashingEncoder


@dataclass(eq=False)
class TIGER(Speller):
    """Generate the next item's semantic id digit by digit (Rajput et al. 2023).

    Every item has a code whose digits go from coarse to fine meaning: residual k-means of the
    items' vectors, and a last digit that makes codes unique. A causal transformer reads the
    history. Beam search keeps the likeliest prefixes and never leaves the codes that exist, so no
    item is invented. A score is the log-probability of the item.

    Differs from the paper (form for a CPU): an item of the history is one token, the sum of its
    digits' vectors, instead of four; a small net per digit replaces the decoder, and reads the
    history through its last state alone; residual k-means replaces a residual autoencoder; a
    digit's probability is shared by the continuations that exist (`closed`); there is no token for
    the user.
    """

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, length=10, epochs=3)
