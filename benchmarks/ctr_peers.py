"""DeepFM beside that of torch-rechub and DeepCTR-Torch, in one run: AUC and seconds an epoch.

    python benchmarks/ctr_peers.py --peers /tmp/ctr/bin/python

How the peers' environment is made: benchmarks/peers/README.md. MovieLens-100k cut in time; ratings
of 4 and more are a 1; fields user_id, item_id, age, gender, occupation, release_year, the same
codes for all; width 16, layers 128 and 64, batches of 1,024, 10 epochs, the epoch with the best
validation AUC. Seconds are those of one processor; ours hold reading the data and validating too.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from shared_data import real
from writing import write_result

from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.splits import TEST, TRAIN, VALID, Split, by_time
from tailor.evaluation.predictions import evaluate_predictions
from tailor.metrics.prediction import auc
from tailor.ranking.deepfm import DeepFM

FIELDS = ("user_id", "item_id", "age", "gender", "occupation", "release_year")
PEER = Path(__file__).parent / "peers" / "ctr_packages.py"
LABEL = "value >= 4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="python of the peers' virtual environment")
    given = parser.parse_args()
    split = by_time(real("ml-100k"))
    figures = of_peers(split, given.peers)
    figures["Tailor"] = ours(split)
    print(json.dumps(figures, indent=1))
    command = "python benchmarks/ctr_peers.py --peers PYTHON"
    print(write_result("ctr-peers", 0, command, figures))


def ours(split: Split) -> dict[str, float]:
    """Return AUC and seconds an epoch of our DeepFM over the same fields."""
    fields = ("item_id", "item:release_year", "user:age", "user:gender", "user:occupation")
    method = DeepFM(
        source="label", label=LABEL, fields=fields, user_ids=True, history=0, least=1, epochs=10
    )
    started = time.process_time()
    method.fit(split.train, Run(seed=0, workers=1), split)
    took = time.process_time() - started
    judged = evaluate_predictions(
        {"DeepFM": method}, split, outcome=Outcome("label", LABEL, length=0)
    )
    seconds = took / method.fit_report_["epochs"]  # preparing and validating included
    return {"AUC": round(judged.overall("DeepFM", "AUC"), 4), "seconds an epoch": round(seconds, 3)}


def of_peers(split: Split, python: str) -> dict[str, Any]:
    """Return AUC and seconds an epoch of the other packages."""
    task, labels = prepared(split)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "task.npz", **task)
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            [python, str(PEER), folder], env=one_thread, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        for line in done.stdout.splitlines():
            if not line.startswith("{"):
                continue
            row = json.loads(line)
            answer = np.load(Path(folder) / f"{row['name'].split()[0]}.npy")
            figures[row["name"]] = {
                "AUC": round(auc(labels, answer), 4),
                "seconds an epoch": round(row["seconds an epoch"], 3),
            }
    return figures


def prepared(split: Split) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return codes and labels of all parts, and the labels of the test part."""
    data = split.data
    events = data.events.join(data.tables["users"], on="user_id", how="left")
    events = events.join(data.tables["items"], on="item_id", how="left")
    codes = events.select(
        pl.col(name).cast(pl.String).fill_null("").rank("dense").cast(pl.Int64) - 1
        for name in FIELDS
    ).to_numpy()
    labels = (data.events["value"].to_numpy() >= 4).astype(np.float32)
    task = {"sizes": codes.max(axis=0) + 1}
    for name, part in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        task[name] = codes[split.part == part]
        task[f"{name}_labels"] = labels[split.part == part]
    return task, task["test_labels"]


if __name__ == "__main__":
    main()
