"""Personalised PageRank: our walks against networkx and scikit-network in one run, judged by exact
power iteration.

    python benchmarks/pagerank.py --peers /tmp/peers/bin/python [ml-100k beauty]

How the peers' environment is made: benchmarks/peers/README.md. The task of all three: restart .15,
restarts lead to a person's items by weight.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from pagerank_oracle import exact_pagerank, precision
from shared_data import real
from writing import write_result

from tailor.core.run import Run
from tailor.papers.retrieval.personalized_pagerank import PersonalizedPageRank

PEER = Path(__file__).parent / "peers" / "pageranks.py"
ASKED, FEW = 100, 5  # people; networkx is asked for a few only


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["ml-100k", "beauty"])
    parser.add_argument("--peers", required=True, help="python of the peers' virtual environment")
    given = parser.parse_args()
    figures = {}
    for name in given.names:
        figures[name] = measure(name, given.peers)
        print(json.dumps(figures[name], indent=1), flush=True)
    print(
        write_result(
            "pagerank", 0, f"python benchmarks/pagerank.py {' '.join(given.names)}", figures
        )
    )


def measure(name: str, peers: str) -> dict:
    data = real(name)
    method = PersonalizedPageRank(walks=10_000).fit(data)
    queries = data.queries().take(Run().rng("asked").permutation(len(data.users))[:ASKED])
    recent = queries.histories.last(method.history_length)
    starts = recent.matrix(
        len(method.items_), method.history_decay ** recent.from_end.astype(float)
    )
    exact = exact_pagerank(method.items_of_, starts)
    out: dict = {
        "nodes": sum(method.items_of_.shape),
        "edges": method.items_of_.nnz,
        "people": len(queries),
    }
    for walks in (500, 10_000, 100_000):
        for read in ("users", "ends"):
            out[f"ours, {walks} walks, {read}"] = ours(
                PersonalizedPageRank(walks=walks, read=read).fit(data), queries, exact
            )
    answers, about = peers_answers(peers, method.items_of_, starts)
    for peer, scores in answers.items():
        out[peer] = judged(scores, exact[: len(scores)], about["seconds"][peer])
        out[peer]["ours is faster per person, 10,000 walks, one thread"] = round(
            out[peer]["ms a person"] / out["ours, 10000 walks, users"]["ms a person"], 1
        )
    out["versions"] = about["versions"]
    return out


def ours(method: PersonalizedPageRank, queries, exact: np.ndarray) -> dict:
    method.near(queries[:1])  # builds the tables
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        found = method.near(queries, workers=1)
        seconds.append(time.perf_counter() - started)
    best = float(np.median(seconds))
    return {
        **judged(found.toarray(), exact, best),
        "walks a second": round(len(queries) * method.walks / best),
    }


def judged(scores: np.ndarray, exact: np.ndarray, seconds: float) -> dict:
    total = scores.sum(axis=1, keepdims=True)
    return {
        "ms a person": round(1e3 * seconds / len(scores), 3),
        "precision@20": round(float(precision(scores, exact, 20).mean()), 4),
        "mean L1": round(float(np.abs(scores / total - exact).sum(axis=1).mean()), 5),
    }


def peers_answers(
    peers: str, items_of: sp.csr_matrix, starts: sp.csr_matrix
) -> tuple[dict[str, np.ndarray], dict]:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            Path(folder) / "task.npz",
            data=items_of.data.astype(float),
            indices=items_of.indices,
            indptr=items_of.indptr,
            shape=items_of.shape,
            starts=starts.toarray(),
            few=FEW,
        )
        done = subprocess.run(
            [peers, str(PEER), folder],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        about = json.loads(done.stdout)
        answers = {}
        for name in about["seconds"]:
            with np.load(Path(folder) / f"{name}.npz") as file:
                answers[name] = file["scores"]
    return answers, about


if __name__ == "__main__":
    main()
