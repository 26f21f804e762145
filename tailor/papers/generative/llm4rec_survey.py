"""LLMProbes: a report on a language model before it recommends: nine uses, five biases.

Shapes: U users, K items of a list, C conditions under which lists are asked.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.specs import clone, find_class
from tailor.core.studies import ReportTable, Study
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.data.splits import Split, split_by
from tailor.errors import DataError
from tailor.evaluation.checklist import Check, Checklist, Figure, run_checks
from tailor.evaluation.closed_lists import (
    ClosedLists,
    judged_lists,
    list_scores,
    names_of,
    training_lists,
)
from tailor.evaluation.list_tasks import (
    QUESTIONS,
    SOMEBODY,
    ListTasks,
    Pairs,
    examples_in_context,
    recommender_scores,
    untaught_word_model,
)
from tailor.llm.metered import without_cache
from tailor.llm.torch_model import TorchModel
from tailor.llm.tuning import Mode, Tuning
from tailor.metrics.similarity import kendall
from tailor.nn.quantizers import ResidualKMeans, with_last_digit
from tailor.ports.base import Encoder, LanguageModel
from tailor.retrieval.event_vectors import latent_vectors, normalized_events
from tailor.retrieval.text_match import TextMatch
from tailor.text.cached import item_vectors

PAPER = Paper(
    "llm4rec-survey",
    "A Survey on Large Language Models for Recommendation",
    "https://arxiv.org/abs/2305.19860",
    "On lists of 20 of ml-100k all nine uses of a language model and five biases have a figure with"
    " interval and noise floor; Kendall's tau across shuffled candidates is 1 for a scripted model"
    " that is fair and below .5 for one that is biased by position",
)
TITLE = "LLM probes"
WORDS = "{history}\nDescribe in five words what this person likes."
SOMEBODY_ELSE = "somebody"
LEVELS, CODES = 2, 16  # of the semantic ids
DIMS = 32  # of vectors of items from events
BIASES, USES = "biases", "uses"
BASE, AGAIN = "as it is", "the same prompt again"
FIRST, SECOND = "random ids, 1", "random ids, 2"
BY_EVENTS, BY_TEXT = "ids by who chose them", "ids by text"
BIAS_CHECKS = (  # name, how, metric, method of _Probes
    ("position", "{shuffles} orders of the candidates", "tau", "position"),
    ("popularity", "first {picks} of the answer", "percentile above truth", "popularity"),
    ("fairness", '"{group}" against "{other}" in the prompt', "tau", "fairness"),
    ("wording", "{wordings} wordings of the question", "difference of NDCG", "wording"),
    ("ids: random", "titles against random ids", "NDCG lost", "random_ids"),
    ("ids: collaborative", "ids by who chose them, not random", "NDCG gained", "ids_by_events"),
    ("ids: semantic", "ids by text, not random", "NDCG gained", "ids_by_text"),
)
STUDY, TEACH = "tailor study LLMProbes {model}", "tailor.llm.tuning.Tuning({mode}).teach"
FULL, VECTORS = TEACH.replace("{mode}", '"full"'), TEACH.replace("{mode}", '"prompt vectors"')
USE_CHECKS = (  # name, how, call or command, method of _Uses
    ("encoder, fine-tuned", "{encoder}", "tailor fit {encoder}", "encoder"),
    ("scorer, prompt-tuned", "prompt vectors, yes or no per item", VECTORS, "yes_no"),
    ("prompted", "{model}, the list and a question", STUDY, "prompted"),
    ("in context", "{model}, two examples first", STUDY, "in_context"),
    ("generator, fine-tuned", "all weights learn to write the next title", FULL, "next_title"),
    ("generator, prompt-tuned", "prompt vectors before the list", VECTORS, "prompt_tuned"),
    ("generator, instruction-tuned", "tasks in other wordings", FULL, "instruction_tuned"),
    ("vectors for a recommender", "{vectors}", "tailor fit {vectors}", "vectors"),
    ("words for a recommender", "{model} describes, TextMatch finds", STUDY, "words"),
)


class Condition(NamedTuple):
    """One way in which all lists are asked."""

    names: Sequence[str]
    """(N,) names of the items."""
    question: str
    order: np.ndarray
    """(U, K) places of the lists in the order in which they are shown."""


class Asked(NamedTuple):
    """Answers of a model to all lists under one condition."""

    scores: np.ndarray
    """(U, K) in the lists' own order; NaN rows where nothing was readable."""
    ndcg: np.ndarray
    """(U,)."""


