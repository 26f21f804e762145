"""Predict ratings by language models and by classical methods, on the same rows.

Shapes: m pairs of a query and an item, B of a batch, H histories of at most T events, E width of a
text's vector, W width of the net, C values of the rating scale.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, cast

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from tailor.core.defaults import DEFAULT, language_model
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, Predictor
from tailor.core.run import Run
from tailor.core.search_space import Choices
from tailor.core.specs import check_settings, clone
from tailor.core.studies import ReportTable, Study, StudyReport
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples, Outcome, Source
from tailor.data.queries import Queries
from tailor.data.splits import Split, split_by
from tailor.errors import DataError
from tailor.evaluation.prediction_figures import NumberFigures
from tailor.evaluation.predictions import DeclaresOutcome
from tailor.evaluation.report import without_nan
from tailor.llm.metered import Metered
from tailor.llm.parsing import read_number
from tailor.llm.prompts import Template
from tailor.metrics.prediction import auc, mean_absolute_error, root_mean_squared_error
from tailor.nn.fields import FieldBatch, FieldLayout
from tailor.nn.interest import TargetAttention, pooled
from tailor.nn.towers import Tower
from tailor.ports.base import Encoder, LanguageModel
from tailor.ranking.behaviours import BehaviourPredictor
from tailor.ranking.biased_mf import BiasedMF
from tailor.ranking.encoding import Encoded
from tailor.text.cached import item_vectors

PAPER = Paper(
    "llm-rating-prediction",
    "Do LLMs Understand User Preferences? Evaluating LLMs On User Rating Prediction",
    "https://arxiv.org/abs/2305.06474",
    "On 150 test ratings of ml-100k the RMSE of a zero-shot language model is above that of the"
    " biases of user and item; a net over the vectors of the prompt's lines, fitted to ratings, is"
    " at least .1 below zero-shot; both are printed for 1, 5, 20 and 100 % of the users",
)
ZERO_SHOT = Template(
    "A person rated these, from {lowest} (bad) to {highest} (good), the latest last:\n{history}\n"
    "How does the same person rate this?\n{item}\n{averages}Answer with one number from {least} to"
    " {most}.",
    trusted=("lowest", "highest", "averages", "least", "most"),
    foreign=("item",),
    listed=("history",),
)
FEW_SHOT = Template(
    "Some people rated a few things, then one more:\n{examples}\n" + ZERO_SHOT.text,
    ZERO_SHOT.trusted,
    ZERO_SHOT.foreign,
    ("examples", "history"),
)
ANSWER_TOKENS = 6
EXAMPLE_EVENTS = 3  # latest ratings of the user of an example
ALL_RATINGS = 500  # of a history that classical methods read
MOST_VALUES = 12  # of a rating scale
STEPS = 80  # of an epoch of the nets, whatever they learn from
BATCHES = (16, 1024)  # least and most ratings of a step
FIRST_STD = 0.1  # of the vectors of items that learn in place of texts
NO_VECTORS = np.zeros((0, 0), np.float32)


# ---- language models that are asked


class Ratings(NamedTuple):
    """A language model's ratings of pairs."""

    values: np.ndarray
    """(m,) ratings; the user's mean where nothing could be read."""
    is_read: np.ndarray
    """(m,) bool: False where the answer is no number of the scale."""


