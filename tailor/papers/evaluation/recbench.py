"""One item, four forms: id, text, embedding, semantic id; two tasks; accuracy beside what an answer
costs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

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
WHOLE, LISTED = "the whole catalogue", "lists"
LISTS = 19  # items beside the target in a list that the language model orders
HISTORY = 10  # latest titles that it is shown
Answer = Callable[[int], Any]
ZERO_SHOT = "language model, zero-shot"


@dataclass(frozen=True)
class Cell:
    """A form in a task."""

    form: str
    task: str
    """"CTR": which of two items; "next item"."""
    trained: bool
    """False: zero-shot."""
    ranked: str
    """What is ordered, and by how many people it is judged."""
    accuracy: float
    """AUC of CTR, NDCG@k of next item."""
    fit_s: float | None
    """None where nothing was learned, or it stands in another cell."""
    p50_ms: float
    """Of a request alone."""
    p95_ms: float
    bytes: float | None = None
    """Of what was learned."""
    valid: float | None = (
        # of lists made from the whole catalogue: share of the answers that are items of the
        # catalogue, none twice, none of what was excluded
        None
    )


@dataclass(frozen=True, eq=False)
class Grid(StudyReport):
    """What the study found."""

    cells: list[Cell]
    report: Report
    """Next item: every user's values."""
    predictions: Predictions
    """CTR: every pair's."""
    seconds: dict[str, float]
    """Of the processor: "forms", and "language model"."""
    leaks: int
    """Requests to the language model that were left out, since the history held the target's title.
    """

    def tables(self) -> list[ReportTable]:
        """Return the grid, one row a form and task."""
        columns = ("form", "task", "ranked", "accuracy", "p50 ms", "p95 ms")
        rows = [(c.form, c.task, c.ranked, c.accuracy, c.p50_ms, c.p95_ms) for c in self.cells]
        return [ReportTable("forms of an item", columns, tuple(rows))]

    def cell(self, form: str, task: str, ranked: str = WHOLE) -> Cell:
        """The cell of a form and task. Raises DataError where there is none."""
        for one in self.cells:
            if (one.form, one.task) == (form, task) and one.ranked.startswith(ranked):
                return one
        raise DataError(
            f'no cell of form "{form}", task "{task}" and "{ranked}": there are'
            f" {[(c.form, c.task, c.ranked) for c in self.cells]}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return cast(
            dict[str, Any],
            without_nan(
                {
                    "cells": [asdict(one) for one in self.cells],
                    "leaks": self.leaks,
                    "seconds": self.seconds,
                    "next item": self.report.to_dict(),
                    "CTR": self.predictions.to_dict(),
                }
            ),
        )


