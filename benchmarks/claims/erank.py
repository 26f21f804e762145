"""ERank: expected grades of a scripted grader on DL19's lists, and a student taught on NPL and CACM
that orders Cranfield, graded, and DL19.

The scripted grader believes a passage's grade with an error, is unsure about its belief, and writes
a grade, or yes or no, by chance of its own probabilities. Its lists are shuffled and bring no
first-stage scores: ties are broken by chance. The student learns grades alone, or grades and then
the list's reward; three random states. Figures with and without the first stage stand apart.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import SEEDS, seeded
from judged_lists import (
    JudgedList,
    above,
    best_prior_weight,
    judged_lists,
    ndcg_by,
    ndcg_of,
    with_prior,
)
from shared_data import joined

from tailor.bench.claims import Claim
from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.papers.reranking.erank import ERank, ERankStudent
from tailor.ports.base import Completion, LanguageModel
from tailor.reranking.llm_reranker import LLMReranker
from tailor.reranking.pair_features import NAMES, PairFeatures
from tailor.reranking.shortlist import Shortlist

ERROR = 0.25  # deviation of a belief from the truth; the highest grade is 1
DOUBT = 0.15  # deviation of the probabilities around a belief
NUMBER = re.compile(r"passage (\d+)\b")
GRADES = np.arange(11)
TAUGHT_ON = ("npl", "cacm")
LOSS = 0.005  # of NDCG@10 that the list's reward may cost
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # of the first stage


def measure(run: Run) -> Claim:
    """Scripted grader first, then the student."""
    scripted = scripted_grader(run)
    student = students(run)
    leads = scripted["leads"]
    checks = {
        "scripted: expected grades above drawn grades": leads["expected over drawn"]["low"] > 0,
        "scripted: drawn grades above yes and no": leads["drawn over yes and no"]["low"] > 0,
        "scripted: fewer ties": scripted["ties"]["expected"] < scripted["ties"]["drawn"],
        f"Cranfield: the list's reward costs less than {LOSS} of NDCG@10": (
            student["cranfield"]["list reward over grades alone"]["low"] > -LOSS
        ),
        "Cranfield: Kendall's tau of graded pairs rises": (
            student["cranfield"]["tau, list reward over grades alone"]["low"] > 0
        ),
    }
    figures = {"scripted": scripted, "student": student}
    return Claim(checks, figures, list(SEEDS), ["dl19-bm25-top20", "cranfield", *TAUGHT_ON])


# ---- the scripted grader


@dataclass(frozen=True)
class Grader(LanguageModel):
    """Grades numbered passages by beliefs, and writes by chance of its own probabilities."""

    beliefs: tuple[float, ...] = field(repr=False)
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        return f"scripted grader {self.seed} {hash(self.beliefs)}"

    def capabilities(self) -> frozenset[str]:
        return frozenset({"score", "schema"})

    def shares(self, prompt: str) -> np.ndarray:
        """Return the probabilities (11,) of the grades of a prompt's passage."""
        number = int(NUMBER.findall(prompt)[-1])
        logits = -(((GRADES / 10 - self.beliefs[number]) / DOUBT) ** 2) / 2
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()

    def yes(self, prompt: str) -> float:
        """Return the probability of a grade above 5, half of it for 5."""
        shares = self.shares(prompt)
        return float(shares[6:].sum() + shares[5] / 2)

    def complete(
        self, prompts: Sequence[str], *, schema: Mapping[str, Any] | None = None, **settings: Any
    ) -> list[Completion]:
        title = (schema or {}).get("title")
        answers = []
        for prompt in prompts:
            number = int(NUMBER.findall(prompt)[-1])
            rng = np.random.default_rng([self.seed, number, title == "grade"])
            if title == "grade":
                answer = f'{{"grade": {rng.choice(GRADES, p=self.shares(prompt))}}}'
            else:
                answer = "yes" if rng.random() < self.yes(prompt) else "no"
            answers.append(Completion((answer,)))
        return answers

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        values = []
        for prompt, answer in zip(prompts, answers, strict=True):
            if answer in ("yes", "no"):
                yes = self.yes(prompt)
                values.append(yes if answer == "yes" else 1 - yes)
            else:
                values.append(self.shares(prompt)[int(re.findall(r"\d+", answer)[0])])
        return np.log(np.maximum(values, 1e-12))


def numbered(run: Run) -> tuple[list[JudgedList], np.ndarray]:
    """Return DL19's lists shuffled, with passages by number, and the passages' grades (P,)."""
    rng = run.rng("shuffled lists")
    lists, grades = [], []
    for item in judged_lists("dl19"):
        shuffled = item.grades[rng.permutation(len(item.grades))]
        texts = [f"passage {len(grades) + i}" for i in range(len(shuffled))]
        grades += shuffled.tolist()
        shortlist = replace(
            Shortlist.of_texts(item.shortlist.request, texts), prior=np.zeros(len(texts))
        )
        lists.append(replace(item, shortlist=shortlist, grades=shuffled))
    return lists, np.array(grades)


