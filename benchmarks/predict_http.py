"""How long 500 candidates take over HTTP: DIN, a history of 50 events, one core for the service.

    python benchmarks/predict_http.py [--requests 500] [--rates 5 20]

A planted log; every request has a history and candidates of its own. First one request after the
other, then at random times, so many a second: there, who comes while another is answered waits.
Writes benchmarks/results/predict_http.json.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from served import served
from service_load import Line, offered
from writing import write_result

from tailor.papers.ranking.din import DIN
from tailor.worlds.interests import interests

HISTORY = 50
CANDIDATES = 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--rates", type=float, nargs="*", default=[5, 20])
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})  # the service inherits it
    data = interests(people=300, length=HISTORY, visits=4).data
    ids = data.catalogue.ids
    rng = np.random.default_rng(0)
    bodies = [
        json.dumps(
            {
                "history": ids[rng.integers(len(ids), size=HISTORY)].tolist(),
                "item_ids": ids[rng.permutation(len(ids))[:CANDIDATES]].tolist(),
            }
        ).encode()
        for _ in range(given.requests)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predictor = DIN(source="shown", width=16, history=HISTORY, epochs=1).fit(data)
        model = predictor.save(folder / "din")
        with served(
            ["--predictor", str(model), "--data", str(data.save(folder / "data"))], folder
        ) as server:
            os.sched_setaffinity(0, {cores[0]})
            lines = [Line("127.0.0.1", server.port, server.key) for _ in range(8)]
            figures = asyncio.run(_measure(lines, bodies, given.rates, server.pid))
    print(write_result("predict_http", 0, "python benchmarks/predict_http.py", figures))


async def _measure(
    lines: list[Line], bodies: list[bytes], rates: list[float], pid: int
) -> dict[str, Any]:
    """Return the figures one after the other, and at each rate, after some that do not count."""
    await _in_turn(lines[0], bodies[:20])
    figures = {"one after the other": await _in_turn(lines[0], bodies)}
    for rate in rates:
        figures[f"{rate:g} a second"] = await offered(lines, "/v1/predict", bodies, rate, pid)
    for name, row in figures.items():
        print(name, json.dumps(row))
    return figures


async def _in_turn(line: Line, bodies: list[bytes]) -> dict[str, Any]:
    """Send each body when the one before is answered; latencies in milliseconds."""
    took = []
    failed = 0
    for body in bodies:
        begun = time.perf_counter()
        failed += await line.send("POST", "/v1/predict", body) != 200
        took.append(1_000 * (time.perf_counter() - begun))
    p50, p95, p99 = np.percentile(took, (50, 95, 99)).round(1).tolist()
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "worst_ms": round(max(took), 1),
        "not 200": failed,
        "requests": len(bodies),
    }


if __name__ == "__main__":
    main()
