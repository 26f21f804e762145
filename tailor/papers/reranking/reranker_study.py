"""Measure rerankers of all families on the same lists: what they gain, cost and fail at."""

import copy
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np

from tailor.bench.fronts import front
from tailor.core.defaults import encoder as encoder_of
from tailor.core.defaults import language_model
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.studies import ReportTable, Study, StudyReport
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.errors import DataError
from tailor.evaluation.report import without_nan
from tailor.evaluation.significance import bootstrap, holm, paired_tests
from tailor.llm.metered import Spent, without_cache
from tailor.llm.scripted import ScriptedModel, Unreliable
from tailor.ports.base import LanguageModel
from tailor.reranking.judged_lists import JudgedList, judged_lists_of, ndcg_of
from tailor.reranking.llm_reranker import (
    STRATEGIES,
    LLMReranker,
    StrategyName,
)
from tailor.reranking.passage_lists import rerank_in_batches
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Reranked, Shortlist
from tailor.retrieval.covisitation import CoVisitation
from tailor.text.cached import CachedEncoder, plain
from tailor.text.words import words as words_of
from tailor.worlds.novel import novel_world

PAPER = Paper(
    "reranker-study",
    "How Good are LLM-based Rerankers? An Empirical Analysis of State-of-the-Art Reranking Models",
    "https://arxiv.org/abs/2508.16757",
    "One matrix of rerankers and collections, of one length of lists and of texts: the first stage"
    " and the best possible order are those known of DL19, chance lies below, every comparison has"
    " a corrected p-value, and a second run gives the same figures",
)
GIVEN, CHANCE, BEST = "first stage", "random order", "best possible order"
FLOORS = (GIVEN, CHANCE, BEST)
DRAWS = 10_000  # of a permutation test
TIE_BREAK = 1e-4  # worth of a list's last place, so that a judge has no two equal documents
PROBE_WORDS = 40  # of a text's beginning, and of what is compared with its end
RUN_WORDS = 5  # words in a row that two texts must share
SHOWN_PAIRS = 25  # comparisons in the table


@dataclass(frozen=True)
class Cell:
    """Measurements of one method on one collection."""

    collection: str
    method: str
    queries: int
    ndcg: float
    """Mean NDCG@k."""
    low: float
    high: float
    calls: float = 0.0
    """Calls of a language model a query."""
    tokens_in: float = 0.0
    """Tokens read a query."""
    tokens_out: float = 0.0
    """Tokens written a query."""
    usd: float = 0.0
    """Price of a query."""
    ms: float | None = None
    """Milliseconds a query, nothing cached: of the processor, with a language model by the clock;
    None: not timed."""
    unread: float = 0.0
    """Share of documents that kept their place because nothing could be read."""
    repaired: float = 0.0
    """Share of documents whose answer was read at a second try or in another form."""


@dataclass(frozen=True)
class NoiseCell:
    """A strategy under one kind of fault of a scripted judge."""

    strategy: str
    fault: str
    ndcg: float
    calls: float
    """Calls a query."""
    tokens_in: float
    """Tokens read a query, estimated."""
    tokens_out: float
    """Tokens written a query, estimated."""
    unread: float
    """Share of documents that kept their place because nothing could be read."""


@dataclass(frozen=True)
class Pair:
    """Two methods on one collection."""

    collection: str
    a: str
    b: str
    difference: float
    """Mean of b - a."""
    p: float
    """Of a permutation test, corrected by Holm over all pairs of the report."""


