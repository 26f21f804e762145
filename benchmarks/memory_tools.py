"""Recall on LoCoMo: features of turns, weights chosen on other dialogues, figures by category."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from shared_data import real

from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.data.arrays import in_deviations
from tailor.data.dataset import Dataset
from tailor.data.importers.dialogues import CATEGORIES
from tailor.evaluation.significance import bootstrap
from tailor.metrics.prediction import auc
from tailor.metrics.recalibration import fit_logistic
from tailor.papers.reranking.memreranker import RIDGE, MemReranker, weights_of
from tailor.profiles.recall import (
    ANSWER_CONSTANT,
    ANSWER_WEIGHTS,
    KNEE,
    LEAD_WEIGHTS,
    WEIGHTS,
    speaker_leads,
)
from tailor.reranking.turn_lists import dialogues_of
from tailor.text.turns import NAMES, TurnIndex

GRID = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
PASSES = 2
THRESHOLDS = (0.5, 0.8)  # of the probability of an answer
NO_NAME = (
    10.0  # log-odds of an answer where a question names no speaker: there is nothing to tell it by
)
CHOSEN = {
    "words": ("words beside", "words of session", "date", "speaker"),
    "with MiniLM": (
        "words beside",
        "words of session",
        "cosine",
        "cosine beside",
        "cosine of session",
        "date",
        "speaker",
    ),
}
"""Form -> features whose weight is chosen; that of "words" is 1."""
NUMBER = {name: number for number, name in CATEGORIES.items()}


class Dialogue:
    """The questions of a dialogue with the features of all its turns."""

    def __init__(self, turns, requests: list[str], gains: np.ndarray, categories: list[str]):
        index = TurnIndex(turns, encoder())
        raw = index.features(requests).transpose(0, 2, 1).astype(float)  # R, F, n
        self.features = np.stack([in_deviations(of_request) for of_request in raw])
        self.signs = index.speakers(requests)
        self.gains = gains
        self.categories = np.array(categories)
        self.is_answerable = self.categories != "adversarial"

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return (R, n) weighed sums of the features."""
        return np.einsum("f,rfn->rn", weights, self.features)

    def recalls(self, weights: np.ndarray, k: int = 10) -> np.ndarray:
        """Return (R,) recall@k of the turns that hold the answer."""
        scores = self.scores(weights)
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        return np.take_along_axis(self.gains, best, axis=1).sum(axis=1) / self.gains.sum(axis=1)

    def learnable(self, mask: np.ndarray) -> np.ndarray:
        """Return (R, n, F + 1) features and a constant for a model; `mask` (F,) leaves some out."""
        features = self.features.transpose(0, 2, 1) * mask
        return np.concatenate([features, np.ones((*features.shape[:2], 1))], axis=2)

    def leads(self, weights: np.ndarray) -> np.ndarray:
        """Return (R, 3) leads of the speaker asked about by log-odds with weights, and 1.

        All are 0 where a question names nobody.
        """
        is_counted = np.array([name != "speaker" for name in (*NAMES, "constant")])
        log_odds = self.learnable(np.ones(len(NAMES))) @ (weights * is_counted)
        leads = np.zeros((len(log_odds), 3))
        rows = np.flatnonzero(self.is_named)
        leads[rows, :2] = np.stack(speaker_leads(log_odds[rows], self.signs[rows]), axis=1)
        leads[rows, 2] = 1
        return leads

    @property
    def is_named(self) -> np.ndarray:
        """(R,) bool: the question names one of the speakers."""
        is_named: np.ndarray = (self.signs > 0).any(axis=1) & (self.signs < 0).any(axis=1)
        return is_named


def categories_of(data: Dataset) -> dict[str, list[str]]:
    """Return dialogue -> the category of each judged question, in the order of `dialogues_of`."""
    judged = set(data.tables["judgements"]["query_id"].to_list())
    categories: dict[str, list[str]] = {}
    for row in data.tables["requests"].iter_rows(named=True):
        if row["request_id"] in judged:
            categories.setdefault(row["context"], []).append(row["category"])
    return categories


def read_dialogues() -> list[Dialogue]:
    """Return LoCoMo's dialogues; it takes a minute with the encoder."""
    data = real("locomo")
    categories = categories_of(data)
    return [
        Dialogue(item.turns, item.requests, item.gains, categories[item.turns[0].dialogue_id])
        for item in dialogues_of(data)
    ]


def chosen_weights(dialogues: Sequence[Dialogue], names: Sequence[str]) -> list[np.ndarray]:
    """Return for each dialogue the weights (F,) of best R@10 on the others, by coordinates."""
    memo: dict[tuple[float, ...], np.ndarray] = {}

    def by_dialogue(weights: np.ndarray) -> np.ndarray:
        """Return (D,) sums of R@10 over the answerable questions of each dialogue."""
        key = tuple(weights.tolist())
        if key not in memo:
            memo[key] = np.array([d.recalls(weights)[d.is_answerable].sum() for d in dialogues])
        return memo[key]

    chosen = []
    for left_out in range(len(dialogues)):
        others = np.arange(len(dialogues)) != left_out
        weights = np.array([float(name == "words") for name in NAMES])
        for name in [*names] * PASSES:
            trials = []
            for value in GRID:
                trial = weights.copy()
                trial[NAMES.index(name)] = value
                trials.append((by_dialogue(trial)[others].sum(), -value, trial))
            weights = max(trials, key=lambda trial: trial[:2])[2]
        chosen.append(weights)
    return chosen


class Learned(NamedTuple):
    """A reranker and a rule of abstention, learned on other dialogues than the one judged."""

    recalls: list[np.ndarray]
    """(R,) recall@10 of each dialogue."""
    clearness: list[np.ndarray]
    """(R,) log-odds that a question has an answer; those that name no speaker have the most."""


