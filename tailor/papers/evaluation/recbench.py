"""Compare four forms of an item (id, text, embedding, semantic id) in accuracy and cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from tailor.core.costs import bytes_of
from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.studies import ReportTable, Study, StudyReport
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split, split_by
from tailor.errors import DataError, ModelError
from tailor.evaluation.predictions import Predictions, evaluate_predictions
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.report import Report, without_nan
from tailor.evaluation.runs import Candidates, sampled
from tailor.evaluation.zero_shot import likelihoods, log_odds
from tailor.metrics.prediction import auc
from tailor.metrics.ranking import hits, ndcg
from tailor.ports.base import LanguageModel
from tailor.ranking.calibrated_score import CalibratedScore

PAPER = Paper(
    "recbench",
    "Can LLMs Outshine Conventional Recommenders? A Comparative Evaluation",
    "https://arxiv.org/abs/2503.05493",
    "The grid of four item forms and two tasks, nets of one size, completes on Beauty cut to 5,000"
    " users in 10 minutes; the embedding form finds items without any event above the id form; a"
    " language model of 135 million weights takes at least 20 times as long for a request as the id"
    " form",
)
WHOLE = "the whole catalogue"
LISTED = "lists"
LISTS = 19  # items beside the target in a list that the language model orders
HISTORY = 10  # latest titles in a prompt
CTR = "CTR"
NEXT_ITEM = "next item"
Answer = Callable[[int], Any]  # index of a query -> its scores
ZERO_SHOT = "language model, zero-shot"


@dataclass(frozen=True)
class Cell:
    """Measurements of one form in one task."""

    form: str
    task: str
    """"CTR": which of two items; "next item"."""
    trained: bool
    """False: zero-shot."""
    ranked: str
    """Items that are ordered, and the number of users or pairs."""
    accuracy: float
    """AUC of CTR, NDCG@k of next item."""
    fit_s: float | None
    """None where nothing was fitted, or another cell has it."""
    p50_ms: float
    """Median time of a single request."""
    p95_ms: float
    bytes: float | None = None
    """Size of the learned state."""
    valid: float | None = None
    """Share of answers from the whole catalogue that are its items, not repeated, not excluded."""


@dataclass(frozen=True, eq=False)
class Grid(StudyReport):
    """Results of the study: one cell per form and task."""

    cells: list[Cell]
    report: Report
    """Next item: every user's values."""
    predictions: Predictions
    """CTR: predictions of every pair."""
    seconds: dict[str, float]
    """Processor seconds of "forms" and of the "language model"."""
    leaks: int
    """Requests to the language model that were left out since the history held the target's title.
    """

    def tables(self) -> list[ReportTable]:
        """Return the grid, one row per form and task."""
        columns = ("form", "task", "ranked", "accuracy", "p50 ms", "p95 ms")
        rows = [(c.form, c.task, c.ranked, c.accuracy, c.p50_ms, c.p95_ms) for c in self.cells]
        return [ReportTable("forms of an item", columns, tuple(rows))]

    def cell(self, form: str, task: str, ranked: str = WHOLE) -> Cell:
        """Return the cell of a form and task; DataError where there is none."""
        for cell in self.cells:
            if (cell.form, cell.task) == (form, task) and cell.ranked.startswith(ranked):
                return cell
        raise DataError(
            f'no cell of form "{form}", task "{task}" and "{ranked}": there are'
            f" {[(c.form, c.task, c.ranked) for c in self.cells]}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        content = {
            "cells": [asdict(cell) for cell in self.cells],
            "leaks": self.leaks,
            "seconds": self.seconds,
            NEXT_ITEM: self.report.to_dict(),
            CTR: self.predictions.to_dict(),
        }
        return cast(dict[str, Any], without_nan(content))


