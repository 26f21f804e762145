"""Remedies: the classic pains of a recommender, what each costs a data set, and what eases it.

Shapes: U requests, N items, K items of a list.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.core.costs import bytes_of
from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.core.studies import ReportTable, Study
from tailor.data.dataset import Dataset
from tailor.data.noise import with_random_events, with_repeated_events
from tailor.data.queries import Queries
from tailor.data.splits import DROPPED, TEST, Split, split_by
from tailor.data.stats import has_words
from tailor.errors import DataError
from tailor.evaluation.checklist import (
    AFTER,
    BEFORE,
    DIGITS,
    FIT,
    GAIN,
    BeforeAfter,
    Check,
    Figure,
    Sample,
    run_checks,
)
from tailor.evaluation.closed_lists import judged_lists, list_scores, names_of
from tailor.evaluation.latency import Times, time_requests
from tailor.evaluation.list_tasks import (
    QUESTIONS,
    ListTasks,
    examples_in_context,
    recommender_scores,
)
from tailor.evaluation.pains import Cost, Pain, Prescription, cost_of, cost_of_group
from tailor.llm.metered import without_cache
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.fuse import Fuse
from tailor.ports.base import LanguageModel
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.text_match import TextMatch
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.text.misfits import misfits
from tailor.text.tfidf import count_words
from tailor.text.twins import twins_of

PAPER = Paper(
    "llm-recsys-review",
    "A Comprehensive Review on Harnessing Large Language Models to Overcome Recommender System"
    " Challenges",
    "https://arxiv.org/abs/2507.21117",
    "In logs with a planted pain (new items, new users, random events, rare items, slow answers, or"
    " none) the study names that pain and no other, in 3 of 3 random states; every figure on them,"
    " on Beauty and on ml-100k has an interval and a noise floor",
)
TITLE = "pains and remedies"
COLD_ITEMS, COLD_PEOPLE, NOISE = "cold items", "cold people", "noise"
TAIL, RANKING, LATENCY = "tail", "no log yet", "latency"
CHANCE, STRANGE_TEXTS, AGAIN = "random order", "texts of other items", "asked again"
CONDITIONS = {
    COLD_ITEMS: "requests are for items that no earlier event has",
    COLD_PEOPLE: "requests come from users without an earlier event",
    NOISE: "events read unlike all else that their users chose",
    TAIL: "requests are for rare items",
    LATENCY: "requests are answered late by the most accurate pipeline",
}
STUDY, MODEL_STUDY = "tailor study Remedies --data DATA", "tailor study Remedies MODEL --data DATA"
HIDE = "tailor data split DATA --by new-items --out SPLIT"
POPULAR, IDS, TEXTS, ASSISTED = "popularity", "ids", "texts", "ids and texts"
KEYWORDS, MODEL = "keywords", "language model"
PERCENTS = (50, 95)  # of the times of single requests
IN_TIME = 0.95  # of the answers of a pipeline that is quick enough
TELLING = 0.1  # of the items that may hold a keyword


class Requests(NamedTuple):
    """Requests and the item that each user chose next."""

    queries: Queries
    targets: np.ndarray
    """(U,) item rows of the queries' catalogue, never one of the history."""


