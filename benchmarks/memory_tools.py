"""Recall on LoCoMo: features of turns, weights chosen on other dialogues, figures by category."""

from collections.abc import Mapping, Sequence

import numpy as np
from shared_data import real

from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.data.arrays import in_deviations
from tailor.data.importers.dialogues import CATEGORIES
from tailor.evaluation.significance import bootstrap
from tailor.metrics.prediction import auc
from tailor.profiles.recall import WEIGHTS
from tailor.reranking.turn_lists import dialogues_of
from tailor.text.turns import NAMES, TurnIndex

GRID = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
PASSES = 2
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

    def margins(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) best turn of the speaker named less the best of others; else the best."""
        without = weights * np.array([name != "speaker" for name in NAMES])
        scores = self.scores(without)
        own = np.where(self.signs > 0, scores, -np.inf).max(axis=1)
        others = np.where(self.signs < 0, scores, -np.inf).max(axis=1)
        is_named = np.isfinite(own) & np.isfinite(others)
        return np.where(is_named, own - np.where(is_named, others, 0), scores.max(axis=1) - 3)


def read_dialogues() -> list[Dialogue]:
    """Return LoCoMo's dialogues; it takes a minute with the encoder."""
    data = real("locomo")
    judged = set(data.tables["judgements"]["query_id"].to_list())
    categories: dict[str, list[str]] = {}
    for row in data.tables["requests"].iter_rows(named=True):
        if row["request_id"] in judged:
            categories.setdefault(row["context"], []).append(row["category"])
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


def locomo_figures(run: Run) -> dict[str, Mapping[str, object]]:
    """Return R@10 by category number, the interval over dialogues, and abstention, by form."""
    dialogues = read_dialogues()
    categories = np.concatenate([d.categories for d in dialogues])
    clusters = np.repeat(np.arange(len(dialogues)), [len(d.categories) for d in dialogues])
    is_answerable = categories != "adversarial"
    figures: dict[str, Mapping[str, object]] = {}
    for form, names in CHOSEN.items():
        chosen = chosen_weights(dialogues, names)
        recalls = np.concatenate([d.recalls(w) for d, w in zip(dialogues, chosen, strict=True)])
        margins = np.concatenate([d.margins(w) for d, w in zip(dialogues, chosen, strict=True)])
        best = np.concatenate(
            [d.scores(w).max(axis=1) for d, w in zip(dialogues, chosen, strict=True)]
        )
        shipped = np.array([WEIGHTS.get(name, 0.0) for name in NAMES])
        if "cosine" not in names:
            shipped = shipped * np.array(["cosine" not in name for name in NAMES])
        by_shipped = np.concatenate([d.recalls(shipped) for d in dialogues])
        answerable = recalls[is_answerable]
        low, high = bootstrap(answerable[:, None], seed=run.seed, clusters=clusters[is_answerable])
        figures[form] = {
            "questions": int(is_answerable.sum()),
            "R@10": round(float(answerable.mean()), 4),
            "low": round(float(low[0]), 4),
            "high": round(float(high[0]), 4),
            "R@10, shipped weights": round(float(by_shipped[is_answerable].mean()), 4),
            "R@10 by category": {
                f"{NUMBER[name]} (n {int((categories == name).sum())})": round(
                    float(recalls[categories == name].mean()), 4
                )
                for name in sorted(NUMBER, key=NUMBER.__getitem__)
            },
            "abstention AUROC, margin of speakers": abstention(is_answerable, margins),
            "abstention AUROC, best score": abstention(is_answerable, best),
            "mean weights": {
                name: round(float(value), 3)
                for name, value in zip(NAMES, np.mean(chosen, axis=0), strict=True)
                if value
            },
        }
    return figures


def abstention(is_answerable: np.ndarray, values: np.ndarray) -> float:
    """Return the AUROC of answerable against adversarial questions."""
    return round(float(auc(is_answerable.astype(float), values)), 4)
