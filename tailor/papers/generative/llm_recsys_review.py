"""Remedies: the classic pains of a recommender, what each costs a data set, and what eases it.

Shapes: U requests, N items, K items of a list.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

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
    GAIN,
    BeforeAfter,
    Check,
    Checklist,
    Figure,
    Sample,
    run_checks,
)
from tailor.evaluation.closed_lists import judged_lists, list_scores, names_of
from tailor.evaluation.list_tasks import (
    QUESTIONS,
    ListTasks,
    examples_in_context,
    recommender_scores,
)
from tailor.evaluation.significance import draw_counts
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
CHANCE, STRANGE_TEXTS = "random order", "texts of other items"
AGAIN = "asked again"
COST = ("cost", "low", "high")
IN_TIME = 0.95  # of the answers of a pipeline that is quick enough
DRAWS = 2_000  # of the requests, for the interval of a cost
CONDITIONS = {
    COLD_ITEMS: "are for items that no earlier event has",
    COLD_PEOPLE: "come from users without an earlier event",
    NOISE: "of the events read unlike all else that their users chose",
    TAIL: "are for rare items",
    LATENCY: "are answered late by the most accurate pipeline",
}
FIT = "tailor fit {} --split SPLIT --out MODEL"
STUDY = "tailor study Remedies MODEL --data DATA"
HIDE = "tailor data split DATA --by new-items --out SPLIT"
POPULAR, IDS, TEXTS, ASSISTED = "popularity", "ids", "texts", "ids and texts"
KEYWORDS, MODEL = "keywords", "language model"


class Requests(NamedTuple):
    """Requests and the item that each user chose next."""

    queries: Queries
    targets: np.ndarray
    """(U,) item rows of the queries' catalogue, never one of the history."""


@dataclass(frozen=True)
class Pain:
    """The share of right answers that a pain costs, and what its remedy brings."""

    name: str
    remedy: str
    """Method to try."""
    reason: str = ""
    """Why the cost is not known; empty: it is."""
    touched: float = 0.0
    """Share of the requests that have the pain, of the events for noise."""
    cost: float = 0.0
    """Share of right answers that is lost to it, from 0 to 1."""
    low: float = 0.0
    """95 % interval of the cost."""
    high: float = 0.0
    metric: str = ""
    """Measure of what follows."""
    before: Figure | None = None
    after: Figure | None = None
    gain: Figure | None = None
    """None: the remedy could not be measured."""

    @property
    def verdict(self) -> str:
        """Say whether the remedy helps: beyond doubt, and more than chance does."""
        if self.gain is None:
            return "not measured"
        return "gain" if self.gain.low > 0 and self.gain.is_beyond_floor else "no gain"

    @property
    def row(self) -> tuple[Any, ...]:
        """The cells of `PAIN_COLUMNS`."""
        costs = (self.touched, self.cost, self.low, self.high)
        known = [None] * 4 if self.reason else [round(value, DIGITS) for value in costs]
        values = [None if part is None else part.value for part in (self.before, self.after)]
        gain = self.gain
        gains = [None] * 3 if gain is None else [gain.value, gain.low, gain.high]
        rounded = [None if value is None else round(value, DIGITS) for value in (*values, *gains)]
        return (self.name, *known, self.remedy, self.metric, *rounded, self.verdict)

    def sentence(self) -> str:
        """Return the pain, its cost and the method to try, in plain words."""
        parts = [
            f"Worst pain: {self.name}. {self.touched:.0%} of the"
            f" {'' if self.name == NOISE else 'requests '}{_unrepeated(self.name)}, which costs"
            f" {self.cost:.0%} of the right answers (95 % interval {self.low:.0%} to"
            f" {self.high:.0%})."
        ]
        if self.gain is None or self.before is None or self.after is None:
            return f"{parts[0]} Try {self.remedy}: it could not be measured here."
        change = f"{self.metric} {self.before.value:.3f} before, {self.after.value:.3f} after"
        if self.verdict == "gain":
            return f"{parts[0]} Try {self.remedy}: {change}."
        return f"{parts[0]} {self.remedy} is no remedy here: {change}, no gain beyond chance."


PAIN_COLUMNS = (
    "pain",
    "touched",
    "cost",
    "low",
    "high",
    "remedy",
    "metric",
    "before",
    "after",
    "gain",
    "gain low",
    "gain high",
    "verdict",
)
"""Columns of the table of pains."""