@dataclass(eq=False)
class PromptedRater(Predictor):
    """Ask a language model how a user rates an item, given titles and ratings of the history.

    The prompt has a line for each of the latest events, with title, categories and rating. Either
    the rating is the mean of the scale's numbers by their probabilities as the answer, or the model
    writes a number. Where none can be read the user's mean stands in, and `rate` says so.

    Differs from the paper: its prompts are reconstructed; a number outside the scale counts as not
    read ("10" is neither 1 nor 5).
    """

    language_model: LanguageModel | str = DEFAULT
    """Language model that is asked; or "default": TAILOR_LANGUAGE_MODEL, tailor.toml, the local."""
    answers: Literal["expected", "written"] = "expected"
    """How an answer is read: expected number by probabilities, or the number that is written."""
    shots: int = 0
    """Examples of ratings by users of the training part in the prompt."""
    averages: bool = False
    """Whether the prompt tells the mean ratings of item and user."""
    history: int = 10
    """Latest rated items in the prompt."""
    scale: tuple[int, int] = (1, 5)
    """Lowest and highest rating."""
    budget: int = 600
    """Most tokens of a prompt, as estimated; long titles are cut."""

    titles_: list[str] = field(init=False, repr=False)
    """(N + 1,) title and categories of each item; the last one is for an unknown item."""
    mean_: float = field(init=False, repr=False)
    """Mean rating."""
    item_means_: np.ndarray = field(init=False, repr=False)
    """(N + 1,) mean rating of each item; the overall mean without one."""
    examples_: list[str] = field(init=False, repr=False)
    """Histories and items of the examples."""
    example_ratings_: list[float] = field(init=False, repr=False)
    """Ratings of the examples."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.shots < 0 or self.history < 0 or not self.scale[0] < self.scale[1]:
            raise DataError(
                f"shots is {self.shots}, history {self.history}, scale {self.scale}: at least 0"
                " each, and the lowest rating first"
            )
        if self.answers == "expected" and not 0 <= self.scale[0] < self.scale[1] <= 9:
            raise DataError(
                f'scale is {self.scale}: numbers of one digit, as "1" begins "10"; write'
                ' answers = "written" for others'
            )

    def keeps_people(self) -> bool:
        return self.shots > 0

    def outcome(self) -> Outcome:
        """Return what is predicted: the values of events. Means are of the whole history."""
        return Outcome("value", length=ALL_RATINGS)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.titles_ = [*item_lines(data), "something unknown"]
        examples = self.outcome().learn(data, run.rng("examples"))
        means = Means.of(examples, len(data.catalogue))
        self.mean_ = means.overall
        self.item_means_ = means.of_items
        chosen = run.rng("shots").permutation(len(examples))[: self.shots]
        sample = examples.take(np.sort(chosen))
        self.example_ratings_ = sample.labels.tolist()
        self.examples_ = [
            "; ".join([*self._lines(sample.queries, i)[-EXAMPLE_EVENTS:], self.titles_[item]])
            for i, item in enumerate(sample.items.tolist())
        ]
        self.fit_report_ = {"examples": len(examples), "shots": len(self.examples_)}

    def _lines(self, queries: Queries, i: int) -> list[str]:
        """Return the lines of a user's history with their ratings, the latest last."""
        titles = self._history_titles(queries, i)
        ratings = self._history_ratings(queries, i)
        latest = ratings[len(ratings) - len(titles) :]
        return [title + rating_words(rating) for title, rating in zip(titles, latest, strict=True)]

    def _history_titles(self, queries: Queries, i: int) -> list[str]:
        """Return the titles of the events that a prompt shows, the latest last."""
        rows = queries.histories[i].tolist()
        return [self.titles_[row] for row in rows[max(len(rows) - self.history, 0) :]]

    def _history_ratings(self, queries: Queries, i: int) -> np.ndarray:
        """Return the ratings of all events of a history; NaN for none."""
        if "values" not in queries.columns:
            return np.full(len(queries.histories[i]), np.nan)
        return queries.columns["values"][i]

    def prompt(self, queries: Queries, i: int, item: int) -> str:
        """Return the prompt for an item's row and a query; -1 is an unknown item."""
        ratings = self._history_ratings(queries, i)
        lowest, highest = (str(end) for end in self.scale)
        titles = self._history_titles(queries, i)
        latest = ratings[len(ratings) - len(titles) :]
        after = {"history": [rating_words(rating) for rating in latest]}
        slots: dict[str, Any] = {
            "history": titles,
            "item": self.titles_[item],
            "averages": self._average_words(ratings, item),
            "lowest": lowest,
            "highest": highest,
            "least": lowest,
            "most": highest,
        }
        if not self.examples_:
            return ZERO_SHOT.filled(self.budget, after=after, **slots).text
        after["examples"] = [rating_words(rating) for rating in self.example_ratings_]
        return FEW_SHOT.filled(self.budget, after=after, examples=self.examples_, **slots).text

    def _average_words(self, ratings: np.ndarray, item: int) -> str:
        if not self.averages:
            return ""
        return (
            f"On average others rate it {self.item_means_[item]:.1f}, and this person rates"
            f" {self._user_mean(ratings):.1f}. "
        )

    def _user_mean(self, ratings: np.ndarray) -> float:
        """Return the mean of a history's ratings; the overall mean without one."""
        numbers = ratings[np.isfinite(ratings)]
        return float(numbers.mean()) if len(numbers) else self.mean_

    def rate(self, queries: Queries, items: Ragged) -> Ratings:
        """Return the ratings of items by query; both are over `items_`."""
        prompts = []
        means = []
        for i, item in zip(items.row_ids.tolist(), items.values.tolist(), strict=True):
            prompts.append(self.prompt(queries, i, item))
            means.append(self._user_mean(self._history_ratings(queries, i)))
        read = self._expected if self.answers == "expected" else self._written
        values = read(language_model(self.language_model), prompts)
        is_read = np.isfinite(values)
        return Ratings(np.where(is_read, values, means), is_read)

    def _expected(self, model: LanguageModel, prompts: Sequence[str]) -> np.ndarray:
        """Return (m,) means of the scale's numbers by their probabilities."""
        numbers = np.arange(self.scale[0], self.scale[1] + 1)
        if not prompts:
            return np.zeros(0)
        log_probs = model.choices(prompts, [str(number) for number in numbers])
        return np.asarray(softmax(log_probs, axis=1) @ numbers)

    def _written(self, model: LanguageModel, prompts: Sequence[str]) -> np.ndarray:
        """Return (m,) numbers that are written; NaN where none can be read."""
        answers = model.complete(prompts, max_tokens=ANSWER_TOKENS)
        numbers = [None if a.error else read_number(a.text, *self.scale) for a in answers]
        return np.array([np.nan if number is None else number for number in numbers])

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        return self.rate(queries, items).values

    @classmethod
    def tiny(cls) -> Self:
        from tailor.llm.scripted import ScriptedModel

        return cls(ScriptedModel(noise=0.5), shots=1, averages=True, history=6)