@dataclass(eq=False)
class RecBench(Study[Grid]):
    """Fits one method for each form an item can have, asks all of them both who of two items is
    chosen and what comes next, and times their answers.

    The methods come as a mapping form -> recommender (`forms` makes four of one size); a click is
    told by each one's own score of the item, calibrated on validation. The last event of everybody
    is held out, and beside it stands one item drawn by popularity. A language model is asked
    zero-shot, of a few people: of pairs, and of lists of 20, on which the nets are judged too, for
    its figures stand beside none of the whole catalogue. Differs from the paper: nets of one small
    size on a processor for models up to 8 billion weights, and a language model that is not
    fine-tuned.
    """

    language_model: LanguageModel | None = None
    """Asked beside the forms; None: no such rows."""
    k: int = 10
    requests: int = 200
    """Asked alone, to be timed."""
    people: int = 40
    """That the language model is asked about."""

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Grid:
        """Fit the methods (clones are not made) and measure. Raises ModelError for one that
        recommends nothing.
        """
        begun = time.process_time()
        split, fitted, fit_s = split_by(data, "last"), dict[str, Recommender](), dict[str, float]()
        for form, method in run.progress(list(methods.items()), "fitting the forms", len(methods)):
            if not isinstance(method, Recommender):
                raise ModelError(
                    f'{method.name} stands for the form "{form}": it must be a recommender'
                )
            started = time.perf_counter()
            fitted[form] = method.fit(split.train, run, split)
            fit_s[form] = time.perf_counter() - started
        report = evaluate(fitted, split, "test", (self.k,), ("HR", "NDCG"), ("removed",), run)
        clicks = {form: CalibratedScore.of(one, split, run) for form, one in fitted.items()}
        predictions = evaluate_predictions(clicks, split, "test", run=run)
        cells = [
            cell
            for form in fitted
            for cell in self._cells(
                form, fitted[form], clicks[form], split, report, predictions, run
            )
        ]
        cells = [replace(cell, fit_s=round(fit_s[cell.form], 2)) for cell in cells]
        seconds = {"forms": round(time.process_time() - begun, 1)}
        more, leaks = (
            self._zero_shot(split, fitted, clicks, run)
            if self.language_model is not None
            else ([], 0)
        )
        seconds["language model"] = round(time.process_time() - begun - seconds["forms"], 1)
        return Grid([*cells, *more], report, predictions, seconds, leaks)

    def _cells(
        self,
        form: str,
        method: Recommender,
        clicks: CalibratedScore,
        split: Split,
        report: Report,
        predictions: Predictions,
        run: Run,
    ) -> list[Cell]:
        """Both tasks of a form: figures of the protocols, and requests that are made one by one."""
        queries = split.queries("test")[0].without_history()
        some = np.sort(run.rng("requests").permutation(len(queries))[: self.requests]).tolist()
        ids, size = split.data.catalogue.ids, bytes_of(method.state())
        named = ids[run.rng("timed").integers(len(ids), size=len(queries))].tolist()
        told = _asked_alone(lambda i: clicks.predict(queries[i : i + 1], [[named[i]]]), some)[1]
        made = _asked_alone(lambda i: method.recommend(queries[i : i + 1], self.k), some)[1]
        valid = _valid(method.recommend(queries, self.k), queries, split)
        return [
            Cell(
                form,
                "CTR",
                True,
                f"{WHOLE}: {len(predictions.labels)} pairs",
                predictions.of_all(form, "AUC"),
                0.0,
                *told,
                size,
            ),
            Cell(
                form,
                "next item",
                True,
                f"{WHOLE}: {len(queries)} people",
                report.mean(form, f"NDCG@{self.k}"),
                0.0,
                *made,
                size,
                valid,
            ),
        ]

    def _zero_shot(
        self,
        split: Split,
        fitted: Mapping[str, Recommender],
        clicks: Mapping[str, CalibratedScore],
        run: Run,
    ) -> tuple[list[Cell], int]:
        """The language model's cells, and the nets' on the same people and lists; and how many
        people were left out.
        """
        queries, targets = split.queries("test")
        titles, model = _titles(split.data), cast(LanguageModel, self.language_model)
        some = np.sort(run.rng("asked").permutation(len(queries))[: self.people])
        leaking = [
            i
            for i in some.tolist()
            if titles[targets[i][0]] in {titles[row] for row in queries.histories[i].tolist()}
        ]
        some = np.setdiff1d(some, leaking)
        lists, pairs = (
            sampled(split, "test", LISTS, seed=run.seed),
            sampled(split, "test", 1, by="popularity", seed=run.seed),
        )
        asked = _Asked(
            split,
            queries.take(some),
            targets.take(some),
            titles,
            lists.rows.take(some),
            pairs.rows.take(some),
            self.k,
        )
        answers: dict[str, tuple[Answer, Answer]] = {
            ZERO_SHOT: (
                lambda i: log_odds(model, asked.history(i), asked.named(asked.pairs[i])),
                lambda i: likelihoods(model, asked.history(i), asked.named(asked.lists[i])),
            )
        }
        for form in fitted:
            answers[form] = (
                partial(asked.predicted, clicks[form]),
                partial(asked.scored, fitted[form]),
            )
        return [
            cell
            for form, (pair, listed) in answers.items()
            for cell in (asked.cell(form, "CTR", pair), asked.cell(form, "next item", listed))
        ], len(leaking)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A few people and what they are asked about: pairs of the target and another item, and longer
    lists.
    """

    split: Split
    queries: Queries
    targets: Ragged
    titles: list[str]
    lists: Ragged
    pairs: Ragged
    k: int

    def history(self, i: int) -> list[str]:
        return self.named(self.queries.histories[i][-HISTORY:])

    def named(self, rows: np.ndarray) -> list[str]:
        return [self.titles[row] for row in rows.tolist()]

    def predicted(self, method: CalibratedScore, i: int) -> np.ndarray:
        return method.predict(
            self.queries[i : i + 1], [self.split.data.catalogue.named(self.pairs[i])]
        )[0]

    def scored(self, method: Recommender, i: int) -> np.ndarray:
        """(K,) scores of a list's items; minus infinity for what the method does not know."""
        rows = self.lists[i]
        given = Candidates(
            "a list", self.queries.user_ids[i : i + 1], Ragged.of([rows.tolist()])
        ).over(self.queries[i : i + 1])
        found = method.recommend(self.queries[i : i + 1], len(rows), given).reindexed(
            self.split.data.catalogue
        )
        out: np.ndarray = np.full(len(self.split.data.catalogue), -np.inf)
        out[found.rows[found.rows >= 0]] = found.scores[found.rows >= 0]
        scores: np.ndarray = out[rows]
        return scores

    def cell(self, form: str, task: str, answer: Answer) -> Cell:
        """One request a person: the scores of its pair or of its list."""
        asked = self.pairs if task == "CTR" else self.lists
        values, spent = _asked_alone(answer, range(len(self.queries)))
        if not values:
            accuracy = float("nan")
        elif task == "CTR":
            n = len(self.titles)
            labels = np.isin(
                asked.row_ids * n + asked.values, self.targets.row_ids * n + self.targets.values
            )
            accuracy = auc(labels.astype(float), np.concatenate(values))
        else:
            ordered = [
                asked[i][np.argsort(-one, kind="stable")][: self.k] for i, one in enumerate(values)
            ]
            found = hits(np.array(ordered), self.targets.offsets, self.targets.values)
            accuracy = float(np.nanmean(ndcg(found, self.targets.lengths, self.k)))
        said = f"{LISTED} of {int(asked.lengths.max(initial=0))}: {len(self.queries)} people"
        return Cell(form, task, form != ZERO_SHOT, said, accuracy, None, *spent)


