"""Items that nobody has chosen: what methods that read texts find of them, beside methods that know
items by their events; paired over users.

    python benchmarks/cold_items.py [SEED ...]

Beauty; a tenth of the items is learned from by nobody (another tenth is for validation), and every
user who ends with one is asked, over the whole catalogue. Methods by id find none by construction,
which is measured too. Needs `tailor models pull minilm`; some 20 minutes of a core a seed. Seeds
measured before stay in the result.
"""

import argparse
import json
import time

from claim_tools import lead, means
from shared_data import real
from writing import ROOT, write_result

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.report import Report
from tailor.papers.retrieval.alpharec import AlphaRec
from tailor.papers.retrieval.hllm import HLLM
from tailor.papers.retrieval.linkedin_feed import LinkedInFeed
from tailor.papers.retrieval.recformer import RecFormer
from tailor.progress import terminal
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.ease import EASE
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.text_match import TextMatch
from tailor.retrieval.text_neighbours import TextNeighbours

READERS: dict[str, Recommender] = {
    "BM25": TextMatch(),
    "text neighbours": TextNeighbours(),
    "AlphaRec": AlphaRec(),
    "LinkedInFeed": LinkedInFeed(examples=1),  # a prompt a member: every one is encoded
    # as in their claims
    "HLLM": HLLM(epochs=20),
    "RecFormer": RecFormer(pretraining=2, epochs=1, second=1),
}
BY_ID: dict[str, Recommender] = {
    "SASRec": SASRec(epochs=10),
    "EASE": EASE(),
    "co-visitation": CoVisitation(),
    "popularity": Popularity(),
}
NAME = "cold-items"


def measure(data: Dataset, seed: int, progress) -> dict:
    split, run, seconds = (
        split_by(data, "new-items", seed=seed),
        Run(seed=seed, progress=progress),
        {},
    )
    fitted = {}
    for name, method in (READERS | BY_ID).items():
        began = time.perf_counter()
        fitted[name] = type(method)(**method.params()).fit(split.train, run, split)
        seconds[name] = round(time.perf_counter() - began, 1)
    report: Report = evaluate(fitted, split, seen=("removed",), run=run)
    over = {
        reader: {
            other: lead(report, reader, other, "HR@10", seed)
            for other in (*BY_ID, "BM25", "text neighbours")
            if other != reader
        }
        for reader in READERS
    }
    return {
        "users": len(report.user_ids),
        "means": means(report),
        "HR@10 over": over,
        "fit seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    path = ROOT / "benchmarks" / "results" / f"{NAME}.json"
    found = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else {}
    data = real("beauty")
    for seed in seeds:
        found[str(seed)] = measure(data, seed, terminal)
        print(
            write_result(
                NAME, seed, "python benchmarks/cold_items.py " + " ".join(sorted(found)), found
            )
        )


if __name__ == "__main__":
    main()