@dataclass(frozen=True, eq=False)
class RerankerReport(StudyReport):
    """Results of the study on one collection or several."""

    cells: list[Cell]
    values: dict[tuple[str, str], np.ndarray]
    """Collection and method -> (Q,) NDCG@k."""
    lengths: dict[str, np.ndarray]
    """Collection -> (Q,) words of the requests."""
    noise: list[NoiseCell] = field(default_factory=list)
    """Strategies under faults of a scripted judge."""
    continued: dict[str, float] = field(default_factory=dict)
    """Collection -> share of runs of words with which the language model continues its texts."""
    unmade: list[str] = field(default_factory=list)
    """Cells that the time did not suffice for."""
    learned_here: list[str] = field(default_factory=list)
    """Methods that were fitted on the data that they are judged by."""
    setting: str = ""
    """Lengths of lists and texts."""
    seed: int = 0
    """Seed of tests and random orders."""

    @classmethod
    def joined(cls, reports: "Sequence[RerankerReport]") -> "RerankerReport":
        """Return one report of several; comparisons are corrected over all of them.

        Raises DataError for reports of other lengths of lists or texts, and of one collection.
        """
        if len({report.setting for report in reports}) != 1:
            settings = sorted({report.setting for report in reports})
            raise DataError(
                f"these reports have other lists or texts, {'; '.join(settings) or 'none'}: only"
                " those of one setting can be compared"
            )
        names = [name for report in reports for name in report.collections]
        if len(set(names)) < len(names):
            raise DataError(f"two reports are of one collection, in {', '.join(names)}")
        return cls(
            [cell for report in reports for cell in report.cells],
            {key: value for report in reports for key, value in report.values.items()},
            {name: value for report in reports for name, value in report.lengths.items()},
            [cell for report in reports for cell in report.noise],
            {name: value for report in reports for name, value in report.continued.items()},
            [name for report in reports for name in report.unmade],
            [name for report in reports for name in report.learned_here],
            reports[0].setting,
            reports[0].seed,
        )

    @property
    def collections(self) -> list[str]:
        """Names of the collections."""
        return list(dict.fromkeys(cell.collection for cell in self.cells))

    @property
    def methods(self) -> list[str]:
        """Names of the methods, those of the floors first."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    def cell(self, collection: str, method: str) -> Cell:
        """Return the cell of a collection and method; DataError where there is none."""
        for cell in self.cells:
            if (cell.collection, cell.method) == (collection, method):
                return cell
        raise DataError(
            f'no cell of "{collection}" and "{method}": there are {self.collections} and'
            f" {self.methods}"
        )

    def mean(self, method: str) -> float | None:
        """Return the mean NDCG@k over collections; None where one is missing."""
        values = [cell.ndcg for cell in self.cells if cell.method == method]
        return float(np.mean(values)) if len(values) == len(self.collections) else None

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every pair of methods on every collection, the best possible order left out."""
        listed: list[tuple[str, str, str, float, float]] = []
        for collection in self.collections:
            names = [
                cell.method
                for cell in self.cells
                if cell.collection == collection and cell.method != BEST
            ]
            pairs = list(combinations(names, 2))
            if not pairs:
                continue
            columns = [self.values[collection, b] - self.values[collection, a] for a, b in pairs]
            differences = np.stack(columns, axis=1)
            p_values = paired_tests(differences, DRAWS, self.seed).tolist()
            means = differences.mean(axis=0).tolist()
            listed += [
                (collection, a, b, mean, p)
                for (a, b), mean, p in zip(pairs, means, p_values, strict=True)
            ]
        corrected = holm([p for *_, p in listed]).tolist() if listed else []
        return [Pair(*row[:4], p) for row, p in zip(listed, corrected, strict=True)]

    def frontier(self) -> list[str]:
        """Return the methods that no other beats or equals in both NDCG and time.

        Only timed methods with a cell for every collection take part; the quickest comes first.
        """
        points = {}
        for method in self.methods:
            mean = self.mean(method)
            times = [cell.ms for cell in self.cells if cell.method == method]
            timed = [ms for ms in times if ms is not None]
            if mean is not None and len(timed) == len(times) and method not in (CHANCE, BEST):
                points[method] = (float(np.mean(timed)), -mean)

        methods = list(points)
        best = front(np.array([points[method] for method in methods]).reshape(-1, 2))
        return sorted([methods[row] for row in best.tolist()], key=lambda method: points[method])

    def by_length(self, method: str) -> tuple[float, float] | None:
        """Return the mean NDCG@k of short and of long requests, cut at each collection's median."""
        if self.mean(method) is None:
            return None
        short, long = [], []
        for collection in self.collections:
            lengths = self.lengths[collection]
            is_short = lengths <= np.median(lengths)
            short.append(self.values[collection, method][is_short])
            long.append(self.values[collection, method][~is_short])
        return float(np.mean(np.concatenate(short))), float(np.mean(np.concatenate(long)))

    def tables(self) -> list[ReportTable]:
        """Return NDCG by collection, costs, the frontier, comparisons, and the noise."""
        tables = [self._matrix(), self._costs(), self._frontier_table(), self._comparisons()]
        if self.noise:
            tables.append(self._noise_table())
        return tables

    def _matrix(self) -> ReportTable:
        rows = []
        for method in self.methods:
            cells = {cell.collection: cell for cell in self.cells if cell.method == method}
            texts = [
                _interval_text(cells[name]) if name in cells else None for name in self.collections
            ]
            rows.append((method, *texts, self.mean(method)))
        title = f"NDCG@10 [95 % interval over queries], {self.setting}"
        return ReportTable(title, ("method", *self.collections, "mean"), tuple(rows))

    def _costs(self) -> ReportTable:
        rows = []
        for method in self.methods:
            cells = [cell for cell in self.cells if cell.method == method]
            timed = [cell.ms for cell in cells if cell.ms is not None]
            lengths = self.by_length(method) or (None, None)
            rows.append(
                (
                    method,
                    float(np.mean([cell.calls for cell in cells])),
                    float(np.mean([cell.tokens_in + cell.tokens_out for cell in cells])),
                    float(np.mean(timed)) if timed else None,
                    float(np.mean([cell.unread for cell in cells])),
                    float(np.mean([cell.repaired for cell in cells])),
                    *lengths,
                )
            )
        columns = ("method", "calls", "tokens", "ms", "unread", "repaired", "short", "long")
        return ReportTable(
            "costs a query, failures, NDCG by length of request", columns, tuple(rows)
        )

    def _frontier_table(self) -> ReportTable:
        rows = tuple(
            (
                method,
                float(np.mean([c.ms for c in self.cells if c.method == method])),
                self.mean(method),
            )
            for method in self.frontier()
        )
        return ReportTable("no other is both better and quicker", ("method", "ms", "mean"), rows)

    def _comparisons(self) -> ReportTable:
        pairs = sorted(self.pairs, key=lambda pair: (pair.p, -abs(pair.difference)))
        rows = tuple(
            (pair.collection, f"{pair.b} - {pair.a}", pair.difference, pair.p)
            for pair in pairs[:SHOWN_PAIRS]
        )
        title = f"the {len(rows)} surest of {len(pairs)} comparisons"
        return ReportTable(title, ("collection", "pair", "difference", "p (Holm)"), rows)

    def _noise_table(self) -> ReportTable:
        faults = list(dict.fromkeys(cell.fault for cell in self.noise))
        rows = []
        for strategy in dict.fromkeys(cell.strategy for cell in self.noise):
            cells = {cell.fault: cell for cell in self.noise if cell.strategy == strategy}
            worst = max(cell.unread for cell in cells.values())
            values = [cells[fault].ndcg for fault in faults]
            first = cells[faults[0]]
            rows.append((strategy, first.calls, first.tokens_in + first.tokens_out, *values, worst))
        columns = ("strategy", "calls", "tokens", *faults, "unread at worst")
        return ReportTable("NDCG@10 by a scripted judge", columns, tuple(rows))

    def notes(self) -> list[str]:
        """Return what was not made, what is no proof, and what the model seems to know."""
        notes = [f"no time for: {', '.join(self.unmade)}"] if self.unmade else []
        if self.learned_here:
            names = ", ".join(self.learned_here)
            notes.append(f"fitted on the data that judge, so that figures are no proof: {names}")
        notes += [
            f"{collection}: the language model continues its texts with {share:.1%} of their words"
            " in a row"
            for collection, share in self.continued.items()
        ]
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        content = {
            "setting": self.setting,
            "cells": [asdict(cell) for cell in self.cells],
            "means": {method: self.mean(method) for method in self.methods},
            "frontier": self.frontier(),
            "pairs": [asdict(pair) for pair in self.pairs],
            "noise": [asdict(cell) for cell in self.noise],
            "continued": self.continued,
            "by length": {method: self.by_length(method) for method in self.methods},
            "unmade": self.unmade,
            "learned here": self.learned_here,
        }
        return cast(dict[str, Any], without_nan(content))


