"""The kinds of semantic ids on the titles of Beauty: seconds, error, collisions, likeness.

    python benchmarks/codes.py [--words 256]

No net reads the codes: this says how they are made, not what they are worth to a recommender.
"""

import argparse
import time
from typing import get_args

import numpy as np
from shared_data import real
from writing import write_result

from tailor.core.defaults import encoder
from tailor.nn.codebooks import CodeKind, quantizer_of
from tailor.nn.quantizers import code_report, unit
from tailor.text.cached import item_vectors

NEIGHBOURS = 10
SAMPLE = 2_000  # items whose neighbours are looked at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=256)
    words = parser.parse_args().words
    vectors = unit(item_vectors(encoder("default"), real("beauty").item_texts))
    vectors = vectors - vectors.mean(axis=0)
    near = nearest(unit(vectors))
    figures = {}
    for kind in get_args(CodeKind):
        started = time.process_time()
        codebooks = quantizer_of(kind, 3, words).fit(vectors, np.random.default_rng(0))
        seconds = time.process_time() - started
        codes = codebooks.encode(vectors)
        decoded = codebooks.decode(codes)
        cosines = (unit(decoded) * unit(vectors)).sum(axis=1)
        alike = (codes[near] == codes[:SAMPLE, None]).mean(axis=(0, 1))
        figures[kind] = {
            "seconds": round(seconds, 1),
            "cosine with the vector": round(float(cosines.mean()), 4),
            "neighbours alike per level": alike.round(4).tolist(),
            "most items of a word": int(np.bincount(codes[:, 0]).max()),
            **code_report(codes, [codebooks.words.shape[1]] * 3),
        }
        print(kind, figures[kind], flush=True)
    write_result("codes", 0, f"python benchmarks/codes.py --words {words}", figures)


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Return (SAMPLE, 10) the nearest items of the first items, by unit vectors (N, D)."""
    cosines = vectors[:SAMPLE] @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


if __name__ == "__main__":
    main()
