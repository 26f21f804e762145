"""How fast words are indexed and searched, texts encoded, vectors found; as ratios to a peer in the
same run.

    python benchmarks/text_speed.py

Made-up collection: 100,000 texts of 40 words, 2,000 queries of 6, words drawn by a Zipf-Mandelbrot
law, so that a query shares a word with two thirds of the texts. Encoding needs `tailor models pull
minilm`.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from shared_data import real
from writing import write_result

from tailor.text.bm25 import BM25
from tailor.text.sentences import SentenceEncoder
from tailor.text.vector_index import VectorIndex
from tailor.text.words import words

TEXTS, WORDS_EACH, VOCABULARY, QUERIES, ASKED = 100_000, 40, 50_000, 2_000, 6


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def collection() -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(0)
    share = 1 / (np.arange(VOCABULARY) + 2.7) ** 1.07
    drawn = rng.choice(VOCABULARY, size=TEXTS * WORDS_EACH + QUERIES * ASKED, p=share / share.sum())
    named = [f"w{one}" for one in drawn]
    stop = TEXTS * WORDS_EACH
    texts = [" ".join(named[at : at + WORDS_EACH]) for at in range(0, stop, WORDS_EACH)]
    return texts, [" ".join(named[at : at + ASKED]) for at in range(stop, len(named), ASKED)]


def by_words() -> dict[str, float]:
    import bm25s

    texts, queries = collection()
    index = BM25()
    build = seconds(lambda: index.add(texts), 1)
    peer, split_queries = bm25s.BM25(method="lucene"), [words(one) for one in queries]
    peer_build = seconds(lambda: peer.index([words(one) for one in texts], show_progress=False), 1)
    mine, theirs, product = [], [], []
    for _ in range(3):  # in turns, since the machine is shared
        mine.append(seconds(lambda: index.search(queries, 10), 1))
        theirs.append(
            seconds(lambda: peer.retrieve(split_queries, k=10, show_progress=False, n_threads=0), 1)
        )
        product.append(
            seconds(lambda: [index.scores(queries[at : at + 200]) for at in range(0, 600, 200)], 1)
            * QUERIES
            / 600
        )
    small = BM25()
    small.add(texts[:10_000])
    adds = [seconds(lambda text=text: small.add([text]), 1) for text in texts[10_000:10_500]]
    return {
        "queries_per_s": round(QUERIES / min(mine)),
        "bm25s_queries_per_s": round(QUERIES / min(theirs)),
        "sparse_product_queries_per_s": round(QUERIES / min(product)),
        "times_bm25s": round(min(theirs) / min(mine), 1),
        "build_s": round(build, 2),
        "bm25s_build_s": round(peer_build, 2),
        "add_one_to_10k_ms": round(float(np.median(adds)) * 1e3, 4),
        "add_one_to_10k_worst_ms": round(max(adds) * 1e3, 3),
    }


def by_index() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((500, 64))
    vectors = (
        centres[rng.integers(0, 500, 50_000)] + 0.7 * rng.standard_normal((50_000, 64))
    ).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    out = {}
    for kind in ("exact", "hnsw", "ivfpq"):
        index = VectorIndex(kind)  # type: ignore[arg-type]
        build = seconds(lambda index=index: index.build(vectors), 1)
        out[kind] = {
            **index.report,
            "build_s": round(build, 2),
            "ms_a_query": round(
                seconds(lambda index=index: index.search(vectors[:200], 10)) * 5, 3
            ),
        }
    return out


def by_meaning() -> dict[str, float]:
    """Texts a second of SentenceEncoder, and of the best of several settings of
    sentence-transformers.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    from tailor.ports.weights import pulled_folder

    texts = real("beauty").item_texts[:512]
    peers = {
        f"{name}, {size} texts a batch": (
            SentenceTransformer(
                str(pulled_folder("minilm")), device="cpu", model_kwargs={"dtype": dtype}
            ),
            size,
        )
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        for size in (16, 32, 64, 128)
    }
    mine = SentenceEncoder()
    mine.encode(texts[:8])
    taken: dict[str, list[float]] = {name: [] for name in (*peers, "tailor")}
    for _ in range(4):
        for name, (peer, size) in peers.items():
            taken[name].append(
                seconds(
                    lambda peer=peer, size=size: peer.encode(
                        texts, batch_size=size, show_progress_bar=False
                    ),
                    1,
                )
            )
        taken["tailor"].append(seconds(lambda: mine.encode(texts), 1))
    speed = {name: round(len(texts) / min(one), 1) for name, one in taken.items()}
    return {
        **speed,
        "tailor over the best setting": round(
            speed["tailor"] / max(speed[name] for name in peers), 3
        ),
    }


def main() -> None:
    figures = {
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "BM25, 100,000 texts": by_words(),
        "vectors, 50,000 of 64": by_index(),
        "encoding, titles of Beauty, texts/s": by_meaning(),
    }
    print(json.dumps(figures, indent=1))
    print(write_result("text-speed", 0, "python benchmarks/text_speed.py", figures))


if __name__ == "__main__":
    main()
