"""Prism-Reranker: after a yes, a document's contribution and evidence are handed over too."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np

from tailor.core.defaults import DEFAULT, language_model
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.llm.grammars import statuses
from tailor.llm.metered import Spent
from tailor.llm.parsing import Status
from tailor.metrics.recalibration import fit_logistic
from tailor.ports.base import Encoder, LanguageModel
from tailor.reranking.evidence import describe
from tailor.reranking.examples import Example, examples
from tailor.reranking.llm_reranker import AskedFor, Asker, LLMReranker, metered, names_user
from tailor.reranking.pair_features import NAMES, PairFeatures
from tailor.reranking.reranker import Reranker
from tailor.reranking.running import Outcome
from tailor.reranking.running import run as run_plans
from tailor.reranking.shortlist import Exchange, Limits, Reranked, Shortlist, ordered
from tailor.reranking.strategies import Plan, pointwise
from tailor.text.cached import known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.passages import PassageFinder

PAPER = Paper(
    "prism-reranker",
    "Prism-Reranker: Beyond Relevance Scoring -- Jointly Producing Contributions and Evidence for"
    " Agentic Retrieval",
    "https://arxiv.org/abs/2604.23734",
    "At 30 % of a document's words the evidence keeps what the request asks for, where the"
    " document's beginning of that length loses it; nothing in it is made up",
)
# Weights of a scorer that has learned nothing: cosine and words, as in a hybrid search.
UNTRAINED = {"cosine": 1.4, "bm25": 0.6}
RIDGE = 1.0


@dataclass(eq=False)
class PrismReranker(Reranker):
    """Scores documents, and of those that answer says what they contribute and the proof.

    A document first gets yes or no. Only after a yes follow its contribution, a sentence, and its
    evidence: so who reads on need not read the document, and a no costs nothing more (2026).
    Without a language model a logistic scorer says yes, and evidence is cut out of the document.
    With one, numbers, names, addresses and code in its words must stand in the document; words that
    fail are replaced by what is cut out.

    Differs from the paper: no language model is trained. The scorer learns the probabilities of a
    `teacher`, or judgements, over seven features of request and document; evidence is cut out
    (reconstructed); no judges vote, and no requests are rewritten as keywords.
    """

    llm: LanguageModel | Literal["default"] | None = None
    """Language model that says yes or no and writes; "default": that of tailor.toml; None: none."""
    encoder: Encoder | str = DEFAULT
    """Encoder of requests and sentences; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    teacher: Reranker | None = None
    """Reranker whose probabilities the scorer learns; None: it learns from judgements."""
    threshold: float = 0.5
    """Least probability of a yes."""
    described: int = 10
    """Most documents of a list that get a contribution and evidence."""
    sentences: int = 3
    """Most sentences around which evidence is cut out."""
    share: float = 0.3
    """Most of a document's words that evidence may have."""
    budget: int = 3_000
    """Most tokens of a prompt."""

    weights_: np.ndarray = field(init=False, repr=False)
    """(8,) weights of the features of `PairFeatures`, and the constant."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold <= 1 or not 0 < self.share <= 1:
            raise ModelError(
                f"threshold is {self.threshold}, share {self.share}: from 0 to 1, and above 0 to 1"
            )
        if self.described < 0 or self.sentences < 1:
            raise ModelError(
                f"described is {self.described}, sentences {self.sentences}: from 0, from 1"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(depth=8, encoder=HashingEncoder(32))

    # --- learning the scorer

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._read_catalogue(data)
        self.space_ = encoder_of(self.encoder).space
        self.weights_ = _untrained()
        if self.llm is not None:
            self.fit_report_ = {"lists": 0, "untrained": "the language model scores"}
            return
        lists = examples(self, data, run)
        if not lists:
            self.fit_report_ = {"lists": 0, "untrained": "no list has documents of other gains"}
            return
        targets = self._targets(lists, data, run)
        features = self._features([example.shortlist for example in lists])
        self.weights_ = fit_logistic(np.concatenate(targets), np.concatenate(features), RIDGE)
        rounded = np.round(self.weights_, 3).tolist()
        weights = dict(zip((*NAMES, "constant"), rounded, strict=True))
        self.fit_report_ = {"lists": len(lists), "weights": weights}

    def _targets(self, lists: Sequence[Example], data: Dataset, run: Run) -> list[np.ndarray]:
        """Return the soft labels (n,) of every list: a teacher's probabilities, else gains."""
        if self.teacher is None:
            highest = max(example.gains.max() for example in lists)
            return [np.clip(example.gains / highest, 0, 1) for example in lists]
        teacher = clone(self.teacher).fit(data, run)
        results = teacher.rerank([example.shortlist for example in lists])
        kinds = {result.score_kind for result in results}
        if kinds != {"probability"}:
            raise ModelError(
                f"the teacher scores by {', '.join(sorted(kinds))}: a teacher must answer with"
                ' probabilities, such as LLMReranker(strategy="yes-no", reads="log-probs")'
            )
        return [np.clip(result.scores, 0, 1) for result in results]

    def _features(self, shortlists: Sequence[Shortlist]) -> list[np.ndarray]:
        """Return features (n, 8) of every list, the last of them 1."""
        encoder = encoder_of(self.encoder)
        if hasattr(self, "space_"):
            encoder = known_encoder(encoder, self.space_)
        features = PairFeatures(encoder).of(shortlists)
        return [np.c_[of_list, np.ones(len(of_list))].astype(np.float64) for of_list in features]

    # --- answering

    def _rerank(
        self, shortlists: Sequence[Shortlist], limits: Limits, trace: bool
    ) -> list[Reranked]:
        judged = (
            self._scored(shortlists)
            if self.llm is None
            else self._asked(shortlists, self.llm, limits, trace)
        )
        docs = [self._answering(of_list.probabilities) for of_list in judged]
        details = self._described(shortlists, judged, docs)
        return [
            ordered(
                shortlist,
                of_list.probabilities,
                of_list.statuses,
                "probability",
                self.prior_weight,
                details=_with_probabilities(details[i], of_list.probabilities),
                spent=of_list.spent,
                notes=of_list.notes,
                trace=of_list.trace,
            )
            for i, (shortlist, of_list) in enumerate(zip(shortlists, judged, strict=True))
        ]

    def _scored(self, shortlists: Sequence[Shortlist]) -> list["_Judged"]:
        """Return the scorer's probability of a yes for every document."""
        weights = getattr(self, "weights_", None)
        weights = _untrained() if weights is None else weights
        return [
            _Judged(1 / (1 + np.exp(-(of_list @ weights))), statuses("ranked", len(of_list)))
            for of_list in self._features(shortlists)
        ]

    def _asked(
        self,
        shortlists: Sequence[Shortlist],
        model: LanguageModel | Literal["default"],
        limits: Limits,
        trace: bool,
    ) -> list["_Judged"]:
        """Return the model's yes or no to every document, then its words after a yes.

        A model without log-probabilities says both at once.
        """
        llm = metered(language_model(model), limits, any(map(names_user, shortlists)))
        until_s = np.inf if limits.seconds is None else time.monotonic() + limits.seconds
        sizes = [len(shortlist) for shortlist in shortlists]
        writer = LLMReranker(llm=llm, strategy="verdict", budget=self.budget)
        asker = Asker(writer, shortlists, llm, trace)
        has_probabilities = "score" in llm.capabilities()
        judge = replace(writer, strategy="yes-no", reads="log-probs")
        first = Asker(judge, shortlists, llm, trace) if has_probabilities else asker
        outcomes = run_plans(list(map(pointwise, sizes)), sizes, first.ask, True, until_s)
        words_of_docs = [outcome.words for outcome in outcomes]
        if has_probabilities:
            docs = [self._answering(outcome.scores) for outcome in outcomes]
            plans = [_ask_alone(of_list, n) for of_list, n in zip(docs, sizes, strict=True)]
            answers = run_plans(plans, sizes, asker.ask, True, until_s)
            words_of_docs = [outcome.words for outcome in answers]
        records = [[first.of(i), asker.of(i)][: 1 + has_probabilities] for i in range(len(sizes))]
        return [
            _Judged.of(self.name, outcome, of_list, written)
            for outcome, of_list, written in zip(outcomes, records, words_of_docs, strict=True)
        ]

    def _answering(self, probabilities: np.ndarray) -> list[int]:
        """Return the likeliest documents with a yes, best first."""
        order = np.argsort(-np.nan_to_num(probabilities, nan=-1.0), kind="stable")
        likeliest = order[: self.described].tolist()
        return [doc for doc in likeliest if probabilities[doc] >= self.threshold]

    def _described(
        self,
        shortlists: Sequence[Shortlist],
        judged: Sequence["_Judged"],
        docs: Sequence[Sequence[int]],
    ) -> list[dict[int, dict[str, Any]]]:
        """Return place -> details, with contribution and evidence for `docs` alone."""
        pairs = [(i, doc) for i, of_list in enumerate(docs) for doc in of_list]
        finder = PassageFinder(encoder_of(self.encoder), self.sentences, self.share)
        texts = [(shortlists[i].request, shortlists[i].texts[doc]) for i, doc in pairs]
        details = [
            {doc: dict(of_doc) for doc, of_doc in of_list.details.items()} for of_list in judged
        ]
        for (i, doc), (request, text), spans in zip(pairs, texts, finder.of(texts), strict=True):
            written = judged[i].words.get(doc, {})
            details[i].setdefault(doc, {}).update(describe(request, text, spans, written))
        return details


