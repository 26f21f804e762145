"""MovieMetricLearning: customers and plots in one space, so that new films have an audience.

Shapes: B pairs, U customers, F films (items), D width of text vectors, n events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import NO_TIME, Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.metrics.recalibration import Isotonic, isotonic
from tailor.nn.fitting import Recipe
from tailor.nn.towers import Tower
from tailor.ports.base import Encoder
from tailor.text.cached import asking, item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import unit_length
from tailor.training.nets import NetMethod

PAPER = Paper(
    "movie-metric-learning",
    "Collaborative Metric Learning Recommendation System: Application to Theatrical Movie Releases",
    "https://arxiv.org/abs/1803.00202",
    "For films first seen after the data that was learned from, the AUC over customers, averaged"
    " over films, is above that of the cosine to the customer's mean plot and of the customer's"
    " count of the film's genres among customers of like activity, and above that of activity"
    " alone and of the cosine with activity among all, in planted releases and on MovieLens; in"
    " planted releases the predicted audience goes with the true one (Spearman above .5)",
)
DAY_MS = 86_400_000
MONTH_DAYS = 30.0
ACTIVITY = 3  # numbers that describe how a customer goes to films
CALIBRATION_PAIRS = 200_000  # of a customer and a film, at most


@dataclass(frozen=True, eq=False)
class Audience:
    """The predicted audience of a film."""

    size: float
    """Expected number of customers who see it."""
    by_tier: tuple[float, ...]
    """The same by tier of customers, the least frequent first."""
    probabilities: np.ndarray
    """(U,) probability that each customer sees it."""
    nearest: tuple[str, ...]
    """The films nearest to it, nearest first."""


@dataclass(eq=False)
class MovieMetricLearning(NetMethod, ScoringRecommender):
    """Customers and films are points, and a customer sees the films that lie near.

    Two towers put a customer (the decayed mean of the plots seen, and how often and how early they
    go) and a film (its plot) into one space; the probability of seeing it is the sigmoid of a bias
    of the customer's tier less the squared distance. A film needs no event, so `audience` predicts
    who will see one that nobody has seen. A negative is a film in release on the day that the
    customer had not seen, or a customer of that day who had not seen the film. Dates of release are
    `created_ms` of the items, or the first event. The last films are kept from the net, to
    calibrate its probabilities.

    Differs from the paper: details that its abstract leaves open are reconstructed; customers begin
    where a film of their mean plot is, and learn how far to move from there; texts of films hold
    their genres, which are no features of customers; tiers are thirds of the events by events a
    month.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of plots; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    history_decay: Annotated[float, Range(0.5, 1.0)] = 0.9
    """Weight of a film of the history relative to the one after it."""
    history_length: int = 50
    """Most recent films of a history that are averaged."""
    layers: tuple[int, ...] = (64,)
    """Widths of the hidden layers of both towers."""
    width: int = 64
    """Dimensions of the space."""
    dropout: Annotated[float, Range(0.0, 0.5)] = 0.3
    """Share of values zeroed in the towers during training."""
    tiers: int = 3
    """Groups of customers by events a month, with a bias each."""
    opening_days: float = 7.0
    """Days after a release that count as its opening."""
    release_days: float | None = None
    """Days for which a film is in release; None: from its date on."""
    negatives: int = 4
    """Negatives of each event: half of them films, half customers."""
    calibration_share: float = 0.1
    """Share of the films, the latest, that calibrate and teach the net nothing; 0: none."""
    lr: Annotated[float, Range(3e-4, 1e-2, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.1
    """Weight decay of matrices in AdamW."""
    batch: int = 512
    """Events of a batch."""
    epochs: int = 10
    """Passes over the events."""

    texts_: np.ndarray = field(init=False, repr=False)
    """(F, D) float32 vectors of plots, of unit length; zero for a film without words."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""
    released_ms_: np.ndarray = field(init=False, repr=False)
    """(F,) int64 dates of release; NO_TIME where neither a date nor an event tells."""
    tier_edges_: np.ndarray = field(init=False, repr=False)
    """(tiers - 1,) events a month between tiers, ascending."""
    usual_rate_: float = field(init=False, repr=False)
    """Median of log(1 + events a month), for customers without times."""
    knots_: np.ndarray = field(init=False, repr=False)
    """(2, b) probabilities of the net, ascending, and their calibrated values; empty: none."""

    def __post_init__(self) -> None:
        sizes = {
            name: getattr(self, name)
            for name in ("history_length", "width", "tiers", "negatives", "batch")
        }
        if min(sizes.values()) < 1 or self.epochs < 0 or not self.lr > 0:
            raise DataError(
                f"{sizes}, epochs {self.epochs}, lr {self.lr}: sizes from 1, lr above 0"
            )
        if not 0 < self.history_decay <= 1 or not 0 <= self.calibration_share < 1:
            raise DataError(
                f"history_decay is {self.history_decay}, calibration_share"
                f" {self.calibration_share}: above 0 and at most 1; from 0 and below 1"
            )

    @classmethod
    def tiny(cls) -> "MovieMetricLearning":
        return cls(HashingEncoder(32), layers=(16,), width=8, epochs=2)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        if data.sequences.times_ms is None:
            raise DataError(
                f'MovieMetricLearning needs times, data set "{data.name}" has none: use AlphaRec'
            )
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.texts_ = item_vectors(encoder, data.item_texts, run.progress)
        self.space_ = encoder.space
        log = _Log.of(data, self.opening_days * DAY_MS)
        self.released_ms_ = log.released_ms
        events = log.rows.row_ids, log.times_ms
        rates = log.past(*events, self.history_length).activity[:, 1]
        shares = np.arange(1, self.tiers) / self.tiers
        edges = np.quantile(rates, shares)
        self.tier_edges_ = edges.astype(np.float32)
        self.usual_rate_ = float(np.median(rates)) if len(rates) else 0.0
        self._start_net(run)
        is_latest = self._latest_films(log)
        positives = np.flatnonzero(self._can_learn(log) & ~is_latest[log.rows.values])
        if len(positives):
            report = self._train(data, log, positives, ~is_latest, run)
        else:
            report = self._leave_untrained("no customer has a film to learn from")
        self.fit_report_ = {
            "events": len(positives),
            "films_without_words": int((~self.texts_.any(axis=1)).sum()),
            "films_that_calibrate": int(is_latest.sum()),
            **report,
            **self._calibrate(log, is_latest, run),
        }

    def _latest_films(self, log: "_Log") -> np.ndarray:
        """Return (F,) bool: the films of the latest dates, which calibrate."""
        has_event = np.bincount(log.rows.values, minlength=len(self.items_)) > 0
        films = np.flatnonzero(has_event)
        if self.release_days is not None and len(films):  # those that have run to their end
            last_ms = log.times_ms.max() - int(self.release_days * DAY_MS)
            films = films[self.released_ms_[films] <= last_ms]
        order = films[np.argsort(self.released_ms_[films], kind="stable")]
        is_latest = np.zeros(len(self.items_), bool)
        count = int(self.calibration_share * len(order))
        latest = order[len(order) - count :]
        is_latest[latest] = True
        return is_latest

    def _can_learn(self, log: "_Log") -> np.ndarray:
        """Return (n,) bool: events of films with words, after an earlier event."""
        has_past = log.before(log.rows.row_ids, log.times_ms) > 0
        has_words = np.asarray(self.texts_.any(axis=1))
        return np.asarray(has_past & has_words[log.rows.values])

    def _train(
        self,
        data: Dataset,
        log: "_Log",
        positives: np.ndarray,
        may_teach: np.ndarray,
        run: Run,
    ) -> dict[str, Any]:
        """Train on events, which are positions of values in `log.rows`."""
        films = np.flatnonzero(may_teach & self.texts_.any(axis=1))
        films = films[self.released_ms_[films] != NO_TIME]
        films = films[np.argsort(self.released_ms_[films], kind="stable")]

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(positives, self.batch, rng)

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            pairs = self._draw(log, batch, films, rng)
            past = log.past(pairs.user, pairs.time_ms, self.history_length)
            labels = torch.from_numpy(pairs.label)
            logits = self._logits(past, pairs.film)
            return binary_cross_entropy_with_logits(logits, labels.to(logits.device))

        recipe = Recipe(self.epochs, self.lr, self.weight_decay)
        return self._train_net(data, run, recipe, batches, loss)

    def _draw(
        self, log: "_Log", positives: np.ndarray, films: np.ndarray, rng: np.random.Generator
    ) -> "_Pairs":
        """Return events and negatives of the same day, `films` ascending by date of release.

        A negative is another film in release, or another customer with an event before.
        """
        seen = _Pairs(
            log.rows.row_ids[positives],
            log.rows.values[positives],
            log.times_ms[positives],
            np.ones(len(positives), np.float32),
        )
        user, film, time_ms, label = (np.repeat(values, self.negatives) for values in seen)
        is_film = np.arange(len(user)) % 2 == 0
        other_films = self._films_in_release(films, time_ms, rng)
        other_users = rng.integers(len(log.rows), size=len(user))
        film = np.where(is_film, other_films, film)
        user = np.where(is_film, user, other_users)
        is_valid = log.before(user, time_ms) > 0
        is_valid &= film >= 0
        is_valid &= ~log.has_seen(user, film)
        unseen = (user, film, time_ms, 1 - label)
        return _Pairs(
            *(
                np.concatenate([first, values[is_valid]])
                for first, values in zip(seen, unseen, strict=True)
            )
        )

    def _films_in_release(
        self, films: np.ndarray, time_ms: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return (B,) films in release, -1 for none; `films` ascending by date."""
        dates = self.released_ms_[films]
        stop = np.searchsorted(dates, time_ms, side="right")
        start = np.zeros(len(stop), np.int64)
        if self.release_days is not None:
            start = np.searchsorted(dates, time_ms - int(self.release_days * DAY_MS))
        drawn = start + (rng.random(len(time_ms)) * (stop - start)).astype(np.int64)
        return np.where(stop > start, films[np.minimum(drawn, len(films) - 1)], -1)

    def _make_net(self) -> nn.ModuleDict:
        width = self.texts_.shape[1]
        customer = self._tower(width + ACTIVITY)
        for weights in customer[1].parameters():  # customers start at a film of their mean plot
            nn.init.zeros_(weights)
        bias = nn.Embedding(self.tiers, 1, _weight=torch.zeros(self.tiers, 1))
        return nn.ModuleDict({"customer": customer, "film": self._tower(width), "bias": bias})

    def _tower(self, width: int) -> nn.Sequential:
        widths = (width, *self.layers)
        hidden = Tower(widths, dropout=self.dropout)
        last = nn.Linear(widths[-1], self.width)
        return nn.Sequential(hidden, last)

    def _logits(self, past: "_Past", film: np.ndarray) -> Tensor:
        """Return (B,) log-odds that customers (B,) see films (B,) of the catalogue."""
        customers, biases = self._customer_points(self._net, past)
        films, number = np.unique(film, return_inverse=True)
        points = self._film_points(self._net, self.texts_[films])
        numbers = torch.from_numpy(number).to(points.device)
        differences = customers - points[numbers]
        distances = differences.square().sum(dim=1)
        return biases - distances

    def _film_points(self, net: Any, texts: np.ndarray) -> Tensor:
        """Return the points (F, width) of films by their text vectors (F, D)."""
        device = net["bias"].weight.device
        points: Tensor = net["film"](torch.from_numpy(texts).to(device))
        return points

    def _customer_points(self, net: Any, past: "_Past") -> tuple[Tensor, Tensor]:
        """Return the points (B, width) and the biases (B,) of customers."""
        device = net["bias"].weight.device
        films = len(self.texts_)
        weights = past.films.decayed_matrix(films, self.history_decay, self.history_length)
        sums = np.asarray(weights @ self.texts_, dtype=np.float32)
        inputs = np.c_[unit_length(sums), past.activity]
        rows = torch.from_numpy(inputs).to(device)
        tiers = torch.from_numpy(self._tiers(past)).to(device)
        start = net["film"](rows[:, :-ACTIVITY])
        points = start + net["customer"](rows)
        return points, net["bias"](tiers)[:, 0]

    def _tiers(self, past: "_Past") -> np.ndarray:
        """Return (B,) int64 tier of each customer."""
        return np.searchsorted(self.tier_edges_, past.activity[:, 1]).astype(np.int64)

    def _calibrate(self, log: "_Log", is_latest: np.ndarray, run: Run) -> dict[str, Any]:
        """Set the steps that turn the net's probabilities into shares of customers.

        They are fitted on films that the net did not learn from, and customers of their days.
        """
        self.knots_ = np.zeros((2, 0))
        films = np.flatnonzero(is_latest & self.texts_.any(axis=1))
        customers = len(log.rows)
        pairs = min(CALIBRATION_PAIRS, len(films) * customers)
        rng = run.rng("calibration")
        user = rng.integers(max(customers, 1), size=pairs)
        film = films[rng.integers(max(len(films), 1), size=pairs)]
        is_customer = log.before(user, self.released_ms_[film]) > 0
        user, film = user[is_customer], film[is_customer]
        if not len(user):
            return {}
        past = log.past(user, self.released_ms_[film], self.history_length)
        with torch.inference_mode():
            probabilities = expit(self._logits(past, film).numpy())
        steps = isotonic(log.has_seen(user, film).astype(np.float64), probabilities)
        self.knots_ = np.array([steps.knots, steps.values])
        return {"pairs_that_calibrate": len(user)}

    # answering

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        net = self._ready()
        points, biases = self._customer_points(net, self._past_of(queries))
        films = self._film_points(net, self.texts_)
        scores = _probabilities(points, biases, films)
        scores[:, ~self.texts_.any(axis=1)] = -np.inf
        scores[queries.histories.lengths == 0] = -np.inf
        return scores

    def _past_of(self, queries: Queries) -> "_Past":
        """Return the customers of queries, over `items_`, at the time of their request.

        A request without a time is of the last event; without any times, the rate is the usual one.
        """
        rows = queries.histories
        times = queries.columns.get("times_ms")
        times_ms = np.full(len(rows.values), NO_TIME) if times is None else times.values
        log = _Log(rows, times_ms, self.released_ms_, self.opening_days * DAY_MS)
        users = np.arange(len(rows))
        last_ms = np.full(len(rows), NO_TIME)
        has_event = rows.lengths > 0
        last_ms[has_event] = times_ms[rows.offsets[1:][has_event] - 1]
        now_ms = last_ms
        if queries.now_ms is not None:
            now_ms = np.where(queries.now_ms == NO_TIME, last_ms, queries.now_ms)
        past = log.past_before(users, rows.lengths, now_ms, self.history_length)
        past.activity[has_event & (last_ms == NO_TIME), 1] = self.usual_rate_
        return past

    @torch.inference_mode()
    def audience(
        self, plots: Sequence[str], customers: Sequence[Query], nearest: int = 5
    ) -> list[Audience]:
        """Return the predicted audience of films that nobody has seen, by their plots.

        `customers` are the users that the film is offered to, with their histories. Their number
        and the calibration decide the size: a customer without a known film counts nothing.
        Raises DataError for a plot without words.
        """
        self._check_fitted()
        if isinstance(plots, str):
            raise DataError(f'got one plot where a list is expected: write ["{plots[:20]}..."]')
        wordless = [number for number, plot in enumerate(plots) if not plot.strip()]
        if wordless:
            raise DataError(f"plot {wordless[0]} has no words: describe the film")
        queries = Queries.of(customers).reindexed(self.items_).before_request()
        past = self._past_of(queries)
        encoder = asking(encoder_of(self.encoder), self.space_)
        texts = np.asarray(encoder.encode(list(plots)), np.float32)
        net = self._ready()
        points, biases = self._customer_points(net, past)
        films = self._film_points(net, texts)
        probabilities = self._calibrated(_probabilities(points, biases, films))
        probabilities[queries.histories.lengths == 0] = 0
        near = self._nearest_films(films, nearest)
        tiers = self._tiers(past)
        return [
            Audience(
                float(column.sum()),
                tuple(np.bincount(tiers, column, self.tiers).tolist()),
                column,
                tuple(self.items_.named(rows)),
            )
            for column, rows in zip(probabilities.T, near, strict=True)
        ]

    def _calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Return probabilities (U, F) as shares of customers, where they were calibrated."""
        if not self.knots_.size:
            return probabilities
        steps = Isotonic(*self.knots_)
        flat = np.asarray(steps(probabilities.ravel()))
        return flat.reshape(probabilities.shape)

    def _nearest_films(self, points: Tensor, count: int) -> list[np.ndarray]:
        """Return the rows of the films nearest to each point (F, width)."""
        with_words = np.flatnonzero(self.texts_.any(axis=1))
        points_with_words = self._film_points(self._ready(), self.texts_[with_words])
        distances = torch.cdist(points, points_with_words).cpu().numpy()
        order = np.argsort(distances, axis=1, kind="stable")
        return [with_words[row] for row in order[:, :count]]


class _Pairs(NamedTuple):
    """Customers and films on a day."""

    user: np.ndarray
    """(B,) number of the customer."""
    film: np.ndarray
    """(B,) row of the film."""
    time_ms: np.ndarray
    """(B,) int64 day."""
    label: np.ndarray
    """(B,) float32, 1 where the customer saw the film on that day."""


class _Past(NamedTuple):
    """Customers as they were at a time."""

    films: Ragged
    """Latest films seen before, oldest first."""
    activity: np.ndarray
    """(B, ACTIVITY) float32: logarithms of events and of events a month, share of openings."""


@dataclass(frozen=True, eq=False)
class _Log:
    """Events by time, which tell what was known of customers at any time."""

    rows: Ragged
    """(U rows) films of each customer, oldest first."""
    times_ms: np.ndarray
    """(n,) int64 parallel to the values of `rows`."""
    released_ms: np.ndarray
    """(F,) int64 date of release of each film."""
    opening_ms: float
    """Time after a release that counts as its opening."""

    @classmethod
    def of(cls, data: Dataset, opening_ms: float) -> "_Log":
        """Return the log of a data set with times."""
        times = data.sequences.times_ms
        assert times is not None
        first = np.full(len(data.catalogue), np.iinfo(np.int64).max)
        np.minimum.at(first, data.sequences.rows.values, times.values)
        released_ms = np.where(first == np.iinfo(np.int64).max, NO_TIME, first)
        if "created_ms" in data.item_table.columns:
            created = data.item_table["created_ms"]
            is_dated = created.is_not_null().to_numpy()
            released_ms[is_dated] = created.fill_null(0).to_numpy()[is_dated]
        return cls(data.sequences.rows, times.values, released_ms, opening_ms)

    def before(self, user: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
        """Return (B,) the number of events of each customer before each time."""
        if not len(self.times_ms):
            return np.zeros(len(user), np.int64)
        ages = np.clip(time_ms - self.start_ms, 0, self.span_ms - 1)
        moments = user * self.span_ms + ages
        stops = np.searchsorted(self.moments, moments)
        starts = self.rows.offsets[user]
        return np.asarray(stops - starts)

    def past(self, user: np.ndarray, time_ms: np.ndarray, length: int) -> _Past:
        """Return customers as they were before each time."""
        return self.past_before(user, self.before(user, time_ms), time_ms, length)

    def past_before(
        self, user: np.ndarray, counts: np.ndarray, time_ms: np.ndarray, length: int
    ) -> _Past:
        """Return customers (B,) at times (B,) before which they have so many events (B,)."""
        starts = self.rows.offsets[:-1][user]
        stops = starts + counts
        lengths = np.minimum(counts, length)
        recent = Ragged.of_lengths(lengths, np.zeros(int(lengths.sum()), np.int64))
        first_places = np.repeat(stops - lengths, lengths)
        films = self.rows.values[first_places + recent.from_start]
        openings = self.openings_before[stops] - self.openings_before[starts]
        share = openings / np.maximum(counts, 1)
        first_ms = np.r_[self.times_ms, NO_TIME][starts]
        has_times = (counts > 0) & (first_ms != NO_TIME) & (time_ms != NO_TIME)
        span_ms = np.where(has_times, time_ms, 0) - np.where(has_times, first_ms, 0)
        months = np.maximum(span_ms / DAY_MS / MONTH_DAYS, 1)
        rate = counts / months
        activity = np.c_[np.log1p(counts), np.log1p(rate), share]
        return _Past(recent.with_values(films), activity.astype(np.float32))

    @cached_property
    def start_ms(self) -> int:
        """Time of the first event."""
        return int(self.times_ms.min())

    @cached_property
    def span_ms(self) -> int:
        """Times are below this, counted from the start."""
        return int(self.times_ms.max()) - self.start_ms + 2

    @cached_property
    def moments(self) -> np.ndarray:
        """(n,) int64 one ascending number for the customer and the time of each event."""
        ages = self.times_ms - self.start_ms
        return np.asarray(self.rows.row_ids * self.span_ms + ages)

    @cached_property
    def pairs(self) -> np.ndarray:
        """(n,) int64 ascending numbers of all customers and their films."""
        films = np.int64(len(self.released_ms))
        return np.sort(self.rows.row_ids * films + self.rows.values)

    @cached_property
    def openings_before(self) -> np.ndarray:
        """(n + 1,) number of openings among the events before each one."""
        return np.r_[0, np.cumsum(self.is_opening)]

    @property
    def is_opening(self) -> np.ndarray:
        """(n,) bool: events soon after the release of their film."""
        dates_ms = self.released_ms[self.rows.values]
        has_both = (self.times_ms != NO_TIME) & (dates_ms != NO_TIME)
        # NO_TIME is the smallest number: a difference with it would overflow
        times_ms = np.where(has_both, self.times_ms, 0)
        ages_ms = times_ms - np.where(has_both, dates_ms, 0)
        is_soon = ages_ms <= self.opening_ms
        return np.asarray(has_both & is_soon)

    def has_seen(self, user: np.ndarray, film: np.ndarray) -> np.ndarray:
        """Return (B,) bool: whether each customer ever saw each film."""
        if not len(self.pairs):
            return np.zeros(len(user), bool)
        pair = user * np.int64(len(self.released_ms)) + film
        position = np.searchsorted(self.pairs, pair)
        position = np.minimum(position, len(self.pairs) - 1)
        return np.asarray(self.pairs[position] == pair)


def _probabilities(points: Tensor, biases: Tensor, films: Tensor) -> np.ndarray:
    """Return (U, F) float32 probabilities that customers see films."""
    logits = biases[:, None] - torch.cdist(points, films).square()
    return logits.sigmoid().cpu().numpy()