@dataclass(eq=False)
class RerankerStudy(Study[RerankerReport]):
    """Orders the same lists by every reranker and strategy, and compares gains with costs.

    All methods get the same documents, cut to the same number of words, from the same first stage;
    the order as it came, a random and the best possible one stand beside them. Lists are those of
    judged requests, or for a log of events the candidates of co-visitation with the next item as
    the right one. With `llm`, a language model is asked by every strategy. A scripted judge that
    errs, answers in broken forms or loves first places shows what each strategy makes of faults.

    Differs from the paper: 22 large models are not at hand, so one small local model is, and cells
    that do not fit into `minutes` are named; questions that no model can know are generated, with
    invented names (`novel`), beside the same ones with common names.
    """

    depth: int = 20
    """Documents of a list."""
    words: int = 80
    """Words of a document that are shown."""
    k: int = 10
    """Depth of NDCG."""
    llm: LanguageModel | Literal["default"] | None = None
    """Language model that is asked by all `strategies`; None: none is."""
    strategies: tuple[str, ...] = get_args(StrategyName)
    """Strategies of the language model and of the scripted judge."""
    minutes: float = 10.0
    """Minutes for the language model; cells that have no time are named."""
    noise: tuple[float, ...] = (0.0, 0.1, 0.3)
    """Shares of a scripted judge's answers that are spoilt; (): no such table."""
    error: float = 0.3
    """Standard deviation of the scripted judge's errors; a perfect document is worth 1."""
    bias: float = 0.1
    """Worth that a line gains over the line below it, for the judge that loves first places."""
    judged: int = 10
    """Lists that the scripted judge orders."""
    novel: int = 0
    """Generated questions about invented names, and again about common ones; 0: none."""
    users: int = 200
    """Users of a log of events whose lists are ordered."""
    by: str = "last"
    """Kind of split of a log of events."""
    probed: int = 3
    """Texts of a collection that the language model is asked to continue, to see whether it knows
    them by heart; 0: none."""
    timed: int = 3
    """Lists by which a method is timed, with nothing cached."""

    measures: ClassVar[tuple[type, ...]] = (Reranker,)

    def __post_init__(self) -> None:
        unknown = [name for name in self.strategies if name not in STRATEGIES]
        if unknown:
            raise DataError(f'strategy "{unknown[0]}": one of {", ".join(STRATEGIES)}')
        counts = (self.depth, self.words, self.k, self.judged, self.users, self.timed)
        if min(counts) < 1 or min(self.novel, self.probed) < 0 or not self.minutes >= 0:
            raise DataError(
                "depth, words, k, judged, users and timed are at least 1, novel, probed and minutes"
                " from 0"
            )

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> RerankerReport:
        taken = [name for name in methods if name in FLOORS]
        if taken:
            raise DataError(f'a method is called "{taken[0]}", as a floor is: give another name')
        matrix = _Matrix(self, self._collections(data, run), run)
        matrix.add_floors()
        for label, method in run.progress(list(methods.items()), "rerankers", len(methods)):
            matrix.add(label, method)
        by_model = self._by_model()
        for label, reranker in run.progress(
            list(by_model.items()), "language model", len(by_model)
        ):
            matrix.add_by_model(label, reranker)
        report = matrix.report(self._noise(matrix.first[: self.judged], run))
        learned_here = [
            f"{label} on {report.collections[0]}"
            for label, method in methods.items()
            if method.is_fitted and method.trained_on_.data_hash == data.content_hash
        ]
        return replace(report, learned_here=learned_here)

    # --- lists

    def _collections(self, data: Dataset, run: Run) -> dict[str, list[JudgedList]]:
        """Return the lists of every collection by its name, all cut alike."""
        datasets = [data]
        if self.novel:
            size = max(5 * self.novel, 100)
            datasets += [
                novel_world(size, self.novel, names, run.seed) for names in ("invented", "common")
            ]
        collections = {}
        for part in datasets:
            if {"requests", "judgements"} <= set(part.tables):
                lists = judged_lists_of(part, self.depth)
            else:
                lists = recommendation_lists(part, self.depth, self.users, run, self.by)
            if not lists:
                raise DataError(
                    f'data set "{part.name}" has no list to order: it needs requests with'
                    " judgements above 0, or events"
                )
            cut = [of_query.cut(self.words) for of_query in lists]
            collections[part.name or "data"] = cut
        return collections

    # --- the language model

    def _by_model(self) -> dict[str, LLMReranker]:
        """Return a reranker for each strategy of the language model, the cheapest ones first."""
        if self.llm is None:
            return {}
        llm = language_model(self.llm)
        rerankers = {}
        for name in self.strategies:
            reads = "reply"
            has_labels = bool(STRATEGIES[name].grammar.labels(2)) and name != "verdict"
            if "score" in llm.capabilities() and has_labels and name != "likelihood":
                reads = "log-probs"
            rerankers[f"LM {name}"] = LLMReranker(
                llm=llm,
                strategy=name,  # type: ignore[arg-type]
                reads=reads,  # type: ignore[arg-type]
                depth=self.depth,
                top=self.k,
            )
        counts = {label: _documents_shown(part, self.depth) for label, part in rerankers.items()}
        return {label: rerankers[label] for label in sorted(counts, key=lambda name: counts[name])}

    def continued(self, lists: Sequence[JudgedList]) -> float | None:
        """Return how much of a few texts the language model can say by heart; None without one."""
        if self.llm is None or not self.probed:
            return None
        texts = list(dict.fromkeys(of_query.shortlist.texts[0] for of_query in lists))
        texts = texts[: self.probed]
        return continued_share(language_model(self.llm), texts)

    # --- faults

    def _noise(self, lists: Sequence[JudgedList], run: Run) -> list[NoiseCell]:
        """Return every strategy with a scripted judge under every fault."""
        if not self.noise:
            return []
        shortlists = _numbered(lists)
        judge = _judge(lists, self.error)
        faults: dict[str, LanguageModel] = {
            f"{share:.0%} spoilt": Unreliable(judge, share, run.seed) for share in self.noise
        }
        faults["loves first places"] = replace(judge, position_bias=self.bias)
        faults["no error"] = replace(judge, noise=0.0)
        cells = []
        # a scripted judge writes answers; how likely it finds a text is no judgement of its own
        strategies = [name for name in self.strategies if name != "likelihood"]
        for strategy in run.progress(strategies, "faults", len(strategies)):
            for fault, model in faults.items():
                reads = "log-probs" if strategy == "first-token" else "reply"
                reranker = LLMReranker(
                    llm=model,
                    strategy=strategy,  # type: ignore[arg-type]
                    reads=reads,  # type: ignore[arg-type]
                    top=self.k,
                )
                results = reranker.rerank(shortlists)
                value = ndcg_of(lists, [result.order for result in results], self.k).mean()
                costs = _costs_of(results)
                figures = {
                    name: costs[name] for name in ("calls", "tokens_in", "tokens_out", "unread")
                }
                cells.append(NoiseCell(strategy, fault, float(value), **figures))
        return cells


