"""Rerankers of other packages: `python reranker_packages.py FOLDER`, see README.md.

The task (`task.json`) has `model`, a folder with MiniLM, and `lists` of a request and its texts.
`rerankers` reads the weights as ColBERT does, token by token. Its last projection is not among
them, and so is random (`torch.manual_seed`). FlashRank downloads its models, and answers only where
it can.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import torch
from rank_bm25 import BM25Okapi
from rerankers import Reranker

Scorer = Callable[[str, Sequence[str]], Sequence[float]]
PACKAGES = ("rerankers", "bm25s", "rank_bm25", "flashrank")


def main(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    answers: dict[str, Any] = {}
    scorers = {"rerankers": late_interaction(task["model"]), "bm25s": by_bm25s}
    for name, scorer in {**scorers, "rank_bm25": by_rank_bm25, **flashrank(answers)}.items():
        scorer("warm up", ["a text", "another text"])
        start_s, cpu_s = time.perf_counter(), time.process_time()
        scores = [np.asarray(scorer(*pair), float).tolist() for pair in task["lists"]]
        answers[name] = {
            "scores": scores,
            "seconds": time.perf_counter() - start_s,
            "processor_seconds": time.process_time() - cpu_s,
        }
    answers["versions"] = {name: version(name) for name in PACKAGES}
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


def late_interaction(model: str) -> Scorer:
    """Return the ColBERT of `rerankers` with the weights of a folder."""
    torch.manual_seed(0)
    reranker = Reranker(model, model_type="colbert", verbose=0, device="cpu", dtype=torch.float32)

    def score(request: str, texts: Sequence[str]) -> list[float]:
        ranked = reranker.rank(request, list(texts), doc_ids=list(range(len(texts))))
        by_place = {result.doc_id: float(result.score) for result in ranked.results}
        return [by_place[place] for place in range(len(texts))]

    return score


def by_bm25s(request: str, texts: Sequence[str]) -> np.ndarray:
    """Return BM25 among the texts of a list, by bm25s."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), show_progress=False), show_progress=False)
    tokens = bm25s.tokenize([request], return_ids=False, show_progress=False)[0]
    known = [token for token in tokens if token in index.vocab_dict]
    return index.get_scores(known) if known else np.zeros(len(texts))


def by_rank_bm25(request: str, texts: Sequence[str]) -> np.ndarray:
    """Return BM25 among the texts of a list, by rank_bm25."""
    index = BM25Okapi([text.lower().split() for text in texts])
    return index.get_scores(request.lower().split())


def flashrank(answers: dict[str, Any]) -> dict[str, Scorer]:
    """Return FlashRank where its model can be had; its refusal is written to the answers."""
    from flashrank import Ranker, RerankRequest

    try:
        ranker = Ranker()
    except Exception as error:  # of requests, and of onnxruntime
        answers["flashrank refused"] = f"{type(error).__name__}: {str(error)[:200]}"
        return {}

    def score(request: str, texts: Sequence[str]) -> list[float]:
        passages = [{"id": place, "text": text} for place, text in enumerate(texts)]
        ranked = ranker.rerank(RerankRequest(query=request, passages=passages))
        by_place = {row["id"]: float(row["score"]) for row in ranked}
        return [by_place[place] for place in range(len(texts))]

    return {"flashrank": score}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
