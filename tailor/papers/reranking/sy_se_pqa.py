"""Sy-SE-PQA: a personal answer retriever that learns from answers a language model wrote."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT, language_model
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.llm.grammars import statuses
from tailor.llm.metered import without_cache
from tailor.metrics.ranking import reciprocal_rank
from tailor.nn.fitting import Recipe
from tailor.nn.policy import margin_loss
from tailor.ports.base import Encoder, LanguageModel
from tailor.reranking.examples import candidates_of, grades_of
from tailor.reranking.pair_features import list_vectors
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Reranked, Shortlist, deviations, ordered
from tailor.reranking.synthetic_answers import (
    STYLES,
    Question,
    answers_in,
    checked_styles,
    questions_of,
    tags_of_users,
    write_answers,
)
from tailor.text.cached import known_encoder, plain
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import unit_length
from tailor.training.nets import NetMethod

PAPER = Paper(
    "sy-se-pqa",
    "Synthetic Data Generation with Large Language Models for Personalized Community Question"
    " Answering",
    "https://doi.org/10.1109/WI-IAT62293.2024.00057",
    "A retriever taught by synthetic answers finds accepted answers nearly as well as one taught by"
    " human answers, and better than BM25; tags of asker and answerer add to it",
)
TAGS = "tags"
"""The name in `Query.context` of the tags of the asker's earlier posts."""
TERMS = ("first stage", "dense", "tags")
STEPS = 10  # of the grid of weights
EQUAL = np.full(len(TERMS), 1 / len(TERMS))


class Answered(NamedTuple):
    """A question with an answer that a head learns from."""

    request_id: str
    question: str
    answer: str