class _Matrix:
    """Measures methods on all collections, and keeps what came out."""

    def __init__(
        self, study: RerankerStudy, collections: dict[str, list[JudgedList]], run: Run
    ) -> None:
        self.study = study
        self.collections = collections
        self.run = run
        self.cells: list[Cell] = []
        self.values: dict[tuple[str, str], np.ndarray] = {}
        self.unmade: list[str] = []
        self.left_s = 60 * study.minutes

    @property
    def first(self) -> list[JudgedList]:
        """The lists of the first collection."""
        return next(iter(self.collections.values()))

    def add_floors(self) -> None:
        """Measure the orders that understand nothing, or everything."""
        for name, lists in self.collections.items():
            for floor, orders in _floor_orders(lists, self.run).items():
                self._keep(name, floor, orders, {"ms": 0.0 if floor == GIVEN else None})

    def add(self, label: str, method: Reranker) -> None:
        """Measure a method, and time it on a few lists with nothing cached."""
        for name, lists in self.collections.items():
            shortlists = [of_query.shortlist for of_query in lists]
            results = rerank_in_batches(method, shortlists)
            ms = _timed(method, shortlists[: self.study.timed])
            orders = [result.order for result in results]
            self._keep(name, label, orders, {**_costs_of(results), "ms": ms})

    def add_by_model(self, label: str, method: Reranker) -> None:
        """Measure a method that asks the language model, as long as there is time."""
        for name, lists in self.collections.items():
            shortlists = [of_query.shortlist for of_query in lists]
            start_s = time.monotonic()
            results = rerank_in_batches(method, shortlists, Limits(seconds=self.left_s))
            seconds = time.monotonic() - start_s
            is_late = seconds >= self.left_s
            self.left_s = max(self.left_s - seconds, 0.0)
            if is_late:
                self.unmade.append(f"{label} on {name}")
                continue
            is_cached = any(result.spent.cached for result in results)
            ms = None if is_cached else 1000 * seconds / len(lists)
            orders = [result.order for result in results]
            self._keep(name, label, orders, {**_costs_of(results), "ms": ms})

    def _keep(
        self, name: str, label: str, orders: Sequence[np.ndarray], figures: Mapping[str, Any]
    ) -> None:
        values = ndcg_of(self.collections[name], orders, self.study.k)
        low, high = bootstrap(values[:, None])
        mean = float(np.nanmean(values))
        self.values[name, label] = values
        cell = Cell(name, label, len(values), mean, float(low[0]), float(high[0]), **figures)
        self.cells.append(cell)

    def report(self, noise: list[NoiseCell]) -> RerankerReport:
        """Return what was measured."""
        lengths = {
            name: np.array([len(words_of(of_query.shortlist.request)) for of_query in lists])
            for name, lists in self.collections.items()
        }
        shares = {name: self.study.continued(lists) for name, lists in self.collections.items()}
        return RerankerReport(
            self.cells,
            self.values,
            lengths,
            noise,
            {name: share for name, share in shares.items() if share is not None},
            self.unmade,
            [],
            f"{self.study.depth} documents of at most {self.study.words} words",
            self.run.seed,
        )


