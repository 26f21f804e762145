"""Whether the service's memory stays as it is: ten minutes of recommendations and events, looked at
every minute.

    python benchmarks/service_memory.py --model FOLDER [--minutes 10] [--rate 50]

Beauty, one worker, SQLite. Writes benchmarks/results/service-memory.json.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from service_load import CONNECTIONS, Line, memory_gb, offered, timed
from shared_data import real
from writing import write_result


async def watched(port: int, key: str, pid: int, minutes: int, rate: float) -> list[dict[str, Any]]:
    data, rng, out = real("beauty"), np.random.default_rng(0), []
    users, items = data.users.ids, data.catalogue.ids
    lines = [Line("127.0.0.1", port, key) for _ in range(CONNECTIONS)]
    for minute in range(minutes + 1):  # the first warms up
        asked = [
            json.dumps({"user_id": users[int(rng.integers(len(users)))], "k": 10}).encode()
            for _ in range(int(rate * 60))
        ]
        sent = [
            json.dumps(
                {
                    "events": [
                        {
                            "event_id": f"{minute}-{b}-{i}",
                            "user_id": users[int(rng.integers(len(users)))],
                            "item_id": items[int(rng.integers(len(items)))],
                        }
                        for i in range(10)
                    ]
                }
            ).encode()
            for b in range(60)
        ]
        lists, events = await asyncio.gather(
            offered(lines[:48], "/v1/recommendations", asked, rate, pid),
            offered(lines[48:], "/v1/events", sent, 1, pid),
        )
        out.append(
            {
                "minute": minute,
                "memory, GB": memory_gb(pid),
                "p99_ms": lists["p99_ms"],
                "not 200": lists["not 200"] + events["not 200"],
            }
        )
        print(out[-1], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        folder = Path(name)
        timed().save(folder / "data")
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [
            sys.executable,
            "-m",
            "tailor",
            "serve",
            "--model",
            str(given.model),
            "--data",
            str(folder / "data"),
            "--port",
            str(port),
            "--database",
            str(folder / "s.db"),
            "--first-key",
            str(folder / "first-key"),
        ]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        try:
            said = ""
            while "Serving on" not in said:
                said += server.stdout.readline()  # type: ignore[union-attr]
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.2)
            found = asyncio.run(
                watched(
                    port,
                    (folder / "first-key").read_text().strip(),
                    server.pid,
                    given.minutes,
                    given.rate,
                )
            )  # type: ignore[index]
        finally:
            server.terminate()
            server.wait(30)
    print(
        write_result(
            "service-memory",
            0,
            "python benchmarks/service_memory.py",
            {"rate": given.rate, "events a second": 10, "minutes": found},
        )
    )


if __name__ == "__main__":
    main()