@dataclass(frozen=True, eq=False)
class _Judged:
    """Answers about the documents of a list, before they are checked."""

    probabilities: np.ndarray
    """(n,) of a yes; NaN: not judged."""
    statuses: tuple[Status, ...]
    words: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Place -> name -> the model's words."""
    details: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    notes: tuple[str, ...] = ()
    trace: tuple[Exchange, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        outcome: Outcome,
        records: Sequence[AskedFor],
        written: Mapping[int, Mapping[str, str]],
    ) -> "_Judged":
        """Return the answers of a model, with what all its questions took."""
        details: dict[int, dict[str, Any]] = {}
        for record in records:
            for doc, removed in record.flagged.items():
                details.setdefault(doc, {})["flagged"] = list(removed)
            for doc in record.shortened:
                details.setdefault(doc, {})["truncated"] = True
        unread = int(np.isnan(outcome.scores).sum())
        notes = (f"{name}: {unread} documents got no verdict",) if unread else ()
        spent = sum((record.spent for record in records), Spent())
        trace = tuple(exchange for record in records for exchange in record.trace)
        statuses = tuple(outcome.statuses)
        return cls(outcome.scores, statuses, written, details, spent, notes, trace)


def _untrained() -> np.ndarray:
    return np.array([UNTRAINED.get(name, 0.0) for name in (*NAMES, "constant")])


def _with_probabilities(
    details: dict[int, dict[str, Any]], probabilities: np.ndarray
) -> dict[int, dict[str, Any]]:
    for doc in np.flatnonzero(~np.isnan(probabilities)).tolist():
        details.setdefault(doc, {})["probability"] = round(float(probabilities[doc]), 4)
    return details


def _ask_alone(docs: Sequence[int], n: int) -> Plan:
    """Plan one question for each of these documents; it scores nothing."""
    if docs:
        yield [(doc,) for doc in docs]
    return np.full(n, np.nan)
