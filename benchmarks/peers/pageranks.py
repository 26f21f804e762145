"""Personalised PageRank by networkx and scikit-network: `python pageranks.py FOLDER`, see
README.md.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import networkx
import numpy as np
import scipy.sparse as sp
import sknetwork
from sknetwork.ranking import PageRank

RESTART = 0.15


def main(folder: Path) -> None:
    with np.load(folder / "task.npz") as task:
        users_items = sp.csr_matrix(
            (task["data"], task["indices"], task["indptr"]), shape=tuple(task["shape"])
        )
        starts = task["starts"]  # (B, N) weights
        few = int(task["few"])
    seconds = {}
    for name, scores in (("networkx", by_networkx), ("scikit-network", by_scikit_network)):
        answer, seconds[name] = scores(users_items, starts[:few] if name == "networkx" else starts)
        np.savez(folder / f"{name}.npz", scores=answer)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "versions": {
                    "networkx": networkx.__version__,
                    "scikit-network": sknetwork.__version__,
                },
            }
        )
    )


def by_networkx(users_items: sp.csr_matrix, starts: np.ndarray) -> tuple[np.ndarray, float]:
    users, items = users_items.shape
    graph = networkx.from_scipy_sparse_array(
        sp.bmat([[None, users_items], [users_items.T, None]], format="csr")
    )
    out = np.zeros((len(starts), items))
    started = time.perf_counter()
    for i, start in enumerate(starts):
        at = {users + int(item): float(start[item]) for item in np.flatnonzero(start)}
        found = networkx.pagerank(graph, alpha=1 - RESTART, personalization=at, weight="weight")
        out[i] = [found[users + item] for item in range(items)]
    return out, time.perf_counter() - started


def by_scikit_network(users_items: sp.csr_matrix, starts: np.ndarray) -> tuple[np.ndarray, float]:
    out = np.zeros(starts.shape)
    graph = sp.csr_matrix(users_items.T)  # items are its rows, to which a walk restarts
    started = time.perf_counter()
    for i, start in enumerate(starts):
        ranker = PageRank(damping_factor=1 - RESTART)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out[i] = ranker.fit_predict(
                graph, weights_row={int(item): float(start[item]) for item in np.flatnonzero(start)}
            )
    return out, time.perf_counter() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))