def item_lines(data: Dataset) -> list[str]:
    """Return (N,) each item's title, else its text or id, with its categories."""
    categories: list[list[str] | None] = [None] * len(data.catalogue)
    if "categories" in data.item_table.columns:
        categories = data.item_table["categories"].to_list()
    names = zip(data.texts_of("title"), data.item_texts, data.catalogue.ids, strict=True)
    titles = [title.strip() or text.strip() or item_id for title, text, item_id in names]
    return [
        f"{title} ({', '.join(values)})" if values else title
        for title, values in zip(titles, categories, strict=True)
    ]


def rating_words(rating: float) -> str:
    """Return the words of a rating behind its title; none for NaN."""
    return f": rated {rating:g}" if np.isfinite(rating) else ""


class Means(NamedTuple):
    """Means of ratings."""

    overall: float
    of_items: np.ndarray
    """(N + 1,) mean of each item; the overall mean where it has no rating."""

    @classmethod
    def of(cls, examples: Examples, items: int) -> "Means":
        """Return the means of examples over a catalogue of so many items."""
        overall = float(examples.labels.mean())
        counts = np.bincount(examples.items, minlength=items + 1)
        sums = np.bincount(examples.items, examples.labels, items + 1)
        of_items = np.full(items + 1, overall)
        is_rated = counts > 0
        of_items[is_rated] = sums[is_rated] / counts[is_rated]
        return cls(overall, of_items)


# ---- a net over the lines of a prompt