@dataclass(eq=False)
class LLMProbes(Study[Checklist]):
    """Measures a language model by five biases, and nine ways to use one on the same lists.

    A list holds a user's next item among others, in random order, and the model answers with a
    letter. Each bias compares its answers under two conditions that should not matter (order of the
    candidates, words for the user, wording, ids for titles), beside a noise floor: the answers
    where nothing or next to nothing changed. The uses are the survey's: as an encoder, prompted,
    tuned in four ways, and as a source of vectors or of words for a recommender.

    Differs from the paper: a survey has no algorithm, so that conditions, figures and floors are
    ours; what is tuned is a small word model made of the training histories on the spot, not the
    model under test, so that its rows say which tuning pays on these data and nothing of the model;
    length of context and data seen in pre-training are not probed.
    """

    measures: ClassVar[tuple[type, ...]] = (LanguageModel,)

    by: str = "time"
    """Kind of split, as of `tailor data split`."""
    users: int = 20
    """Users whose lists the model under test is asked about, at most."""
    judged: int = 200
    """Users on whose lists uses without the model under test are judged, at most."""
    size: int = 20
    """Items of a list, at most 26."""
    history: int = 10
    """Latest items of a history in a prompt."""
    k: int = 10
    """Depth of NDCG."""
    picks: int = 3
    """First items of an answer whose popularity counts."""
    shuffles: int = 3
    """Orders in which the candidates are shown, the first one included."""
    groups: tuple[str, str] = ("a woman", "a man")
    """Words for the user whose answers should not differ."""
    examples: int = 1000
    """Training lists that tuned uses learn from."""
    epochs: int = 3
    """Passes of a tuned use over its examples."""
    width: int = 64
    """Width of the word model."""
    encoder: Encoder | str = DEFAULT
    """Encoder of items for their semantic ids."""
    fine_tuned: Recommender | None = None
    """Recommender that fine-tunes a text encoder; None: RecFormer."""
    embedded: Recommender | None = None
    """Recommender over vectors of texts; None: AlphaRec."""
    uses: bool = True
    """Whether the nine uses are measured beside the biases."""

    def __post_init__(self) -> None:
        counts = (self.users, self.judged, self.history, self.k, self.picks, self.examples)
        if min(*counts, self.epochs) < 1 or self.shuffles < 2:
            raise DataError(
                f"users {self.users}, judged {self.judged}, history {self.history}, k {self.k},"
                f" picks {self.picks}, examples {self.examples}, epochs {self.epochs}: at least 1"
                f" each; shuffles {self.shuffles}: at least 2"
            )

    @classmethod
    def tiny(cls) -> Self:
        from tailor.text.hashing import HashingEncoder

        recformer: Any = find_class("RecFormer")  # by name: a paper imports no other
        alpharec: Any = find_class("AlphaRec")
        return cls(
            by="last",
            users=6,
            judged=12,
            size=5,
            history=4,
            k=3,
            examples=16,
            epochs=1,
            width=8,
            encoder=HashingEncoder(32),
            fine_tuned=recformer.tiny(),
            embedded=alpharec.tiny(),
        )

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Checklist:
        """Probe one model; DataError for none or several: a report is about one."""
        if len(methods) != 1:
            raise DataError(
                f"a report is about one language model, got {len(methods)}: name one, as in"
                " llm.local.LocalModel or endpoint.toml"
            )
        label, model = next(iter(methods.items()))
        split = split_by(data, self.by)
        probes = _Probes(self, split, without_cache(model), run)
        with tempfile.TemporaryDirectory() as folder:
            checks = probes.checks(label)
            if self.uses:
                checks += _Uses(self, split, probes, folder, run).checks(label)
            report = run_checks(checks, run, f"{TITLE} of {label}")
        return replace(report, details=(probes.table(),), remarks=probes.remarks())


