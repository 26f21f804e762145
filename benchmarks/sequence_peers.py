"""SASRec of RecTools and of RecBole on our data and our test queries: seconds an epoch, and what is
reached in a given time.

    python benchmarks/sequence_peers.py --data beauty --minutes 10 --rectools
    /tmp/rectools/bin/python --recbole /tmp/recbole/bin/python

How their environments are made, and what the lines of the result mean: benchmarks/peers/README.md.
Leave-last-out, learned from train, asked with train and validation, whole catalogue ranked, seen
items removed; width 64, 1 block, 1 head, length 50; the rest as the libraries have it. Adds one
line a run to benchmarks/results/sequence-peers.jsonl.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from judging import intervals, judged, seen_share
from shared_data import ROOT, real

from tailor.bench.claims import environment
from tailor.data.splits import Split, split_by

PEERS = Path(__file__).parent / "peers"
LINES = Path(__file__).parent / "results" / "sequence-peers.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("beauty", "sports", "ml-100k"), default="beauty")
    parser.add_argument("--rectools", help="python of RecTools' virtual environment")
    parser.add_argument("--recbole", help="python of RecBole's virtual environment")
    parser.add_argument(
        "--loss",
        help="of RecTools: softmax, BCE, gBCE or sampled_softmax (default: its own, softmax)",
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="of each, for preparing the data and training"
    )
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="minutes of the processor, not on the wall: on a machine that others use",
    )
    parser.add_argument("--epochs", type=int, default=10_000, help="epochs at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    split = split_by(real(given.data), "last")
    for python, program in (
        (given.rectools, "rectools_sasrec.py"),
        (given.recbole, "recbole_sasrec.py"),
    ):
        if python:
            loss = ["--loss", given.loss] if given.loss and program.startswith("rectools") else []
            limits = [
                "--minutes",
                given.minutes,
                "--epochs",
                given.epochs,
                "--threads",
                given.threads,
                *loss,
                *(["--cpu"] if given.cpu else []),
            ]
            line = {
                "data": given.data,
                "minutes": given.minutes,
                "minutes_of": "processor" if given.cpu else "wall",
                "seed": given.seed,
                **ran(split, python, program, limits, given.seed),
                **about(),
            }
            print(json.dumps(line))
            with LINES.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def about() -> dict:
    found = environment(ROOT)
    return {"machine": found["machine"], "date": found["date"]}


def write_task(split: Split, folder: Path, seed: int) -> None:
    """The sequences as item rows of the catalogue, which stand in a hashed order, so that ids give
    nothing away.
    """
    train, asked = split.train.sequences.rows, split.queries("test")[0].histories
    train = train.take(np.flatnonzero(train.lengths))
    np.savez(
        folder / "task.npz",
        items=len(split.data.catalogue),
        seed=seed,
        train_offsets=train.offsets,
        train_values=train.values,
        asked_offsets=asked.offsets,
        asked_values=asked.values,
    )


def ran(split: Split, python: str, program: str, limits: list, seed: int) -> dict:
    """What the program says of itself, and its lists judged."""
    with tempfile.TemporaryDirectory() as folder:
        write_task(split, Path(folder), seed)
        threads = str(limits[limits.index("--threads") + 1])
        done = subprocess.run(
            [python, str(PEERS / program), folder, *map(str, limits)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
            },
        )
        if done.returncode:
            raise SystemExit(f"{program} ended with {done.returncode}:\n{done.stderr[-4000:]}")
        line = json.loads(done.stdout.splitlines()[-1])
        with np.load(Path(folder) / line.pop("lists")) as answer:
            rows = answer["rows"]
    if seen_share(split, rows):
        raise SystemExit(
            f"{program} answered items of the history: {seen_share(split, rows):.2%} of all places"
        )
    return {
        **line,
        **judged(split, rows),
        "intervals": intervals(split, rows),
        "empty": round(float((rows < 0).all(axis=1).mean()), 4),
    }


if __name__ == "__main__":
    main()