def recommendation_lists(
    data: Dataset, depth: int, users: int, run: Run, by: str = "last"
) -> list[JudgedList]:
    """Return lists of co-visitation for users' next items, drawn among all that hold one.

    The request are the titles of the user's latest items. Co-visitation learns from the training
    part only.
    """
    split = split_by(data, by)
    first_stage = CoVisitation().fit(split.train, run)
    queries, targets = split.queries("test")
    rankings = first_stage.recommend(queries, depth).reindexed(data.catalogue)
    rows = [i for i in range(len(queries)) if set(targets[i]) & set(rankings.rows[i].tolist())]
    rng = run.rng("users of the study")
    chosen = np.sort(rng.permutation(rows)[:users]).tolist() if rows else []
    texts = data.item_texts
    lists = []
    for i in chosen:
        n = int(rankings.lengths[i])
        documents = rankings.rows[i, :n].tolist()
        history = [texts[row] for row in queries.histories[i][-10:].tolist()]
        shortlist = Shortlist(
            replace(queries[i], request_id=str(queries.user_ids[i])),
            tuple(texts[row] for row in documents),
            rankings.scores[i, :n].astype(np.float64),
            request=" ".join(history),
            history=tuple(history),
        )
        target_rows = set(targets[i].tolist())
        grades = np.array([float(row in target_rows) for row in documents])
        lists.append(JudgedList(shortlist, grades, np.ones(len(target_rows))))
    return lists