@dataclass(eq=False)
class RecBench(Study[Grid]):
    """Fits one method per form of an item and measures click prediction, next items and time.

    The methods come as form -> recommender (`forms` makes four of one size). A click is predicted
    by each one's own score of the item, calibrated on validation. The last event of every user is
    held out, beside one item drawn by popularity. A language model is asked zero-shot about a few
    users: about pairs, and about lists of 20 on which the nets are measured too, since its figures
    are not comparable with those of the whole catalogue. Differs from the paper: nets of one small
    size on a processor instead of models up to 8 billion weights, and a language model that is not
    fine-tuned.
    """

    language_model: LanguageModel | None = None
    """Measured beside the forms; None: no such rows."""
    k: int = 10
    """Depth of lists."""
    requests: int = 200
    """Single requests that are timed."""
    people: int = 40
    """Users that the language model is asked about."""

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Grid:
        """Fit the methods (not copies of them) and measure.

        Raises ModelError for a method that recommends nothing.
        """
        started = time.process_time()
        split = split_by(data, "last")
        fitted, fit_seconds = _fit_forms(methods, split, run)
        report = evaluate(fitted, split, "test", (self.k,), ("HR", "NDCG"), ("removed",), run)
        clicks = {form: CalibratedScore.of(method, split, run) for form, method in fitted.items()}
        predictions = evaluate_predictions(clicks, split, "test", run=run)
        cells = []
        for form, method in fitted.items():
            measured = _Form(form, method, clicks[form], round(fit_seconds[form], 2))
            cells += self._cells(measured, split, report, predictions, run)
        seconds = {"forms": round(time.process_time() - started, 1)}
        leaks = 0
        if self.language_model is not None:
            zero_shot_cells, leaks = self._zero_shot(split, fitted, clicks, run)
            cells += zero_shot_cells
        total = time.process_time() - started
        seconds["language model"] = round(total - seconds["forms"], 1)
        return Grid(cells, report, predictions, seconds, leaks)

    def _cells(
        self, form: "_Form", split: Split, report: Report, predictions: Predictions, run: Run
    ) -> list[Cell]:
        """Return both tasks of a form: figures of the protocols, and times of single requests."""
        queries = split.queries("test")[0].without_history()
        sample = np.sort(run.rng("requests").permutation(len(queries))[: self.requests]).tolist()
        ids = split.data.catalogue.ids
        timed_ids = ids[run.rng("timed").integers(len(ids), size=len(queries))].tolist()

        def predict(i: int) -> Any:
            return form.clicks.predict(queries[i : i + 1], [[timed_ids[i]]])

        def recommend(i: int) -> Any:
            return form.method.recommend(queries[i : i + 1], self.k)

        predicted = _time_requests(predict, sample)
        recommended = _time_requests(recommend, sample)
        size = bytes_of(form.method.state())
        click_cell = Cell(
            form=form.name,
            task=CTR,
            trained=True,
            ranked=f"{WHOLE}: {len(predictions.labels)} pairs",
            accuracy=predictions.overall(form.name, "AUC"),
            fit_s=form.fit_s,
            p50_ms=predicted.p50_ms,
            p95_ms=predicted.p95_ms,
            bytes=size,
        )
        next_cell = Cell(
            form=form.name,
            task=NEXT_ITEM,
            trained=True,
            ranked=f"{WHOLE}: {len(queries)} people",
            accuracy=report.mean(form.name, f"NDCG@{self.k}"),
            fit_s=form.fit_s,
            p50_ms=recommended.p50_ms,
            p95_ms=recommended.p95_ms,
            bytes=size,
            valid=_valid(form.method.recommend(queries, self.k), queries, split),
        )
        return [click_cell, next_cell]

    def _zero_shot(
        self,
        split: Split,
        fitted: Mapping[str, Recommender],
        clicks: Mapping[str, CalibratedScore],
        run: Run,
    ) -> tuple[list[Cell], int]:
        """Return the language model's and the nets' cells, and the number of users left out."""
        queries, targets = split.queries("test")
        titles = _titles(split.data)
        model = cast(LanguageModel, self.language_model)
        sample = np.sort(run.rng("asked").permutation(len(queries))[: self.people])
        leaking = [
            i
            for i in sample.tolist()
            if titles[targets[i][0]] in {titles[row] for row in queries.histories[i].tolist()}
        ]
        users = np.setdiff1d(sample, leaking)
        lists = sampled(split, "test", LISTS, seed=run.seed)
        pairs = sampled(split, "test", 1, by="popularity", seed=run.seed)
        task = _ListTask(
            split=split,
            queries=queries.take(users),
            targets=targets.take(users),
            titles=titles,
            lists=lists.rows.take(users),
            pairs=pairs.rows.take(users),
            k=self.k,
        )
        cells = [
            task.cell(ZERO_SHOT, CTR, partial(task.ask_choice, model)),
            task.cell(ZERO_SHOT, NEXT_ITEM, partial(task.ask_next, model)),
        ]
        for form in fitted:
            cells.append(task.cell(form, CTR, partial(task.predict_pair, clicks[form])))
            cells.append(task.cell(form, NEXT_ITEM, partial(task.score_list, fitted[form])))
        return cells, len(leaking)


