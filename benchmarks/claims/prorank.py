"""ProRank with SmolLM2-135M: taught on CACM and NPL, asked about the first ten passages of DL19.

Validity is the probability of the two answers together, over prompts of DL19. Three random states
are warmed up; the first is then taught the score too, and is asked beside the model as it is.
Prompts are short, and 14 requests are asked, to keep to the time. Words, cosine and larger models are
above all of it: see docs/guide/reranking.md.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import SEEDS, seeded
from judged_lists import JudgedList, above, judged_lists, ndcg_of
from shared_data import joined

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.llm.fencing import fenced
from tailor.llm.torch_model import TorchModel
from tailor.papers.reranking.prorank import LABELS, ProRank

ENOUGH = 0.95  # validity after the warm-up
ASKED = 10  # prompts that validity is measured on
REQUESTS = 14  # of DL19
PAIRS, GROUPS = 64, 10
BUDGET = 128  # tokens of a prompt, by an estimate above the truth
DEPTH = 10
TAUGHT_ON = ("cacm", "npl")
MODEL = TorchModel("smollm2-135m")


def measure(run: Run) -> Claim:
    """Teach, then ask about DL19."""
    lists = judged_lists("dl19", depth=DEPTH)[:REQUESTS]
    data = joined(TAUGHT_ON)
    plain = ProRank(llm=MODEL, budget=BUDGET)
    before, scores = validity(plain, lists), {"as it is": ndcg(plain, lists)}
    with tempfile.TemporaryDirectory() as folder:
        first, *others = SEEDS
        whole = taught(data, seeded(run, first), f"{folder}/{first}", groups=GROUPS)
        scores["taught"] = ndcg(whole, lists)
        shares = [validity(whole, lists)]
        for seed in others:
            method = taught(data, seeded(run, seed), f"{folder}/{seed}", groups=0)
            shares.append(validity(method, lists))
    scores["first stage"] = ndcg_of(lists, [np.arange(len(item.grades)) for item in lists])
    lead = above(scores["taught"], scores["as it is"], run.seed)
    checks = {
        f"validity is at least {ENOUGH} after the warm-up, in every random state": (
            min(shares) >= ENOUGH
        ),
        "validity was below a half before": before < 0.5,
        "DL19: NDCG@10 is above the model as it is": lead["low"] > 0,
    }
    figures = {
        "validity": {
            "as it is": before,
            "after warm-up and score": shares[0],
            "after the warm-up": shares[1:],
        },
        "requests": len(lists),
        "prompts of the warm-up": PAIRS,
        "groups of the score": GROUPS,
        "NDCG@10": {name: round(float(value.mean()), 4) for name, value in scores.items()},
        "taught over as it is": lead,
        "taught over first stage": above(scores["taught"], scores["first stage"], run.seed),
    }
    return Claim(checks, figures, list(SEEDS), ["dl19-bm25-top20", *TAUGHT_ON])


def taught(data: Dataset, run: Run, folder: str, groups: int) -> ProRank:
    """Return a ProRank taught on judgements; its adapter is in the folder."""
    settings = {"pairs": PAIRS, "groups": groups, "budget": BUDGET, "depth": 20}
    return ProRank(llm=MODEL, adapter=folder, **settings).fit(data, run)


def validity(method: ProRank, lists: list[JudgedList]) -> float:
    """Return the mean probability of the two answers over prompts of several lists."""
    prompts = [
        method.prompt(item.shortlist, (0,), [fenced(text) for text in item.shortlist.texts]).text
        for item in lists[:ASKED]
    ]
    shares = np.exp(method._model().choices(prompts, LABELS)).sum(axis=1)
    return round(float(shares.mean()), 4)


def ndcg(method: ProRank, lists: list[JudgedList]) -> np.ndarray:
    """Return (Q,) NDCG@10 of the lists in the method's order."""
    results = method.rerank([item.shortlist for item in lists])
    return ndcg_of(lists, [result.order for result in results])
