"""Random streams and ids that tell nothing."""

from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa


def random_of(seed: int, part: str) -> np.random.Generator:
    """Every part of a world has its own stream, so that a knob of one does not change the draws of
    another.
    """
    return np.random.default_rng([seed, crc32(part.encode())])


def opaque_ids(prefix: str, n: int, seed: int) -> pl.Series:
    """n distinct ids such as u-7f3a: a seeded permutation of the numbers below a power of 16, which
    needs no memory.
    """
    # 4 ** .5 times as many numbers as ids at least
    width = max(4, int(np.ceil(np.log2(max(n, 2)) / 4 + 0.25)))
    rng, bits = random_of(seed, prefix), 4 * width
    mask, half = np.uint64(2**bits - 1), np.uint64(bits // 2)
    number = np.arange(n, dtype=np.uint64)
    # odd factors and shifts by half the bits can be undone, so no two numbers meet
    for _ in range(3):
        factor, addend = (np.uint64(value) for value in rng.integers(2 ** (bits - 1), 2**bits, 2))
        number = (number * (factor | np.uint64(1)) + addend) & mask
        number ^= number >> half
    shifts = np.arange(bits - 4, -1, -4, dtype=np.uint64)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[
        (number[:, None] >> shifts).astype(np.uint8) & 15
    ]
    letters = np.hstack([np.tile(np.frombuffer(prefix.encode(), dtype=np.uint8), (n, 1)), digits])
    offsets = np.arange(n + 1, dtype=np.int64) * letters.shape[1]
    return pl.Series(
        pl.from_arrow(
            pa.LargeStringArray.from_buffers(
                n, pa.py_buffer(offsets), pa.py_buffer(letters.tobytes())
            )
        )
    )
