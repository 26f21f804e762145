"""Our offline rerankers beside other packages' on the same lists, in one run: quality and seconds.

    python benchmarks/reranker_peers.py --peers /tmp/rerankers/bin/python

How the peers' environment is made: benchmarks/peers/README.md. Lists are those of DL19 (43 requests,
20 passages each); everything computes on one thread, with no vector cached. `E2Rank` has the
settings that `benchmarks/combinations.py` chose on the three other collections.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judged_lists import JudgedList, above, judged_lists, ndcg_by
from writing import write_result

from tailor.core.defaults import encoder
from tailor.papers.reranking.e2rank import E2Rank
from tailor.ports.weights import pulled_folder
from tailor.reranking.embedding_reranker import EmbeddingReranker
from tailor.reranking.reranker import Reranker
from tailor.text.bm25 import BM25
from tailor.text.cached import CachedEncoder, plain

ROOT = Path(__file__).parent
PEER = ROOT / "peers" / "reranker_packages.py"
CHOSEN = ROOT / "results" / "combinations.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="python of the peers' virtual environment")
    given = parser.parse_args()
    lists = judged_lists("dl19")
    answers = of_peers(lists, given.peers)
    refused = {name: answers.pop(name) for name in list(answers) if name.endswith("refused")}
    versions = answers.pop("versions")
    answers |= ours(lists)
    words = ndcg_by(lists, [item.shortlist.prior for item in lists])
    figures: dict[str, Any] = {"first stage": {"NDCG@10": round(float(words.mean()), 4)}}
    for name, answer in answers.items():
        values = ndcg_by(lists, [np.array(scores) for scores in answer["scores"]])
        figures[name] = {
            "NDCG@10": round(float(values.mean()), 4),
            "over the first stage": above(values, words),
            "ms a list": round(1000 * answer["seconds"] / len(lists), 1),
            "processor ms a list": round(1000 * answer["processor_seconds"] / len(lists), 1),
        }
        print(name, figures[name])
    figures |= {"versions": versions, **refused}
    command = "python benchmarks/reranker_peers.py --peers PYTHON"
    print(refused, write_result("reranker-peers", 0, command, figures))


def of_peers(lists: Sequence[JudgedList], python: str) -> dict[str, Any]:
    """Return scores and seconds of the other packages."""
    task = {
        "model": str(pulled_folder("minilm")),
        "lists": [(item.shortlist.request, item.shortlist.texts) for item in lists],
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "task.json").write_text(json.dumps(task), encoding="utf-8")
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run([python, str(PEER), folder], check=True, env=one_thread)
        answers: dict[str, Any] = json.loads((Path(folder) / "answers.json").read_text())
    return answers


def ours(lists: Sequence[JudgedList]) -> dict[str, Any]:
    """Return scores and seconds of our rerankers."""
    chosen = json.loads(CHOSEN.read_text())["figures"]["dl19"]["settings"]
    methods: dict[str, Reranker] = {
        "EmbeddingReranker": EmbeddingReranker(),
        "E2Rank": E2Rank(**chosen),
    }
    answers = {f"Tailor {name}": measured(method, lists) for name, method in methods.items()}
    return {"Tailor BM25": by_words(lists), **answers}


def by_words(lists: Sequence[JudgedList]) -> dict[str, Any]:
    """Return scores and seconds of our BM25 among the texts of each list."""
    start_s, cpu_s = time.perf_counter(), time.process_time()
    scores = []
    for item in lists:
        index = BM25(language="english")
        index.add(list(item.shortlist.texts))
        scores.append(index.scores([item.shortlist.request]).toarray()[0])
    seconds, cpu = time.perf_counter() - start_s, time.process_time() - cpu_s
    return {"scores": scores, "seconds": seconds, "processor_seconds": cpu}


def measured(method: Reranker, lists: Sequence[JudgedList]) -> dict[str, Any]:
    """Return a method's scores, and the seconds that they take with no vector cached."""
    with tempfile.TemporaryDirectory() as folder:
        if hasattr(method, "encoder"):
            method.encoder = CachedEncoder(plain(encoder()), folder)
            method.encoder.encode(["warm up"])
        start_s, cpu_s = time.perf_counter(), time.process_time()
        results = [method.rerank([item.shortlist])[0] for item in lists]
        seconds, cpu = time.perf_counter() - start_s, time.process_time() - cpu_s
    scores = [result.scores for result in results]
    return {"scores": scores, "seconds": seconds, "processor_seconds": cpu}


if __name__ == "__main__":
    main()