@dataclass(frozen=True, eq=False)
class Prescription(Checklist):
    """The checks, and the pains in the order of what they cost."""

    pains: tuple[Pain, ...] = ()
    """The dearest first; those of unknown cost last."""
    least: float = 0.1
    """Cost below which nothing counts as a pain."""

    @property
    def worst(self) -> Pain | None:
        """The dearest pain; None: none costs `least` or more, or none beyond doubt."""
        dear = [pain for pain in self.pains if pain.cost >= self.least and pain.low > 0]
        return dear[0] if dear else None

    def sentence(self) -> str:
        """Return the worst pain and the method to try, in plain words."""
        if self.worst is not None:
            return self.worst.sentence()
        known = [pain for pain in self.pains if not pain.reason]
        if not known:
            return "No cost could be measured."
        return (
            f"Nothing hurts much: no pain costs {self.least:.0%} of the right answers; the dearest"
            f" is {known[0].name} with {known[0].cost:.0%}."
        )

    def tables(self) -> list[ReportTable]:
        """Return the pains, then the checks and details."""
        rows = tuple(pain.row for pain in self.pains)
        return [ReportTable("pains, the dearest first", PAIN_COLUMNS, rows), *super().tables()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the verdict, the pains, and those of a checklist."""
        pains = [dict(zip(PAIN_COLUMNS, pain.row, strict=True)) for pain in self.pains]
        worst = None if self.worst is None else self.worst.name
        return {"worst": worst, "verdict": self.sentence(), "pains": pains, **super().to_dict()}

    def notes(self) -> list[str]:
        """Return the verdict, costs that are not known, and the notes of a checklist."""
        unknown = [
            f"{pain.name}: cost not known. {pain.reason}" for pain in self.pains if pain.reason
        ]
        return [self.sentence(), *unknown, *super().notes()]


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
    asked: int = 30
    """Users whose lists a language model is asked about."""
    size: int = 20
    """Items of such a list, at most 26."""
    history: int = 5
    """Latest items of a history in a prompt."""

    def __post_init__(self) -> None:
        counts = (self.k, self.users, self.words, self.timed, self.asked, self.history)
        if min(counts) < 1 or not self.shares or min(self.shares) <= 0:
            raise DataError(
                f"k {self.k}, users {self.users}, words {self.words}, timed {self.timed}, asked"
                f" {self.asked}, history {self.history}: at least 1 each; shares {self.shares}:"
                " above 0"
            )
        if not 0 < self.head < 1 or not 0 < self.twin <= 1 or self.budget_ms <= 0:
            raise DataError(
                f"head {self.head}, twin {self.twin}: above 0 and at most 1, head below 1;"
                f" budget_ms {self.budget_ms}: above 0"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(k=5, users=20, shares=(0.2,), timed=2, asked=4, size=4, history=3)

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Prescription:
        """Measure all pains; DataError for several language models."""
        if len(methods) > 1:
            raise DataError(f"{len(methods)} language models: name one, or none")
        model = next(iter(methods.values()), None)
        case = _Case(self, data, model, run)
        comparisons = case.comparisons()
        checks = [check for part in comparisons for check in part.checks()]
        report = run_checks([*checks, *case.latency_checks()], run, TITLE)
        prescription = Prescription(
            report.title,
            report.results,
            (case.pipeline_table(),),
            tuple(case.remarks),
            case.pains(report, comparisons),
            self.least,
        )
        return prescription


class _Case:
    """Fits what several pains need once, and measures before and after."""

    def __init__(
        self, study: Remedies, data: Dataset, model: LanguageModel | None, run: Run
    ) -> None:
        self.study = study
        self.data = data
        self.model = None if model is None else without_cache(model)
        self.run = run
        self.remarks: list[str] = []
        self.split = split_by(data, study.by or ("time" if data.has_times else "last"))
        self.train = self.split.train_valid
        self.requests = self._requests(self.split)
        self.counts = np.bincount(self.train.sequences.rows.values, minlength=len(data.catalogue))
        self.fit_s: dict[str, float] = {}
        self.ids_name, self.texts_name = study.ids.name, study.texts.name
        self.assisted_name = f"{self.ids_name} with {self.texts_name}"

    # --- requests

    def _requests(self, split: Split) -> Requests:
        """Return the first held-out item of drawn users; DataError where none remains."""
        queries, targets = split.queries("test")
        first = targets.values[targets.offsets[:-1]]
        histories = queries.histories
        is_repeat = np.zeros(len(queries), dtype=bool)
        is_repeat[histories.row_ids[histories.values == first[histories.row_ids]]] = True
        rows = np.flatnonzero(~is_repeat)
        if not len(rows):
            raise DataError(f"by {split.kind}: all {len(queries)} users choose known items again")
        drawn = self.run.rng("requests", split.kind).permutation(rows)[: self.study.users]
        return Requests(queries.take(np.sort(drawn)), first[np.sort(drawn)])

    def _found(self, method: Recommender, requests: Requests) -> np.ndarray:
        """Return (U,) 1 where the target is in the list, else 0; known items are left out."""
        rows = self._lists(method, requests.queries)
        return (rows == requests.targets[:, None]).any(axis=1).astype(np.float64)

    def _lists(self, method: Recommender, queries: Queries) -> np.ndarray:
        """Return (U, K) item rows, -1 for none."""
        lists = method.recommend(queries.without_history(), self.study.k)
        return lists.reindexed(self.data.catalogue).rows

    @property
    def chance(self) -> float:
        """Recall of lists in random order."""
        return min(self.study.k / max(len(self.data.catalogue), 1), 1.0)

    def _need_texts(self) -> None:
        if not has_words(self.data):
            raise DataError(
                "no item has words, and this remedy reads them: give items titles, categories or"
                " texts"
            )

    # --- methods

    def _by_ids(self) -> Recommender:
        return Fallback([clone(self.study.ids), Popularity()])

    def _assisted(self) -> Recommender:
        self._need_texts()
        parts = [clone(self.study.ids), clone(self.study.texts)]
        return Fallback([Fuse(parts, exclude_history=True), Popularity()])

    @cached_property
    def fitted(self) -> dict[str, Recommender]:
        """Pipelines by name, fitted on all that came before the requests."""
        pipelines: dict[str, Recommender] = {POPULAR: Popularity(), IDS: self._by_ids()}
        if has_words(self.data):
            pipelines |= {
                TEXTS: Fallback([clone(self.study.texts), Popularity()]),
                ASSISTED: self._assisted(),
                KEYWORDS: Fallback([TextMatch(), Popularity()]),
            }
        for name, pipeline in pipelines.items():
            start_s = time.perf_counter()
            pipeline.fit(self.train, self.run)
            self.fit_s[name] = time.perf_counter() - start_s
        return pipelines

    def _pipeline(self, name: str) -> Recommender:
        if name not in self.fitted:
            self._need_texts()
        return self.fitted[name]

    @cached_property
    def found(self) -> dict[str, np.ndarray]:
        """(U,) hits of each pipeline on the requests; that of keywords needs words from users."""
        return {
            name: self._found(method, self.requests)
            for name, method in self.fitted.items()
            if name != KEYWORDS
        }

    def _with_strange_texts(self, data: Dataset) -> Dataset:
        """Return the events, and items that have each other's texts."""
        table = data.item_table
        ids = self.run.rng("texts of other items").permutation(table["item_id"].to_numpy())
        items = table.with_columns(item_id=ids.astype(str))
        tables = {"events": data.events, "items": items}
        return Dataset(tables, data.name, catalogue=data.catalogue, users=data.users)

    # --- comparisons

    def comparisons(self) -> list[BeforeAfter]:
        """Return all that is measured before and after."""
        noises = [self._noise_added(share) for share in self.study.shares]
        cold = [self._cold_items(), self._cold_people()]
        return [*cold, self._noise(), *noises, *self._tail(), *self._prompts()]

    def _cold_items(self) -> BeforeAfter:
        methods = (self.ids_name, self.texts_name)
        asks = (HIDE, FIT.format(self.texts_name))
        return BeforeAfter(
            COLD_ITEMS, self.recall, methods, asks, self.hidden_ids, self.hidden, COLD_ITEMS
        )

    def _cold_people(self) -> BeforeAfter:
        methods = ("Popularity", "TextMatch with keywords")
        asks = (FIT.format("Popularity"), "tailor recommend MODEL --text KEYWORDS")
        return BeforeAfter(
            COLD_PEOPLE, self.recall, methods, asks, self.popular, self.keywords, COLD_PEOPLE
        )

    def _noise(self) -> BeforeAfter:
        methods = (self.ids_name, f"{self.ids_name} without misfits")
        asks = (FIT.format(self.ids_name), "data.cut(~misfits(data, rng))")
        return BeforeAfter(NOISE, self.recall, methods, asks, self.as_it_is, self.cleaned, NOISE)

    def _noise_added(self, share: float) -> BeforeAfter:
        return BeforeAfter(
            f"noise of {share:.0%}",
            f"{self.recall} lost to {share:.0%} random events",
            (self.ids_name, self.assisted_name),
            self._asks,
            lambda: self.drop(IDS, self._by_ids, share),
            lambda: self.drop(ASSISTED, self._assisted, share),
            NOISE,
            is_loss=True,
        )

    def _tail(self) -> list[BeforeAfter]:
        methods = (self.ids_name, self.assisted_name)
        recall = f"{self.recall} of rare items"
        return [
            BeforeAfter(TAIL, recall, methods, self._asks, self.rare_ids, self.rare_assisted, TAIL),
            BeforeAfter(
                "tail share",
                "share of lists that is rare items",
                methods,
                self._asks,
                lambda: self.tail_share(IDS),
                lambda: self.tail_share(ASSISTED),
                TAIL,
            ),
        ]

    def _prompts(self) -> list[BeforeAfter]:
        shots: list[tuple[str, Callable[[], Sample], tuple[str, ...]]] = [
            ("zero-shot", lambda: self.prompted(()), (BEFORE, AFTER, GAIN)),
            ("few-shot", lambda: self.prompted(self._examples()), (AFTER, GAIN)),
        ]
        return [
            BeforeAfter(
                name,
                f"NDCG@{self.study.k} of lists of {self.study.size}",
                (self.assisted_name, f"{MODEL}, {name}"),
                (self._asks[1], STUDY),
                self.listed,
                call,
                RANKING,
                stages=stages,
            )
            for name, call, stages in shots
        ]

    @property
    def recall(self) -> str:
        """Name of the measure of lists."""
        return f"recall@{self.study.k}"

    @property
    def _asks(self) -> tuple[str, str]:
        """Calls of ids, and of ids with texts."""
        both = f"Fuse([{self.ids_name}(), {self.texts_name}()]).fit(data)"
        return FIT.format(self.ids_name), both

    # --- cold items

    @cached_property
    def hidden_split(self) -> Split:
        """The data with items hidden, their twins too."""
        split = split_by(self.data, "new-items", seed=self.run.seed)
        rows = split.data.sequences.rows.values
        codes = split.part[split.data.sequences.events]
        hidden = np.unique(rows[codes == TEST])
        is_twin = twins_of(self.data.item_texts, hidden, self.study.twin)
        hidden_events = is_twin[rows] & (codes != TEST) & (codes != DROPPED)
        part = split.part.copy()
        part[split.data.sequences.events[hidden_events]] = DROPPED
        twins = len(np.unique(rows[hidden_events]))
        self.remarks.append(
            f"cold items: {len(hidden)} items hidden; {twins} text twins of them were in training"
            f" and were hidden too, with {int(hidden_events.sum())} events"
        )
        return Split(split.data, split.kind, {**split.params, "twins": twins}, part)

    def _on_hidden(self, method: Recommender, train: Dataset | None = None) -> np.ndarray:
        fitted = method.fit(train or self.hidden_split.train_valid, self.run)
        return self._found(fitted, self._requests(self.hidden_split))

    def hidden_ids(self) -> Sample:
        """Return recall of hidden items by ids."""
        return Sample(self._on_hidden(self._by_ids()), self.chance, CHANCE)

    def hidden(self) -> Sample:
        """Return recall of hidden items by texts; the floor reads the texts of other items."""
        self._need_texts()
        strange = self._with_strange_texts(self.hidden_split.train_valid)
        found = self._on_hidden(clone(self.study.texts))
        floor = self._on_hidden(clone(self.study.texts), strange)
        return Sample(found, floor, STRANGE_TEXTS)

    # --- cold people

    @cached_property
    def strangers(self) -> tuple[Split, Requests]:
        """Users who were never learned from, their last event held out."""
        split = split_by(self.data, "new-users", seed=self.run.seed)
        return split, self._requests(split)

    def _on_strangers(self, method: Recommender, texts: Sequence[str]) -> np.ndarray:
        """Return recall for users of whom keywords are known, and no event."""
        split, requests = self.strangers
        queries = requests.queries.without_history()
        is_known = np.zeros(len(queries.histories.values), dtype=bool)
        asked = replace(queries.keep_events(is_known), texts=np.array(texts, dtype=object))
        rows = method.fit(split.train, self.run).recommend(asked, self.study.k)
        hits = rows.reindexed(self.data.catalogue).rows == requests.targets[:, None]
        return hits.any(axis=1).astype(np.float64)

    def popular(self) -> Sample:
        """Return recall of popular items."""
        texts = [""] * len(self.strangers[1].queries)
        return Sample(self._on_strangers(Popularity(), texts), self.chance, CHANCE)

    def keywords(self) -> Sample:
        """Return recall by keywords; the floor has those of another user."""
        self._need_texts()
        method = Fallback([TextMatch(), Popularity()])
        texts = self._keywords()
        others = texts[1:] + texts[:1]
        floor = self._on_strangers(clone(method), others)
        return Sample(self._on_strangers(method, texts), floor, "keywords of another user")

    def _keywords(self) -> list[str]:
        """Return what each user would name: words that most of their other items share.

        The target is none of these items. Of equally shared words the commoner one is named; a
        word of more than a tenth of the items says nothing.
        """
        counts, columns = count_words(self.data.item_texts)
        counts.data[:] = 1
        names = list(columns)
        frequencies = np.asarray(counts.sum(axis=0)).ravel()
        is_telling = frequencies <= max(0.1 * len(self.data.catalogue), 1)
        histories = self.strangers[1].queries.histories.distinct()
        shared = histories.matrix(len(self.data.catalogue)) @ counts
        texts = []
        for i in range(len(histories)):
            row = shared[[i]]
            worths = (row.data + frequencies[row.indices] / frequencies.sum()) * is_telling[
                row.indices
            ]
            best = row.indices[np.argsort(-worths, kind="stable")[: self.study.words]]
            texts.append(" ".join(names[column] for column in best if is_telling[column]))
        return texts

    # --- noise

    @cached_property
    def warm(self) -> np.ndarray:
        """(U,) bool: requests of users with a history for items with events."""
        has_history = self.requests.queries.histories.lengths > 0
        return has_history & (self.counts[self.requests.targets] > 0)

    def as_it_is(self) -> Sample:
        """Return recall of ids on the log as it is."""
        return Sample(self.found[IDS][self.warm], self.chance, CHANCE)

    @cached_property
    def is_misfit(self) -> np.ndarray:
        """(events,) bool: training events that read unlike all else their users chose."""
        self._need_texts()
        return misfits(self.train, self.run.rng("misfits"))

    def cleaned(self) -> Sample:
        """Return recall of ids on a log without misfits; the floor drops as many at random."""
        rng = self.run.rng("dropped at random")
        found = [
            self._found(self._by_ids().fit(self.train.cut(~mask), self.run), self.requests)
            for mask in (self.is_misfit, rng.permutation(self.is_misfit))
        ]
        return Sample(found[0][self.warm], found[1][self.warm], "as many random events dropped")

    def drop(self, name: str, make: Callable[[], Recommender], share: float) -> Sample:
        """Return recall that is lost to random events; the floor repeats as many of the log's."""
        clean = self._pipeline(name)
        losses = []
        for change in (with_random_events, with_repeated_events):
            noisy = change(self.train, share, self.run.rng(change.__name__, str(share)))
            found = self._found(make().fit(noisy, self.run), self.requests)
            losses.append((self._found(clean, self.requests) - found)[self.warm])
        return Sample(losses[0], losses[1], "as many events repeated")

    # --- tail

    @cached_property
    def is_rare(self) -> np.ndarray:
        """(N,) bool: items with events that are not among the most popular ones."""
        order = np.argsort(-self.counts, kind="stable")
        is_rare = self.counts > 0
        is_rare[order[: int(np.ceil(self.study.head * is_rare.sum()))]] = False
        return is_rare

    @property
    def _for_rare(self) -> np.ndarray:
        return self.warm & self.is_rare[self.requests.targets]

    def rare_ids(self) -> Sample:
        """Return recall of rare items by ids."""
        return Sample(self.found[IDS][self._for_rare], self.chance, CHANCE)

    def rare_assisted(self) -> Sample:
        """Return recall of rare items by ids and texts."""
        self._pipeline(ASSISTED)
        found, floor = self.found[ASSISTED], self._found(self._strange, self.requests)
        return Sample(found[self._for_rare], floor[self._for_rare], STRANGE_TEXTS)

    @cached_property
    def _strange(self) -> Recommender:
        """Ids assisted by the texts of other items."""
        return self._assisted().fit(self._with_strange_texts(self.train), self.run)

    def tail_share(self, name: str) -> Sample:
        """Return the share of each list that are rare items."""
        shares = self._rare_shares(self._pipeline(name))
        if name == IDS:
            return Sample(shares, float(self.is_rare.mean()), CHANCE)
        return Sample(shares, self._rare_shares(self._strange), STRANGE_TEXTS)

    def _rare_shares(self, method: Recommender) -> np.ndarray:
        rows = self._lists(method, self.requests.queries)[self.warm]
        is_item = rows >= 0
        rare = (self.is_rare[rows] & is_item).sum(axis=1)
        return np.where(is_item.any(axis=1), rare / np.maximum(is_item.sum(axis=1), 1), np.nan)

    # --- a language model

    @cached_property
    def tasks(self) -> ListTasks:
        """Short lists of the requests."""
        if self.model is None:
            raise DataError(f"no language model is named: {STUDY}")
        study = self.study
        rng = self.run.rng("short lists")
        lists = judged_lists(self.split, "test", study.size, study.history, study.asked, rng)
        return ListTasks(lists, names_of(self.data))

    def listed(self) -> Sample:
        """Return NDCG of ids and texts on short lists."""
        lists = self.tasks.lists
        queries = self.split.queries("test")[0].take(lists.users)
        scores = recommender_scores(self._pipeline(ASSISTED), queries, self.split, lists)
        return Sample(lists.ndcg(scores, self.study.k), lists.chance(self.study.k), CHANCE)

    def prompted(self, examples: Sequence[str]) -> Sample:
        """Return NDCG of the model; the floor is of prompts with another user's history."""
        lists = self.tasks.lists
        order = np.roll(np.arange(len(lists)), 1)
        others = replace(lists, histories=tuple(lists.histories[i] for i in order.tolist()))
        values = [
            part.ndcg(self._letters(ListTasks(part, self.tasks.names), examples), self.study.k)
            for part in (lists, others)
        ]
        return Sample(values[0], values[1], "another user's history")

    def _letters(self, tasks: ListTasks, examples: Sequence[str]) -> np.ndarray:
        prompts = ["\n\n".join([*examples, text]) for text in tasks.list_prompts(QUESTIONS[0])]
        assert self.model is not None  # `tasks` refused it
        return list_scores(self.model, prompts, tasks.lists.size)

    def _examples(self) -> list[str]:
        return examples_in_context(self.train, self.study.history, self.run)

    # --- latency

    @cached_property
    def times(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Milliseconds (n,) of single requests, asked twice, by pipeline."""
        queries = self.requests.queries.without_history()
        count = min(len(queries), self.study.timed)
        calls: dict[str, Callable[[int], Any]] = {
            name: _one_by_one(method, self._asked(name, queries), self.study.k)
            for name, method in self.fitted.items()
        }
        times = {name: _twice(call, count) for name, call in calls.items()}
        if self.model is not None and has_words(self.data):
            times[MODEL] = _twice(self._prompt_one, min(len(self.tasks.lists), self.study.timed))
        return times

    def _asked(self, name: str, queries: Queries) -> Queries:
        """Return the queries; for keywords those with a text in place of a history."""
        if name != KEYWORDS:
            return queries
        rng = self.run.rng("timed keywords")
        texts = rng.choice(np.array(self.data.item_texts, dtype=object), len(queries)).tolist()
        short = [" ".join(text.split()[: self.study.words]) for text in texts]
        return replace(queries, texts=np.array(short, dtype=object))

    def _prompt_one(self, i: int) -> None:
        prompt = self.tasks.list_prompts(QUESTIONS[0])[i]
        assert self.model is not None
        list_scores(self.model, [prompt], self.study.size)

    def latency_checks(self) -> list[Check]:
        """Return the median and the 95th percentile of each pipeline."""
        names = list(self.fitted) + ([MODEL] if self.model is not None else [])
        return [
            Check(
                f"latency of {name}: p{percent}",
                self._method_of(name),
                f"ms of a request, p{percent}",
                STUDY if name == MODEL else "tailor study Remedies --data DATA",
                lambda name=name, percent=percent: self._latency(name, percent),
                LATENCY,
            )
            for name in names
            for percent in (50, 95)
        ]

    def _latency(self, name: str, percent: int) -> Figure:
        if name not in self.times:
            self._need_texts()
        times, again = self.times[name]
        return Figure.of_quantile(times, again, percent / 100, AGAIN, self.run.seed)

    def _method_of(self, name: str) -> str:
        methods = {IDS: self.ids_name, TEXTS: self.texts_name, ASSISTED: self.assisted_name}
        return {**methods, POPULAR: "Popularity", KEYWORDS: "TextMatch"}.get(name, name)

    # --- the trade-off of pipelines

    def pipeline_table(self) -> ReportTable:
        """Return accuracy, scalability and latency of every pipeline."""
        half = self._half()
        rows = [self._pipeline_row(name, half) for name in self.times]
        columns = ("pipeline", "measure", "accuracy", "low", "high", "fit s", "x for 2 x users")
        return ReportTable(
            "accuracy, scalability, latency", (*columns, "MB", "p50 ms", "p95 ms"), tuple(rows)
        )

    def _half(self) -> Dataset:
        """Return the log of half of the users."""
        users = self.train.users.ids
        drawn = self.run.rng("half of the users").permutation(users)[: (len(users) + 1) // 2]
        return self.train.cut(self.train.events["user_id"].is_in(drawn.tolist()).to_numpy())

    def _pipeline_row(self, name: str, half: Dataset) -> tuple[Any, ...]:
        measure, values = self._accuracy(name)
        figure = Figure.of(values, self.chance, CHANCE, self.run.seed)
        accuracy = [round(value, DIGITS) for value in (figure.value, figure.low, figure.high)]
        p50, p95 = np.quantile(self.times[name][0], (0.5, 0.95)).round(3).tolist()
        if name == MODEL:  # nothing was fitted
            return (self._method_of(name), measure, *accuracy, None, None, None, p50, p95)
        start_s = time.perf_counter()
        clone(self.fitted[name]).fit(half, self.run)
        growth = self.fit_s[name] / max(time.perf_counter() - start_s, 1e-9)
        megabytes = round(bytes_of(self.fitted[name].state()) / 2**20, 3)
        scale = (round(self.fit_s[name], 3), round(growth, 2), megabytes)
        return (self._method_of(name), measure, *accuracy, *scale, p50, p95)

    def _accuracy(self, name: str) -> tuple[str, np.ndarray]:
        """Return the measure of a pipeline, and its values (n,)."""
        if name == MODEL:
            return f"NDCG@{self.study.k} of short lists", self.prompted(()).values
        if name == KEYWORDS:
            return f"{self.recall} of cold people", self.keywords().values
        return self.recall, self.found[name]

    # --- pains

    def pains(self, report: Checklist, comparisons: Sequence[BeforeAfter]) -> tuple[Pain, ...]:
        """Return all pains, the dearest first."""
        figures = {result.check.name: result.figure for result in report.results}
        remedies = {part.name: part for part in comparisons}
        costs: dict[str, Callable[[], tuple[float, float, float, float]]] = {
            COLD_ITEMS: self._cost_of_items,
            COLD_PEOPLE: self._cost_of_people,
            NOISE: self._cost_of_noise,
            TAIL: self._cost_of_tail,
        }
        pains = []
        for name, cost in costs.items():
            remedy = remedies[name].methods[1]
            stages = [figures[f"{name}: {stage}"] for stage in (BEFORE, AFTER, GAIN)]
            pain = _priced(name, remedy, cost)
            pains.append(replace(pain, metric=remedies[name].metric, **_figures(stages)))
        pains.append(self._slowness(figures))
        return tuple(sorted(pains, key=lambda pain: (bool(pain.reason), -pain.cost)))

    def _cost_of_items(self) -> tuple[float, float, float, float]:
        has_history = self.requests.queries.histories.lengths > 0
        is_new = self.counts[self.requests.targets] == 0
        return self._cost(has_history, is_new)

    def _cost_of_people(self) -> tuple[float, float, float, float]:
        if self.split.kind != "time":
            raise DataError(
                f"a split by {self.split.kind} holds no request of a new user: events need times"
            )
        is_known = self.counts[self.requests.targets] > 0
        return self._cost(is_known, self.requests.queries.histories.lengths == 0)

    def _cost_of_tail(self) -> tuple[float, float, float, float]:
        return self._cost(self.warm, self.is_rare[self.requests.targets])

    def _cost_of_noise(self) -> tuple[float, float, float, float]:
        """Return the answers that cleaning brings back: what the noise in the log costs."""
        is_misfit = self.is_misfit
        found = self._found(self._by_ids().fit(self.train.cut(~is_misfit), self.run), self.requests)
        before = self.found[IDS][self.warm]
        cost = lost(before, found[self.warm], np.ones(len(before)), self.run.seed)
        return (float(is_misfit.mean()), *cost)

    def _cost(self, mask: np.ndarray, touched: np.ndarray) -> tuple[float, float, float, float]:
        """Return the share of requests (of `mask`) with a pain, its cost and interval."""
        found, is_touched = self.found[IDS][mask], touched[mask]
        if not is_touched.any():
            return 0.0, 0.0, 0.0, 0.0
        is_free = (~is_touched).astype(np.float64)
        return (float(is_touched.mean()), *lost(found, found * is_free, is_free, self.run.seed))

    def _slowness(self, figures: Mapping[str, Figure | None]) -> Pain:
        """Return the pain of late answers by the most accurate pipeline."""
        accuracy = {name: float(found.mean()) for name, found in self.found.items()}
        best = max(accuracy, key=lambda name: accuracy[name])
        gain = figures["zero-shot: gain"]
        if gain is not None and gain.low > 0:
            best = MODEL
        quick = [name for name in accuracy if self._in_time(name).values.mean() >= IN_TIME]
        remedy = max(quick, key=lambda name: accuracy[name], default=POPULAR)
        if best in quick:
            remedy = best
        before, after = self._in_time(best), self._in_time(remedy)
        n = min(len(before.values), len(after.values))
        late = 1 - before.values
        ones = np.ones(len(late))
        change = Sample(
            after.values[:n] - before.values[:n], after.floor[:n] - before.values[:n], AGAIN
        )
        seed = self.run.seed
        return Pain(
            LATENCY,
            f"{self._method_of(remedy)} ({self.recall} {accuracy[remedy]:.3f})",
            touched=float(late.mean()),
            **dict(zip(COST, lost(before.values, ones, ones, seed), strict=True)),
            metric=f"share within {self.study.budget_ms:g} ms",
            before=Figure.of(*before, seed),
            after=Figure.of(*after, seed),
            gain=Figure.of(*change, seed),
        )

    def _in_time(self, name: str) -> Sample:
        """Return (n,) 1 where an answer comes in time, else 0; the floor asks again."""
        first, again = self.times[name]
        budget_ms = self.study.budget_ms
        return Sample((first <= budget_ms) * 1.0, (again <= budget_ms) * 1.0, AGAIN)


def lost(
    found: np.ndarray, reference: np.ndarray, weights: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Return 1 - mean(found) / (sum(reference) / sum(weights)) with its 95 % interval.

    That is the share of right answers lost, where the reference is what would be found without the
    pain; all (U,), between 0 and 1. Raises DataError where nothing is found even then.
    """
    if not reference.sum() > 0:
        raise DataError("not one right answer without the pain: nothing can be lost")
    columns = np.stack([found, reference, weights, np.ones(len(found))], axis=1)
    means = np.concatenate(
        [counts @ columns for counts in draw_counts(len(found), DRAWS, seed, None)]
    )
    means = np.concatenate([columns.sum(axis=0, keepdims=True), means])
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = 1 - (means[:, 0] / means[:, 3]) / (means[:, 1] / means[:, 2])
    shares = np.clip(shares[np.isfinite(shares)], 0, 1)
    low, high = np.quantile(shares[1:], (0.025, 0.975))
    return float(shares[0]), float(low), float(high)


def _priced(name: str, remedy: str, cost: Callable[[], tuple[float, float, float, float]]) -> Pain:
    try:
        return Pain(name, remedy, "", *cost())
    except DataError as error:
        return Pain(name, remedy, str(error))


def _figures(stages: Sequence[Figure | None]) -> dict[str, Any]:
    return dict(zip((BEFORE, AFTER, GAIN), stages, strict=True))


def _group(name: str) -> str:
    return TAIL if name.startswith(TAIL) else name


def _unrepeated(name: str) -> str:
    """Return the condition of a pain as it follows "of the"."""
    words = CONDITIONS[name]
    return words.removeprefix("of the ") if name == NOISE else words


def _one_by_one(method: Recommender, queries: Queries, k: int) -> Callable[[int], Any]:
    return lambda i: method.recommend(queries[i : i + 1], k)


def _twice(call: Callable[[int], Any], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return milliseconds (n,) of single calls, and of the same calls again, all after one."""
    call(0)
    times = np.empty((2, count))
    for i in range(count):
        for turn in range(2):
            start_s = time.perf_counter()
            call(i)
            times[turn, i] = 1000 * (time.perf_counter() - start_s)
    return times[0], times[1]