def forms(width: int = 64, blocks: int = 2, epochs: int = 20) -> dict[str, Recommender]:
    """Four nets that differ in what an item is to them, and in nothing else that could be kept
    alike: one causal transformer of one size.
    """
    from tailor.core.specs import find_class
    from tailor.generative.tiger import TIGER
    from tailor.retrieval.sasrec import SASRec
    from tailor.text.hashing import HashingEncoder

    hllm: Any = find_class("HLLM")  # by name: a paper imports no other
    same: dict[str, Any] = {
        "width": width,
        "blocks": blocks,
        "heads": 2,
        "dropout": 0.2,
        "epochs": epochs,
    }
    return {
        "id": SASRec(**same),  # a vector of its own for every item
        "text": hllm(
            encoder=HashingEncoder(1024), projection="linear", **same
        ),  # a vector for every word and triple of letters, by their hash, added up
        "embedding": hllm(**same),  # a frozen sentence encoder's vector, through a small net
        "semantic id": TIGER(reads_vectors=False, **same),  # four digits
    }


def _asked_alone(answer: Answer, of: Sequence[int]) -> tuple[list[Any], tuple[float, float]]:
    """What is answered, and the median and 95th percentile of the milliseconds an answer takes."""
    values, times = [], []
    for i in of:
        started = time.perf_counter()
        values.append(answer(i))
        times.append(1000 * (time.perf_counter() - started))
    p50, p95 = np.percentile(times, (50, 95)).tolist() if times else (float("nan"), float("nan"))
    return values, (round(p50, 3), round(p95, 3))


def _valid(lists: Rankings, queries: Queries, split: Split) -> float:
    """Share of the answers that are items of the catalogue, each once in its list, and not
    excluded.
    """
    rows = lists.reindexed(split.data.catalogue).rows
    answered, barred = int(lists.lengths.sum()), queries.reindexed(split.data.catalogue).exclude
    assert barred is not None
    n = len(split.data.catalogue)
    keys = (np.arange(len(rows))[:, None] * n + rows)[rows >= 0]
    good = np.setdiff1d(keys, barred.row_ids * n + barred.values)  # distinct ones
    return len(good) / answered if answered else float("nan")


def _titles(data: Dataset) -> list[str]:
    """What a person would call each item: its title, else its text, else its id."""
    titles, texts = data.texts_of("title"), data.item_texts
    return [
        title.strip() or text.strip() or name
        for title, text, name in zip(titles, texts, data.catalogue.ids.tolist(), strict=True)
    ]
