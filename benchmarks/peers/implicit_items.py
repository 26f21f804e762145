"""Item-to-item recommenders of implicit: `python implicit_items.py FOLDER`, see README.md.

The task holds `train` (users by items, what is learned from) and, under each name of `histories`,
users by items with the weights to ask with.
"""

import json
import sys
import time
from pathlib import Path

import implicit
import numpy as np
import scipy.sparse as sp
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

K = 200  # neighbours kept


def main(folder: Path) -> None:
    with np.load(folder / "task.npz") as task:
        shape = tuple(task["shape"])
        train, *histories = (
            sp.csr_matrix(
                (task[f"{name}_data"], task[f"{name}_indices"], task[f"{name}_indptr"]), shape=shape
            )
            for name in ("train", *task["histories"])
        )
        names = task["histories"].tolist()
    models = {
        "cosine": CosineRecommender(K=K),
        "tfidf": TFIDFRecommender(K=K),
        "bm25": BM25Recommender(K=K),
    }
    answers, seconds = {}, {}
    for similarity, model in models.items():
        started = time.perf_counter()
        model.fit(train, show_progress=False)
        seconds[f"{similarity}, fit"] = time.perf_counter() - started
        for name, history in zip(names, histories, strict=True):
            started = time.perf_counter()
            rows, _ = model.recommend(
                np.arange(shape[0]), history, N=10, filter_already_liked_items=True
            )
            seconds[f"{similarity}, {name}"] = time.perf_counter() - started
            answers[f"{similarity}, {name}"] = rows
    np.savez(folder / "implicit.npz", **answers)
    print(json.dumps({"seconds": seconds, "versions": {"implicit": implicit.__version__}}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