class _Form(NamedTuple):
    """A fitted form of an item."""

    name: str
    method: Recommender
    clicks: CalibratedScore
    """Click probabilities from the method's scores."""
    fit_s: float


def _fit_forms(
    methods: Mapping[str, Any], split: Split, run: Run
) -> tuple[dict[str, Recommender], dict[str, float]]:
    """Fit the methods; return them and their seconds by form."""
    fitted: dict[str, Recommender] = {}
    seconds: dict[str, float] = {}
    for form, method in run.progress(list(methods.items()), "fitting the forms", len(methods)):
        if not isinstance(method, Recommender):
            raise ModelError(
                f'{method.name} stands for the form "{form}": it must be a recommender'
            )
        started = time.perf_counter()
        fitted[form] = method.fit(split.train, run, split)
        seconds[form] = time.perf_counter() - started
    return fitted, seconds


@dataclass(frozen=True, eq=False)
class _ListTask:
    """A few users with short lists to order: the target and one other item, or 19 others."""

    split: Split
    queries: Queries
    targets: Ragged
    titles: list[str]
    """(N,) titles of all items."""
    lists: Ragged
    pairs: Ragged
    k: int

    def cell(self, form: str, task: str, answer: Answer) -> Cell:
        """Ask for the scores of every user's pair or list, and return accuracy and times."""
        lists = self.pairs if task == CTR else self.lists
        timed = _time_requests(answer, range(len(self.queries)))
        length = int(lists.lengths.max(initial=0))
        if not timed.answers:
            accuracy = float("nan")
        elif task == CTR:
            accuracy = self._auc(timed.answers)
        else:
            accuracy = self._ndcg(timed.answers)
        return Cell(
            form=form,
            task=task,
            trained=form != ZERO_SHOT,
            ranked=f"{LISTED} of {length}: {len(self.queries)} people",
            accuracy=accuracy,
            fit_s=None,
            p50_ms=timed.p50_ms,
            p95_ms=timed.p95_ms,
        )

    def _auc(self, scores: Sequence[np.ndarray]) -> float:
        """Return the AUC of the targets among all pairs."""
        items = len(self.titles)
        keys = self.pairs.row_ids * items + self.pairs.values
        is_target = np.isin(keys, self.targets.row_ids * items + self.targets.values)
        return auc(is_target.astype(float), np.concatenate(scores))

    def _ndcg(self, scores: Sequence[np.ndarray]) -> float:
        """Return the mean NDCG@k of the lists in the order of their scores."""
        ordered = [
            self.lists[i][np.argsort(-list_scores, kind="stable")][: self.k]
            for i, list_scores in enumerate(scores)
        ]
        is_hit = hits(np.array(ordered), self.targets.offsets, self.targets.values)
        return float(np.nanmean(ndcg(is_hit, self.targets.lengths, self.k)))

    def ask_choice(self, model: LanguageModel, i: int) -> np.ndarray:
        """Return the model's log-odds of choosing each item of a pair."""
        return log_odds(model, self._history(i), self._names(self.pairs[i]))

    def ask_next(self, model: LanguageModel, i: int) -> np.ndarray:
        """Return the model's likelihoods of each title of a list."""
        return likelihoods(model, self._history(i), self._names(self.lists[i]))

    def predict_pair(self, method: CalibratedScore, i: int) -> np.ndarray:
        """Return the click probabilities of a pair."""
        item_ids = self.split.data.catalogue.named(self.pairs[i])
        return method.predict(self.queries[i : i + 1], [item_ids])[0]

    def score_list(self, method: Recommender, i: int) -> np.ndarray:
        """Return (K,) scores of a list's items; -inf for items that the method does not know."""
        rows = self.lists[i]
        query = self.queries[i : i + 1]
        candidates = Candidates("a list", query.user_ids, Ragged.of([rows.tolist()])).over(query)
        catalogue = self.split.data.catalogue
        ranking = method.recommend(query, len(rows), candidates).reindexed(catalogue)
        is_known = ranking.rows >= 0
        item_scores: np.ndarray = np.full(len(catalogue), -np.inf)
        item_scores[ranking.rows[is_known]] = ranking.scores[is_known]
        scores: np.ndarray = item_scores[rows]
        return scores

    def _history(self, i: int) -> list[str]:
        return self._names(self.queries.histories[i][-HISTORY:])

    def _names(self, rows: np.ndarray) -> list[str]:
        return [self.titles[row] for row in rows.tolist()]