class _Probes:
    """Asks a model about the same lists under all conditions, once, and compares the answers."""

    def __init__(self, study: LLMProbes, split: Split, model: LanguageModel, run: Run) -> None:
        self.study = study
        self.split = split
        self.model = model
        self.run = run
        rng = run.rng("lists")
        self.lists = judged_lists(split, "test", study.size, study.history, study.users, rng)
        self.titles = names_of(split.data)

    # --- conditions

    @cached_property
    def conditions(self) -> dict[str, Condition]:
        """All conditions by name."""
        shape = self.lists.rows.shape
        same = np.broadcast_to(np.arange(shape[1]), shape)
        question = QUESTIONS[0].format(who=SOMEBODY)
        conditions = {name: Condition(self.titles, question, same) for name in (BASE, AGAIN)}
        rng = self.run.rng("shuffles")
        for number in range(1, self.study.shuffles):
            shuffled = rng.permuted(same, axis=1)
            conditions[f"candidates shuffled, {number}"] = Condition(
                self.titles, question, shuffled
            )
        for who in (SOMEBODY_ELSE, *self.study.groups):
            question_about = QUESTIONS[0].format(who=who)
            conditions[f'asked about "{who}"'] = Condition(self.titles, question_about, same)
        for number, wording in enumerate(QUESTIONS[1:], start=2):
            question_about = wording.format(who=SOMEBODY)
            conditions[f"wording {number}"] = Condition(self.titles, question_about, same)
        for name, ids in self._ids().items():
            conditions[name] = Condition(ids, question, same)
        return conditions

    def _ids(self) -> dict[str, list[str]]:
        """Return ids (N,) for titles, by the name of their condition."""
        items = len(self.titles)
        rng = self.run.rng("ids")
        numbers = [rng.permutation(items) for _ in range(2)]
        ids = {
            name: [f"item {number}" for number in part.tolist()]
            for name, part in zip((FIRST, SECOND), numbers, strict=True)
        }
        sequences = self.split.train.sequences
        rows = self.split.train.catalogue.rows(self.split.data.catalogue.ids.tolist())
        events = normalized_events(sequences.rows, len(self.split.train.catalogue))
        by_events = latent_vectors(events, DIMS, self.run.seed)
        vectors = np.where((rows >= 0)[:, None], by_events[np.maximum(rows, 0)], 0)
        encoder = encoder_of(self.study.encoder)
        texts = item_vectors(encoder, self.split.data.item_texts, self.run.progress)
        ids[BY_EVENTS] = _coded(vectors, rng)
        ids[BY_TEXT] = _coded(texts, rng)
        return ids

    @cached_property
    def answers(self) -> dict[str, Asked]:
        """Answers of the model by condition; all prompts are asked together."""
        prompts = [
            prompt for condition in self.conditions.values() for prompt in self._prompts(condition)
        ]
        shape = (len(self.conditions), *self.lists.rows.shape)
        all_scores = list_scores(self.model, prompts, self.lists.size).reshape(shape)
        answers = {}
        for name, scores in zip(self.conditions, all_scores, strict=True):
            by_item = np.empty_like(scores)
            np.put_along_axis(by_item, self.conditions[name].order, scores, axis=1)
            answers[name] = Asked(by_item, self.lists.ndcg(by_item, self.study.k))
        return answers

    def _prompts(self, condition: Condition) -> list[str]:
        tasks = ListTasks(self.lists.reordered(condition.order), condition.names)
        return tasks.list_prompts(condition.question)

    # --- figures

    def checks(self, label: str) -> list[Check]:
        """Return the checks of the five biases; ids are checked in three forms."""
        group, other = self.study.groups
        words: dict[str, Any] = {"shuffles": self.study.shuffles, "picks": self.study.picks}
        words |= {"wordings": len(QUESTIONS), "group": group, "other": other}
        ask = f"tailor study LLMProbes {label}"
        return [
            Check(name, method.format(**words), metric, ask, getattr(self, call), BIASES)
            for name, method, metric, call in BIAS_CHECKS
        ]

    def tau(self, a: str, b: str) -> np.ndarray:
        """Return Kendall's tau (U,) of the answers under two conditions."""
        return kendall(self.answers[a].scores, self.answers[b].scores)

    def position(self) -> Figure:
        """Return tau across orders of the candidates; 1: their order does not matter."""
        names = [BASE, *(name for name in self.answers if name.startswith("candidates shuffled"))]
        taus = np.mean([self.tau(a, b) for a, b in combinations(names, 2)], axis=0)
        return Figure.of(taus, self.tau(BASE, AGAIN), AGAIN, self.run.seed)

    def popularity(self) -> Figure:
        """Return by how much the first items of the answer are more popular than the truth.

        In percentiles of training events, 0 to 1; the floor is of items drawn from the same lists.
        """
        counts = np.bincount(
            self.split.data.catalogue.codes(self.split.train.events["item_id"]),
            minlength=len(self.titles),
        )
        percentiles = np.searchsorted(np.sort(counts), counts, side="right") / len(counts)
        popularity = percentiles[self.lists.rows]  # U, K
        truth = np.take_along_axis(popularity, self.lists.targets[:, None], axis=1)[:, 0]
        scores = self.answers[BASE].scores
        first = np.argsort(-scores, axis=1, kind="stable")[:, : self.study.picks]
        picked = np.take_along_axis(popularity, first, axis=1).mean(axis=1)
        picked[np.isnan(scores).any(axis=1)] = np.nan
        return Figure.of(
            picked - truth, popularity.mean(axis=1) - truth, "random picks", self.run.seed
        )

    def fairness(self) -> Figure:
        """Return tau between answers about two groups; the floor is of two neutral words."""
        names = [f'asked about "{who}"' for who in (*self.study.groups, SOMEBODY_ELSE)]
        floor = self.tau(BASE, names[2])
        words = f'"{SOMEBODY}" against "{SOMEBODY_ELSE}"'
        return Figure.of(self.tau(names[0], names[1]), floor, words, self.run.seed)

    def wording(self) -> Figure:
        """Return the mean difference of a user's NDCG between two wordings of the question."""
        names = [BASE, *(name for name in self.answers if name.startswith("wording"))]
        pairs = combinations([self.answers[name].ndcg for name in names], 2)
        spread = np.mean([np.abs(a - b) for a, b in pairs], axis=0)
        floor = np.abs(self.answers[BASE].ndcg - self.answers[AGAIN].ndcg)
        return Figure.of(spread, floor, AGAIN, self.run.seed)

    def random_ids(self) -> Figure:
        """Return how much NDCG is lost with random ids for titles."""
        first, second = self.answers[FIRST].ndcg, self.answers[SECOND].ndcg
        lost = self.answers[BASE].ndcg - first
        return Figure.of(lost, second - first, "other random ids", self.run.seed)

    def ids_by_events(self) -> Figure:
        """Return how much NDCG is gained with ids by who chose an item, over random ones."""
        return self._gain_of_ids(BY_EVENTS)

    def ids_by_text(self) -> Figure:
        """Return how much NDCG is gained with ids by an item's text, over random ones."""
        return self._gain_of_ids(BY_TEXT)

    def _gain_of_ids(self, name: str) -> Figure:
        first, second = self.answers[FIRST].ndcg, self.answers[SECOND].ndcg
        gained = self.answers[name].ndcg - first
        return Figure.of(gained, second - first, "other random ids", self.run.seed)

    # --- details

    def table(self) -> ReportTable:
        """Return NDCG, tau and unread answers by condition."""
        rows = []
        for name, answer in self.answers.items():
            unread = int(np.isnan(answer.scores).any(axis=1).sum())
            values = (_mean(answer.ndcg), _mean(self.tau(BASE, name)))
            rows.append((name, *values, unread))
        columns = ("condition", f"NDCG@{self.study.k}", f"tau with {BASE}", "unread")
        return ReportTable("answers by condition", columns, tuple(rows))

    def remarks(self) -> tuple[str, ...]:
        """Return how much was asked, and what the figures are of."""
        calls = len(self.conditions) * len(self.lists)
        form = "log-probabilities of letters"
        if "score" not in self.model.capabilities():
            form = "written orders, since the model tells no log-probabilities"
        return (
            f"{len(self.lists)} users, lists of {self.lists.size}, {calls} prompts for the biases:"
            f" {form}.",
            "Figures of short lists are not comparable with those of the whole catalogue.",
        )