class LinesNet(nn.Module):
    """A tower over the candidate and the lines of the history that attention picks for it."""

    texts: Tensor

    def __init__(self, items: int, method: "LineRater") -> None:
        super().__init__()
        width = method.width
        self.outputs = len(method.values_) if method.head == "classes" else 1
        self.intercept = nn.Parameter(torch.zeros(self.outputs))
        texts = torch.tensor(method.texts_, device="cpu")
        self.register_buffer("texts", texts, persistent=False)
        self.of_texts: nn.Linear | None = None
        self.of_ids: nn.Embedding | None = None
        if len(texts):
            self.of_texts = nn.Linear(texts.shape[1], width)
        else:
            self.of_ids = nn.Embedding(items + 1, width)
            nn.init.normal_(self.of_ids.weight, std=FIRST_STD)
        self.of_rating = nn.Linear(2, width)
        self.attention = TargetAttention(width, "dot", normalise=True)
        self.tower = Tower([3 * width + 2, *method.layers], dropout=method.dropout)
        self.head = nn.Linear(method.layers[-1], self.outputs, bias=False)

    def _items(self, rows: Tensor) -> Tensor:
        """Return vectors (..., W) of item rows (...)."""
        items, positions = rows.unique(return_inverse=True)
        if self.of_texts is not None:
            return cast(Tensor, self.of_texts(self.texts[items]))[positions]
        assert self.of_ids is not None
        return cast(Tensor, self.of_ids(items))[positions]

    def forward(self, batch: FieldBatch) -> tuple[Tensor, Tensor]:
        """Return (B,) or (B, C) logits, and the penalty (). Ratings are standardised."""
        candidates = self._items(batch.items)  # B, W
        behaviours = self._items(batch.behaviours)  # H, T, W
        is_rated = batch.values.isfinite() & batch.is_real
        ratings = batch.values.nan_to_num() * is_rated
        marks = torch.stack([ratings, is_rated.to(ratings.dtype)], dim=2)  # H, T, 2
        weights = self.attention(candidates, behaviours, batch)
        lines = torch.cat([behaviours + self.of_rating(marks), marks[..., :1]], dim=2)
        state = pooled(weights, lines, batch)  # B, W + 1
        level = ratings.sum(dim=1) / (is_rated.sum(dim=1) + 1)  # H
        levels = batch.of_examples(level)[:, None]
        product = candidates * state[:, :-1]
        inputs = torch.cat([candidates, product, state, levels], dim=1)
        logits = self.head(self.tower(inputs)) + self.intercept
        penalty = candidates.square().sum(dim=1).mean()
        return logits[:, 0] if self.outputs == 1 else logits, penalty