def learned(dialogues: Sequence[Dialogue], mask: np.ndarray, run: Run) -> Learned:
    """Learn MemReranker's weights, and the weights of leads, on nine dialogues for the tenth.

    `mask` (F,) leaves features out.
    """
    recalls, clearness = [], []
    for left_out, judged in enumerate(dialogues):
        others = [d for number, d in enumerate(dialogues) if number != left_out]
        features = [d.learnable(mask)[d.is_answerable] for d in others]
        targets = [d.gains[d.is_answerable] for d in others]
        rng = run.rng("negatives", left_out)
        weights = weights_of(features, targets, MemReranker().negatives, rng).features
        weights = weights * np.append(mask, 1.0)
        leads = [d.leads(weights)[d.is_named] for d in others]
        answerable = [d.is_answerable[d.is_named].astype(float) for d in others]
        of_leads = fit_logistic(np.concatenate(answerable), np.concatenate(leads), RIDGE)
        recalls.append(judged.recalls(weights[:-1]))
        clearness.append(np.where(judged.is_named, judged.leads(weights) @ of_leads, NO_NAME))
    return Learned(recalls, clearness)


def locomo_figures(run: Run) -> dict[str, Mapping[str, object]]:
    """Return R@10 by category number, the interval over dialogues, and abstention, by form."""
    dialogues = read_dialogues()
    judge = Judge([d.categories for d in dialogues], run)
    figures: dict[str, Mapping[str, object]] = {}
    for form, names in CHOSEN.items():
        chosen = chosen_weights(dialogues, names)
        shipped = np.array([WEIGHTS.get(name, 0.0) for name in NAMES]) * mask_of(names)
        best = [d.scores(w).max(axis=1) for d, w in zip(dialogues, chosen, strict=True)]
        reranker = learned(dialogues, mask_of(names), run)
        figures[form] = {
            "questions": int(judge.is_answerable.sum()),
            **judge.recall([d.recalls(w) for d, w in zip(dialogues, chosen, strict=True)]),
            "R@10, shipped weights": judge.recall([d.recalls(shipped) for d in dialogues])["R@10"],
            "learned reranker": judge.recall(reranker.recalls),
            "abstention AUROC, learned": judge.abstention(reranker.clearness),
            "kept and refused, learned": judge.at_thresholds(reranker.clearness),
            "abstention AUROC, shipped": judge.abstention(
                [answerable(d, mask_of(names)) for d in dialogues]
            ),
            "abstention AUROC, best score": judge.abstention(best),
            "mean weights": {
                name: round(float(value), 3)
                for name, value in zip(NAMES, np.mean(chosen, axis=0), strict=True)
                if value
            },
        }
    return figures


def mask_of(names: Sequence[str]) -> np.ndarray:
    """Return (F,) 1 for the features of a form: all, or all but the cosines."""
    has_model = any("cosine" in name for name in names)
    return np.array([float(has_model or "cosine" not in name) for name in NAMES])


def answerable(dialogue: Dialogue, mask: np.ndarray) -> np.ndarray:
    """Return (R,) what `Recall` says of how clearly a dialogue holds each answer, as log-odds."""
    weights = np.array([ANSWER_WEIGHTS.get(name, 0.0) for name in NAMES]) * mask
    leads = dialogue.leads(np.append(weights, ANSWER_CONSTANT))
    shipped = np.array([WEIGHTS.get(name, 0.0) for name in NAMES]) * mask
    of_named = leads @ np.array(LEAD_WEIGHTS)
    return np.where(dialogue.is_named, of_named, dialogue.scores(shipped).max(axis=1) - KNEE)


class Judge:
    """The questions of all dialogues together."""

    def __init__(self, categories: Sequence[Sequence[str]], run: Run):
        self.categories = np.concatenate(categories)
        self.clusters = np.repeat(np.arange(len(categories)), list(map(len, categories)))
        self.is_answerable = self.categories != "adversarial"
        self.seed = run.seed

    def recall(self, by_dialogue: Sequence[np.ndarray]) -> dict[str, object]:
        """Return the mean recall with its interval over dialogues, and by category."""
        recalls = np.concatenate(by_dialogue)
        values = recalls[self.is_answerable]
        clusters = self.clusters[self.is_answerable]
        low, high = bootstrap(values[:, None], seed=self.seed, clusters=clusters)
        by_category = {
            f"{NUMBER[name]} (n {int((self.categories == name).sum())})": round(
                float(recalls[self.categories == name].mean()), 4
            )
            for name in sorted(NUMBER, key=NUMBER.__getitem__)
        }
        return {
            "R@10": round(float(values.mean()), 4),
            "low": round(float(low[0]), 4),
            "high": round(float(high[0]), 4),
            "R@10 by category": by_category,
        }

    def abstention(self, by_dialogue: Sequence[np.ndarray]) -> float:
        """Return the AUROC of answerable against adversarial questions."""
        values = np.concatenate(by_dialogue)
        return round(float(auc(self.is_answerable.astype(float), values)), 4)

    def at_thresholds(self, by_dialogue: Sequence[np.ndarray]) -> dict[str, list[float]]:
        """Return probability -> share of answerable questions kept, and of others refused."""
        log_odds = np.concatenate(by_dialogue)
        shares = {}
        for threshold in THRESHOLDS:
            is_kept = log_odds >= np.log(threshold / (1 - threshold))
            kept = is_kept[self.is_answerable].mean()
            refused = 1 - is_kept[~self.is_answerable].mean()
            shares[str(threshold)] = [round(float(kept), 3), round(float(refused), 3)]
        return shares
