"""EDU-plan-guided reranking: short texts to several plans, of which the best is picked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT, language_model
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Generator, Paper
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.filling import marginal_order
from tailor.data.nouns import Evidence, Output
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError
from tailor.llm.metered import without_cache
from tailor.llm.prompts import Template
from tailor.metrics.recalibration import fit_logistic
from tailor.metrics.rouge import rouge_n
from tailor.nn.fitting import Recipe
from tailor.nn.policy import margin_loss
from tailor.ports.base import Encoder, LanguageModel
from tailor.text.cached import asking
from tailor.text.hashing import HashingEncoder
from tailor.text.passages import coverage, exact_parts
from tailor.text.sentences import unit_length
from tailor.text.tfidf import tfidf
from tailor.text.title_words import TitleWords
from tailor.text.words import words
from tailor.training.nets import NetMethod
from tailor.writing.plans import Plan, Source
from tailor.writing.titled_texts import TitledText, drawn, titled_texts

PAPER = Paper(
    "edu-rerank",
    "Generating EDU Extracts for Plan-Guided Summary Re-Ranking",
    "https://arxiv.org/abs/2305.17779",
    "Texts of four different plans are less alike than four drawn at random, their best is nearer"
    " to the reference, and the text that the reranker picks is better than the mean",
)
ITEM = "item_id"
"""The name in `Query.context` of an item to write about."""
PLAN_FEATURES = ("position", "rarity", "centrality", "fit", "length", "opening", "constant")
DRAFT_FEATURES = ("similarity", "coverage", "length", "fluency", "fit", "plan")
# Weights of a scorer that has seen no title: short clauses near the beginning, about the subject.
UNTRAINED = {"position": -0.5, "centrality": 1.0, "length": -0.5}
RIDGE = 1.0
MARGIN = 0.1  # by which a draft must be ahead, for each rank between the two
BATCH = 64  # texts
PROMPT = Template(
    "Here is a text:\n{text}\nWrite a {task} of at most {most} words for what stands between <e>"
    " and </e>. Answer with nothing else.",
    trusted=("task", "most"),
    foreign=("text",),
)


@dataclass(frozen=True, eq=False)
class Reading:
    """A text as the method reads it: its plans, and what they are scored by."""

    source: Source
    plans: list[Plan]
    """P plans."""
    texts: list[str]
    """(P,) extracts of the plans."""
    features: np.ndarray
    """(P, 7) features of the plans, named by PLAN_FEATURES."""
    vector: np.ndarray
    """(D,) mean direction of the clauses."""
    taste: np.ndarray
    """(D,) mean direction of the author's earlier texts; zero without."""


class Draft(NamedTuple):
    """A text written to one plan."""

    text: str
    plan: Plan
    log_odds: float
    """Score of the plan."""
    status: str = "extract"
    """extract: clauses as they stand; written: by the model; fallback: the model's words failed."""


class Request(NamedTuple):
    """A text to be told in short, as a query asks for it."""

    text: str
    earlier: tuple[str, ...]
    """Texts that the user wrote before."""
    item_ids: tuple[str, ...]
    """The item that the text is of."""