@dataclass(eq=False)
class LineRater(BehaviourPredictor):
    """Fit a small net to ratings, which reads the lines of the prompt as vectors of their texts.

    A frozen encoder reads titles and categories. The candidate attends to the lines of the history;
    what it finds, with its ratings, goes through a tower to a number (squared error) or to a share
    for each value of the scale (cross-entropy), whose mean is predicted.

    Differs from the paper: a sentence encoder and a net above it learn in place of a language
    model of billions of weights, so that it fits on a processor.
    """

    source: Source = "value"
    """Source of examples: events and their values."""
    fields: tuple[str, ...] = ("item_id",)
    """Field of the item that a history is compared by; the net reads no other."""
    head: Literal["number", "classes"] = "number"
    """Whether a number is predicted, or shares of the values of the scale."""
    encoder: Encoder | str | None = DEFAULT
    """Encoder of titles and categories; None: each item has a learned vector in its place."""
    width: Annotated[int, Choices(16, 32, 64)] = 32
    """Width of the vectors of items within the net."""
    layers: tuple[int, ...] = (64,)
    """Widths of the tower's layers."""
    dropout: float = 0.2
    """Share of the tower's numbers that are dropped in training."""
    history: Annotated[int, Choices(10, 20, 50)] = 10
    """Latest items of the history that are read."""

    _is_binary: ClassVar[bool] = False

    texts_: np.ndarray = field(init=False, repr=False)
    """(N + 1, E) float32 vectors of titles and categories; empty without an encoder."""
    values_: list[float] = field(init=False, repr=False)
    """(C,) values of the scale, ascending."""
    moments_: tuple[float, float] = field(init=False, repr=False)
    """Mean and standard deviation of the ratings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source != "value":
            raise DataError(f'source is "{self.source}": ratings are the events\' values')

    def _learn_more(self, data: Dataset, examples: Examples, run: Run) -> None:
        self.values_ = np.unique(examples.labels).tolist()
        if self.head == "classes" and len(self.values_) > MOST_VALUES:
            raise DataError(
                f'there are {len(self.values_)} values, and head "classes" takes {MOST_VALUES} at'
                ' most: write head = "number"'
            )
        self.moments_ = (float(examples.labels.mean()), float(examples.labels.std()) or 1.0)
        self.texts_ = NO_VECTORS
        if self.encoder is not None:
            vectors = item_vectors(encoder_of(self.encoder), item_lines(data), run.progress)
            unknown = np.zeros((1, vectors.shape[1]))
            self.texts_ = np.concatenate([vectors, unknown]).astype(np.float32)

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return LinesNet(len(layout.item_codes) - 1, self)

    def _encode(self, queries: Queries, items: Ragged) -> Encoded:
        """Return the pairs as arrays, with standardised ratings of the behaviours."""
        encoded = super()._encode(queries, items)
        mean, deviation = self.moments_
        ratings = ((encoded.behaviours.values - mean) / deviation).astype(np.float32)
        return replace(encoded, behaviours=replace(encoded.behaviours, values=ratings))

    def _loss(
        self, batch: FieldBatch, labels: Tensor, rows: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        logits, penalty = self._net(batch)
        if self.head == "number":
            mean, deviation = self.moments_
            loss = mse_loss(logits.float(), (labels - mean) / deviation)
        else:
            values = torch.tensor(self.values_, dtype=labels.dtype, device=labels.device)
            loss = cross_entropy(logits.float(), torch.searchsorted(values, labels))
        return loss + self.l2 * penalty

    def _outputs_of(self, logits: Tensor) -> Tensor:
        """Return ratings (B,) of logits (B,), or shares of the values of logits (B, C)."""
        if logits.ndim > 1:
            return logits.softmax(dim=1)
        mean, deviation = self.moments_
        return mean + deviation * logits

    def _ratings(self, outputs: np.ndarray) -> np.ndarray:
        """Return (n,) ratings within the scale, for outputs of the net."""
        ratings = outputs @ np.array(self.values_) if outputs.ndim > 1 else outputs
        return np.clip(ratings, self.values_[0], self.values_[-1])

    def _goodness(self, labels: np.ndarray, outputs: np.ndarray) -> float:
        """Return minus the RMSE of outputs for labels (n,)."""
        return -root_mean_squared_error(labels, self._ratings(outputs))

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        return self._ratings(self._net_outputs(self._encode(queries, items)))

    @classmethod
    def tiny(cls) -> Self:
        from tailor.text.hashing import HashingEncoder

        return cls(encoder=HashingEncoder(16), width=4, layers=(8,), history=6, epochs=3, lr=1e-2)


# ---- the study


@dataclass(frozen=True)
class Row:
    """Figures of a method over the sampled test ratings."""

    method: str
    kind: str
    """"means", "fitted" or "language model"."""
    learned_from: int
    """Ratings that it learned from; 0 for a model that only reads them in its prompt."""
    rmse: float
    low: float
    """95 % bootstrap interval over users."""
    high: float
    mae: float
    auc: float
    """Of ratings from `liked` on against others."""
    unread: int
    """Answers that no rating could be read from."""
    ms: float
    """Milliseconds a prediction."""
    tokens: float
    """Tokens read a prediction."""
    usd: float
    """Price of a prediction."""


@dataclass(frozen=True)
class CurvePoint:
    """The error of a method fitted to a share of the users, over all test ratings."""

    method: str
    share: float
    learned_from: int
    rmse: float


@dataclass(frozen=True, eq=False)
class RatingReport(StudyReport):
    """All methods on the same test ratings, and fitted ones by the data they learned from."""

    rows: list[Row]
    curve: list[CurvePoint]
    labels: np.ndarray
    """(n,) ratings of the sample."""
    users: np.ndarray
    """(n,) number of each rating's user."""
    predictions: dict[str, np.ndarray]
    """Method -> (n,) predicted ratings."""
    remarks: tuple[str, ...]

    def row(self, method: str) -> Row:
        """Return the figures of a method; DataError where there is none."""
        for row in self.rows:
            if row.method == method:
                return row
        raise DataError(f'no method "{method}": there are {[row.method for row in self.rows]}')

    def difference(self, method: str, over: str, seed: int = 0) -> dict[str, float]:
        """Return RMSE of a method minus that of another, with its interval over users."""
        pair = [self.predictions[name] for name in (method, over)]
        drawn = NumberFigures().drawn(self.labels, self.users, pair, seed=seed)
        low, high = np.quantile(drawn[:, 0] - drawn[:, 1], (0.025, 0.975)).tolist()
        difference = self.row(method).rmse - self.row(over).rmse
        return {
            "difference": round(difference, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }

    def tables(self) -> list[ReportTable]:
        """Return the methods by their RMSE, and the curves."""
        ordered = sorted(self.rows, key=lambda row: row.rmse)
        head = tuple(name.replace("_", " ") for name in Row.__dataclass_fields__)
        table = ReportTable(
            f"{len(self.labels)} test ratings",
            head,
            tuple(tuple(asdict(r).values()) for r in ordered),
        )
        shares = sorted({point.share for point in self.curve})
        values = {(point.method, point.share): point.rmse for point in self.curve}
        names = dict.fromkeys(point.method for point in self.curve)
        lines = tuple((name, *(values.get((name, share)) for share in shares)) for name in names)
        columns = ("method", *(f"{share:.0%} of the users" for share in shares))
        return [table, ReportTable("RMSE over all test ratings", columns, lines)]

    def notes(self) -> list[str]:
        """Return what limits the figures."""
        return list(self.remarks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        content = {
            "rows": [asdict(row) for row in self.rows],
            "curve": [asdict(point) for point in self.curve],
            "notes": list(self.remarks),
        }
        return cast(dict[str, Any], without_nan(content))


@dataclass(eq=False)
class LLMRatingPrediction(Study[RatingReport]):
    """Predict the same test ratings by means, fitted methods and language models.

    The last tenth of every user's ratings is the test. Language models are asked about a sample of
    it: with the latest ratings alone, with examples of others, with averages, and to write a
    number. Means, matrix factorization and nets over the lines of the prompt learn from the
    training part, and from the users of a share of it. Methods that are named are measured beside
    these: language models are asked, predictors of values fitted.

    Differs from the paper: prompts are reconstructed; what is fitted is a net over frozen vectors
    of the prompt's lines in place of a fine-tuned language model, and it reads longer histories
    than a prompt has; shares are of users with all their ratings, in place of rows.
    """

    measures: ClassVar[tuple[type, ...]] = (Predictor, LanguageModel)

    n: int = 300
    """Test ratings that all methods are compared on."""
    language_model: LanguageModel | str | None = DEFAULT
    """Language model that is asked; None: only those that are named as methods."""
    encoder: Encoder | str = DEFAULT
    """Encoder of the prompt's lines."""
    history: int = 10
    """Latest ratings in a prompt."""
    net_history: int = 50
    """Latest ratings that the nets read."""
    shots: int = 2
    """Examples of other users in a few-shot prompt."""
    scale: tuple[int, int] = (1, 5)
    """Lowest and highest rating."""
    liked: float = 4.0
    """Rating from which an item counts as liked, for AUC."""
    shares: tuple[float, ...] = (0.01, 0.05, 0.2, 1.0)
    """Shares of the users that fitted methods learn from."""
    epochs: int = 30
    """Passes over the ratings of the nets, at most."""
    lr: float = 3e-3
    """Learning rate of the nets."""

    def __post_init__(self) -> None:
        if self.n < 2 or not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise DataError(
                f"n is {self.n}, shares {self.shares}: from 2, and shares above 0 up to 1"
            )

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> RatingReport:
        """Fit, ask and measure.

        Raises DataError for data without values, for values outside the scale, and for methods that
        predict something else.
        """
        split = split_by(data, "ratio")
        outcome = Outcome("value", length=ALL_RATINGS)
        train = outcome.learn(split.train, run.rng("means"))
        test = outcome.judge(split, "test", run.rng("test"))
        self._check_scale(np.r_[train.labels, test.labels])
        chosen = np.sort(run.rng("sample").permutation(len(test))[: self.n])
        measured = _Measured(self, split, test, chosen)
        measured.add_means(train)
        models: dict[str, LanguageModel] = {}
        if self.language_model is not None:
            models["language model"] = language_model(self.language_model)
        others: dict[str, Predictor] = {}
        for name, method in methods.items():
            if isinstance(method, Predictor):
                others[name] = _checked_predictor(name, method)
            else:
                models[name] = method
        measured.add_fitted(others, run)
        for name, model in models.items():
            measured.add_asked(name, model, run)
        return measured.report()

    def _check_scale(self, ratings: np.ndarray) -> None:
        lowest, highest = float(ratings.min()), float(ratings.max())
        if lowest < self.scale[0] or highest > self.scale[1]:
            raise DataError(
                f"the values go from {lowest:g} to {highest:g}, and scale is {self.scale}: set the"
                " lowest and highest rating"
            )

    def fitted(self, ratings: int) -> dict[str, Predictor]:
        """Return the methods that learn from so many ratings; the nets take equal steps for all."""
        batch = int(np.clip(ratings // STEPS, *BATCHES))
        epochs = max(1, round(self.epochs * STEPS / max(1, ratings // batch)))
        nets: dict[str, Any] = {
            "history": self.net_history,
            "epochs": epochs,
            "batch": batch,
            "lr": self.lr,
        }
        return {
            "user and item biases": BiasedMF(width=0),
            "biased MF": BiasedMF(),
            "net over ids": LineRater(encoder=None, **nets),
            "net over lines": LineRater(encoder=self.encoder, **nets),
            "net over lines, classes": LineRater(encoder=self.encoder, head="classes", **nets),
        }

    def raters(self, model: LanguageModel) -> dict[str, PromptedRater]:
        """Return manners of asking -> raters; without probabilities a model writes its answers."""
        common: dict[str, Any] = {"history": self.history, "scale": self.scale}
        written = PromptedRater(model, answers="written", **common)
        if "score" not in model.capabilities():
            few = PromptedRater(model, answers="written", shots=self.shots, **common)
            return {"zero-shot, written": written, "few-shot, written": few}
        return {
            "zero-shot": PromptedRater(model, **common),
            "few-shot": PromptedRater(model, shots=self.shots, **common),
            "with averages": PromptedRater(model, averages=True, **common),
            "zero-shot, written": written,
        }


def _checked_predictor(name: str, method: Predictor) -> Predictor:
    """Return a predictor of values, to be fitted. Raises DataError for another one."""
    outcome = method.outcome() if isinstance(method, DeclaresOutcome) else None
    if outcome is None or outcome.source != "value":
        raise DataError(
            f'"{name}" predicts no values: take a method with source = "value", such as BiasedMF()'
        )
    if isinstance(method, PromptedRater):
        raise DataError(f'"{name}" is asked, not fitted: name its language model as the method')
    return method


class _Measured:
    """The table of the study, a method after the other."""

    def __init__(
        self, study: LLMRatingPrediction, split: Split, test: Examples, chosen: np.ndarray
    ) -> None:
        """Take all test ratings, and the positions (n,) of those that all are compared on."""
        self.study = study
        self.split = split
        self.test = test
        self.chosen = chosen
        self.sample = test.take(chosen)
        self.users = self.sample.people()[1]
        self.rows: list[Row] = []
        self.curve: list[CurvePoint] = []
        self.predictions: dict[str, np.ndarray] = {}

    def add_means(self, train: Examples) -> None:
        """Measure the means of all ratings, of the user's, and of the item's."""
        means = Means.of(train, len(self.split.data.catalogue))
        histories = self.test.queries.columns["values"]
        ratings = histories.keep(np.isfinite(histories.values))
        sums = np.bincount(ratings.row_ids, ratings.values, len(self.test))
        user_means = np.full(len(self.test), means.overall)
        is_rated = ratings.lengths > 0
        user_means[is_rated] = sums[is_rated] / ratings.lengths[is_rated]
        n = len(train)
        self._add_all("mean", "means", n, 1.0, np.full(len(self.test), means.overall))
        self._add_all("mean of the user", "means", n, 1.0, user_means)
        self._add_all("mean of the item", "means", n, 1.0, means.of_items[self.test.items])

    def add_fitted(self, others: Mapping[str, Predictor], run: Run) -> None:
        """Fit the study's methods and others to shares of the users.

        The largest share is in the table.
        """
        ids = run.rng("users").permutation(self.split.data.users.ids)
        for share in sorted(self.study.shares):
            split = self._of_users(ids[: max(2, round(share * len(ids)))])
            n = len(split.train.events)
            for name, method in {**self.study.fitted(n), **others}.items():
                fitted = clone(method).fit(split.train, run, split)
                start_s = time.perf_counter()
                values = _predict(fitted, self.test)
                ms = 1000 * (time.perf_counter() - start_s) / len(self.test)
                self._add_all(name, "fitted", n, share, values, ms)

    def _add_all(
        self, name: str, kind: str, n: int, share: float, values: np.ndarray, ms: float = 0.0
    ) -> None:
        """Add a method that predicts all test ratings, learned from n of a share of the users."""
        rmse = round(root_mean_squared_error(self.test.labels, values), 4)
        self.curve.append(CurvePoint(name, share, n, rmse))
        if kind == "means" or share == max(self.study.shares):
            self._add(name, kind, n, values[self.chosen], ms=ms)

    def _of_users(self, user_ids: np.ndarray) -> Split:
        """Return the split of the data of some users."""
        data = self.split.data
        is_theirs = data.events["user_id"].is_in(user_ids.tolist()).to_numpy()
        return self.split if is_theirs.all() else split_by(data.cut(is_theirs), "ratio")

    def add_asked(self, name: str, model: LanguageModel, run: Run) -> None:
        """Ask a language model about the sample in all manners."""
        for manner, rater in self.study.raters(model).items():
            meter = Metered(model) if not isinstance(model, Metered) else model
            fitted = replace(rater, language_model=meter).fit(self.split.train, run)
            before = replace(meter.spent)
            start_s = time.perf_counter()
            queries = self.sample.queries.reindexed(fitted.items_)
            ratings = fitted.rate(queries, self.sample.pairs())
            n = len(self.sample)
            self._add(
                f"{name}, {manner}",
                "language model",
                0,
                ratings.values,
                unread=int((~ratings.is_read).sum()),
                ms=1000 * (time.perf_counter() - start_s) / n,
                tokens=(meter.spent.tokens_in - before.tokens_in) / n,
                usd=(meter.spent.usd - before.usd) / n,
            )

    def _add(
        self,
        name: str,
        kind: str,
        learned_from: int,
        values: np.ndarray,
        unread: int = 0,
        ms: float = 0.0,
        tokens: float = 0.0,
        usd: float = 0.0,
    ) -> None:
        labels = self.sample.labels
        self.predictions[name] = values
        drawn = NumberFigures().drawn(labels, self.users, [values])[:, 0]
        low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
        self.rows.append(
            Row(
                name,
                kind,
                learned_from,
                rmse=round(root_mean_squared_error(labels, values), 4),
                low=round(low, 4),
                high=round(high, 4),
                mae=round(mean_absolute_error(labels, values), 4),
                auc=round(auc((labels >= self.study.liked).astype(float), values), 4),
                unread=unread,
                ms=round(ms, 2),
                tokens=round(tokens, 1),
                usd=usd,
            )
        )

    def report(self) -> RatingReport:
        """Return what was measured."""
        remarks = ["Titles and ratings of known data sets may be among what a model was taught."]
        remarks += [
            f"{row.method}: nothing could be read from {row.unread} of {len(self.sample)} answers,"
            " which count as the user's mean"
            for row in self.rows
            if row.unread
        ]
        return RatingReport(
            self.rows,
            self.curve,
            self.sample.labels,
            self.users,
            self.predictions,
            tuple(remarks),
        )


def _predict(method: Predictor, examples: Examples) -> np.ndarray:
    """Return (n,) predictions of examples."""
    item_ids = examples.queries.catalogue.named(examples.items)
    return np.concatenate(method.predict(examples.queries, [[item_id] for item_id in item_ids]))
