"""Make random streams, and ids that carry no information."""

from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa

START_MS = 1_600_000_000_000  # 13 September 2020, when most worlds begin
HEX_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def random_of(seed: int, part: str) -> np.random.Generator:
    """Return the random stream of one part of a world.

    Parts have separate streams so that a setting of one does not change the draws of another.
    """
    return np.random.default_rng([seed, crc32(part.encode())])


def opaque_ids(prefix: str, n: int, seed: int) -> pl.Series:
    """Return n distinct ids such as u-7f3a, in random order.

    They are a seeded permutation of the numbers below a power of 16, computed without a table.
    """
    # at least 4 ** .5 times as many numbers as ids
    width = max(4, int(np.ceil(np.log2(max(n, 2)) / 4 + 0.25)))
    digits = _hex_digits(_permuted(n, 4 * width, random_of(seed, prefix)), width)
    prefix_bytes = np.frombuffer(prefix.encode(), dtype=np.uint8)
    letters = np.hstack([np.tile(prefix_bytes, (n, 1)), digits])
    offsets = np.arange(n + 1, dtype=np.int64) * letters.shape[1]
    strings = pa.LargeStringArray.from_buffers(
        n, pa.py_buffer(offsets), pa.py_buffer(letters.tobytes())
    )
    return pl.Series(pl.from_arrow(strings))


def _permuted(n: int, bits: int, rng: np.random.Generator) -> np.ndarray:
    """Return (n,) distinct numbers below 2^bits: a permutation applied to 0 .. n - 1."""
    mask = np.uint64(2**bits - 1)
    half = np.uint64(bits // 2)
    numbers = np.arange(n, dtype=np.uint64)
    # odd factors and shifts by half the bits are invertible, so no two numbers collide
    for _ in range(3):
        factor, addend = rng.integers(2 ** (bits - 1), 2**bits, 2).tolist()
        numbers = (numbers * np.uint64(factor | 1) + np.uint64(addend)) & mask
        numbers ^= numbers >> half
    return numbers


def _hex_digits(numbers: np.ndarray, width: int) -> np.ndarray:
    """Return (n, width) the hexadecimal digits of numbers (n,) as ASCII codes."""
    shifts = np.arange(4 * (width - 1), -1, -4, dtype=np.uint64)
    digits: np.ndarray = HEX_DIGITS[(numbers[:, None] >> shifts).astype(np.uint8) & 15]
    return digits
