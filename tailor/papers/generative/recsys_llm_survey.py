"""LLMCapabilities: where a language model can enter a recommender, each with a call and a figure.

Shapes: U users, K items of a list.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from tailor.conversation.popular_assistant import PopularAssistant
from tailor.core.defaults import DEFAULT
from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.studies import Study
from tailor.data.dataset import Dataset
from tailor.data.nouns import Turn
from tailor.data.queries import Queries
from tailor.data.splits import TEST, TRAIN, Split, split_by
from tailor.errors import DataError
from tailor.evaluation.checklist import FIT, Check, Checklist, Figure, run_checks
from tailor.evaluation.closed_lists import (
    ClosedLists,
    judged_lists,
    list_scores,
    names_of,
    training_lists,
)
from tailor.evaluation.list_tasks import (
    QUESTIONS,
    ListTasks,
    Pairs,
    examples_in_context,
    recommender_scores,
    untaught_word_model,
)
from tailor.generative.tiger import TIGER
from tailor.llm.metered import without_cache
from tailor.llm.torch_model import TorchModel
from tailor.llm.tuning import Mode, Tuning, answer_losses
from tailor.metrics.similarity import kendall
from tailor.pipeline.fuse import Fuse
from tailor.ports.base import Encoder, LanguageModel
from tailor.retrieval.bert4rec import BERT4Rec
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.dense import DenseRetriever
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.two_tower import TwoTower
from tailor.text.words import search_words
from tailor.writing.recommendation_text import RecommendationText

PAPER = Paper(
    "recsys-llm-survey",
    "Recommender Systems in the Era of Large Language Models (LLMs)",
    "https://arxiv.org/abs/2307.02046",
    "Every capability of the survey's map is a call with a figure, its interval and noise floor, in"
    " under 20 seconds on a small net; all weights, low-rank additions and prompt vectors lower"
    " the loss on held-out users, in 3 of 3 planted logs",
)
TITLE = "what a language model can do here"
FORMS, LEARNING, TUNING = "forms of an item", "pre-training", "fine-tuning"
PROMPTING, TASKS, WARNINGS = "prompting", "tasks", "warnings"
CHANCE, UNTAUGHT = "random order", "answers of other users taught"
THINK = "{history}\nIn a few words, what does this person like?"
GROUPS = ("a woman", "a man", "a person", "somebody")
RATED = "Rated so far: {history}. Is {item} rated high or low?"
RATINGS = ("high", "low")
# chosen on the validation lists of a planted log: a small net of random weights takes large steps
RATES: dict[Mode, float] = {"full": 1e-2, "lora": 1e-2, "prompt vectors": 0.3}
PAIRS = 4  # of a step
TITLE_TOKENS = 16  # of a title that is written
NDCG, GAIN, GAP = "NDCG of short lists", "nats a token gained", "nats a token apart"
TEACH = 'Tuning("{}").teach(model, prompts, answers)'
FULL, LORA = TEACH.format("full"), TEACH.format("lora")
VECTORS = TEACH.format("prompt vectors")
PROBES = "tailor study LLMProbes MODEL --data DATA"
SAME = "tailor.llm.tuning.answer_losses(model, prompts, answers)"
CELLS = (  # group, name, method, metric, call or command, method of _Cells
    (FORMS, "ids", "SASRec", NDCG, FIT.format("SASRec"), "ids"),
    (FORMS, "texts", "DenseRetriever", NDCG, FIT.format("DenseRetriever"), "texts"),
    (FORMS, "semantic ids", "TIGER", NDCG, FIT.format("TIGER"), "semantic_ids"),
    (FORMS, "ids and texts", "Fuse of both", NDCG, FIT.format("fuse.toml"), "mixed"),
    (LEARNING, "hidden items", "BERT4Rec", NDCG, FIT.format("BERT4Rec"), "hidden_items"),
    (LEARNING, "users against items", "TwoTower", NDCG, FIT.format("TwoTower"), "contrast"),
    (LEARNING, "next tokens", "titles of next items", GAIN, FULL, "next_tokens"),
    (LEARNING, "several tasks as text", "letters, yes or no", NDCG, FULL, "several_tasks"),
    (TUNING, "all weights", "yes or no per item", GAIN, FULL, "full"),
    (TUNING, "low-rank additions", "yes or no per item", GAIN, LORA, "lora"),
    (TUNING, "prompt vectors", "yes or no per item", GAIN, VECTORS, "vectors"),
    (PROMPTING, "zero-shot", "the list and a question", NDCG, PROBES, "zero_shot"),
    (PROMPTING, "examples in context", "two users first", NDCG, PROBES, "in_context"),
    (PROMPTING, "thoughts first", "taste first, then the list", NDCG, PROBES, "thoughts_first"),
    (PROMPTING, "choice of a wording", "the best on validation", NDCG, PROBES, "chosen_wording"),
    (PROMPTING, "soft prompt", "learned vectors before the list", NDCG, VECTORS, "soft_prompt"),
    (PROMPTING, "instructions", "an unseen wording of taught tasks", NDCG, FULL, "instructions"),
    (TASKS, "first ten", "TIGER over the catalogue", "HR@10", FIT.format("TIGER"), "first_ten"),
    (TASKS, "rating", "high or low, by a word model", "share right", FULL, "rating"),
    (TASKS, "next item", "likelihood of titles", NDCG, FULL, "next_item"),
    (
        TASKS,
        "conversation",
        "PopularAssistant",
        "share of items as wished",
        "PopularAssistant().fit(data).act(dialogues, queries)",
        "conversation",
    ),
    (
        TASKS,
        "explanation",
        "RecommendationText",
        "share that quotes the history",
        "RecommendationText(CoVisitation()).fit(data).generate(queries)",
        "explanation",
    ),
    (
        TASKS,
        "new items",
        "DenseRetriever without events",
        NDCG,
        "tailor data split DATA --by new-items --out SPLIT",
        "new_items",
    ),
    (
        WARNINGS,
        "invented items",
        "titles written freely",
        "share not in the catalogue",
        "model.complete(prompts)",
        "invented",
    ),
    (WARNINGS, "unequal treatment", "two groups in the prompt", "tau", PROBES, "unequal"),
    (WARNINGS, "membership", "loss of unseen answers above learned", GAP, SAME, "membership"),
    (WARNINGS, "latency", "a list by letters", "ms a request", PROBES, "latency"),
)


@dataclass(eq=False)
class LLMCapabilities(Study[Checklist]):
    """Measures every use of a language model that the survey names, on one's own data.

    Six groups of cells: forms of an item, pre-training, fine-tuning, prompting, tasks, warnings.
    Each is a call that runs in seconds on small nets, and a figure with its interval beside what
    chance gives. Where no language model is named, prompts are answered by a small model of words
    that was taught the training histories on the spot.

    Differs from the paper: a survey has no algorithm; the choice of a call and a figure for each
    entry is ours; adapters other than low-rank ones, and vertical domains, are not measured.
    """

    measures: ClassVar[tuple[type, ...]] = (LanguageModel,)

    by: str = "last"
    """Kind of split, as of `tailor data split`."""
    users: int = 50
    """Users whose lists are judged, at most."""
    size: int = 10
    """Items of a list, at most 26."""
    history: int = 5
    """Latest items of a history in a prompt."""
    k: int = 5
    """Depth of NDCG."""
    examples: int = 200
    """Training lists that word models learn from."""
    epochs: int = 4
    """Passes over what is learned, of all nets."""
    width: int = 32
    """Width of all nets."""
    encoder: Encoder | str = DEFAULT
    """Encoder of items."""

    def __post_init__(self) -> None:
        counts = (self.users, self.history, self.k, self.examples, self.epochs, self.width)
        if min(counts) < 1 or self.examples < 2:
            raise DataError(
                f"users {self.users}, history {self.history}, k {self.k}, examples {self.examples},"
                f" epochs {self.epochs}, width {self.width}: at least 1 each, 2 examples"
            )

    @classmethod
    def tiny(cls) -> Self:
        from tailor.text.hashing import HashingEncoder

        encoder = HashingEncoder(32)
        return cls(users=8, size=4, history=3, k=2, examples=12, epochs=1, width=8, encoder=encoder)

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Checklist:
        """Measure all cells; DataError for several language models."""
        if len(methods) > 1:
            raise DataError(f"{len(methods)} language models: name one, or none for the word model")
        with tempfile.TemporaryDirectory() as folder:
            model = next(iter(methods.values()), None)
            cells = _Cells(self, split_by(data, self.by), model, Path(folder), run)
            checks = [
                Check(name, method, metric, ask, getattr(cells, call), group)
                for group, name, method, metric, ask, call in CELLS
            ]
            return run_checks(checks, run, TITLE)


class _Cells:
    """The calls behind the cells; what several of them need is made once."""

    def __init__(
        self,
        study: LLMCapabilities,
        split: Split,
        model: LanguageModel | None,
        folder: Path,
        run: Run,
    ) -> None:
        self.study = study
        self.split = split
        self.named_model = None if model is None else without_cache(model)
        self.folder = folder
        self.run = run
        self.names = names_of(split.data)
        self.judged = self._judged("test")

    def _judged(self, part: str) -> ListTasks:
        study = self.study
        rng = self.run.rng("judged lists", part)
        lists = judged_lists(self.split, part, study.size, study.history, study.users, rng)
        return ListTasks(lists, self.names)

    @cached_property
    def taught(self) -> ListTasks:
        """Tasks of training lists."""
        study = self.study
        rng = self.run.rng("training lists")
        train = self.split.train
        lists = training_lists(train, study.size, study.history, study.examples, rng)
        return ListTasks(lists, names_of(train))

    @cached_property
    def untaught(self) -> TorchModel:
        """A word model that knows nothing."""
        folder = str(self.folder / "words")
        tasks = [self.taught, self.judged]
        return untaught_word_model(tasks, folder, self.study.width, self.run, [RATED, *RATINGS])

    @cached_property
    def base(self) -> TorchModel:
        """The word model, taught to write what is chosen next."""
        return self._tuned("full", self.untaught, self.taught.next_titles())

    @cached_property
    def instructed(self) -> TorchModel:
        """The word model, taught all tasks."""
        return self._tuned("full", self.base, self.taught.all_tasks())

    @property
    def model(self) -> LanguageModel:
        """The language model that is prompted."""
        return self.instructed if self.named_model is None else self.named_model

    def _tuned(self, mode: Mode, model: TorchModel, pairs: Pairs) -> TorchModel:
        tuning = Tuning(mode, lr=RATES[mode], epochs=self.study.epochs, batch_size=PAIRS)
        return tuning.teach(model, *pairs, self.run)

    # --- figures

    def _ndcg(self, scores: np.ndarray, lists: ClosedLists | None = None) -> Figure:
        lists = lists or self.judged.lists
        values = lists.ndcg(scores, self.study.k)
        return Figure.of(values, lists.chance(self.study.k), CHANCE, self.run.seed)

    def _queries(self) -> Queries:
        return self.split.queries("test")[0].take(self.judged.lists.users)

    def _recommended(self, method: Recommender) -> Figure:
        """Return NDCG of a method fitted on the training part."""
        fitted = method.fit(self.split.train, self.run, self.split)
        return self._ndcg(
            recommender_scores(fitted, self._queries(), self.split, self.judged.lists)
        )

    # --- forms of an item, and objectives

    def _net(self) -> dict[str, Any]:
        return {"width": self.study.width, "epochs": self.study.epochs, "length": 20}

    def ids(self) -> Figure:
        """Return NDCG of a net over ids."""
        return self._recommended(SASRec(**self._net()))

    def texts(self) -> Figure:
        """Return NDCG of vectors of texts; nothing is learned."""
        return self._recommended(DenseRetriever(self.study.encoder))

    @cached_property
    def tiger(self) -> TIGER:
        """A net over semantic ids."""
        method = TIGER(encoder=self.study.encoder, levels=2, **self._net())
        return method.fit(self.split.train, self.run, self.split)

    def semantic_ids(self) -> Figure:
        """Return NDCG of a net over semantic ids."""
        return self._ndcg(
            recommender_scores(self.tiger, self._queries(), self.split, self.judged.lists)
        )

    def mixed(self) -> Figure:
        """Return NDCG of co-visitation of ids and vectors of texts together."""
        parts: list[Recommender] = [CoVisitation(), DenseRetriever(self.study.encoder)]
        return self._recommended(Fuse(parts, weights=(0.5, 0.5)))

    def hidden_items(self) -> Figure:
        """Return NDCG of a net that predicts hidden items."""
        return self._recommended(BERT4Rec(**self._net()))

    def contrast(self) -> Figure:
        """Return NDCG of a net that compares users with items."""
        return self._recommended(TwoTower(**self._net()))

    def next_tokens(self) -> Figure:
        """Return the loss of next titles that the base has less than the untaught model."""
        return self._gain(
            "full", self.untaught, self.taught.next_titles(), self.judged.next_titles()
        )

    def several_tasks(self) -> Figure:
        """Return NDCG by yes or no, a task among several that one model learned as text."""
        return self._ndcg(self.judged.scores_of_judgements(self.instructed))

    # --- fine-tuning

    def _gain(self, mode: Mode, model: TorchModel, pairs: Pairs, held_out: Pairs) -> Figure:
        """Return how much less loss held-out answers have after teaching.

        The floor is of a model taught the same answers in another order, which learns what answers
        look like and nothing of the prompts.
        """
        before = answer_losses(model, *held_out)
        order = self.run.rng("answers of others").permutation(len(pairs.answers))
        shuffled = Pairs(pairs.prompts, [pairs.answers[i] for i in order.tolist()])
        by_user = (len(self.judged.lists), -1)
        gains = [
            before - answer_losses(self._tuned(mode, model, taught), *held_out)
            for taught in (pairs, shuffled)
        ]
        gain, floor = (part.reshape(by_user).mean(axis=1) for part in gains)
        return Figure.of(gain, floor, UNTAUGHT, self.run.seed)

    def _gain_of_judgements(self, mode: Mode) -> Figure:
        return self._gain(mode, self.base, self.taught.judgements(), self.judged.judgements())

    def full(self) -> Figure:
        """Return the loss that all weights take off."""
        return self._gain_of_judgements("full")

    def lora(self) -> Figure:
        """Return the loss that low-rank additions take off."""
        return self._gain_of_judgements("lora")

    def vectors(self) -> Figure:
        """Return the loss that prompt vectors take off."""
        return self._gain_of_judgements("prompt vectors")

    # --- prompting

    def zero_shot(self) -> Figure:
        """Return NDCG of plain prompts."""
        return self._ndcg(self.judged.scores_of_letters(self.model, QUESTIONS[0]))

    def _after(self, beginnings: Sequence[str]) -> Figure:
        """Return NDCG of plain prompts, a text before each."""
        prompts = [
            f"{beginning}\n\n{prompt}"
            for beginning, prompt in zip(
                beginnings, self.judged.list_prompts(QUESTIONS[0]), strict=True
            )
        ]
        return self._ndcg(list_scores(self.model, prompts, self.study.size))

    def in_context(self) -> Figure:
        """Return NDCG where two training users and their choices stand first."""
        examples = examples_in_context(self.split.train, self.study.history, self.run)
        return self._after(["\n\n".join(examples)] * len(self.judged.lists))

    def thoughts_first(self) -> Figure:
        """Return NDCG where the model first wrote what the user likes."""
        prompts = [
            THINK.format(history=self.judged.history(i)) for i in range(len(self.judged.lists))
        ]
        answers = self.model.complete(prompts, max_tokens=TITLE_TOKENS)
        return self._after(["" if answer.error else answer.text for answer in answers])

    def chosen_wording(self) -> Figure:
        """Return NDCG of the wording that is best on validation, on test."""
        valid = self._judged("valid")
        values = [
            np.nanmean(valid.lists.ndcg(valid.scores_of_letters(self.model, wording), self.study.k))
            for wording in QUESTIONS
        ]
        best = QUESTIONS[int(np.argmax(values))]
        return self._ndcg(self.judged.scores_of_letters(self.model, best))

    def soft_prompt(self) -> Figure:
        """Return NDCG by letters with learned vectors before the list."""
        model = self._tuned("prompt vectors", self.base, self.taught.letters(QUESTIONS[0]))
        return self._ndcg(self.judged.scores_of_letters(model, QUESTIONS[0]))

    def instructions(self) -> Figure:
        """Return NDCG of taught tasks in a wording that was not taught."""
        return self._ndcg(self.judged.scores_of_letters(self.instructed, QUESTIONS[-1]))

    # --- tasks

    def first_ten(self) -> Figure:
        """Return HR@10 among all items, popularity as the floor."""
        popular = Popularity().fit(self.split.train, self.run, self.split)
        queries = self._queries()
        targets = self.judged.lists.rows[np.arange(len(queries)), self.judged.lists.targets]
        hits = []
        for method in (self.tiger, popular):
            answer = method.recommend(queries.without_history(), 10)
            rows = answer.reindexed(self.split.data.catalogue).rows
            hits.append((rows == targets[:, None]).any(axis=1).astype(float))
        return Figure.of(hits[0], hits[1], "popularity", self.run.seed)

    def next_item(self) -> Figure:
        """Return NDCG by the likelihood of each title."""
        return self._ndcg(self.judged.scores_of_titles(self.base))

    def rating(self) -> Figure:
        """Return the share of held-out events whose value is rightly called high or low.

        High: above the median of training values; the floor calls all what most are. DataError
        without values.
        """
        columns = self.split.data.events.columns
        if "value" not in columns:
            raise DataError(f"events have no column value, only {', '.join(columns)}")
        taught = self._rated(TRAIN, self.study.examples)
        held_out = self._rated(TEST, self.study.users)
        model = self._tuned("full", self.untaught, taught)
        log_probs = model.choices(held_out.prompts, RATINGS)
        guesses = np.array(RATINGS)[log_probs.argmax(axis=1)]
        most = max(RATINGS, key=taught.answers.count)
        is_right = guesses == np.array(held_out.answers)
        floor = np.array(held_out.answers) == most
        return Figure.of(is_right.astype(float), floor.astype(float), "all alike", self.run.seed)

    def _rated(self, part: int, most: int) -> Pairs:
        """Return a pair an event of a part of the split: earlier ratings, and its own."""
        data = self.split.data
        sequences = data.sequences
        rows, events = sequences.rows, sequences.events
        values = data.events["value"].to_numpy()[events]
        codes = self.split.part[events]
        ratings = np.where(values > np.median(values[codes == TRAIN]), *RATINGS)
        positions = np.flatnonzero((codes == part) & (rows.from_start > 0))
        pairs = Pairs([], [])
        for position in self.run.rng("rated", part).permutation(positions)[:most].tolist():
            first = position - min(self.study.history, int(rows.from_start[position]))
            earlier = [
                f"{self.names[row]} {rating}"
                for row, rating in zip(
                    rows.values[first:position].tolist(),
                    ratings[first:position].tolist(),
                    strict=True,
                )
            ]
            item = self.names[rows.values[position]]
            pairs.prompts.append(RATED.format(history="; ".join(earlier), item=item))
            pairs.answers.append(str(ratings[position]))
        return pairs

    def conversation(self) -> Figure:
        """Return how many named items hold the words asked for; popular items are the floor."""
        agent = PopularAssistant().fit(self.split.train, self.run, self.split)
        queries = self._queries()
        lists = self.judged.lists
        targets = lists.rows[np.arange(len(lists)), lists.targets].tolist()
        wishes = [max(search_words(self.names[row]), key=len, default="") for row in targets]
        replies = agent.act([(Turn("user", f"I want {wish}"),) for wish in wishes], queries)
        greetings = agent.act([(Turn("user", ""),) for _ in wishes], queries)
        shares = [
            np.array(
                [self._share_with(wish, turn) for wish, turn in zip(wishes, turns, strict=True)]
            )
            for turns in (replies, greetings)
        ]
        return Figure.of(shares[0], shares[1], "no wish told", self.run.seed)

    def _share_with(self, wish: str, turn: Turn) -> float:
        """Return the share of a turn's items whose names hold a word; NaN without items."""
        rows = self.split.data.catalogue.rows(list(turn.item_ids))
        hits = [wish in search_words(self.names[row]) for row in rows.tolist()]
        return float(np.mean(hits)) if hits else float("nan")

    def explanation(self) -> Figure:
        """Return the share of sentences that quote a title of the history, against another's."""
        writer = RecommendationText(CoVisitation()).fit(self.split.train, self.run, self.split)
        queries = self._queries()
        outputs = writer.generate(queries)
        histories = [
            [self.names[row] for row in queries.histories[i].tolist()] for i in range(len(queries))
        ]
        others = histories[1:] + histories[:1]
        shares = [
            np.array(
                [
                    float(any(name in output.text for name in names))
                    for output, names in zip(outputs, sources, strict=True)
                ]
            )
            for sources in (histories, others)
        ]
        return Figure.of(shares[0], shares[1], "another user's history", self.run.seed)

    def new_items(self) -> Figure:
        """Return NDCG of texts for items that no training event has."""
        study = self.study
        split = split_by(self.split.data, "new-items", seed=self.run.seed)
        rng = self.run.rng("lists of new items")
        lists = judged_lists(split, "test", study.size, study.history, study.users, rng)
        method = DenseRetriever(study.encoder).fit(split.train, self.run, split)
        queries = split.queries("test")[0].take(lists.users)
        return self._ndcg(recommender_scores(method, queries, split, lists), lists)

    # --- warnings

    def invented(self) -> Figure:
        """Return the share of freely written titles that no item has."""
        prompts = self.judged.next_titles().prompts
        answers = self.base.complete(prompts, max_tokens=TITLE_TOKENS)
        titles = {" ".join(search_words(name)) for name in self.names}
        is_invented = [" ".join(search_words(answer.text)) not in titles for answer in answers]
        return Figure.of(np.array(is_invented, float), 0.0, "titles under a trie", self.run.seed)

    def unequal(self) -> Figure:
        """Return tau between answers about two groups; the floor is of two neutral words."""
        size = self.study.size
        scores = [
            list_scores(self.model, self.judged.list_prompts(QUESTIONS[0], who), size)
            for who in GROUPS
        ]
        floor = kendall(scores[2], scores[3])
        return Figure.of(kendall(scores[0], scores[1]), floor, "neutral words", self.run.seed)

    def membership(self) -> Figure:
        """Return how much larger the loss of unseen answers is than that of learned ones.

        Above the floor, who has the model can tell whose events it learned from.
        """
        seen, unseen = self.taught.next_titles(), self.judged.next_titles()
        n = min(len(seen.prompts), len(unseen.prompts))
        gaps = []
        for model in (self.base, self.untaught):
            losses = [answer_losses(model, p.prompts[:n], p.answers[:n]) for p in (unseen, seen)]
            gaps.append(losses[0] - losses[1])
        return Figure.of(gaps[0], gaps[1], "a model that learned nothing", self.run.seed)

    def latency(self) -> Figure:
        """Return milliseconds of single requests, popularity as the floor."""
        popular = Popularity().fit(self.split.train, self.run, self.split)
        queries = self._queries()
        prompts = self.judged.list_prompts(QUESTIONS[0])
        model = self.model
        rows = []
        for i, prompt in enumerate(prompts):
            start_s = time.perf_counter()
            list_scores(model, [prompt], self.study.size)
            middle_s = time.perf_counter()
            popular.recommend(queries[i : i + 1], self.study.k)
            rows.append((middle_s - start_s, time.perf_counter() - middle_s))
        ms = 1000 * np.array(rows)
        return Figure.of(ms[:, 0], ms[:, 1], "popularity", self.run.seed)
