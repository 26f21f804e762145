"""InsertRank on DL19's BM25 lists, with a scripted reader that weighs the shown score.

The reader's belief is the passage's grade, an error, and the shown number in deviations within the
prompt. Beside it, without a check: the small local model with and without the line; the blend of
BM25 and MiniLM without any language model, its weight chosen on CACM.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from judged_lists import JudgedList, above, judged_lists, ndcg_of

from tailor.bench.claims import Claim
from tailor.core.defaults import encoder as encoder_of
from tailor.core.run import Run
from tailor.llm.scripted import LINE, ScriptedModel
from tailor.papers.reranking.insertrank import InsertRank
from tailor.reranking.shortlist import blended, deviations
from tailor.text.cached import item_vectors, plain

SEEDS = [0, 1, 2, 3, 4]  # of the reader's errors
TRUST = 0.5  # worth of a deviation of the shown score
SCALES = ("raw", "scaled", "integer", "rank")
SCORE = re.compile(r" \(BM25 (score|rank): (-?[\d.]+)\)$")
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of BM25 in the blend
LM_LISTS = 6  # of DL19, that the small local model orders
DEPTH = 50


@dataclass(frozen=True)
class Reader(ScriptedModel):
    """Believes a text's worth with an error of its own, and the number behind it."""

    errors: dict[str, float] = field(default_factory=dict, hash=False)
    """Fenced text -> error."""

    def _line_worths(self, prompt: str, seed: int) -> np.ndarray:
        lines = [match.group(2) for match in LINE.finditer(prompt)]
        texts = [SCORE.sub("", line) for line in lines]
        numbers = [shown_number(line) for line in lines]
        belief = np.array([self.knows[text] + self.errors[text] for text in texts])
        return belief + TRUST * deviations(np.array(numbers))


def shown_number(line: str) -> float:
    """Return the number behind a text, higher is better; 0 without one."""
    match = SCORE.search(line)
    if match is None:
        return 0.0
    return -float(match[2]) if match[1] == "rank" else float(match[2])


def measure(run: Run) -> Claim:
    """Scripted reader on DL19, five draws of its errors; the local model; the blend."""
    lists = judged_lists("dl19", 20)
    variants = {
        **{scale: InsertRank(shown=scale) for scale in SCALES},  # type: ignore[arg-type]
        "raw, shuffled": InsertRank(shuffled=True),
        "none": InsertRank(shown="none"),
    }
    values = {name: mean_ndcg(method, lists) for name, method in variants.items()}
    values["raw, exchanged"] = mean_ndcg(InsertRank(), lists, exchanged=True)
    given = ndcg_of(lists, [np.arange(len(judged.grades)) for judged in lists])
    leads = {name: above(v, values["none"]) for name, v in values.items() if name != "none"}
    blend = blend_rows()
    checks = {
        f"the reader gains by the score shown as {name}": leads[name]["low"] > 0
        for name in (*SCALES, "raw, shuffled")
    }
    checks["exchanged among documents, the score gains nothing"] = (
        leads["raw, exchanged"]["low"] <= 0
    )
    checks["Cranfield: the blend is above BM25 and above MiniLM"] = all(
        blend["cranfield"][label]["low"] > 0 for label in ("over BM25", "over MiniLM")
    )
    figures = {
        "nDCG@10": {name: round(float(v.mean()), 4) for name, v in values.items()},
        "given order": round(float(given.mean()), 4),
        "over no score": leads,
        "blend without a language model": blend,
        "local model": local_model_row(lists[:LM_LISTS]),
    }
    return Claim(checks, figures, SEEDS, ["dl19", "cranfield", "cacm"])


def mean_ndcg(
    method: InsertRank, lists: Sequence[JudgedList], exchanged: bool = False
) -> np.ndarray:
    """Return (Q,) nDCG@10 of the reader's orders, the mean over draws of its errors."""
    values = []
    for seed in SEEDS:
        orders = []
        for judged in lists:
            rng = np.random.default_rng([seed, int(judged.shortlist.query.request_id or 0)])
            shortlist = replace(
                judged.shortlist, texts=tuple(str(i) for i in range(len(judged.grades)))
            )
            errors = rng.standard_normal(len(judged.grades)).tolist()
            prior = rng.permutation(shortlist.prior) if exchanged else shortlist.prior
            fenced = [f"<<{text}>>" for text in shortlist.texts]
            reader = Reader(
                knows=dict(zip(fenced, (judged.grades / 3).tolist(), strict=True)),
                errors=dict(zip(fenced, errors, strict=True)),
            )
            reranker = InsertRank(**{**method.params(), "llm": reader, "seed": seed})
            orders += [reranker.rerank([replace(shortlist, prior=prior)])[0].order]
        values.append(ndcg_of(lists, orders))
    mean: np.ndarray = np.mean(values, axis=0)
    return mean


def blend_rows() -> dict[str, object]:
    """Return the blend of BM25 and MiniLM: its weight by CACM, its rows on the other two."""
    cacm, cosines = with_cosines("cacm")
    by_weight = {weight: blend_ndcg(cacm, cosines, weight).mean() for weight in WEIGHTS}
    weight = max(by_weight, key=lambda option: by_weight[option])
    rows: dict[str, object] = {"weight of BM25, by CACM": weight}
    for name in ("cranfield", "dl19"):
        lists, cosines = with_cosines(name)
        blend, words, minilm = (blend_ndcg(lists, cosines, w) for w in (weight, 1.0, 0.0))
        rows[name] = {
            "nDCG@10": {
                "blend": round(float(blend.mean()), 4),
                "BM25": round(float(words.mean()), 4),
                "MiniLM": round(float(minilm.mean()), 4),
            },
            "over BM25": above(blend, words),
            "over MiniLM": above(blend, minilm),
        }
    return rows


def with_cosines(name: str) -> tuple[list[JudgedList], list[np.ndarray]]:
    lists = judged_lists(name, DEPTH)
    encoder = encoder_of("default")
    texts = list(dict.fromkeys(text for judged in lists for text in judged.shortlist.texts))
    vectors = dict(zip(texts, item_vectors(encoder, texts), strict=True))
    requests = plain(encoder).encode([judged.shortlist.request for judged in lists])
    return lists, [
        np.array([vectors[text] for text in judged.shortlist.texts]) @ request
        for judged, request in zip(lists, requests, strict=True)
    ]


def blend_ndcg(
    lists: Sequence[JudgedList], cosines: Sequence[np.ndarray], weight: float
) -> np.ndarray:
    orders = [
        np.argsort(-blended(of_list, judged.shortlist.prior, weight), kind="stable")
        for judged, of_list in zip(lists, cosines, strict=True)
    ]
    return ndcg_of(lists, orders)


def local_model_row(lists: Sequence[JudgedList]) -> dict[str, object]:
    """Return the small local model's nDCG@10 with and without the score, without a check."""
    shortlists = [judged.shortlist for judged in lists]
    values = {}
    for scale in ("none", "scaled"):
        results = InsertRank(shown=scale, budget=1_200).rerank(shortlists)  # type: ignore[arg-type]
        values[scale] = ndcg_of(lists, [result.order for result in results])
    return {
        "lists": len(lists),
        "nDCG@10": {scale: round(float(v.mean()), 4) for scale, v in values.items()},
        "score over none": above(values["scaled"], values["none"]),
    }