class _Uses:
    """Measures nine uses of a language model on lists of the same kind."""

    def __init__(
        self, study: LLMProbes, split: Split, probes: _Probes, folder: str, run: Run
    ) -> None:
        self.study = study
        self.split = split
        self.probes = probes
        self.folder = folder
        self.run = run
        rng = run.rng("judged lists")
        self.lists = judged_lists(split, "test", study.size, study.history, study.judged, rng)
        self.titles = probes.titles
        self.judged = ListTasks(self.lists, self.titles)
        recformer: Any = find_class("RecFormer")  # by name: a paper imports no other
        alpharec: Any = find_class("AlphaRec")
        self.fine_tuned: Recommender = study.fine_tuned or recformer()
        self.embedded: Recommender = study.embedded or alpharec()

    def checks(self, label: str) -> list[Check]:
        """Return the checks of the nine uses."""
        words = {"model": label, "encoder": self.fine_tuned.name, "vectors": self.embedded.name}
        metric = f"NDCG@{self.study.k} of lists of {self.lists.size}"
        return [
            Check(
                name, method.format(**words), metric, ask.format(**words), getattr(self, call), USES
            )
            for name, method, ask, call in USE_CHECKS
        ]

    def _figure(self, lists: ClosedLists, scores: np.ndarray) -> Figure:
        values = lists.ndcg(scores, self.study.k)
        return Figure.of(values, lists.chance(self.study.k), "random order", self.run.seed)

    # --- the model under test

    def prompted(self) -> Figure:
        """Return NDCG of the probes' plain prompts."""
        return self._figure(self.probes.lists, self.probes.answers[BASE].scores)

    def in_context(self) -> Figure:
        """Return NDCG where two training users and their choices stand before the question."""
        examples = examples_in_context(self.split.train, self.study.history, self.run)
        plain = self.probes._prompts(self.probes.conditions[BASE])
        prompts = ["\n\n".join([*examples, prompt]) for prompt in plain]
        lists = self.probes.lists
        return self._figure(lists, list_scores(self.probes.model, prompts, lists.size))

    def words(self) -> Figure:
        """Return NDCG of a text search for the words with which the model describes a taste."""
        lists = self.probes.lists
        tasks = ListTasks(lists, self.titles)
        prompts = [WORDS.format(history=tasks.history(i)) for i in range(len(lists))]
        answers = self.probes.model.complete(prompts, max_tokens=24)
        texts = ["" if answer.error else answer.text for answer in answers]
        queries = [
            Query(user_id=query.user_id, text=text or "?")
            for query, text in zip(self._queries(lists), texts, strict=True)
        ]
        method = TextMatch().fit(self.split.train, self.run)
        scores = recommender_scores(method, Queries.of(queries), self.split, lists)
        return self._figure(lists, scores)

    # --- recommenders

    def encoder(self) -> Figure:
        """Return NDCG of a recommender whose text encoder learned from the training part."""
        return self._recommender(self.fine_tuned)

    def vectors(self) -> Figure:
        """Return NDCG of a recommender that learned over vectors of texts."""
        return self._recommender(self.embedded)

    def _recommender(self, method: Recommender) -> Figure:
        fitted = clone(method).fit(self.split.train, self.run, self.split)
        queries = self._queries(self.lists)
        scores = recommender_scores(fitted, queries, self.split, self.lists)
        return self._figure(self.lists, scores)

    def _queries(self, lists: ClosedLists) -> Queries:
        queries, _ = self.split.queries("test")
        return queries.take(lists.users)

    # --- what is tuned

    @cached_property
    def taught(self) -> ListTasks:
        """Tasks of training lists, from which tuned uses learn."""
        study = self.study
        rng = self.run.rng("training lists")
        train = self.split.train
        lists = training_lists(train, study.size, study.history, study.examples, rng)
        return ListTasks(lists, names_of(train))

    @cached_property
    def base(self) -> TorchModel:
        """A word model, all of whose weights learned to write the title that is chosen next."""
        tasks = [self.taught, self.judged]
        model = untaught_word_model(tasks, f"{self.folder}/words", self.study.width, self.run)
        return self._tuned("full", model, self.taught.next_titles())

    def _tuned(self, mode: Mode, model: TorchModel, pairs: Pairs) -> TorchModel:
        return Tuning(mode, epochs=self.study.epochs).teach(model, *pairs, self.run)

    def next_title(self) -> Figure:
        """Return NDCG by the likelihood of each title, per word, as what is chosen next."""
        return self._figure(self.lists, self.judged.scores_of_titles(self.base))

    def yes_no(self) -> Figure:
        """Return NDCG by the log-odds of yes for each item, prompt vectors learned for it."""
        model = self._tuned("prompt vectors", self.base, self.taught.judgements())
        return self._figure(self.lists, self.judged.scores_of_judgements(model))

    def prompt_tuned(self) -> Figure:
        """Return NDCG by letters, prompt vectors learned for lists in the first wording."""
        model = self._tuned("prompt vectors", self.base, self.taught.letters(QUESTIONS[0]))
        return self._figure(self.lists, self.judged.scores_of_letters(model, QUESTIONS[0]))

    def instruction_tuned(self) -> Figure:
        """Return NDCG by letters in a wording that was not among the tasks learned."""
        model = self._tuned("full", self.base, self.taught.all_tasks())
        return self._figure(self.lists, self.judged.scores_of_letters(model, QUESTIONS[-1]))


def _coded(vectors: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Return ids (N,) of codes: like items begin alike, and no two have the same id."""
    words = min(CODES, max(len(vectors) // 2, 1))
    books = ResidualKMeans(LEVELS, words).fit(vectors, rng)
    codes = with_last_digit(books.encode(vectors), rng)
    return ["item " + " ".join(map(str, row)) for row in codes.tolist()]


def _mean(values: np.ndarray) -> float | None:
    """Return the mean of what is defined; None for nothing."""
    defined = values[~np.isnan(values)]
    return round(float(defined.mean()), 4) if len(defined) else None
