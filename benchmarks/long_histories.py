"""Time of scoring 500 candidates for one user by the length of the history.

SDIM reads tables of buckets, DIN weighs every event for every candidate. Both are asked through
`predict`, and their nets alone, with the whole history and all candidates in one batch. Weights are
of a fit of one epoch: time does not depend on what was learned.

    python benchmarks/long_histories.py
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from writing import write_result

from tailor.core.run import Run
from tailor.data.nouns import History, Query
from tailor.papers.ranking.din import DIN
from tailor.papers.ranking.sdim import SDIM
from tailor.ranking.behaviours import BehaviourPredictor
from tailor.worlds.interests import interests

LENGTHS = (50, 512, 1024, 4096)
CANDIDATES = 500
REPEATS = 5
SETTINGS = {"source": "shown", "width": 16, "epochs": 1}


def main() -> None:
    torch.set_num_threads(1)
    data = interests(people=50, length=100, visits=4).data
    rng = np.random.default_rng(0)
    ids = data.catalogue.ids
    candidates = ids[rng.choice(len(ids), CANDIDATES, replace=False)].tolist()
    rows = []
    for length in LENGTHS:
        query = Query(history=History.of(*ids[rng.integers(len(ids), size=length)].tolist()))
        row: dict[str, float] = {"events": length}
        for name, cls in {"DIN": DIN, "SDIM": SDIM}.items():
            method = cls(**SETTINGS, history=length).fit(data, Run(seed=0, workers=1))
            row |= milliseconds(method, name, query, candidates)
        row["DIN / SDIM"] = row["DIN, ms"] / row["SDIM, ms"]
        row["DIN / SDIM, nets"] = row["DIN's net, ms"] / row["SDIM's net, ms"]
        rows.append({key: round(value, 2) for key, value in row.items()})
        print(rows[-1])
    figures = {"candidates": CANDIDATES, "threads": 1, "rows": rows}
    print(write_result("long-histories", 0, "python benchmarks/long_histories.py", figures))


def milliseconds(
    method: BehaviourPredictor, name: str, query: Query, candidates: list[str]
) -> dict[str, float]:
    """Return the time of a prediction, and of its net alone."""
    queries, items = method._pairs([query], [candidates])
    batch = method._encode(queries, items).batch(slice(None))
    net = method._ready()

    def run_net() -> None:
        with torch.inference_mode():
            net(batch)

    return {
        f"{name}, ms": fastest(lambda: method.predict([query], [candidates])),
        f"{name}'s net, ms": fastest(run_net),
    }


def fastest(action: Callable[[], object]) -> float:
    """Return the least of several times, in milliseconds of the processor."""
    action()
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
