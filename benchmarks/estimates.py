"""What `tailor fit --dry-run` says against what the fit then takes, on three sizes of the planted
shop; each in a process of its own.

python benchmarks/estimates.py [--threads 1]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from budgets import memory_gb
from writing import write_result

# users, items
SIZES = {"small": (5_000, 1_500), "middle": (20_000, 5_000), "large": (60_000, 12_000)}
METHODS = (
    "counting",
    "CoVisitation",
    "TwoStep",
    "EASE",
    "ItemKNN",
    "TextNeighbours",
    "GraphHeuristic",
    "SASRec, 3 epochs",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--job", nargs=4, help="dry or fit, method, folder of the data, threads")
    given = parser.parse_args()
    if given.job:
        print(json.dumps(job(*given.job)))
        return
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for size, (users, items) in SIZES.items():
            data = Path(folder) / size
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    (
                        f"from tailor.worlds.shop import shop; shop({users},"
                        f" {items}).data.save({str(data)!r})"
                    ),
                ],
                check=True,
            )
            for name in METHODS:
                said, was = (
                    in_a_process(what, name, data, given.threads) for what in ("dry", "fit")
                )
                one = {
                    "size": size,
                    "method": name,
                    "events": was["events"],
                    "estimate_s": said["seconds"],
                    "fit_s": was["seconds"],
                    "dry_run_s": said["took"],
                    "estimate_gb": said["gb"],
                    "fit_gb": was["gb"],
                    "guessed": said["guessed"],
                    "seconds_ratio": round(said["seconds"] / was["seconds"], 2),
                    "memory_ratio": round(said["gb"] / was["gb"], 2),
                }
                figures.append(one)
                print(one, flush=True)
    print(
        write_result(
            "estimates",
            0,
            "python benchmarks/estimates.py",
            {"threads": given.threads, "runs": figures},
        )
    )


def in_a_process(what: str, name: str, data: Path, threads: int) -> dict:
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), str(threads)
    )
    command = [sys.executable, __file__, "--job", what, name, str(data), str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def job(what: str, name: str, data: str, threads: str) -> dict:
    from tailor.core.costs import estimate, resident_bytes
    from tailor.core.run import Run
    from tailor.core.specs import build, read_pipeline
    from tailor.data.dataset import Dataset
    from tailor.data.splits import last_out
    from tailor.pipeline.default import FILES, pipeline_file
    from tailor.retrieval.sasrec import SASRec

    split = last_out(Dataset.open(data))
    train, run = split.train, Run(workers=int(threads))
    train.sequences  # noqa: B018  # made here, as in the command
    method = (
        SASRec(epochs=3, patience=None)
        if name.startswith("SASRec")
        else build(read_pipeline(pipeline_file(name) if name in FILES else name))
    )
    before, started = resident_bytes(), time.perf_counter()
    if what == "dry":
        cost = estimate(method, train, run, split)
        return {
            "took": round(time.perf_counter() - started, 2),
            "seconds": round(cost.seconds, 3),
            "gb": round((before + cost.peak_bytes) / 2**30, 3),
            "guessed": list(cost.guessed),
        }
    method.fit(train, run, split)
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "gb": round(memory_gb("VmHWM"), 3),
        "events": len(train.events),
    }


if __name__ == "__main__":
    main()
