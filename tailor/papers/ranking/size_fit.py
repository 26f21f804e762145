"""Size and fit: predict whether a garment is too small, fits or is too large."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples, Source
from tailor.data.nouns import Query
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.metrics.prediction import CLIP
from tailor.nn.fields import FieldBatch, FieldLayout
from tailor.nn.fit_outcomes import OUTCOMES, FitOutcomeNet, outcome_codes
from tailor.ports.base import Encoder
from tailor.ranking.behaviours import BehaviourPredictor
from tailor.ranking.encoding import Encoded
from tailor.ranking.fields import HeldOut
from tailor.ranking.running import Timeline
from tailor.text.cached import plain

PAPER = Paper(
    "size-fit",
    "Incorporating Customer Reviews in Size and Fit Recommendation systems for Fashion E-Commerce",
    "https://arxiv.org/abs/2208.06261",
    "On planted garments (5 seeds) macro F1 is above that of the same net without reviews, more so"
    " for products with 5 reviews or more; shuffled reviews add nothing; it is above the majority"
    " and above a size chart",
)


class SizeAdvice(NamedTuple):
    """A size of a product, with the probability of each outcome."""

    item_id: str
    too_small: float
    fits: float
    too_large: float
    quotes: tuple[str, ...]
    """The reviews that counted most, where they are kept."""


@dataclass(eq=False)
class SizeFit(BehaviourPredictor):
    """Predict three outcomes, too small, fits and too large, with earlier reviews of the product.

    A tower reads the customer (measurements, and earlier sizes with their outcome), another the
    product (its fields and size). The customer attends to the product's latest reviews from before
    the request, whatever their size; their vectors are those of a frozen encoder. Reviews say what
    no table does: that a product runs small. `recommend_size` orders a product's sizes.

    Differs from the paper: reconstructed from its idea, the exact net was not at hand. A customer's
    own reviews are never learned from, and outcomes are weighted against their frequency.
    """

    source: Source = "value"
    """Source of examples: events and their values, which are the outcomes."""
    bounds: tuple[float, float] = (0.5, 1.5)
    """Values up to the first are too small, those above the second too large."""
    history: int = 10
    """Latest purchases of the customer that are read."""
    least: int = 5
    """Examples that an item or a product must have for an id of its own."""
    product: str = "product"
    """Column of the items table that sizes of one product share."""
    reviews: Annotated[int, Choices(5, 10, 20)] = 20
    """Latest reviews of a product that are read; 0: none."""
    encoder: Encoder | str = DEFAULT
    """Encoder of the reviews; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    side: Annotated[int, Choices(32, 64, 128)] = 64
    """Width of the vectors of customer, product and reviews."""
    layers: tuple[int, ...] = (64,)
    """Widths of the layers above them."""
    dropout: float = 0.2
    """Share of the towers' numbers that are dropped in training."""
    id_dropout: Annotated[float, Range(0.0, 0.8)] = 0.5
    """Share of examples that are learned from without the ids of item and product."""
    is_weighted: bool = True
    """Whether rare outcomes weigh as much as frequent ones; then shares are no frequencies."""
    quotes: bool = False
    """Whether reviews are kept as texts, to be quoted; then they are saved with histories only."""

    _is_binary: ClassVar[bool] = False

    products_: Vocabulary = field(init=False, repr=False)
    product_of_: np.ndarray = field(init=False, repr=False)
    """(N + 1,) row of each item's product; -1 for an unknown item."""
    timeline_: dict[str, np.ndarray] = field(init=False, repr=False)
    """`Timeline.arrays` of the reviews by product."""
    review_vectors_: np.ndarray = field(init=False, repr=False)
    """(reviews, E) float32, in the order of the timeline."""
    review_texts_: list[str] = field(init=False, repr=False)
    """(reviews,) in the same order; empty unless `quotes`."""
    weights_of_outcomes_: np.ndarray = field(init=False, repr=False)
    """(3,) weights of the outcomes in the loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source != "value":
            raise DataError(f'source is "{self.source}": the outcomes are the events\' values')
        if not 0 <= self.id_dropout < 1:
            raise DataError(f"id_dropout is {self.id_dropout}: at least 0, and below 1")
        if self.reviews < 0 or self.side < 1:
            raise DataError(f"reviews is {self.reviews}, side {self.side}: at least 0 and 1")
        if len(self.bounds) != 2 or not self.bounds[0] < self.bounds[1]:
            raise DataError(f"bounds is {self.bounds}: two numbers, the smaller first")

    def keeps_people(self) -> bool:
        return self.user_ids or self.quotes

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        super()._fit(data, run, valid)
        del self._writers, self._users  # only what is learned from leaves out own reviews

    def _learn_more(self, data: Dataset, examples: Examples, run: Run) -> None:
        super()._learn_more(data, examples, run)
        self.product_of_, self.products_ = _products(data, self.product)
        self._forget_rare_products(examples)
        self._learn_reviews(data, run)
        codes = self._outcomes(examples.labels)
        counts = np.bincount(codes, minlength=OUTCOMES)
        weights = len(codes) / (OUTCOMES * np.maximum(counts, 1))
        self.weights_of_outcomes_ = weights if self.is_weighted else np.ones(OUTCOMES)

    def _forget_rare_products(self, examples: Examples) -> None:
        """Take the id from products with few examples, which would be learned by heart."""
        names = [self.features_["names"][number] for number in self._ready_features().field_of]
        slots = [slot for slot, name in enumerate(names) if name == f"item:{self.product}"]
        products = self.product_of_[examples.items]
        counts = np.bincount(products, minlength=len(self.products_) + 1)  # last: unknown item
        is_rare = counts[self.product_of_] < self.least
        self.item_codes_ = self.item_codes_.copy()
        self.item_codes_[np.ix_(is_rare, slots)] = 0
        self.__dict__.pop("_features", None)

    def _outcomes(self, values: np.ndarray) -> np.ndarray:
        """Return codes of outcomes for values (n,)."""
        return outcome_codes(torch.from_numpy(values), self.bounds).numpy()

    def _learn_reviews(self, data: Dataset, run: Run) -> None:
        """Learn the reviews of each product in the order of time."""
        table = _review_table(data) if self.reviews else _NO_REVIEWS
        items = data.catalogue.codes(table["item_id"])
        timeline, order = Timeline.of(self.product_of_[items], table["time_ms"].to_numpy())
        self.timeline_ = timeline.arrays("reviews")
        texts = table["text"].gather(order).to_list()
        self.review_vectors_ = self._encoded(texts)
        self.review_texts_ = texts if self.quotes else []
        self._users = data.users
        self._writers = data.users.codes(table["user_id"])[order]
        self.__dict__.pop("_ready_timeline", None)

    def _encoded(self, texts: Sequence[str]) -> np.ndarray:
        """Return standardised vectors of texts, each encoded once; the encoder keeps none of them.

        Numbers of about 1 are learned from as fast as ids, which would else be learned by heart.
        """
        if not texts:
            return np.zeros((0, 1), np.float32)
        distinct = sorted(set(texts))
        vectors = plain(encoder_of(self.encoder)).encode(distinct)
        row_of = {text: row for row, text in enumerate(distinct)}
        rows = vectors[[row_of[text] for text in texts]]
        deviations = rows.std(axis=0)
        standardised = (rows - rows.mean(axis=0)) / np.where(deviations > 0, deviations, 1.0)
        return np.asarray(standardised, dtype=np.float32)

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return FitOutcomeNet(
            layout,
            self.width,
            self.side,
            self.layers,
            self.dropout,
            self.review_vectors_,
            self.bounds,
        )

    def _train(self, data: Dataset, run: Run, examples: Examples, judge: HeldOut) -> dict[str, Any]:
        report = super()._train(data, run, examples, judge)
        return {"reviews": len(self.review_vectors_), **report}

    def _loss(
        self, batch: FieldBatch, labels: Tensor, rows: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        logits, penalty = self._net(self._without_ids(batch, rng))
        weights = torch.from_numpy(self.weights_of_outcomes_).to(logits)
        outcomes = outcome_codes(labels, self.bounds)
        return cross_entropy(logits, outcomes, weights) + self.l2 * penalty

    def _without_ids(self, batch: FieldBatch, rng: np.random.Generator) -> FieldBatch:
        """Return the batch with unknown ids of item and product in a share of the examples.

        So the net learns what else tells their size, as a new product needs.
        """
        features = self._ready_features()
        names = [features.about["names"][number] for number in features.field_of]
        is_id = np.isin(names, ["item_id", f"item:{self.product}"])
        is_dropped = rng.random(len(batch.codes)) < self.id_dropout
        mask = torch.from_numpy(is_dropped[:, None] & is_id).to(batch.codes.device)
        unknown = torch.from_numpy(features.first_codes).to(batch.codes.device)
        return batch._replace(codes=torch.where(mask, unknown, batch.codes))

    def _goodness(self, labels: np.ndarray, outputs: np.ndarray) -> float:
        """Return minus the log loss of outputs (n, 3), by the weights of the outcomes."""
        outcomes = self._outcomes(labels)
        weights = self.weights_of_outcomes_[outcomes]
        true = outputs[np.arange(len(outcomes)), outcomes]
        return float((weights * np.log(np.maximum(true, CLIP))).sum() / weights.sum())

    def _encode(self, queries: Queries, items: Ragged) -> Encoded:
        return self._with_reviews(super()._encode(queries, items), queries.now_ms)

    def _encode_examples(self, examples: Examples) -> Encoded:
        """Return examples; while learning, without reviews that their own customers wrote."""
        encoded = super()._encode_examples(examples)
        if "_writers" not in self.__dict__:
            return encoded
        assert encoded.attached is not None
        writers = np.r_[self._writers, -1][encoded.attached]  # n, R
        users = self._users.rows(examples.queries.user_ids.tolist())[:, None]
        is_own = (writers == users) & (users >= 0)
        return replace(encoded, attached=np.where(is_own, -1, encoded.attached))

    def _with_reviews(self, encoded: Encoded, now_ms: np.ndarray | None) -> Encoded:
        """Return the pairs with the latest reviews of each product before the request attached."""
        times = np.full(len(encoded), NO_TIME)
        if now_ms is not None:
            times = now_ms[encoded.owners]
        products = self.product_of_[encoded.items]
        starts, stops = self._timeline().before(products, times)
        places = stops[:, None] - 1 - np.arange(self.reviews)  # n, R
        attached = np.where(places >= starts[:, None], places, -1)
        return replace(encoded, attached=attached.astype(np.int64))

    def _timeline(self) -> Timeline:
        if "_ready_timeline" not in self.__dict__:
            self._ready_timeline = Timeline.from_arrays("reviews", self.timeline_)
        return self._ready_timeline

    def recommend_size(self, query: Query, product: str) -> list[SizeAdvice]:
        """Return the sizes of a product, the one that fits most likely first.

        Raises DataError for an unknown product.
        """
        self._check_fitted()
        row = int(self.products_.rows([product])[0])
        if row < 0:
            raise DataError(f'there is no product "{product}" in the column "{self.product}"')
        rows = np.flatnonzero(self.product_of_[:-1] == row)
        item_ids = self.items_.named(rows)
        batch, items = self._pairs([query], [item_ids])
        shares = self._predict(batch, items)
        quotes = self._quotes(self._encode(batch, items))
        advice = [
            SizeAdvice(item_id, small, fits, large, texts)
            for item_id, (small, fits, large), texts in zip(
                item_ids, shares.tolist(), quotes, strict=True
            )
        ]
        return sorted(advice, key=lambda size: -size.fits)

    def _quotes(self, encoded: Encoded) -> list[tuple[str, ...]]:
        """Return for each pair the two reviews with the largest shares of attention."""
        assert encoded.attached is not None
        if not self.review_texts_ or not self.reviews:
            return [()] * len(encoded)
        with torch.inference_mode():
            shares = self._ready().attention_of(encoded.batch(slice(None))).numpy()
        quotes = []
        for row, attached in enumerate(encoded.attached):
            best = attached[np.argsort(-shares[row])[:2]]
            quotes.append(tuple(self.review_texts_[review] for review in best if review >= 0))
        return quotes

    @classmethod
    def tiny(cls) -> Self:
        from tailor.text.hashing import HashingEncoder

        return cls(
            bounds=(2.5, 3.5),
            width=4,
            side=8,
            layers=(8,),
            history=8,
            reviews=4,
            encoder=HashingEncoder(16),
            epochs=3,
            lr=1e-2,
        )


_NO_REVIEWS = pl.DataFrame(
    schema={"user_id": pl.String, "item_id": pl.String, "text": pl.String, "time_ms": pl.Int64}
)


def _review_table(data: Dataset) -> pl.DataFrame:
    """Return the reviews of items, with their times where the events have times.

    Of those a review without a time is left out: it may be later than what it would predict.
    """
    table = data.tables.get("texts", _NO_REVIEWS)
    if "item_id" not in table.columns:
        return _NO_REVIEWS
    if not data.has_times or "time_ms" not in table.columns:
        table = table.with_columns(time_ms=pl.lit(None, pl.Int64))
    table = table.select(_NO_REVIEWS.columns).drop_nulls(["item_id", "text"])
    is_known = pl.Series(data.catalogue.codes(table["item_id"]) >= 0)
    table = table.filter(is_known & (table["text"].str.strip_chars() != ""))
    if data.has_times:
        return table.drop_nulls("time_ms")
    return table.with_columns(time_ms=pl.lit(0, pl.Int64))


def _products(data: Dataset, column: str) -> tuple[np.ndarray, Vocabulary]:
    """Return the product row of every item (N + 1,), and the products.

    Without the column, and where it is empty, an item is a product of its own.
    """
    ids = data.catalogue.ids.tolist()
    names = list(ids)
    if column in data.item_table.columns:
        values = data.item_table[column].cast(pl.String).to_list()
        names = [name if value is None else value for name, value in zip(ids, values, strict=True)]
    products = Vocabulary(sorted(set(names)))
    return np.r_[products.rows(names), -1].astype(np.int64), products
