"""Speed and memory of training sequence nets: seconds an epoch, the share of the machine's matrix
rate that a step reaches, memory at ten million events.

    python benchmarks/training.py [--threads 2] [--jobs beauty long ten-million]

Every job runs in a process of its own. FLOPs are counted from the shapes of the batches: 24 D^2 a
place and block, 4 T D a place for attention, 2 K D a predicting place for the loss, three times
that for forward and backward pass. The matrix rate is that of a product of the loss's shape in the
number format that training uses.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from shared_data import real_split
from writing import write_result

from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.retrieval.bert4rec import BERT4Rec
from tailor.retrieval.gru4rec import GRU4Rec
from tailor.retrieval.hstu import HSTU
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.sequences import SequenceRecommender, whole_windows
from tailor.worlds.shop_log import shop_log

# fits of one epoch each; the fastest counts, since others on the machine only make them slower
REPEATS = 5


def matrix_rate(threads: int) -> dict[str, float]:
    """GFLOP/s of (256, 64) @ (64, 2048), the best of many."""
    torch.set_num_threads(threads)
    out = {}
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.randn(256, 64).to(kind), torch.randn(2048, 64).to(kind)
        tries = []
        for _ in range(200):
            started = time.perf_counter()
            left @ right.T
            tries.append(time.perf_counter() - started)
        out[str(kind).removeprefix("torch.")] = 2 * 256 * 64 * 2048 / min(tries) / 1e9
    return out


def flops(method: SequenceRecommender, data: Dataset) -> tuple[float, float]:
    """Of one epoch, counted; and padded places for each real one."""
    rows = data.sequences.rows
    batches = method._batches(whole_windows(rows, method.length), rows, np.random.default_rng(0))
    width, blocks = method.width, getattr(method, "blocks", 1)
    total, places, real = 0.0, 0, 0
    for batch in batches:
        longest = int(batch.lengths.max())
        padded, predicting = len(batch.lengths) * longest, int(batch.lengths.sum())
        layers = padded * blocks * (24 * width**2 + 4 * longest * width)
        total += 3 * (
            layers
            + predicting * 2 * min(method.negatives or method._net.items, method._net.items) * width
        )
        places, real = places + padded, real + predicting
    return total, places / real


def epochs(
    method: SequenceRecommender, data: Dataset, threads: int, repeats: int = REPEATS
) -> dict:
    # what only the first steps of a process pay for
    clone(method).fit(data, Run(workers=threads, deadline_s=1.0))
    every = [method.fit(data, Run(workers=threads)).fit_report_["seconds"] for _ in range(repeats)]
    seconds = min(every)
    rate = matrix_rate(threads)
    work, padding = flops(method, data)
    kind = method.fit_report_["dtype"]
    return {
        "s an epoch": round(seconds, 2),
        "of": every,
        "events": len(data.events),
        "GFLOP an epoch": round(work / 1e9, 1),
        "padded places a real one": round(padding, 3),
        "dtype": kind,
        "matrix rate, GFLOP/s": {name: round(one) for name, one in rate.items()},
        "share of the matrix rate": round(work / 1e9 / seconds / rate[kind], 3),
        "loss": method.fit_report_["loss"],
    }


def beauty(threads: int) -> dict:
    data = real_split("beauty").train
    nets = {
        "SASRec": SASRec,
        "SASRec, gated blocks": SASRec,
        "HSTU": HSTU,
        "GRU4Rec": GRU4Rec,
        "BERT4Rec": BERT4Rec,
    }
    return {
        name: epochs(
            net(epochs=1, patience=None, **({"gated": True} if "gated" in name else {})),
            data,
            threads,
        )
        for name, net in nets.items()
    }


def long(threads: int) -> dict:
    """Planted, the size of MovieLens 1M, histories of up to 200 events."""
    data = shop_log(users=6_040, items=3_706, events=1_000_209, seed=0)
    return {
        "SASRec, length 200": epochs(
            SASRec(epochs=1, patience=None, length=200), data, threads, repeats=2
        )
    }


def ten_million(threads: int) -> dict:
    """Planted log of 10 M events, 30,000 items, 500,000 people: two minutes of training."""
    data = shop_log(users=500_000, items=30_000, events=10_000_000, seed=0)
    data.sequences  # noqa: B018 (sorted now, not while training is measured)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    method = SASRec(epochs=1, patience=None).fit(data, Run(workers=threads, deadline_s=120))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report = method.fit_report_
    per_epoch = sum(
        len(batch.lengths) > 0
        for batch in method._batches(
            whole_windows(data.sequences.rows, method.length),
            data.sequences.rows,
            np.random.default_rng(0),
        )
    )
    return {
        "GB before": round(before, 2),
        "GB above": round(peak - before, 2),
        "GB of item vectors": round(method.net_weights_["table.weight"].nbytes / 2**30, 4),
        "steps": report["steps"],
        "s an epoch at this rate": round(report["seconds"] / max(report["steps"], 1) * per_epoch),
        "stopped": report["stopped"],
    }


JOBS = {"beauty": beauty, "long": long, "ten-million": ten_million}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--job", help="one job, in this process")
    given = parser.parse_args()
    if given.job:
        print(json.dumps(JOBS[given.job](given.threads)))
        return
    figures: dict = {"threads": given.threads}
    for job in given.jobs:
        done = subprocess.run(
            [sys.executable, __file__, "--job", job, "--threads", str(given.threads)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.stderr)
        figures[job] = json.loads(done.stdout.strip().splitlines()[-1])
        print(job, json.dumps(figures[job], indent=1), flush=True)
    print(write_result("training", 0, "python benchmarks/training.py", figures))


if __name__ == "__main__":
    main()