@dataclass(eq=False)
class EDURerank(NetMethod, Generator):
    """Writes a short text for each of several different plans, and picks the best.

    Drawing many texts gives near-copies. Here a plan says which clauses of the source are told, and
    plans are chosen to be good and unlike each other, so that there is something to choose from
    (Adams et al. 2023). A logistic model scores plans, maximal marginal relevance takes the best
    different ones, each is told by its own clauses or by a language model that sees them between
    <e> and </e>, and a linear model trained with a margin picks a draft.

    Learns from texts with titles (`titled_texts`). A query's text is told in short; without one,
    the text of the item in the context's "item_id", else of the latest item of the history.

    Differs from the paper: clauses are found by rules; plans are scored, not decoded with a copy
    mechanism; no language model is trained, so that nothing punishes texts of a spoilt plan: each
    draft's adherence to its plan is told instead. The reranker reads six features of a draft and
    learns on extracts. All these are reconstructed.
    """

    reads_text: ClassVar[bool] = True

    llm: LanguageModel | Literal["default"] | None = None
    """Language model that tells each plan; "default": that of tailor.toml; None: the clauses
    themselves."""
    encoder: Encoder | str = DEFAULT
    """Encoder of clauses and drafts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    candidates: int = 4
    """Plans that are told, a draft each."""
    strength: float = 0.9
    """Weight of difference between plans against their score, from 0 to 1."""
    clauses: int = 1
    """Most clauses of a plan."""
    most_clauses: int = 30
    """First clauses of a text that are read."""
    most_words: int = 12
    """Most words of what is written; a longer extract is cut."""
    pick: Literal["rerank", "plan"] = "rerank"
    """Which draft is answered: the reranker's, or that of the best plan."""
    task: str = "title"
    """Name in the prompt of what is written: title, headline, advertisement."""
    budget: int = 1_000
    """Most tokens of a prompt."""
    most_pairs: int = 1_000
    """Most texts with titles that are learned from, drawn by chance."""
    lr: float = 0.02
    """Peak learning rate of the reranker."""
    epochs: int = 40
    """Epochs of the reranker."""

    words_: Vocabulary = field(init=False, repr=False)
    """The V words of at least two training texts."""
    rarity_: np.ndarray = field(init=False, repr=False)
    """(V + 1,) how rare they are; see `TitleWords`."""
    follows_: sp.csr_matrix = field(init=False, repr=False)
    """(V + 1, V + 1) how they follow each other in titles; see `TitleWords`."""
    weights_: np.ndarray = field(init=False, repr=False)
    """(7,) weights of PLAN_FEATURES."""
    scale_: np.ndarray = field(init=False, repr=False)
    """(2, 6) mean and deviation of DRAFT_FEATURES."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""
    items_: Vocabulary = field(init=False, repr=False)
    texts_: list[str] = field(init=False, repr=False)
    """(N,) texts of the catalogue."""

    def __post_init__(self) -> None:
        check_settings(self)
        counts = (self.candidates, self.clauses, self.most_clauses, self.most_words, self.epochs)
        if min(counts) < 1 or self.most_pairs < 0 or not 0 <= self.strength <= 1 or self.lr <= 0:
            raise ModelError(
                f"candidates is {self.candidates}, clauses {self.clauses}, most_clauses"
                f" {self.most_clauses}, most_words {self.most_words}, epochs {self.epochs},"
                f" most_pairs {self.most_pairs}, strength {self.strength}, lr {self.lr}: the first"
                " five from 1, most_pairs from 0, strength from 0 to 1, lr above 0"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), candidates=2, clauses=2, epochs=2)

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        bodies = zip(data.texts_of("text"), data.item_texts, strict=True)
        self.texts_ = [body or whole for body, whole in bodies]
        self.space_ = encoder_of(self.encoder).space
        titled = drawn(titled_texts(data), self.most_pairs, run.rng("pairs"))
        # The reranker reads how titles go on and how plans score: it learns on other texts.
        order = run.rng("halves").permutation(len(titled)).tolist()
        for_plans = [titled[row] for row in order[: (len(order) + 1) // 2]]
        for_pick = [titled[row] for row in order[(len(order) + 1) // 2 :]]
        self._start_untrained(for_plans, run)
        if not for_pick:
            reason = "fewer than two texts with titles, of users or of items"
            self.fit_report_ = {"pairs": 0, **self._leave_untrained(reason)}
            return
        self._learn_plans(for_plans)
        report = self._learn_pick(for_pick, data, run)
        rounded = np.round(self.weights_, 3).tolist()
        weights = dict(zip(PLAN_FEATURES, rounded, strict=True))
        self.fit_report_ = {"pairs": len(titled), "plan weights": weights, **report}

    def _start_untrained(self, titled: Sequence[TitledText], run: Run) -> None:
        """Count the words of texts and titles, and start with weights of our own."""
        counts = TitleWords.of([text for text, _, _ in titled], [title for _, title, _ in titled])
        self.words_ = counts.vocabulary
        self.rarity_ = counts.rarity
        self.follows_ = counts.follows
        self.weights_ = np.array([UNTRAINED.get(name, 0.0) for name in PLAN_FEATURES])
        self.scale_ = np.stack([np.zeros(len(DRAFT_FEATURES)), np.ones(len(DRAFT_FEATURES))])
        self._start_net(run)

    def _learn_plans(self, titled: Sequence[TitledText]) -> None:
        """Learn to score a plan by what its extract shares with the title (ROUGE-1)."""
        readings = self.read([(text, earlier) for text, _, earlier in titled])
        targets = [
            rouge_n(words(text), words(title))
            for reading, (_, title, _) in zip(readings, titled, strict=True)
            for text in reading.texts
        ]
        features = np.concatenate([reading.features for reading in readings])
        self.weights_ = fit_logistic(np.array(targets), features, RIDGE)

    def _learn_pick(self, titled: Sequence[TitledText], data: Dataset, run: Run) -> dict[str, Any]:
        """Learn to order drafts as ROUGE-1 with the title does, by margins of ranks (BRIO)."""
        readings = self.read([(text, earlier) for text, _, earlier in titled])
        drafts = [self.extracts(reading) for reading in readings]
        features = self._draft_features(readings, drafts)
        flat = np.concatenate(features)
        if not len(flat):
            return self._leave_untrained("no text with words")
        self.scale_ = np.stack([flat.mean(axis=0), flat.std(axis=0) + 1e-6])
        shape = (len(drafts), max(map(len, drafts)))
        inputs = np.zeros((*shape, len(DRAFT_FEATURES)), np.float32)
        ranks = np.full(shape, np.nan, np.float32)
        for i, (_, title, _) in enumerate(titled):
            values = [rouge_n(words(draft.text), words(title)) for draft in drafts[i]]
            inputs[i, : len(values)] = self._scaled(features[i])
            ranks[i, : len(values)] = rankdata(values)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(inputs), BATCH, rng)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            device = next(self._net.parameters()).device
            scores = self._net(torch.from_numpy(inputs[rows]).to(device))[..., 0]
            return margin_loss(scores, torch.from_numpy(ranks[rows]).to(device), MARGIN)

        report = self._train_net(data, run, Recipe(self.epochs, self.lr), batches, loss)
        weights = np.round(self.net_weights_["weight"][0].astype(float), 3).tolist()
        named_weights = dict(zip(DRAFT_FEATURES, weights, strict=True))
        return {"pick weights": named_weights, "epochs": report["epochs"]}

    def _make_net(self) -> nn.Module:
        """Return the linear reranker, which begins with the score of the plan alone."""
        net = nn.Linear(len(DRAFT_FEATURES), 1, bias=False)
        nn.init.zeros_(net.weight)
        nn.init.ones_(net.weight[:, DRAFT_FEATURES.index("plan")])
        return net

    # --- reading

    def read(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[Reading]:
        """Return texts, each with its author's earlier ones, as plans with features."""
        sources = [Source.of(text, self.most_clauses) for text, _ in texts]
        clauses = [clause for source in sources for clause in source.clauses]
        vectors = self._vectors([*clauses, *(part for _, earlier in texts for part in earlier)])
        return [
            self._reading(source, vectors, earlier)
            for source, (_, earlier) in zip(sources, texts, strict=True)
        ]

    def _vectors(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return text -> its vector (D,); users' words are kept in no cache."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return {}
        encoder = asking(encoder_of(self.encoder), self.space_)
        return dict(zip(distinct, encoder.encode(distinct), strict=True))

    def _reading(
        self, source: Source, vectors: dict[str, np.ndarray], earlier: Sequence[str]
    ) -> Reading:
        plans = source.plans(self.clauses)
        texts = [source.extract(plan, self.most_words) for plan in plans]
        if not plans:
            nothing = np.zeros(1, np.float32)
            return Reading(source, [], [], np.zeros((0, len(PLAN_FEATURES))), nothing, nothing)
        clause_vectors = np.array([vectors[clause] for clause in source.clauses])  # n, D
        vector = unit_length(clause_vectors.sum(axis=0)[None])[0]
        taste = np.zeros_like(vector)
        if earlier:
            taste = unit_length(np.sum([vectors[text] for text in earlier], axis=0)[None])[0]
        shares = np.zeros((len(plans), len(clause_vectors)))  # P, n
        for i, plan in enumerate(plans):
            shares[i, list(plan)] = 1 / len(plan)
        directions = unit_length(shares @ clause_vectors)  # P, D
        counts = TitleWords(self.words_, self.rarity_, self.follows_)
        columns = (
            shares @ np.log1p(np.arange(len(clause_vectors))),
            shares @ [counts.rarity_of(clause) for clause in source.clauses],
            directions @ vector,
            directions @ taste,
            np.log1p([len(words(text)) for text in texts]),
            [plan[0] == 0 for plan in plans],
            np.ones(len(plans)),
        )
        features = np.stack([np.asarray(column, float) for column in columns], axis=1)
        return Reading(source, plans, texts, features, vector, taste)

    # --- planning and writing

    def drafts(self, readings: Sequence[Reading]) -> list[list[Draft]]:
        """Return the drafts of each text, the best plan first; none for a text without words."""
        extracts = [self.extracts(reading) for reading in readings]
        if self.llm is None:
            return extracts
        return self._written(without_cache(language_model(self.llm)), readings, extracts)

    def extracts(self, reading: Reading) -> list[Draft]:
        """Return the drafts of the best different plans, told by their clauses."""
        if not reading.plans:
            return []
        order, _ = marginal_order(
            np.arange(len(reading.plans))[None],
            (reading.features @ self.weights_)[None],
            tfidf(reading.texts),
            self.strength,
            min(self.candidates, len(reading.plans)),
        )
        return [self.extract(reading, row) for row in order[0].tolist()]

    def extract(self, reading: Reading, row: int) -> Draft:
        """Return the draft of one plan, told by its clauses."""
        log_odds = float(reading.features[row] @ self.weights_)
        return Draft(reading.texts[row], reading.plans[row], log_odds)

    def _written(
        self, llm: LanguageModel, readings: Sequence[Reading], extracts: Sequence[list[Draft]]
    ) -> list[list[Draft]]:
        """Return the drafts in the model's words, where they hold."""
        slots = {"task": self.task, "most": str(self.most_words)}
        prompts = {
            (i, draft.plan): reading.source.prompt(PROMPT, draft.plan, self.budget, **slots)
            for i, reading in enumerate(readings)
            for draft in extracts[i]
        }
        sent = [key for key, prompt in prompts.items() if prompt]
        completions = llm.complete([prompts[key] for key in sent], max_tokens=4 * self.most_words)
        answers = {
            key: completion.text
            for key, completion in zip(sent, completions, strict=True)
            if completion.texts and not completion.error
        }
        return [
            [
                self._checked(draft, answers.get((i, draft.plan), ""), reading.source)
                for draft in extracts[i]
            ]
            for i, reading in enumerate(readings)
        ]

    def _checked(self, draft: Draft, answer: str, source: Source) -> Draft:
        """Return the model's first line as the draft; the extract if it is empty or made up."""
        line = next(iter(answer.strip().splitlines()), "").strip(" \"'*#")
        line = " ".join(line.split(" ")[: self.most_words])
        parts = exact_parts(line, source.text, skips_openings=True)
        if not words(line) or not all(part.is_found for part in parts):
            return draft._replace(status="fallback")
        return draft._replace(text=line, status="written")

    # --- picking

    def _draft_features(
        self, readings: Sequence[Reading], drafts: Sequence[Sequence[Draft]]
    ) -> list[np.ndarray]:
        """Return (n, 6) features of the drafts of each text, named by DRAFT_FEATURES."""
        vectors = self._vectors([draft.text for of_text in drafts for draft in of_text])
        counts = TitleWords(self.words_, self.rarity_, self.follows_)
        features = []
        for reading, of_text in zip(readings, drafts, strict=True):
            texts = [draft.text for draft in of_text]
            directions = np.array([vectors[text] for text in texts])
            directions = directions.reshape(len(texts), len(reading.vector))
            columns = (
                directions @ reading.vector,
                coverage(reading.source.text, texts),
                np.log1p([len(words(text)) for text in texts]),
                counts.fluency(texts),
                directions @ reading.taste,
                np.array([draft.log_odds for draft in of_text]),
            )
            features.append(np.stack(columns, axis=1).astype(np.float64))
        return features

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = ((features - self.scale_[0]) / self.scale_[1]).astype(np.float32)
        return scaled

    @torch.no_grad()
    def scores(
        self, readings: Sequence[Reading], drafts: Sequence[Sequence[Draft]]
    ) -> list[np.ndarray]:
        """Return the reranker's scores (n,) of the drafts of each text, higher is better."""
        net = self._ready()
        features = self._draft_features(readings, drafts)
        return [net(torch.from_numpy(self._scaled(rows)))[:, 0].numpy() for rows in features]

    # --- answering

    def _generate(self, queries: Queries) -> list[Output]:
        known_queries = queries.reindexed(self.items_)
        requests = [self._request(queries, known_queries, i) for i in range(len(queries))]
        readings = self.read([(request.text, request.earlier) for request in requests])
        drafts = self.drafts(readings)
        scores = self.scores(readings, drafts)
        return [
            self._output(requests[i], readings[i].source, drafts[i], scores[i])
            for i in range(len(queries))
        ]

    def _request(self, queries: Queries, known_queries: Queries, i: int) -> Request:
        earlier: tuple[str, ...] = ()
        if "texts" in queries.columns:
            earlier = tuple(text for text in queries.columns["texts"][i].tolist() if text)
        if queries.text(i).strip():
            return Request(queries.text(i), earlier, ())
        named_item = queries.context(ITEM)[i]
        if named_item is None:
            rows = known_queries.histories[i].tolist()[::-1]
        else:
            rows = self.items_.rows([str(named_item)]).tolist()
        is_allowed = known_queries[i : i + 1].allowed()[0]
        row = next((row for row in rows if row >= 0 and is_allowed[row]), None)
        if row is None:
            return Request("", earlier, ())
        return Request(self.texts_[row], earlier, tuple(self.items_.named([row])))

    def _output(
        self, request: Request, source: Source, drafts: Sequence[Draft], scores: np.ndarray
    ) -> Output:
        if not drafts:
            note = f"{self.name}: there is no text with words to tell in short"
            return Output(notes=(note,), details={"status": "empty"})
        best = drafts[int(scores.argmax()) if self.pick == "rerank" else 0]
        spans = [source.spans[row] for row in best.plan]
        evidence = tuple(
            Evidence("passage", f"{start}:{end}", 1 / len(best.plan), request.text[start:end])
            for start, end in spans
        )
        described = [
            {
                "text": draft.text,
                "plan": list(draft.plan),
                "score": round(float(score), 4),
                "adherence": round(source.adherence(draft.text, draft.plan), 4),
                "status": draft.status,
            }
            for draft, score in zip(drafts, scores, strict=True)
        ]
        details = {"status": best.status, "drafts": described}
        return Output(best.text, None, request.item_ids, evidence, details=details)