def scripted_grader(run: Run) -> dict:
    """Return NDCG@10 and ties of every form of answer, means over the random states."""
    values: dict[str, list[np.ndarray]] = {}
    ties: dict[str, list[float]] = {}
    for seed in SEEDS:
        lists, grades = numbered(seeded(run, seed))
        errors = seeded(run, seed).rng("beliefs").standard_normal(len(grades))
        grader = Grader(tuple((grades / 3 + ERROR * errors).tolist()), seed)
        forms = {
            "expected": ERank(llm=grader),
            "drawn": ERank(llm=grader, reads="reply"),
            "yes and no": LLMReranker(llm=grader, strategy="yes-no"),
            "probability of yes": LLMReranker(llm=grader, strategy="yes-no", reads="log-probs"),
        }
        for name, method in forms.items():
            results = method.rerank([item.shortlist for item in lists])
            ndcg = ndcg_of(lists, [result.order for result in results])
            values.setdefault(name, []).append(ndcg)
            ties.setdefault(name, []).append(share_of_ties([result.scores for result in results]))
    means = {name: np.mean(of_form, axis=0) for name, of_form in values.items()}  # by query
    pairs = {
        "expected over drawn": ("expected", "drawn"),
        "drawn over yes and no": ("drawn", "yes and no"),
        "expected over probability of yes": ("expected", "probability of yes"),
    }
    return {
        "NDCG@10": {name: round(float(value.mean()), 4) for name, value in means.items()},
        "ties": {name: round(float(np.mean(share)), 4) for name, share in ties.items()},
        "leads": {
            name: above(means[mine], means[other], run.seed)
            for name, (mine, other) in pairs.items()
        },
    }


def share_of_ties(scores: Sequence[np.ndarray]) -> float:
    """Return the share of pairs of one list with equal scores."""
    equal = [np.isclose(values[:, None], values, atol=1e-9, rtol=0) for values in scores]
    tied = sum((matrix.sum() - len(matrix)) / 2 for matrix in equal)
    return float(tied / sum(len(matrix) * (len(matrix) - 1) / 2 for matrix in equal))


# ---- the student


def students(run: Run) -> dict:
    """Return what students of NPL and CACM reach on Cranfield and DL19."""
    data = joined(TAUGHT_ON)
    forms = {"grades alone": False, "list reward": True}
    fitted = {
        name: [ERankStudent(list_reward=on).fit(data, seeded(run, seed)) for seed in SEEDS]
        for name, on in forms.items()
    }
    cacm = read_lists("cacm")
    weights = {name: blend_weight(*cacm, methods) for name, methods in fitted.items()}
    figures: dict[str, Any] = {
        "first stage's weight, chosen on CACM": weights,
        "lists learned from": fitted["list reward"][0].fit_report_["lists"],
    }
    for name in ("cranfield", "dl19"):
        figures[name] = on_lists(*read_lists(name), fitted, weights, run)
    return figures


def read_lists(name: str) -> tuple[list[JudgedList], list[np.ndarray]]:
    """Return the lists of a collection, and the features of their documents."""
    lists = judged_lists(name, depth=100)
    return lists, PairFeatures(encoder()).of([item.shortlist for item in lists])


def scores_of(method: ERankStudent, features: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [method._list_scores(of_list) for of_list in features]


def blend_weight(
    lists: Sequence[JudgedList], features: Sequence[np.ndarray], methods: Sequence[ERankStudent]
) -> float:
    """Return the first stage's weight that is best for the first student."""
    scores = scores_of(methods[0], features)
    return best_prior_weight(lists, scores, WEIGHTS)


def on_lists(
    lists: Sequence[JudgedList],
    features: Sequence[np.ndarray],
    fitted: Mapping[str, Sequence[ERankStudent]],
    weights: Mapping[str, float],
    run: Run,
) -> dict:
    """Return means over random states, with and without the first stage."""
    values: dict[str, np.ndarray] = {
        "first stage": ndcg_by(lists, [item.shortlist.prior for item in lists]),
        "cosine": ndcg_by(lists, [of_list[:, NAMES.index("cosine")] for of_list in features]),
    }
    taus = {}
    for name, methods in fitted.items():
        scores = [scores_of(method, features) for method in methods]
        values[name] = np.mean([ndcg_by(lists, of_state) for of_state in scores], axis=0)
        values[f"{name}, with first stage"] = np.mean(
            [ndcg_by(lists, with_prior(lists, of_state, weights[name])) for of_state in scores],
            axis=0,
        )
        taus[name] = np.mean([tau(lists, of_state) for of_state in scores], axis=0)
    best, alone = "list reward", "grades alone"
    blend = ", with first stage"
    return {
        "queries": len(lists),
        "NDCG@10": {name: round(float(value.mean()), 4) for name, value in values.items()},
        "tau": {name: round(float(np.nanmean(value)), 4) for name, value in taus.items()},
        "list reward over grades alone": above(values[best], values[alone], run.seed),
        "the same with first stage": above(values[best + blend], values[alone + blend], run.seed),
        "list reward over first stage": above(values[best], values["first stage"], run.seed),
        "tau, list reward over grades alone": above(taus[best], taus[alone], run.seed),
    }


def tau(lists: Sequence[JudgedList], scores: Sequence[np.ndarray]) -> np.ndarray:
    """Return (Q,) Kendall's tau over pairs of different grades; 0 where a list has none."""
    values = []
    for item, of_list in zip(lists, scores, strict=True):
        graded = np.sign(item.grades[:, None] - item.grades)
        ordered = np.sign(of_list[:, None] - of_list)
        pairs = np.abs(graded).sum()
        values.append(float((graded * ordered).sum() / pairs) if pairs else 0.0)
    return np.array(values)
