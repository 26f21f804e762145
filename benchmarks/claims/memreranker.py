"""MemReranker on LoCoMo, two dialogues left out: turns with the evidence among all of a dialogue.

Rivals: the equal blend of words with dates, neighbours, session and meaning, and the cosine alone.
Nothing is chosen: the weights for two dialogues are learned on the eight others. Beside it stands a
planted world of noisy teachers.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import SEEDS
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.evaluation.significance import bootstrap
from tailor.metrics.calibration import expected_calibration_error
from tailor.metrics.pairwise import bradley_terry, soft_labels
from tailor.metrics.prediction import auc
from tailor.papers.reranking.memreranker import MemReranker, weights_of
from tailor.reranking.turn_lists import TurnList, dialogues_of
from tailor.text.turns import NAMES

BLEND = ("words", "words beside", "words of session", "cosine")
MODEL = ("cosine", "cosine beside", "cosine of session")
MOST_ERROR = 0.05  # of calibration
FOLD = 2  # dialogues left out together
TEACHERS = 5
WORTHS = 8  # turns that the planted teachers compare


def measure(run: Run) -> Claim:
    """Judge every dialogue by weights of others; teachers on a planted world."""
    data = real("locomo")
    started_s = time.perf_counter()
    dialogues = list(dialogues_of(data))
    answerable = categories_of(data)
    scores, seconds = scores_of(dialogues, answerable, run)
    seconds["all"] = time.perf_counter() - started_s
    table = Table(dialogues, answerable)
    values = {name: table.values(of_method) for name, of_method in scores.items()}
    leads = {
        "student over blend": table.lead(values, "student", "blend", run),
        "student over cosine": table.lead(values, "student", "cosine", run),
        "dates, temporal questions": table.lead(
            values, "student", "without dates", run, "temporal"
        ),
        "without model over blend without model": table.lead(
            values, "without model", "blend without model", run
        ),
    }
    errors = {name: table.calibration(of_method) for name, of_method in scores.items()}
    teachers = [of_teachers(seed) for seed in SEEDS]
    checks = {
        "LoCoMo: R@10 above the equal blend": leads["student over blend"]["R@10"]["low"] > 0,
        "LoCoMo: MAP above the equal blend": leads["student over blend"]["MAP"]["low"] > 0,
        "LoCoMo: R@10 above the cosine": leads["student over cosine"]["R@10"]["low"] > 0,
        f"LoCoMo: error of calibration at most {MOST_ERROR}, and below the cosine's": (
            errors["student"] <= min(MOST_ERROR, errors["cosine"])
        ),
        "LoCoMo: among turns above .2 too, the mean probability is within .1 of the truth": (
            abs(np.subtract(*table.above(scores["student"], 0.2)[:2])) <= 0.1
        ),
        "LoCoMo: dates help temporal questions": (
            leads["dates, temporal questions"]["R@10"]["low"] > 0
        ),
        "planted: soft labels of five teachers are nearer to the truth than the labels of one": all(
            row["lead"]["low"] > 0 for row in teachers
        ),
    }
    figures = {
        "means": {name: table.means(of_method) for name, of_method in values.items()},
        "leads": leads,
        "error of calibration": errors,
        "turns above .2: mean probability, share of answers, turns": table.above(
            scores["student"], 0.2
        ),
        "AUROC of the best score, answerable against adversarial": {
            name: table.abstention(scores[name]) for name in ("student", "cosine")
        },
        "teachers": teachers,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    checks = {name: bool(value) for name, value in checks.items()}
    return Claim(checks, figures, [run.seed, *SEEDS], ["locomo", "planted teachers"])


def categories_of(data: Dataset) -> dict[str, list[str]]:
    """Return dialogue -> the category of each judged question, in the order of `dialogues_of`."""
    judged = set(data.tables["judgements"]["query_id"].to_list())
    categories: dict[str, list[str]] = {}
    for row in data.tables["requests"].iter_rows(named=True):
        if row["request_id"] in judged:
            categories.setdefault(row["context"], []).append(row["category"])
    return categories


def scores_of(
    dialogues: list[TurnList], categories: dict[str, list[str]], run: Run
) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
    """Return method -> probabilities or scores (R, n) of each dialogue; seconds of the parts.

    Adversarial questions have no answer: nothing is learned from them.
    """
    started_s = time.perf_counter()
    with_dates = list(map(MemReranker().features, dialogues))
    seconds = {"features": time.perf_counter() - started_s}
    words_alone = list(map(MemReranker(encoder=None, dates=False).features, dialogues))
    is_model = np.isin([*NAMES, "constant"], MODEL)
    without_dates = [
        np.where(is_model, mine, other) for mine, other in zip(with_dates, words_alone, strict=True)
    ]
    learnable = [
        np.array(categories[dialogue.turns[0].dialogue_id]) != "adversarial"
        for dialogue in dialogues
    ]
    blend = columns(with_dates, BLEND)
    scores = {
        "blend": blend,
        "blend without model": columns(with_dates, BLEND[:3]),
        "cosine": columns(with_dates, ("cosine",)),
        "words": columns(with_dates, ("words",)),
    }
    started_s = time.perf_counter()
    forms = {
        "student": with_dates,
        "without dates": without_dates,
        "without model": [np.where(is_model, 0, of_dialogue) for of_dialogue in with_dates],
    }
    for name, features in forms.items():
        scores[name] = left_out(features, [item.gains for item in dialogues], learnable, run)
    seconds["15 trainings"] = time.perf_counter() - started_s
    return scores, seconds


def columns(features: list[np.ndarray], names: tuple[str, ...]) -> list[np.ndarray]:
    """Return the logistic function of the mean of some features, in deviations."""
    places = [NAMES.index(name) for name in names]
    return [sigmoid(of_dialogue[:, :, places].mean(axis=2)) for of_dialogue in features]


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def left_out(
    features: list[np.ndarray],
    gains: list[np.ndarray],
    learnable: list[np.ndarray],
    run: Run,
) -> list[np.ndarray]:
    """Return the probabilities of each dialogue by weights that other dialogues gave."""
    scores = []
    for left in range(0, len(features), FOLD):
        fold = range(left, min(left + FOLD, len(features)))
        others = [i for i in range(len(features)) if i not in fold]
        weights = weights_of(
            [features[i][learnable[i]] for i in others],
            [gains[i][learnable[i]] for i in others],
            MemReranker().negatives,
            run.rng("negatives", left),
        )
        scores += [weights.probabilities(features[i]) for i in fold]
    return scores


class Table:
    """The questions of all dialogues with their categories, clustered by dialogue."""

    def __init__(self, dialogues: list[TurnList], categories: dict[str, list[str]]) -> None:
        ids = [dialogue.turns[0].dialogue_id for dialogue in dialogues]
        self.gains = [dialogue.gains for dialogue in dialogues]
        self.categories = np.concatenate([categories[name] for name in ids])
        self.clusters = np.repeat(ids, [len(dialogue.requests) for dialogue in dialogues])
        self.is_answerable = self.categories != "adversarial"

    def values(self, scores: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return R@10 and average precision (Q,) of all questions."""
        recalls, precisions = [], []
        for of_dialogue, gains in zip(scores, self.gains, strict=True):
            order = np.argsort(-of_dialogue, axis=1, kind="stable")
            hits = np.take_along_axis(gains, order, axis=1)
            totals = gains.sum(axis=1)
            recalls.append(hits[:, :10].sum(axis=1) / totals)
            at_hits = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
            precisions.append((at_hits * hits).sum(axis=1) / totals)
        return {"R@10": np.concatenate(recalls), "MAP": np.concatenate(precisions)}

    def means(self, values: dict[str, np.ndarray]) -> dict[str, float]:
        """Return means over answerable questions, and R@10 by category."""
        figures = {name: of_all[self.is_answerable].mean() for name, of_all in values.items()}
        for category in np.unique(self.categories):
            figures[f"R@10 {category}"] = values["R@10"][self.categories == category].mean()
        return {name: round(float(value), 4) for name, value in figures.items()}

    def lead(
        self,
        values: dict[str, dict[str, np.ndarray]],
        mine: str,
        other: str,
        run: Run,
        category: str = "",
    ) -> dict[str, dict[str, float]]:
        """Return paired differences with intervals; the questions of a dialogue drawn together."""
        mask = self.categories == category if category else self.is_answerable
        names = ("R@10", "MAP")
        differences = np.stack([(values[mine][m] - values[other][m])[mask] for m in names], axis=1)
        low, high = bootstrap(differences, seed=run.seed, clusters=self.clusters[mask])
        return {
            metric: {
                "difference": round(float(differences[:, i].mean()), 4),
                "low": round(float(low[i]), 4),
                "high": round(float(high[i]), 4),
            }
            for i, metric in enumerate(names)
        }

    def _flat(self, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and probabilities of all turns of answerable questions."""
        start = 0
        labels, probabilities = [], []
        for of_dialogue, gains in zip(scores, self.gains, strict=True):
            mask = self.is_answerable[start : start + len(gains)]
            start += len(gains)
            labels.append(gains[mask].ravel())
            probabilities.append(of_dialogue[mask].ravel())
        return np.concatenate(labels), np.concatenate(probabilities)

    def calibration(self, scores: list[np.ndarray]) -> float:
        return round(float(expected_calibration_error(*self._flat(scores))), 4)

    def above(self, scores: list[np.ndarray], least: float) -> list[float]:
        """Return mean probability, share of answers, and number of turns above a threshold."""
        labels, probabilities = self._flat(scores)
        mask = probabilities >= least
        figures = (probabilities[mask].mean(), labels[mask].mean(), mask.sum())
        return [round(float(value), 4) for value in figures]

    def abstention(self, scores: list[np.ndarray]) -> float:
        best = np.concatenate([of_dialogue.max(axis=1) for of_dialogue in scores])
        return round(float(auc(self.is_answerable.astype(float), best)), 4)


def of_teachers(seed: int, lists: int = 200) -> dict:
    """Compare soft labels of noisy teachers, and hard labels of one, with the true answer."""
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(lists):
        worths = rng.standard_normal(WORTHS)
        truth = (worths == worths.max()).astype(float)
        votes = worths + rng.standard_normal((TEACHERS, WORTHS))
        soft = soft_labels(bradley_terry(votes), 1.0)
        single = (votes[0] == votes[0].max()).astype(float)
        errors.append([((labels - truth) ** 2).sum() for labels in (soft, single)])
    of_soft, of_single = np.array(errors).T
    low, high = bootstrap((of_single - of_soft)[:, None], seed=seed)
    return {
        "seed": seed,
        "squared error, five teachers": round(float(of_soft.mean()), 4),
        "squared error, one teacher": round(float(of_single.mean()), 4),
        "lead": {"low": round(float(low[0]), 4), "high": round(float(high[0]), 4)},
    }
