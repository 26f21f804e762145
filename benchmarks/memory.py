"""Recall from memories: LoCoMo by category, and the speed of a search by size.

`python benchmarks/memory.py` writes benchmarks/results/memory.json. LoCoMo: recall of evidence
turns at ten, weights chosen on the nine other dialogues; abstention by AUROC of answerable against
adversarial questions. Speed: propositions of planted words, warm (the memory is open) and cold; the
request's vector is made beforehand, as an encoder's time is its own. `--speed` leaves LoCoMo out.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
from memory_tools import locomo_figures
from writing import write_result

from tailor.core.run import Run
from tailor.ports.base import Encoder
from tailor.profiles.recall import OpenedMemory, Recall, Remembered
from tailor.worlds import life_words

SIZES = (1_000, 10_000)
REQUESTS = 60
WIDTH = 384  # of MiniLM's vectors
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Unread(Encoder):
    """Gives every text a vector drawn by its words, at no cost."""

    space = "unread"

    def encode(self, texts):
        seeds = [sum(text.encode()) for text in texts]
        vectors = np.array([np.random.default_rng(seed).standard_normal(WIDTH) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true", help="leave LoCoMo out")
    run = Run()
    figures: dict[str, object] = {"speed": [speed(size, form) for size in SIZES for form in FORMS]}
    if not parser.parse_args().speed:
        figures["locomo"] = locomo_figures(run)
    print(write_result("memory", run.seed, "python benchmarks/memory.py", figures))


FORMS = {"words": Recall(), "words and vectors": Recall(encoder=Unread())}


def speed(size: int, form: str) -> dict[str, object]:
    """Return milliseconds of a search in a memory of some propositions."""
    recall = FORMS[form]
    memory = propositions(size)
    vectors = recall.vectors(memory)
    started = time.perf_counter()
    opened = recall.opened(memory, vectors if vectors.shape[1] else None)
    opened_ms = 1000 * (time.perf_counter() - started)
    seconds = [timed(opened, memory[i * size // REQUESTS].text) for i in range(REQUESTS)]
    p50, p95 = np.quantile(1000 * np.array(seconds), [0.5, 0.95])
    return {
        "propositions": size,
        "form": form,
        "open_ms": round(opened_ms, 1),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
    }


def timed(opened: OpenedMemory, request: str) -> float:
    started = time.perf_counter()
    opened.search(request)
    return time.perf_counter() - started


def propositions(size: int) -> list[Remembered]:
    """Return propositions of planted words, a minute apart."""
    rng = np.random.default_rng(0)
    predicates = list(life_words.VALUES)
    rows = []
    for number in range(size):
        predicate = predicates[rng.integers(len(predicates))]
        first, second = rng.choice(life_words.VALUES[predicate], 2).tolist()
        text = f"{predicate} {first} and {second} number {number}"
        rows.append(Remembered(str(number), "proposition", text, number * MINUTE_MS))
    return rows


if __name__ == "__main__":
    main()
