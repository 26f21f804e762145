"""How long reranking takes over HTTP: 20 passages, by words, by meaning and by E2Rank.

    python benchmarks/reranking_http.py [--requests 400] [--rate 10]

TREC DL 2019's lists of 20 passages, MiniLM on one core. Every list is asked once before, so that
its passages are in memory; requests are encoded each time. Then the same lists with new passages,
which must be encoded. Writes benchmarks/results/reranking_http.json.
"""

import argparse
import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from judged_lists import judged_lists
from served import Served, served
from service_load import Line, offered
from writing import write_result

from tailor.papers.reranking.e2rank import E2Rank
from tailor.worlds.shop import shop

MODELS = ("bm25", "embed", "E2Rank")


async def measured(server: Served, bodies: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    """Return latencies of every model, warm and with passages that are new."""
    lines = [Line("127.0.0.1", server.port, server.key) for _ in range(8)]

    async def asked(rows: list[dict[str, Any]]) -> dict[str, Any]:
        texts = [json.dumps(row).encode() for row in rows]
        return await offered(lines, "/v2/rerank", texts, rate, server.pid)

    figures = {}
    for model in MODELS:
        named = [{**body, "model": model} for body in bodies]
        distinct = {body["query"]: body for body in named}
        await asked(list(distinct.values()))
        figures[model] = await asked(named)
        print(model, json.dumps(figures[model]), flush=True)
    new = [
        {**body, "model": "embed", "documents": [f"{text} {i}" for text in body["documents"]]}
        for i, body in enumerate(bodies[: len(bodies) // 4])
    ]
    figures["embed, passages that are new"] = await asked(new)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rate", type=float, default=10)
    given = parser.parse_args()
    os.sched_setaffinity(0, {1})
    lists = [of_query.shortlist for of_query in judged_lists("dl19", 20)]
    bodies = [
        {
            "query": lists[i % len(lists)].request,
            "documents": list(lists[i % len(lists)].texts),
            "prior_scores": lists[i % len(lists)].prior.tolist(),
        }
        for i in range(given.requests)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = E2Rank().fit(shop(users=40, items=20, seed=0).data).save(folder / "e2rank")
        with served(["--reranker", str(model), "--meaning"], folder) as server:
            figures = asyncio.run(measured(server, bodies, given.rate))
    command = "python benchmarks/reranking_http.py"
    print(write_result("reranking_http", 0, command, figures))


if __name__ == "__main__":
    main()
