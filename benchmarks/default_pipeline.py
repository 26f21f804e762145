"""The default pipeline beside its parts, seen items removed and kept, on real and planted logs.

    python benchmarks/default_pipeline.py [counting|default] [NAME ...]

Fits the pipeline on the training part of each log, with its validation part, and every part alone.
Logs measured before stay in the file of results. Prints NDCG@10 of the pipeline and of the best part on the test part, their difference with its 95 %
interval paired by user, and what was chosen. Settings and weights see the validation part only.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.shared_data import real
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.splits import Split, last_out
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.significance import paired_test
from tailor.pipeline.default import FILES
from tailor.pipeline.fuse import Fuse
from tailor.pipeline.fusion_report import KEPT, REMOVED, labels
from tailor.worlds.opposites import SIGNALS, opposite

REAL = ("ml-100k", "ml-latest-small", "beauty", "sports")
PLANTED = {
    **{signal: lambda signal=signal: opposite(signal) for signal in SIGNALS},
    "200 people": lambda: opposite("sequence", people=200),
    "10 people": lambda: opposite("sequence", people=10),
}


def split_of(name: str) -> Split:
    """Return the split of a planted or a real log: each user's last event is the test part."""
    data = PLANTED[name]() if name in PLANTED else real(name)
    return last_out(data)


def fused_of(method: Recommender) -> Fuse:
    """Return the fitted fusion inside a pipeline of `pipeline/*.toml`."""
    return method.inner_.parts_[0]


def compare(name: str, pipeline: str) -> dict:
    """Return the figures of one log."""
    split = split_of(name)
    method = build(FILES[pipeline], Recommender)
    started = time.perf_counter()
    method.fit(split.train, Run(), split)
    seconds = time.perf_counter() - started
    settings = method.inner.parts[0].parts
    parts = {
        label: clone(part).fit(split.train, Run(), split)
        for label, part in zip(labels(settings), settings, strict=True)
        if not part.unsuited(split.train)
    }
    report = evaluate({"pipeline": method, **parts}, split, "test", metrics=("HR", "NDCG"))
    row: dict = {"name": name, "seconds": round(seconds, 1)}
    for kind in (REMOVED, KEPT):
        values = {
            label: report.results[label, kind].per_user["NDCG@10"] for label in ("pipeline", *parts)
        }
        best = max(parts, key=lambda label: values[label].mean())
        lead = values["pipeline"] - values[best]
        error = lead.std(ddof=1) / np.sqrt(len(lead))
        row[kind] = {
            "HR@10": round(report.mean("pipeline", "HR@10", kind), 4),
            "NDCG@10": round(float(values["pipeline"].mean()), 4),
            "best part": best,
            "its NDCG@10": round(float(values[best].mean()), 4),
            "lead": [round(float(lead.mean() + z * error), 4) for z in (0, -1.96, 1.96)],
            "p": paired_test(values["pipeline"], values[best]),
        }
    row["chosen"] = {
        key: value for key, value in fused_of(method).fit_report_.items() if key != "parts"
    }
    return row


def main(arguments: list[str]) -> None:
    """Print a row a log, and write them all."""
    pipeline = arguments[0] if arguments and arguments[0] in FILES else "counting"
    names = [name for name in arguments if name not in FILES] or [*PLANTED, *REAL]
    path = Path(__file__).parent / "results" / f"default-pipeline-{pipeline}.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        row = rows[name] = compare(name, pipeline)
        for kind in (REMOVED, KEPT):
            print(name, row["seconds"], "s", kind, row[kind], flush=True)
        print(json.dumps(row["chosen"]), flush=True)
        path.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
