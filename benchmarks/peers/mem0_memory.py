"""mem0 on the dialogues of a task: what it recalls, and what is left after deleting a user.

    PYTHON mem0_memory.py FOLDER

FOLDER holds `task.json` (dialogues with turns and requests) and `vectors.npz` (the vector of every
text). Turns are stored as they are (`infer=False`: no language model is asked), the vectors are
ours, the store is qdrant on disk. Its keyword search asks for a file of stop words on the network;
it gets ours. `answer.json` gets rows of turns, residues in files, seconds and versions.
"""

import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path

os.environ["MEM0_TELEMETRY"] = "False"
os.environ["ANONYMIZED_TELEMETRY"] = "False"

import numpy as np


class Vectors:
    """An embedder that knows the texts of the task."""

    def __init__(self, texts: list[str], vectors: np.ndarray):
        stripped = [text.strip() for text in texts]  # as mem0 does with requests
        self.by_text = dict(zip(stripped, vectors.tolist(), strict=True))

    def embed(self, text: str, action: str | None = None) -> list[float]:
        return self.by_text[text.strip()]

    def embed_batch(self, texts: list[str], action: str | None = None) -> list[list[float]]:
        return [self.embed(text) for text in texts]


def main(folder: Path) -> None:
    os.environ["MEM0_DIR"] = str(folder / "mem0")
    task = json.loads((folder / "task.json").read_text())
    vectors = Vectors(task["texts"], np.load(folder / "vectors.npz")["vectors"])
    answers, seconds = [], {"write": 0.0, "recall": 0.0}
    residues = {}
    for number, dialogue in enumerate(task["dialogues"]):
        store = folder / "mem0" / str(number)
        memory = opened(store, vectors, set(task["stop_words"]))
        started_s = time.perf_counter()
        for row, line in enumerate(dialogue["lines"]):
            message = [{"role": "user", "content": line}]
            memory.add(message, user_id=dialogue["user"], metadata={"row": row}, infer=False)
        seconds["write"] += time.perf_counter() - started_s
        started_s = time.perf_counter()
        answers.append([recalled(memory, request, dialogue) for request in dialogue["requests"]])
        seconds["recall"] += time.perf_counter() - started_s
        if number == 0:
            needles = dialogue["needles"]
            residues["before"] = count_in_files(store, needles)
            memory.delete_all(user_id=dialogue["user"])
            left = memory.get_all(filters={"user_id": dialogue["user"]})["results"]
            residues["answers after"] = len(left)
            residues["after"] = count_in_files(store, needles)
    names = ("mem0ai", "qdrant-client", "fastembed")
    versions = {name: importlib.metadata.version(name) for name in names}
    result = {"rows": answers, "residues": residues, "seconds": seconds, "versions": versions}
    (folder / "answer.json").write_text(json.dumps(result))


def opened(store: Path, vectors: Vectors, stop_words: set[str]):
    """Return a memory on the disk that asks nobody for vectors."""
    from fastembed.sparse.bm25 import Bm25
    from mem0 import Memory

    store.mkdir(parents=True)
    nobody = {"provider": "openai", "config": {"api_key": "none"}}
    place = {"path": str(store / "qdrant"), "embedding_model_dims": 384, "on_disk": True}
    memory = Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": place},
            "embedder": nobody,
            "llm": nobody,
            "history_db_path": str(store / "history.db"),
        }
    )
    memory.embedding_model = vectors
    memory.vector_store._bm25_encoder = Bm25(
        "Qdrant/bm25", specific_model_path=str(store), stopwords=stop_words
    )
    return memory


def recalled(memory, request: str, dialogue: dict) -> list[int]:
    """Return the rows of the ten turns that fit a request best."""
    found = memory.search(request, filters={"user_id": dialogue["user"]}, top_k=10, threshold=0.0)
    return [result["metadata"]["row"] for result in found["results"]]


def count_in_files(folder: Path, needles: list[str]) -> int:
    """Return how many of some words stand in any file of a folder."""
    bodies = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return sum(any(needle.encode() in body for body in bodies) for needle in needles)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
