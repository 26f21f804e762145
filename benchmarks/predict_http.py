"""How long 500 candidates take over HTTP: DIN, a history of 50 events, one core.

    python benchmarks/predict_http.py [--requests 500] [--rate 20]

A planted log; every request has a history and candidates of its own. Writes
benchmarks/results/predict_http.json.
"""

import argparse
import asyncio
import json
import os
import tempfile
from pathlib import Path

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
    parser.add_argument("--rate", type=float, default=20)
    given = parser.parse_args()
    os.sched_setaffinity(0, {1})
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
            lines = [Line("127.0.0.1", server.port, server.key) for _ in range(8)]

            async def asked(rows: list[bytes]) -> dict[str, object]:
                return await offered(lines, "/v1/predict", rows, given.rate, server.pid)

            figures = asyncio.run(_after_warm_up(asked, bodies))
    print(json.dumps(figures))
    print(write_result("predict_http", 0, "python benchmarks/predict_http.py", figures))


async def _after_warm_up(asked, bodies: list[bytes]):  # type: ignore[no-untyped-def]
    """Return the figures of all requests, after twenty that are not counted."""
    await asked(bodies[:20])
    return await asked(bodies)


if __name__ == "__main__":
    main()
