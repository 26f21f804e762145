"""The service under load: a generator on one core, the server on another, over the loopback.

    python benchmarks/service_load.py [--model FOLDER] [--rates 50 100 200 300 400 600 800]
    [--seconds 30] [--workers 1]

Beauty: 12,101 items, 22,363 people, the default pipeline (fitted on all first where no --model is
given; it may take ten minutes). Requests come at random times at a given rate, whatever the answers
take (an open loop): a latency is counted from when the request should have gone out, so that a
server that stalls pays for all who wait. Then events in batches of 100, both at once, and filtered
recommendations while prices change. Writes benchmarks/results/service.json.

Where others are at work on the machine, `chrt -r 10 python benchmarks/service_load.py` gives the
two programs their cores before anybody else; the result says so, and how busy the machine was.
"""

import argparse
import asyncio
import gc
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from served import served
from shared_data import real
from writing import write_result

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.pipeline.default import default_pipeline

CONNECTIONS = 64
# nine of ten items of Beauty
SOME = "not (title contains 'Hair') and (price is missing or price <= 50)"


class Line:
    """One connection that is kept: a request at a time."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self.host, self.port, self.key = host, port, key
        self.reader: Any = None
        self.writer: Any = None

    async def send(self, verb: str, path: str, body: bytes) -> int:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = (
            f"{verb} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer"
            f" {self.key}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(int(re.search(rb"content-length: (\d+)", answer)[1]))  # type: ignore[index]
        return int(answer[9:12])


async def offered(
    lines: list[Line], path: str, bodies: list[bytes], rate: float, pid: int, verb: str = "POST"
) -> dict[str, Any]:
    """Send `bodies` at random times, `rate` a second; latencies in ms from when each was due."""
    free: asyncio.Queue[Line] = asyncio.Queue()
    for line in lines:
        free.put_nowait(line)
    due = np.cumsum(np.random.default_rng(0).exponential(1 / rate, len(bodies)))
    busy = processor_s(pid)
    took, statuses, begun = np.zeros(len(bodies)), np.zeros(len(bodies), int), time.perf_counter()

    async def one(i: int) -> None:
        line = await free.get()
        statuses[i] = await line.send(verb, path, bodies[i])
        took[i] = (time.perf_counter() - begun - due[i]) * 1000
        free.put_nowait(line)

    tasks = []
    for i, at in enumerate(due):
        await asyncio.sleep(max(0.0, begun + at - time.perf_counter()))
        tasks.append(asyncio.create_task(one(i)))
    await asyncio.gather(*tasks)
    seconds = time.perf_counter() - begun
    p50, p95, p99 = np.percentile(took, (50, 95, 99)).round(1).tolist()
    return {
        "asked a second": rate,
        "answered a second": round(len(bodies) / seconds, 1),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "worst_ms": round(float(took.max()), 1),
        "processor_ms a request": round(1000 * (processor_s(pid) - busy) / len(bodies), 2),
        "not 200": int((statuses != 200).sum()),
        "requests": len(bodies),
    }


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_gb(pid: int) -> float:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return round(int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**30, 3)


def rank_call(model: Path) -> dict[str, Any]:
    """The model's own call for one query at a time, without a server."""
    from tailor.core.saving import load

    queries, method = real("beauty").queries(), load(model)
    some = [queries[int(i)] for i in np.random.default_rng(1).permutation(len(queries))[:500]]
    method.recommend(some[:5], 10)
    took = []
    for query in some:
        started = time.perf_counter()
        method.recommend([query], 10)
        took.append((time.perf_counter() - started) * 1000)
    return {
        name: round(float(np.percentile(took, q)), 2)
        for name, q in (("p50_ms", 50), ("p99_ms", 99))
    }


def timed() -> Dataset:
    """Beauty with times, which it lacks: one second from event to event of a person, as they are
    ordered.
    """
    data = real("beauty")
    rows = data.sequences.rows
    place = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths)
    columns = {
        "user_id": data.users.ids[rows.row_ids],
        "item_id": data.catalogue.ids[rows.values],
        "time_ms": 1_700_000_000_000 + 1000 * place,
    }
    return Dataset.from_events(columns, data.item_table, name="beauty-timed")


def fitted(folder: Path) -> Path:
    split = split_by(real("beauty"), "last")
    default_pipeline().fit(split.train, Run(workers=2), split).save(folder / "model")
    return folder / "model"