def forms(width: int = 64, blocks: int = 2, epochs: int = 20) -> dict[str, Recommender]:
    """Return four nets of one size that differ only in the form of an item."""
    from tailor.core.specs import find_class
    from tailor.generative.tiger import TIGER
    from tailor.retrieval.sasrec import SASRec
    from tailor.text.hashing import HashingEncoder

    hllm: Any = find_class("HLLM")  # by name: a paper imports no other
    common: dict[str, Any] = {
        "width": width,
        "blocks": blocks,
        "heads": 2,
        "dropout": 0.2,
        "epochs": epochs,
    }
    hashed_words = HashingEncoder(1024)
    return {
        "id": SASRec(**common),  # an own vector for every item
        # sum of vectors of words and letter triples by their hash
        "text": hllm(encoder=hashed_words, projection="linear", **common),
        "embedding": hllm(**common),  # a frozen sentence encoder's vector, through a small net
        "semantic id": TIGER(reads_vectors=False, **common),  # four digits
    }


class _Timed(NamedTuple):
    """Answers to single requests with the milliseconds of one."""

    answers: list[Any]
    p50_ms: float
    p95_ms: float


def _time_requests(answer: Answer, queries: Sequence[int]) -> _Timed:
    """Answer queries one by one and time each."""
    answers = []
    times = []
    for i in queries:
        started = time.perf_counter()
        answers.append(answer(i))
        times.append(1000 * (time.perf_counter() - started))
    if not times:
        return _Timed([], float("nan"), float("nan"))
    p50, p95 = np.percentile(times, (50, 95)).tolist()
    return _Timed(answers, round(p50, 3), round(p95, 3))


def _valid(lists: Rankings, queries: Queries, split: Split) -> float:
    """Return the share of answers that are catalogue items, not repeated and not excluded."""
    catalogue = split.data.catalogue
    items = len(catalogue)
    rows = lists.reindexed(catalogue).rows
    excluded = queries.reindexed(catalogue).exclude
    assert excluded is not None
    answers = int(lists.lengths.sum())
    if not answers:
        return float("nan")
    keys = (np.arange(len(rows))[:, None] * items + rows)[rows >= 0]
    valid_keys = np.setdiff1d(keys, excluded.row_ids * items + excluded.values)  # distinct ones
    return len(valid_keys) / answers


def _titles(data: Dataset) -> list[str]:
    """Return (N,) each item's title, else its text, else its id."""
    titles = data.texts_of("title")
    ids = data.catalogue.ids.tolist()
    return [
        title.strip() or text.strip() or item_id
        for title, text, item_id in zip(titles, data.item_texts, ids, strict=True)
    ]