@dataclass(eq=False)
class Remedies(Study[Prescription]):
    """Names the pain that costs a data set most right answers, and measures what eases it.

    Each pain has a cost, the share of right answers that a method of ids alone loses to it, and a
    remedy that reads texts, measured before and after on the same requests. A noise floor beside
    each figure says what the same remedy does with the texts of other items, the keywords of other
    users, or as many events that are not random. Data without texts get all costs that need none.

    Differs from the paper: a review has no algorithm; pains, costs and floors are ours. Texts are
    read by counted words, unless another method is set; a language model ranks short lists
    where one is named, and nothing is learned from it.
    """

    measures: ClassVar[tuple[type, ...]] = (LanguageModel,)

    by: str = ""
    """Kind of split of the requests; empty: "time" where events have times, else "last"."""
    ids: Recommender = field(default_factory=CoVisitation)
    """Method that reads no texts."""
    texts: Recommender = field(default_factory=TextNeighbours)
    """Method that reads texts, and knows items without events by them."""
    k: int = 20
    """Length of lists."""
    users: int = 1_000
    """Requests that a pain is measured on, at most."""
    shares: tuple[float, ...] = (0.1, 0.2, 0.3)
    """Random events that are added to the log, as shares of its events."""
    head: float = 0.2
    """Share of the items with events that are no rare items: the most popular ones."""
    words: int = 3
    """Keywords that a new user names."""
    twin: float = 0.9
    """Cosine of words from which two items are twins; those of hidden items are hidden too."""
    budget_ms: float = 100.0
    """Milliseconds after which an answer is late."""
    timed: int = 50
    """Single requests that are timed."""
    least: float = 0.1
    """Share of right answers that a pain must cost to be named."""
    sample: int = 30
    """Users whose lists a language model is asked about."""
    size: int = 20
    """Items of such a list, at most 26."""
    history: int = 5
    """Latest items of a history in a prompt."""

    def __post_init__(self) -> None:
        counts = (self.k, self.users, self.words, self.timed, self.sample, self.history)
        if min(counts) < 1 or not self.shares or min(self.shares) <= 0:
            raise DataError(
                f"k {self.k}, users {self.users}, words {self.words}, timed {self.timed}, sample"
                f" {self.sample}, history {self.history}: at least 1 each; shares {self.shares}:"
                " above 0"
            )
        if not 0 <= self.least <= 1:
            raise DataError(f"least is {self.least}: it must be from 0 to 1")
        if not 0 < self.head < 1 or not 0 < self.twin <= 1 or self.budget_ms <= 0:
            raise DataError(
                f"head {self.head}, twin {self.twin}: above 0 and at most 1, head below 1;"
                f" budget_ms {self.budget_ms}: above 0"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(k=5, users=20, shares=(0.2,), timed=2, sample=4, size=4, history=3)

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Prescription:
        """Measure all pains; DataError for several language models."""
        if len(methods) > 1:
            raise DataError(f"{len(methods)} language models: name one, or none")
        model = next(iter(methods.values()), None)
        case = _Case(self, data, run)
        eased = _Eased(case, model)
        pipelines = _Pipelines(case, eased)
        comparisons = eased.comparisons()
        checks = [check for part in comparisons for check in part.checks()]
        report = run_checks([*checks, *pipelines.checks()], run, TITLE)
        figures = {result.check.name: result.figure for result in report.results}
        pains = [eased.pain(part, figures) for part in comparisons if part.name in CONDITIONS]
        return Prescription(
            report.title,
            report.results,
            details=(pipelines.table(),),
            remarks=tuple(eased.remarks),
            pains=(*pains, pipelines.slowness(figures)),
            least=self.least,
        )


class _Case:
    """Requests of the data, and the pipelines that are fitted on all that came before them."""

    def __init__(self, study: Remedies, data: Dataset, run: Run) -> None:
        self.study = study
        self.data = data
        self.run = run
        self.split = split_by(data, study.by or ("time" if data.has_times else "last"))
        self.train = self.split.train_valid
        self.requests = self.requests_of(self.split)
        rows = self.train.sequences.rows.values
        self.counts = np.bincount(rows, minlength=len(data.catalogue))
        self.fit_s: dict[str, float] = {}

    # --- requests and their answers

    def requests_of(self, split: Split) -> Requests:
        """Return the first held-out item of drawn users; DataError where none remains."""
        queries, targets = split.queries("test")
        first = targets.values[targets.offsets[:-1]]
        histories = queries.histories
        is_target = histories.values == first[histories.row_ids]
        is_repeat = np.zeros(len(queries), dtype=bool)
        is_repeat[histories.row_ids[is_target]] = True
        rows = np.flatnonzero(~is_repeat)
        if not len(rows):
            raise DataError(f"by {split.kind}: all {len(queries)} users choose known items again")
        rng = self.run.rng("requests", split.kind)
        drawn = np.sort(rng.permutation(rows)[: self.study.users])
        return Requests(queries.take(drawn), first[drawn])

    def lists(self, method: Recommender, queries: Queries) -> np.ndarray:
        """Return (U, K) item rows, -1 for none; items of histories are left out."""
        lists = method.recommend(queries.without_history(), self.study.k)
        return lists.reindexed(self.data.catalogue).rows

    def answers(self, method: Recommender, requests: Requests | None = None) -> np.ndarray:
        """Return (U,) 1 where the target is in the list, else 0."""
        requests = requests or self.requests
        rows = self.lists(method, requests.queries)
        is_target = rows == requests.targets[:, None]
        return is_target.any(axis=1).astype(np.float64)

    @cached_property
    def has_history(self) -> np.ndarray:
        """(U,) bool: requests of users with earlier events."""
        return self.requests.queries.histories.lengths > 0

    @cached_property
    def is_seen(self) -> np.ndarray:
        """(U,) bool: requests for items with earlier events."""
        return self.counts[self.requests.targets] > 0

    @property
    def is_warm(self) -> np.ndarray:
        """(U,) bool: requests that have neither of the two pains of cold start."""
        return self.has_history & self.is_seen

    @cached_property
    def is_rare(self) -> np.ndarray:
        """(N,) bool: items with events that are not among the most popular ones."""
        order = np.argsort(-self.counts, kind="stable")
        is_rare = self.counts > 0
        head = int(np.ceil(self.study.head * is_rare.sum()))
        is_rare[order[:head]] = False
        return is_rare

    @property
    def chance(self) -> float:
        """Recall of lists in random order."""
        return min(self.study.k / max(len(self.data.catalogue), 1), 1.0)

    # --- pipelines

    def need_texts(self) -> None:
        """Raise DataError unless items have words."""
        if not has_words(self.data):
            raise DataError(
                "no item has words, and this remedy reads them: give items titles, categories or"
                " texts"
            )

    def by_ids(self) -> Recommender:
        """Return a fresh pipeline that reads no texts."""
        return Fallback([clone(self.study.ids), Popularity()])

    def assisted(self) -> Recommender:
        """Return a fresh pipeline of ids and texts, whose weights are learned on an inner cut."""
        self.need_texts()
        parts = [clone(self.study.ids), clone(self.study.texts)]
        return Fallback([Fuse(parts, exclude_history=True), Popularity()])

    @cached_property
    def fitted(self) -> dict[str, Recommender]:
        """Pipelines by name; those that read texts only where there are any."""
        pipelines: dict[str, Recommender] = {POPULAR: Popularity(), IDS: self.by_ids()}
        if has_words(self.data):
            pipelines[TEXTS] = Fallback([clone(self.study.texts), Popularity()])
            pipelines[ASSISTED] = self.assisted()
            pipelines[KEYWORDS] = Fallback([TextMatch(), Popularity()])
        for name, pipeline in pipelines.items():
            start_s = time.perf_counter()
            pipeline.fit(self.train, self.run)
            self.fit_s[name] = time.perf_counter() - start_s
        return pipelines

    def pipeline(self, name: str) -> Recommender:
        """Return a fitted pipeline; DataError where it lacks texts."""
        if name not in self.fitted:
            self.need_texts()
        return self.fitted[name]

    @cached_property
    def right(self) -> dict[str, np.ndarray]:
        """(U,) answers of each pipeline to the requests; keywords are not among them."""
        names = [name for name in self.fitted if name != KEYWORDS]
        return {name: self.answers(self.fitted[name]) for name in names}

    def right_of(self, name: str) -> np.ndarray:
        """Return (U,) answers of a pipeline; DataError where it lacks texts."""
        self.pipeline(name)
        return self.right[name]

    def method_of(self, name: str) -> str:
        """Return the method of a pipeline, for readers."""
        ids, texts = self.study.ids.name, self.study.texts.name
        methods = {POPULAR: "Popularity", KEYWORDS: "TextMatch", IDS: ids, TEXTS: texts}
        methods[ASSISTED] = f"{ids} with {texts}"
        return methods.get(name, name)

    def with_strange_texts(self, data: Dataset) -> Dataset:
        """Return the events, and items that have each other's texts."""
        table = data.item_table
        rng = self.run.rng("texts of other items")
        item_ids = rng.permutation(table["item_id"].to_list()).tolist()
        items = table.with_columns(item_id=pl.Series(item_ids, dtype=pl.String))
        tables = {"events": data.events, "items": items}
        return Dataset(tables, data.name, catalogue=data.catalogue, users=data.users)


class _Eased:
    """Every pain before and after its remedy, and what it costs."""

    def __init__(self, case: _Case, model: LanguageModel | None) -> None:
        self.case = case
        self.study = case.study
        self.data = case.data
        self.run = case.run
        self.model = None if model is None else without_cache(model)
        self.remarks: list[str] = []
        self.recall = f"recall@{case.study.k}"

    # --- comparisons

    def comparisons(self) -> list[BeforeAfter]:
        """Return all that is measured before and after."""
        noises = [self._noise_added(share) for share in self.study.shares]
        prompts = [self._zero_shot(), self._few_shot()]
        pains = [self._cold_items(), self._cold_people(), self._noise()]
        return [*pains, *noises, self._tail(), self._tail_share(), *prompts]

    def _cold_items(self) -> BeforeAfter:
        methods = (self.case.method_of(IDS), self.case.method_of(TEXTS))
        asks = (HIDE, FIT.format(methods[1]))
        measures = (self.hidden_by_ids, self.hidden_by_texts)
        return BeforeAfter(COLD_ITEMS, self.recall, methods, asks, *measures, COLD_ITEMS)

    def _cold_people(self) -> BeforeAfter:
        methods = ("Popularity", "TextMatch with keywords")
        asks = (FIT.format("Popularity"), "tailor recommend MODEL --text KEYWORDS")
        measures = (self.by_popularity, lambda: self.by_keywords)
        return BeforeAfter(COLD_PEOPLE, self.recall, methods, asks, *measures, COLD_PEOPLE)

    def _noise(self) -> BeforeAfter:
        ids = self.case.method_of(IDS)
        methods = (ids, f"{ids} without misfits")
        asks = (FIT.format(ids), "data.cut(~misfits(data, rng))")
        measures = (self.as_it_is, lambda: self.cleaned)
        return BeforeAfter(NOISE, self.recall, methods, asks, *measures, NOISE)

    def _noise_added(self, share: float) -> BeforeAfter:
        case = self.case
        metric = f"{self.recall} lost to {share:.0%} random events"
        return BeforeAfter(
            f"noise of {share:.0%}",
            metric,
            self._methods,
            self._asks,
            partial(self.loss, IDS, case.by_ids, share),
            partial(self.loss, ASSISTED, case.assisted, share),
            NOISE,
            is_loss=True,
        )

    def _tail(self) -> BeforeAfter:
        metric = f"{self.recall} of rare items"
        measures = (self.rare_by_ids, self.rare_assisted)
        return BeforeAfter(TAIL, metric, self._methods, self._asks, *measures, TAIL)

    def _tail_share(self) -> BeforeAfter:
        metric = "share of lists that is rare items"
        measures = (self.share_by_ids, self.share_assisted)
        return BeforeAfter("tail share", metric, self._methods, self._asks, *measures, TAIL)

    def _zero_shot(self) -> BeforeAfter:
        methods = (self._methods[1], "language model, zero-shot")
        asks = (self._asks[1], MODEL_STUDY)
        measures = (self.short_lists, lambda: self.zero_shot)
        return BeforeAfter("zero-shot", self._ndcg, methods, asks, *measures, RANKING)

    def _few_shot(self) -> BeforeAfter:
        comparison = self._zero_shot()
        return replace(
            comparison,
            name="few-shot",
            methods=(comparison.methods[0], "language model, few-shot"),
            after=self.few_shot,
            stages=(AFTER, GAIN),
        )

    @property
    def _ndcg(self) -> str:
        return f"NDCG@{self.study.k} of lists of {self.study.size}"

    @property
    def _methods(self) -> tuple[str, str]:
        """Methods of ids, and of ids with texts."""
        return self.case.method_of(IDS), self.case.method_of(ASSISTED)

    @property
    def _asks(self) -> tuple[str, str]:
        """Calls of the same."""
        ids, texts = self.study.ids.name, self.study.texts.name
        return FIT.format(ids), f"Fuse([{ids}(), {texts}()]).fit(data)"

    # --- cold items

    @cached_property
    def hidden_split(self) -> Split:
        """The data with items hidden, their twins too."""
        split = split_by(self.data, "new-items", seed=self.run.seed)
        sequences = split.data.sequences
        rows = sequences.rows.values
        codes = split.part[sequences.events]
        hidden = np.unique(rows[codes == TEST])
        is_twin = twins_of(self.data.item_texts, hidden, self.study.twin)
        is_dropped = is_twin[rows] & (codes != TEST) & (codes != DROPPED)
        part = split.part.copy()
        part[sequences.events[is_dropped]] = DROPPED
        twins = len(np.unique(rows[is_dropped]))
        self.remarks.append(
            f"cold items: {len(hidden)} items hidden; {twins} text twins of them were in training"
            f" and were hidden too, with {int(is_dropped.sum())} events"
        )
        return Split(split.data, split.kind, {**split.params, "twins": twins}, part)

    def _on_hidden(self, method: Recommender, train: Dataset) -> np.ndarray:
        fitted = method.fit(train, self.run)
        return self.case.answers(fitted, self.case.requests_of(self.hidden_split))

    def hidden_by_ids(self) -> Sample:
        """Return recall of hidden items by ids."""
        answers = self._on_hidden(self.case.by_ids(), self.hidden_split.train_valid)
        return Sample(answers, self.case.chance, CHANCE)

    def hidden_by_texts(self) -> Sample:
        """Return recall of hidden items by texts; the floor reads the texts of other items."""
        self.case.need_texts()
        train = self.hidden_split.train_valid
        answers = self._on_hidden(clone(self.study.texts), train)
        strange = self.case.with_strange_texts(train)
        floor = self._on_hidden(clone(self.study.texts), strange)
        return Sample(answers, floor, STRANGE_TEXTS)

    # --- cold people

    @cached_property
    def strangers(self) -> tuple[Split, Requests]:
        """Users who were never learned from, their last event held out."""
        split = split_by(self.data, "new-users", seed=self.run.seed)
        return split, self.case.requests_of(split)

    def _on_strangers(self, method: Recommender, texts: Sequence[str]) -> np.ndarray:
        """Return (U,) answers to users of whom texts (U,) are known, and no event.

        What they chose before is left out of the lists.
        """
        split, requests = self.strangers
        fitted = method.fit(split.train, self.run)
        queries = requests.queries.without_history()
        is_known = np.zeros(len(queries.histories.values), dtype=bool)
        blank = replace(queries.keep_events(is_known), texts=np.array(texts, dtype=object))
        lists = fitted.recommend(blank, self.study.k).reindexed(self.data.catalogue)
        is_target = lists.rows == requests.targets[:, None]
        return is_target.any(axis=1).astype(np.float64)

    def by_popularity(self) -> Sample:
        """Return recall of popular items."""
        texts = [""] * len(self.strangers[1].queries)
        return Sample(self._on_strangers(Popularity(), texts), self.case.chance, CHANCE)

    @cached_property
    def by_keywords(self) -> Sample:
        """Recall by keywords; the floor has those of another user."""
        self.case.need_texts()
        texts = self.keywords()
        others = texts[1:] + texts[:1]
        method = Fallback([TextMatch(), Popularity()])
        answers = self._on_strangers(method, texts)
        floor = self._on_strangers(method, others)
        return Sample(answers, floor, "keywords of another user")

    def keywords(self) -> list[str]:
        """Return what each user would name: words that most of their other items share.

        The target is none of these items. Of equally shared words the commoner one is named; a
        word of more than a tenth of the items says nothing.
        """
        counts, columns = count_words(self.data.item_texts)
        counts.data[:] = 1
        frequencies = np.asarray(counts.sum(axis=0)).ravel()
        items = len(self.data.catalogue)
        is_telling = frequencies <= max(TELLING * items, 1)
        histories = self.strangers[1].queries.histories.distinct()
        shared = (histories.matrix(items) @ counts @ sp.diags(is_telling * 1.0)).tocsr()
        shared.eliminate_zeros()
        shared.data += frequencies[shared.indices] / (frequencies.sum() + 1)
        names = np.array([*columns, ""], dtype=object)
        texts = []
        for i in range(len(histories)):
            row = shared[[i]]
            best = row.indices[np.argsort(-row.data, kind="stable")]
            texts.append(" ".join(names[best[: self.study.words]]))
        return texts

    # --- noise

    def as_it_is(self) -> Sample:
        """Return recall of ids on the log as it is."""
        return Sample(self.case.right[IDS][self.case.is_warm], self.case.chance, CHANCE)

    @cached_property
    def is_misfit(self) -> np.ndarray:
        """(events,) bool: training events that read unlike all else that their users chose."""
        self.case.need_texts()
        return misfits(self.case.train, self.run.rng("misfits"))

    @cached_property
    def cleaned(self) -> Sample:
        """Recall of ids on a log without misfits; the floor drops as many at random."""
        others = self.run.rng("dropped at random").permutation(self.is_misfit)
        answers, floor = (self._without(mask) for mask in (self.is_misfit, others))
        return Sample(answers, floor, "as many random events dropped")

    def _without(self, mask: np.ndarray) -> np.ndarray:
        fitted = self.case.by_ids().fit(self.case.train.cut(~mask), self.run)
        return self.case.answers(fitted)[self.case.is_warm]

    def loss(self, name: str, make: Callable[[], Recommender], share: float) -> Sample:
        """Return recall that is lost to random events; the floor repeats as many of the log's."""
        clean = self.case.right_of(name)
        losses = []
        for change in (with_random_events, with_repeated_events):
            rng = self.run.rng(change.__name__, str(share))
            fitted = make().fit(change(self.case.train, share, rng), self.run)
            loss = clean - self.case.answers(fitted)
            losses.append(loss[self.case.is_warm])
        return Sample(losses[0], losses[1], "as many events repeated")

    # --- tail

    @property
    def _for_rare(self) -> np.ndarray:
        """(U,) bool: warm requests for rare items."""
        is_rare: np.ndarray = self.case.is_rare[self.case.requests.targets]
        return self.case.is_warm & is_rare

    def rare_by_ids(self) -> Sample:
        """Return recall of rare items by ids."""
        return Sample(self.case.right[IDS][self._for_rare], self.case.chance, CHANCE)

    def rare_assisted(self) -> Sample:
        """Return recall of rare items by ids and texts; the floor has texts of other items."""
        answers = self.case.right_of(ASSISTED)
        floor = self.case.answers(self._strange)
        return Sample(answers[self._for_rare], floor[self._for_rare], STRANGE_TEXTS)

    @cached_property
    def _strange(self) -> Recommender:
        """Ids assisted by the texts of other items."""
        method = self.case.assisted()
        return method.fit(self.case.with_strange_texts(self.case.train), self.run)

    def share_by_ids(self) -> Sample:
        """Return the share of each list of ids that is rare items."""
        share = float(self.case.is_rare.mean())
        return Sample(self._rare_shares(self.case.pipeline(IDS)), share, CHANCE)

    def share_assisted(self) -> Sample:
        """Return the share of each list of ids and texts; the floor has texts of other items."""
        shares = self._rare_shares(self.case.pipeline(ASSISTED))
        return Sample(shares, self._rare_shares(self._strange), STRANGE_TEXTS)

    def _rare_shares(self, method: Recommender) -> np.ndarray:
        """Return (U,) shares of lists to warm requests; NaN for an empty list."""
        rows = self.case.lists(method, self.case.requests.queries)[self.case.is_warm]
        is_item = rows >= 0
        is_rare = self.case.is_rare[rows] & is_item
        lengths = is_item.sum(axis=1)
        shares = is_rare.sum(axis=1) / np.maximum(lengths, 1)
        return np.where(lengths > 0, shares, np.nan)

    # --- a language model

    @cached_property
    def tasks(self) -> ListTasks:
        """Short lists of the requests; DataError without a language model."""
        if self.model is None:
            raise DataError(f"no language model is named: {MODEL_STUDY}")
        study = self.study
        rng = self.run.rng("short lists")
        split = self.case.split
        lists = judged_lists(split, "test", study.size, study.history, study.sample, rng)
        return ListTasks(lists, names_of(self.data))

    @property
    def can_ask(self) -> bool:
        """True if there are a language model and short lists that it can read."""
        try:
            return len(self.tasks.lists) > 0
        except DataError:
            return False

    def short_lists(self) -> Sample:
        """Return NDCG of ids and texts on short lists."""
        lists = self.tasks.lists
        split = self.case.split
        queries = split.queries("test")[0].take(lists.users)
        scores = recommender_scores(self.case.pipeline(ASSISTED), queries, split, lists)
        values = lists.ndcg(scores, self.study.k)
        return Sample(values, lists.chance(self.study.k), CHANCE)

    @cached_property
    def zero_shot(self) -> Sample:
        """NDCG of plain prompts, asked once."""
        return self._prompted([])

    def few_shot(self) -> Sample:
        """Return NDCG where two training users and their choices stand first."""
        return self._prompted(examples_in_context(self.case.train, self.study.history, self.run))

    def _prompted(self, examples: Sequence[str]) -> Sample:
        """Return NDCG of the model; the floor is of prompts with another user's history."""
        lists = self.tasks.lists
        histories = (*lists.histories[1:], lists.histories[0])
        values = []
        for variant in (lists, replace(lists, histories=histories)):
            scores = self.letters(ListTasks(variant, self.tasks.names), examples)
            values.append(lists.ndcg(scores, self.study.k))
        return Sample(values[0], values[1], "another user's history")

    def letters(self, tasks: ListTasks, examples: Sequence[str]) -> np.ndarray:
        """Return (U, K) scores of the model, after examples."""
        assert self.model is not None  # `tasks` refused it
        prompts = tasks.list_prompts(QUESTIONS[0])
        texts = ["\n\n".join([*examples, prompt]) for prompt in prompts]
        return list_scores(self.model, texts, tasks.lists.size)

    # --- costs

    def pain(self, comparison: BeforeAfter, figures: Mapping[str, Figure | None]) -> Pain:
        """Return a pain, its cost, and its remedy as it was measured."""
        name = comparison.name
        costs = {
            COLD_ITEMS: self._cost_of_items,
            COLD_PEOPLE: self._cost_of_people,
            NOISE: self._cost_of_noise,
            TAIL: self._cost_of_tail,
        }
        cost, reason = None, ""
        try:
            cost = costs[name]()
        except DataError as error:
            reason = str(error)
        stages = {stage: figures[f"{name}: {stage}"] for stage in (BEFORE, AFTER, GAIN)}
        remedy, metric = comparison.methods[1], comparison.metric
        return Pain(name, CONDITIONS[name], remedy, metric, cost, reason, **stages)

    def _cost_of_items(self) -> Cost:
        mask = self.case.has_history
        answers = self.case.right[IDS][mask]
        return cost_of_group(answers, ~self.case.is_seen[mask], self.run.seed)

    def _cost_of_people(self) -> Cost:
        if self.case.split.kind != "time":
            raise DataError(
                f"a split by {self.case.split.kind} holds no request of a new user: events need"
                " times"
            )
        mask = self.case.is_seen
        answers = self.case.right[IDS][mask]
        return cost_of_group(answers, ~self.case.has_history[mask], self.run.seed)

    def _cost_of_tail(self) -> Cost:
        mask = self.case.is_warm
        is_rare = self.case.is_rare[self.case.requests.targets]
        return cost_of_group(self.case.right[IDS][mask], is_rare[mask], self.run.seed)

    def _cost_of_noise(self) -> Cost:
        """Return what cleaning brings back: the noise of the log costs at least that."""
        touched = float(self.is_misfit.mean())
        answers = self.case.right[IDS][self.case.is_warm]
        ones = np.ones(len(answers))
        return cost_of(touched, answers, self.cleaned.values, ones, self.run.seed)


class _Pipelines:
    """Accuracy, scalability and latency of every pipeline."""

    def __init__(self, case: _Case, eased: _Eased) -> None:
        self.case = case
        self.study = case.study
        self.run = case.run
        self.eased = eased
        self.names = list(case.fitted)
        if eased.can_ask:
            self.names.append(MODEL)

    @cached_property
    def times(self) -> dict[str, Times]:
        """Times of single requests by pipeline."""
        return {name: self._timed(name) for name in self.names}

    def _timed(self, name: str) -> Times:
        if name == MODEL:
            tasks = self.eased.tasks
            prompts = tasks.list_prompts(QUESTIONS[0])[: self.study.timed]
            model = self.eased.model
            assert model is not None
            return time_requests(
                lambda i: list_scores(model, [prompts[i]], tasks.lists.size), len(prompts)
            )
        queries = self.case.requests.queries.without_history()
        if name == KEYWORDS:
            queries = self._with_keywords(queries)
        method = self.case.fitted[name]
        count = min(len(queries), self.study.timed)
        return time_requests(lambda i: method.recommend(queries[i : i + 1], self.study.k), count)

    def _with_keywords(self, queries: Queries) -> Queries:
        """Return the queries with the first words of random items as texts."""
        rng = self.run.rng("timed keywords")
        titles = np.array(self.case.data.item_texts, dtype=object)
        drawn = rng.choice(titles, len(queries)).tolist()
        texts = [" ".join(text.split()[: self.study.words]) for text in drawn]
        return replace(queries, texts=np.array(texts, dtype=object))

    def checks(self) -> list[Check]:
        """Return the median and the 95th percentile of each pipeline."""
        return [self._check(name, percent) for name in self.names for percent in PERCENTS]

    def _check(self, name: str, percent: int) -> Check:
        return Check(
            f"latency of {name}: p{percent}",
            self.case.method_of(name),
            f"ms of a request, p{percent}",
            MODEL_STUDY if name == MODEL else STUDY,
            partial(self._percentile, name, percent),
            LATENCY,
        )

    def _percentile(self, name: str, percent: int) -> Figure:
        times = self.times[name]
        return Figure.of_quantile(*times, percent / 100, AGAIN, self.run.seed)

    def table(self) -> ReportTable:
        """Return accuracy, scalability and latency of every pipeline."""
        columns = (
            "pipeline",
            "measure",
            "accuracy",
            "low",
            "high",
            "fit s",
            "x for 2 x users",
            "MB",
            *(f"p{percent} ms" for percent in PERCENTS),
        )
        half = self._half()
        rows = tuple(self._row(name, half) for name in self.times)
        return ReportTable("accuracy, scalability, latency", columns, rows)

    def _half(self) -> Dataset:
        """Return the log of half of the users."""
        train = self.case.train
        users = self.run.rng("half of the users").permutation(train.users.ids).tolist()
        drawn = users[: (len(users) + 1) // 2]
        return train.cut(train.events["user_id"].is_in(drawn).to_numpy())

    def _row(self, name: str, half: Dataset) -> tuple[Any, ...]:
        measure, accuracy = self._accuracy(name)
        quantiles = np.quantile(self.times[name].first, np.array(PERCENTS) / 100)
        return (
            self.case.method_of(name),
            measure,
            *accuracy,
            *self._scale(name, half),
            *quantiles.round(3).tolist(),
        )

    def _scale(self, name: str, half: Dataset) -> tuple[float | None, ...]:
        """Return seconds of the fit, how they grow, and megabytes; None where nothing is fitted."""
        if name == MODEL:
            return (None, None, None)
        fitted = self.case.fitted[name]
        fit_s = self.case.fit_s[name]
        start_s = time.perf_counter()
        clone(fitted).fit(half, self.run)
        half_s = time.perf_counter() - start_s
        megabytes = bytes_of(fitted.state()) / 2**20
        return round(fit_s, 3), round(fit_s / max(half_s, 1e-9), 2), round(megabytes, 3)

    def _accuracy(self, name: str) -> tuple[str, list[float | None]]:
        """Return the measure of a pipeline, its value and interval; None where there is none."""
        measures = {MODEL: "NDCG of short lists", KEYWORDS: f"{self.eased.recall} of cold people"}
        measure = measures.get(name, self.eased.recall)
        try:
            figure = Figure.of(*self._sample(name), self.run.seed)
        except DataError:  # the row of the checklist says why
            return measure, [None, None, None]
        return measure, [round(value, DIGITS) for value in (figure.value, figure.low, figure.high)]

    def _sample(self, name: str) -> Sample:
        if name == MODEL:
            return self.eased.zero_shot
        if name == KEYWORDS:
            return self.eased.by_keywords
        return Sample(self.case.right[name], self.case.chance, CHANCE)

    def slowness(self, figures: Mapping[str, Figure | None]) -> Pain:
        """Return the pain of late answers by the most accurate pipeline."""
        accuracy = {name: float(values.mean()) for name, values in self.case.right.items()}
        best = max(accuracy, key=lambda name: accuracy[name])
        model_gain = figures["zero-shot: gain"]
        if model_gain is not None and model_gain.low > 0:
            best = MODEL
        quick = [name for name in accuracy if self._in_time(name).values.mean() >= IN_TIME]
        remedy = max(quick, key=lambda name: accuracy[name], default=POPULAR)
        return self._in_place_of(best, best if best in quick else remedy, accuracy)

    def _in_place_of(self, best: str, remedy: str, accuracy: Mapping[str, float]) -> Pain:
        """Return what late answers of a pipeline cost, and what another one in its place brings."""
        before, after = self._in_time(best), self._in_time(remedy)
        n = min(len(before.values), len(after.values))
        gain = after.values[:n] - before.values[:n]
        gain_again = np.asarray(before.floor)[:n] - before.values[:n]
        ones = np.ones(len(before.values))
        late = float(1 - before.values.mean())
        seed = self.run.seed
        return Pain(
            LATENCY,
            CONDITIONS[LATENCY],
            f"{self.case.method_of(remedy)} ({self.eased.recall} {accuracy[remedy]:.3f})",
            f"share within {self.study.budget_ms:g} ms",
            cost_of(late, before.values, ones, ones, seed),
            before=Figure.of(*before, seed),
            after=Figure.of(*after, seed),
            gain=Figure.of(gain, gain_again, AGAIN, seed),
        )

    def _in_time(self, name: str) -> Sample:
        return Sample(*self.times[name].within(self.study.budget_ms), AGAIN)