@dataclass(eq=False)
class SySePQA(NetMethod, Reranker):
    """Finds the answer that suits an asker, having learned from a language model's answers.

    A community with few good answers teaches little. So a language model answers its questions in
    three styles, plainly, as the community would, and as suits the asker (Braga et al. 2024). Of
    these pairs a linear map of the question's vector learns, by a margin, to point at answers. A
    list is ordered by the first stage's score, that cosine, and the overlap of the tags that asker
    and answerer posted under before; the three weights are those of the best mean reciprocal rank
    on questions of askers left out; a map that makes it worse there is dropped.

    Learns from `requests` (questions; `user_id`), `items` (answers; `author`), `judgements` (which
    answers are right) and `users` (`tags` of earlier posts). Synthetic answers are read from the
    data (`tailor data synth-answers`), else written by `llm` during fit. A query brings its asker's
    tags in the context's "tags": a list, or a text with commas.

    Differs from the paper: the encoder stays as it is, and a linear map of the question is trained
    in place of DistilBERT; tags are compared by their cosine. Its rate is reconstructed.
    """

    learns_from: Literal["synthetic", "human", "both", "nothing"] = "synthetic"
    """Answers that the map learns from: synthetic ones, those judged right, both, or none."""
    llm: LanguageModel | Literal["default"] | None = None
    """Language model that writes answers where the data has none; "default": that of tailor.toml;
    None: none is asked."""
    styles: tuple[str, ...] = STYLES
    """Styles in which answers are written: basic, contextual, personalised."""
    most_written: int = 500
    """Most questions that are answered during fit, the first ones."""
    encoder: Encoder | str = DEFAULT
    """Encoder of questions and answers; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    margin: float = 1.0
    """By which the right answer's score must be ahead of another's."""
    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    epochs: int = 20
    """Epochs over all pairs."""
    batch: int = 128
    """Pairs of a batch; each question's negatives are the answers to the others."""
    held_out: float = 0.2
    """Share of the askers whose questions are left out, and choose the weights."""

    item_tags_: list[list[str]] = field(init=False, repr=False)
    """(N,) tags of the earlier posts of every answer's author."""
    weights_: np.ndarray = field(init=False, repr=False)
    """(3,) weights of TERMS."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""
    width_: int = field(init=False, repr=False)
    """Width of its vectors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)
        counts = (self.epochs, self.batch, self.most_written)
        if min(counts) < 1 or min(self.margin, self.lr) <= 0 or not 0 < self.held_out < 1:
            raise ModelError(
                f"epochs is {self.epochs}, batch {self.batch}, most_written {self.most_written},"
                f" margin {self.margin}, lr {self.lr}, held_out {self.held_out}: the first three"
                " from 1, margin and lr above 0, held_out between 0 and 1"
            )
        checked_styles(self.styles)

    @classmethod
    def tiny(cls) -> Self:
        return cls(depth=8, encoder=HashingEncoder(32), epochs=2)

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._read_catalogue(data)
        encoder = encoder_of(self.encoder)
        self.space_ = encoder.space
        self.width_ = encoder.encode([""]).shape[1]
        self._read_tags(data)
        self.weights_ = EQUAL.copy()
        self._start_net(run)
        if not {"requests", "judgements"} <= set(data.tables):
            reason = "no questions with judged answers"
            self.fit_report_ = {"pairs": 0, **self._leave_untrained(reason)}
            return
        held = held_requests(data, self.held_out, run.rng("askers"))
        pairs, report = self._pairs(data, held)
        untaught = self._best_weights(self._lists(data, held))
        report |= self._learn(pairs, data, run)
        weights, value = self._best_weights(self._lists(data, held))
        if (value or 0.0) < (untaught[1] or 0.0):
            self._start_net(run)
            report |= self._leave_untrained("the map is worse than none for askers left out")
            weights, value = untaught
        self.weights_ = weights
        named = dict(zip(TERMS, np.round(weights, 3).tolist(), strict=True))
        self.fit_report_ = {**report, "held out": len(held), "weights": named, "MRR": value}

    def _read_tags(self, data: Dataset) -> None:
        """Keep the tags of every answer's author."""
        of_users = tags_of_users(data)
        table = data.item_table
        authors = table["author"].to_list() if "author" in table.columns else [None] * len(table)
        self.item_tags_ = [list(of_users.get(author or "", ())) for author in authors]

    def _pairs(self, data: Dataset, held: set[str]) -> tuple[list[Answered], dict[str, Any]]:
        """Return questions with answers to learn from, those left out for the weights not."""
        questions = [item for item in questions_of(data) if item.request_id not in held]
        texts = {question.request_id: question.text for question in questions}
        pairs: list[Answered] = []
        report: dict[str, Any] = {}
        if self.learns_from in ("human", "both"):
            human = _judged_right(data)
            pairs += [Answered(key, texts[key], text) for key, text in human if key in texts]
            report["human"] = len(pairs)
        if self.learns_from in ("synthetic", "both"):
            written, report_of_writing = self._written(data, questions)
            pairs += [Answered(key, texts[key], text) for key, text in written if key in texts]
            report |= report_of_writing
        return pairs, {"pairs": len(pairs), **report}

    def _written(
        self, data: Dataset, questions: Sequence[Question]
    ) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        """Return question id and text of synthetic answers: those of the data, else new ones."""
        answers = list(answers_in(data))
        if answers or self.llm is None:
            return answers, {"synthetic": len(answers)}
        styles = checked_styles(self.styles)
        written = write_answers(
            without_cache(language_model(self.llm)), questions[: self.most_written], styles
        )
        rows = list(written.answers.select("request_id", "text").iter_rows())
        report = {"synthetic": len(rows), "failed": written.failed, "copied": written.copied}
        return rows, report

    def _learn(self, pairs: Sequence[Answered], data: Dataset, run: Run) -> dict[str, Any]:
        """Teach the map by the margin loss among the answers of a batch."""
        if len(pairs) < 2:
            return self._leave_untrained("fewer than two answers to learn from")
        encoder = encoder_of(self.encoder)
        questions = _encoded(plain(encoder), [pair.question for pair in pairs])
        answers = _encoded(encoder, [pair.answer for pair in pairs])

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(pairs), self.batch, rng)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            device = next(self._net.parameters()).device
            pointed = self._net(torch.from_numpy(questions[rows]).to(device))  # B, D
            scores = pointed @ torch.from_numpy(answers[rows]).to(device).T  # B, B
            gains = _gains([pairs[row] for row in rows.tolist()])
            return margin_loss(scores, gains.to(device), self.margin)

        report = self._train_net(data, run, Recipe(self.epochs, self.lr), batches, loss)
        return {"epochs": report["epochs"], "loss": report["loss"][-1]}

    def _make_net(self) -> nn.Module:
        """Return the map of a question's vector, which begins as the identity."""
        net = nn.Linear(self.width_, self.width_, bias=False)
        with torch.no_grad():
            net.weight.copy_(torch.eye(self.width_))
        return net

    def _lists(self, data: Dataset, held: set[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return terms (n, 3) and gains (n,) of the lists of held-out questions."""
        grades = grades_of(data)
        tags = tags_of_users(data)
        requests = data.tables["requests"].filter(pl.col("request_id").is_in(sorted(held)))
        queries = Queries.of(
            [
                Query(
                    text=row["text"] or "",
                    request_id=row["request_id"],
                    context={TAGS: tags.get(row.get("user_id") or "", ())},
                )
                for row in requests.iter_rows(named=True)
            ]
        )
        rankings = candidates_of(data, queries, self.depth)
        shortlists = self.shortlists(queries, rankings)
        lists = []
        for i, terms in enumerate(self._terms(shortlists)):
            ids = rankings.catalogue.named(rankings.rows[i, : len(terms)])
            of_query = grades.get(queries.request_id(i) or "", {})
            lists.append((terms, np.array([of_query.get(item, 0.0) for item in ids])))
        return lists

    def _best_weights(
        self, lists: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, float | None]:
        """Return the weights of the highest mean reciprocal rank, and that rank.

        They are equal, and the rank is None, where no list has a right answer.
        """
        learnable = [(terms, gains) for terms, gains in lists if len(gains) and gains.max() > 0]
        if not learnable:
            return EQUAL.copy(), None
        grid = list(weight_grid())
        values = [
            np.mean([list_reciprocal_rank(terms @ weights, gains) for terms, gains in learnable])
            for weights in grid
        ]
        best = int(np.argmax(np.round(values, 9)))  # of equals the most even weights
        share = len(learnable) / len(lists)  # a list without a right answer counts 0
        return grid[best], round(float(values[best]) * share, 4)

    # --- answering

    def shortlists(self, queries: Queries, lists: Rankings) -> list[Shortlist]:
        """Return shortlists with the tags of the answers' authors."""
        shortlists = []
        for i, shortlist in enumerate(super().shortlists(queries, lists)):
            ids = lists.catalogue.named(lists.rows[i, : len(shortlist)])
            rows = self.items_.rows(ids).tolist()
            tags = tuple(tuple(self.item_tags_[row]) if row >= 0 else () for row in rows)
            shortlists.append(replace(shortlist, tags=tags))
        return shortlists

    def _terms(self, shortlists: Sequence[Shortlist]) -> list[np.ndarray]:
        """Return (n, 3) TERMS of every list, each in deviations."""
        terms = []
        for shortlist, cosines in zip(shortlists, self._cosines(shortlists), strict=True):
            authors = shortlist.tags or ((),) * len(shortlist)
            columns = (shortlist.prior, cosines, tag_overlap(asker_tags(shortlist.query), authors))
            terms.append(
                np.stack([deviations(np.asarray(column, float)) for column in columns], axis=1)
            )
        return terms

    @torch.no_grad()
    def _cosines(self, shortlists: Sequence[Shortlist]) -> list[np.ndarray]:
        """Return (n,) cosines of the mapped question with the answers of every list."""
        encoder = encoder_of(self.encoder)
        net = None
        if "net_weights_" in self.__dict__:
            encoder = known_encoder(encoder, self.space_)
            net = self._ready()
        cosines = []
        for request, documents in list_vectors(encoder, shortlists):
            vector = request if net is None else net(torch.from_numpy(request)).numpy()
            cosines.append(documents @ unit_length(vector[None])[0])
        return cosines

    def _rerank(
        self, shortlists: Sequence[Shortlist], limits: Limits, trace: bool
    ) -> list[Reranked]:
        weights = self.__dict__.get("weights_", EQUAL)
        return [
            ordered(
                shortlist,
                terms @ weights,
                statuses("ranked", len(shortlist)),
                "fused",
                self.prior_weight,
                details={
                    doc: dict(zip(TERMS, np.round(of_doc, 4).tolist(), strict=True))
                    for doc, of_doc in enumerate(terms)
                },
            )
            for shortlist, terms in zip(shortlists, self._terms(shortlists), strict=True)
        ]


def asker_tags(query: Query) -> tuple[str, ...]:
    """Return the tags in a query's context: a sequence, or a text with commas."""
    tags = query.context.get(TAGS)
    if isinstance(tags, str):
        return tuple(tag.strip() for tag in tags.split(",") if tag.strip())
    return tuple(str(tag) for tag in tags or ())


def tag_overlap(asker: Sequence[str], authors: Sequence[Sequence[str]]) -> np.ndarray:
    """Return (n,) cosines of the asker's counts of tags with those of each author."""
    mine = Counter(asker)
    return np.array([_cosine(mine, Counter(tags)) for tags in authors])


def _cosine(a: Counter[str], b: Counter[str]) -> float:
    shared = sum(count * b[tag] for tag, count in a.items())
    squares = sum(count**2 for count in a.values()) * sum(count**2 for count in b.values())
    return float(shared / np.sqrt(squares)) if shared else 0.0


def held_requests(data: Dataset, share: float, rng: np.random.Generator) -> set[str]:
    """Return the questions of a share of the askers; a question without an asker stands alone."""
    rows = data.tables["requests"].select(
        "request_id",
        user=pl.coalesce("user_id", "request_id")
        if "user_id" in data.tables["requests"].columns
        else pl.col("request_id"),
    )
    askers = sorted(set(rows["user"].to_list()))
    held = set(rng.permutation(askers)[: round(share * len(askers))].tolist())
    return {request_id for request_id, user in rows.iter_rows() if user in held}


def weight_grid() -> Iterator[np.ndarray]:
    """Yield the weights (3,) of TERMS in tenths that sum to 1, the most even first."""
    steps = range(STEPS + 1)
    grid = [
        np.array([first, second, STEPS - first - second]) / STEPS
        for first, second in product(steps, steps)
        if first + second <= STEPS
    ]
    yield from sorted(grid, key=lambda weights: float(((weights - EQUAL) ** 2).sum()))


def list_reciprocal_rank(scores: np.ndarray, gains: np.ndarray) -> float:
    """Return 1 / rank of the first document with a gain; ties keep the list's order."""
    order = np.argsort(-scores, kind="stable")
    hits = (gains[order] > 0)[None]
    return float(reciprocal_rank(hits, hits.sum(axis=1), len(order))[0])


def _judged_right(data: Dataset) -> Iterator[tuple[str, str]]:
    """Yield question id and text of the answers with the question's highest grade above 0."""
    texts = dict(zip(data.catalogue.ids.tolist(), data.item_texts, strict=True))
    for request_id, grades in grades_of(data).items():
        highest = max(grades.values())
        if highest > 0:
            yield from (
                (request_id, texts[item]) for item, grade in grades.items() if grade == highest
            )


def _gains(pairs: Sequence[Answered]) -> Tensor:
    """Return (B, B) 1 for a question's own answer, NaN for what may be right too, else 0.

    Another answer to the same question, and another one in the same words, are no negatives.
    """
    requests = np.array([pair.request_id for pair in pairs])
    answers = np.array([pair.answer for pair in pairs])
    questions = np.array([pair.question for pair in pairs])
    may_be_right = (requests[:, None] == requests) | (answers[:, None] == answers)
    may_be_right |= questions[:, None] == questions
    gains = np.where(may_be_right, np.nan, 0.0)
    np.fill_diagonal(gains, 1.0)
    return torch.from_numpy(gains).float()


def _encoded(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Return (n, D) vectors; equal texts are encoded once."""
    distinct = list(dict.fromkeys(texts))
    rows = {text: row for row, text in enumerate(distinct)}
    vectors = encoder.encode(distinct)
    return vectors[[rows[text] for text in texts]]