def continued_share(llm: LanguageModel, texts: Sequence[str]) -> float:
    """Return the share of runs of words with which a model continues texts as they go on.

    A model that has read a text can say its end by heart, and its judgement of it is no proof.
    """
    parts = [text.split() for text in texts]
    halves = [(" ".join(p[: len(p) // 2][-PROBE_WORDS:]), p[len(p) // 2 :]) for p in parts]
    prompts = [f"Continue this text word by word:\n\n{beginning}" for beginning, _ in halves]
    shares = []
    for (_, end), answer in zip(
        halves, llm.complete(prompts, max_tokens=2 * PROBE_WORDS), strict=True
    ):
        runs = _runs(words_of(" ".join(end[:PROBE_WORDS])))
        answer_runs = set() if answer.error else _runs(words_of(answer.text))
        if runs:
            shares.append(len(runs & answer_runs) / len(runs))
    return float(np.mean(shares)) if shares else 0.0


def _runs(tokens: Sequence[str]) -> set[tuple[str, ...]]:
    """Return all runs of words in a row."""
    return {tuple(tokens[i : i + RUN_WORDS]) for i in range(len(tokens) - RUN_WORDS + 1)}


def _floor_orders(lists: Sequence[JudgedList], run: Run) -> dict[str, list[np.ndarray]]:
    """Return the orders that understand nothing, or everything."""
    random_orders = [
        run.rng("random order", of_query.shortlist.query.request_id or "").permutation(
            len(of_query.grades)
        )
        for of_query in lists
    ]
    return {
        GIVEN: [np.arange(len(of_query.grades)) for of_query in lists],
        CHANCE: random_orders,
        BEST: [np.argsort(-of_query.grades, kind="stable") for of_query in lists],
    }


def _costs_of(results: Sequence[Reranked]) -> dict[str, Any]:
    """Return means over lists of costs, and the shares of unread and repaired documents."""
    statuses = [status for result in results for status in result.statuses]
    n = max(len(statuses), 1)
    spent: list[Spent] = [result.spent for result in results]
    return {
        "calls": float(np.mean([part.calls for part in spent])),
        "tokens_in": float(np.mean([part.tokens_in for part in spent])),
        "tokens_out": float(np.mean([part.tokens_out for part in spent])),
        "usd": float(np.mean([part.usd for part in spent])),
        "unread": statuses.count("fallback") / n,
        "repaired": statuses.count("repaired") / n,
    }


def _timed(method: Reranker, shortlists: Sequence[Shortlist]) -> float:
    """Return milliseconds a list, with no vector and no answer cached.

    They are the processor's, which other programs on the machine do not lengthen, unless a
    language model is asked, which may be elsewhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        fresh = copy.copy(method)
        if hasattr(fresh, "encoder") and fresh.encoder is not None:
            fresh.encoder = CachedEncoder(plain(encoder_of(fresh.encoder)), folder)
        clock = time.process_time
        if getattr(fresh, "llm", None) is not None:
            fresh.llm = without_cache(language_model(fresh.llm))  # type: ignore[attr-defined]
            clock = time.perf_counter
        start_s = clock()
        fresh.rerank(shortlists)
        return 1000 * (clock() - start_s) / len(shortlists)


def _documents_shown(reranker: LLMReranker, n: int) -> int:
    """Return how many documents a strategy shows for a list of n that is in order already."""
    plan = reranker.plan(n, np.random.default_rng(0))
    count = 0
    answers = None
    while True:
        try:
            groups = plan.send(answers)  # type: ignore[arg-type]
        except StopIteration:
            return count
        count += sum(map(len, groups))
        answers = [-np.array(group, dtype=np.float64) for group in groups]


def _judge(lists: Sequence[JudgedList], error: float) -> ScriptedModel:
    """Return a model that knows the grades of numbered documents, but for its errors."""
    knows = {}
    for i, of_query in enumerate(lists):
        highest = max(of_query.best.max(initial=0), 1.0)
        n = len(of_query.grades)
        for doc, grade in enumerate(of_query.grades.tolist()):
            knows[_number(i, doc)] = grade / highest - TIE_BREAK * doc / n
    return ScriptedModel(knows=knows, noise=error)


def _numbered(lists: Sequence[JudgedList]) -> list[Shortlist]:
    """Return the shortlists with numbers before the texts, by which a scripted judge knows them."""
    return [
        replace(
            of_query.shortlist,
            texts=tuple(
                f"{_number(i, doc)} {text}" for doc, text in enumerate(of_query.shortlist.texts)
            ),
            history=(),
            profile=None,
        )
        for i, of_query in enumerate(lists)
    ]


def _number(of_list: int, doc: int) -> str:
    return f"text {of_list:04d} {doc:04d};"


def _interval_text(cell: Cell) -> str:
    return f"{cell.ndcg:.4f} [{cell.low:.4f} {cell.high:.4f}]"