async def measured(port: int, key: str, pid: int, given: argparse.Namespace) -> dict[str, Any]:
    data, rng = real("beauty"), np.random.default_rng(2)
    users, items = data.users.ids, data.catalogue.ids
    lines = [Line("127.0.0.1", port, key) for _ in range(CONNECTIONS)]

    def asked(rate: float, **more: Any) -> list[bytes]:
        return [
            json.dumps({"user_id": users[int(rng.integers(len(users)))], "k": 10, **more}).encode()
            for _ in range(int(rate * given.seconds))
        ]

    def events(rate: float, mark: str) -> list[bytes]:
        return [
            json.dumps(
                {
                    "events": [
                        {
                            "event_id": f"{mark}-{b}-{i}",
                            "user_id": users[int(rng.integers(len(users)))],
                            "item_id": items[int(rng.integers(len(items)))],
                        }
                        for i in range(100)
                    ]
                }
            ).encode()
            for b in range(int(rate / 100 * given.seconds))
        ]

    gc.collect()
    gc.freeze()  # a collection of the data that is held here would count as the server's
    await offered(lines, "/v1/recommendations", asked(20)[:200], 20, pid)  # warm
    out: dict[str, Any] = {
        "memory at start, GB": memory_gb(pid),
        "recommendations": [],
        "events, batches of 100": [],
    }
    for rate in given.rates:
        out["recommendations"].append(
            await offered(lines, "/v1/recommendations", asked(rate), rate, pid)
        )
        print(json.dumps(out["recommendations"][-1]), flush=True)
    for rate in given.events:
        found = await offered(lines, "/v1/events", events(rate, f"alone{rate}"), rate / 100, pid)
        out["events, batches of 100"].append({"events a second": rate, **found})
        print(json.dumps(out["events, batches of 100"][-1]), flush=True)
    both = await asyncio.gather(
        offered(lines[:48], "/v1/recommendations", asked(100), 100, pid),
        offered(lines[48:], "/v1/events", events(1000, "both"), 10, pid),
    )
    out["100 recommendations and 1,000 events a second at once"] = {
        "recommendations": both[0],
        "events": both[1],
    }
    prices = [
        json.dumps(
            {
                "items": [
                    {
                        "item_id": items[int(rng.integers(len(items)))],
                        "title": "a thing",
                        "price": float(rng.integers(1, 100)),
                    }
                ]
            }
        ).encode()
        for _ in range(int(5 * given.seconds))
    ]
    while_changed = await asyncio.gather(
        offered(lines[:48], "/v1/recommendations", asked(100, filter=SOME), 100, pid),
        offered(lines[48:], "/v1/items", prices, 5, pid, "PUT"),
    )
    out["100 filtered recommendations a second while 5 items a second change"] = {
        "recommendations": while_changed[0],
        "items": while_changed[1],
    }
    out["100 recommendations a second with reasons"] = await offered(
        lines, "/v1/recommendations", asked(100, explain=True), 100, pid
    )
    titles = [title for title in data.texts_of("title") if title]
    searches = [
        json.dumps({"text": " ".join(titles[int(row)].split()[:3]), "k": 10}).encode()
        for row in rng.integers(len(titles), size=int(100 * given.seconds))
    ]
    out["100 searches a second"] = await offered(lines, "/v1/search", searches, 100, pid)
    strangers = [Line("127.0.0.1", port, "no key") for _ in range(4)]
    with_strangers = await asyncio.gather(
        offered(lines, "/v1/recommendations", asked(100), 100, pid),
        large_bodies(strangers, int(2 * given.seconds)),
    )
    out["100 recommendations a second beside a stranger's bodies of 8 MB, two a second"] = (
        with_strangers[0]
    )
    out["memory at the end, GB"] = memory_gb(pid)
    return out


async def large_bodies(lines: list[Line], bodies: int) -> int:
    """Send bodies of 8 MB without a good key, two a second; return how many were refused."""
    body = b'{"events": [' + b" " * (8 * 2**20 - 20) + b"]}"
    refused = 0
    for i in range(bodies):
        line = lines[i % len(lines)]
        try:
            refused += await line.send("POST", "/v1/events", body) in (401, 429)
        except (ConnectionError, asyncio.IncompleteReadError):
            refused += 1  # closed while the body was still being sent
        line.writer = None
        await asyncio.sleep(0.5)
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[50, 100, 200, 300, 400, 600, 800]
    )
    parser.add_argument("--events", type=float, nargs="+", default=[2000, 5000])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--database", help="of the store; left out: SQLite in a fresh folder")
    given = parser.parse_args()
    others = {
        "load of the machine before": [round(one, 1) for one in os.getloadavg()],
        "before everybody else": os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO),
    }
    os.sched_setaffinity(0, {1})
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first imported, here and by the server
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed().save(folder / "data")
        model = given.model or fitted(folder)
        arguments = ["--model", str(model), "--data", str(folder / "data")]
        arguments += ["--workers", str(given.workers)]
        arguments += ["--database", given.database or str(folder / "store.db")]
        with served(arguments, folder) as server:
            figures = {
                "rank call alone": rank_call(model),
                **asyncio.run(measured(server.port, server.key, server.pid, given)),
            }
        print(
            write_result(
                "service",
                0,
                "python benchmarks/service_load.py",
                figures
                | {
                    "workers": given.workers,
                    "database": given.database or "sqlite",
                    **others,
                },
            )
        )


if __name__ == "__main__":
    main()
