"""Dynamic slates: a posterior over items, learned from choices among what was shown.

Shapes: R requests, B requests of a batch, T events of a history, K places of a slate, N items, G
groups, D width, P items of a pool.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.core.methods import Paper, Recommender, blocks, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import shuffled_batches
from tailor.data.shown import ShownLists
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.fitting import Recipe
from tailor.nn.packing import pad_rows
from tailor.pipeline.explore import PROPENSITY
from tailor.training.nets import NetMethod

PAPER = Paper(
    "slate-thompson",
    "Dynamic Slate Recommendation with Gated Recurrent Units and Thompson Sampling",
    "https://arxiv.org/abs/2104.15046",
    "Refitted to what it shows, a draw of its own for every place of a slate earns no fewer clicks"
    " than the mean and more different slates; choices are explained better as made from the slate"
    " than from all items; items shown more often are known better",
)
NEAR = 1e-6  # added to squared distances, whose root has no slope at 0
REACH = 2.0  # standard deviations by which a pool is optimistic about items


class Choices(NamedTuple):
    """Slates with what was chosen; learned from."""

    histories: np.ndarray
    """(B, T) int64 item rows, oldest first; 0 for padding."""
    lengths: np.ndarray
    """(B,) events of each history."""
    slates: np.ndarray
    """(B, K) int64 item rows; -1 for no item."""
    places: np.ndarray
    """(B,) int64 place of the choice; K for nothing."""


class SlateNet(nn.Module):
    """Gaussian items under Gaussian groups, and users who move with what they choose."""

    def __init__(self, groups: np.ndarray, width: int, places: int, user: str) -> None:
        """Make items of `groups` (N,) at their group, and slates of at most `places`."""
        super().__init__()
        items = len(groups)
        n_groups = int(groups.max(initial=0)) + 1
        self.groups: Tensor
        self.register_buffer("groups", torch.from_numpy(groups), persistent=False)
        self.group_means = nn.Parameter(torch.randn(n_groups, width))
        self.log_group_scales = nn.Parameter(torch.full((n_groups, 1), -0.5))
        self.offsets = nn.Parameter(torch.zeros(items, width))
        self.log_scales = nn.Parameter(torch.full((items, width), -1.0))
        self.start = nn.Parameter(torch.zeros(width))
        self.gru = nn.GRU(width, width, batch_first=True) if user == "gru" else None
        self.out = nn.Linear(width, width)
        # logit of what a linear user keeps at a choice
        self.inertia = nn.Parameter(torch.tensor(1.0))
        self.log_sharpness = nn.Parameter(torch.tensor(0.5))
        # log-odds of choosing nothing, by the number of items shown
        self.nothing = nn.Parameter(torch.zeros(places + 1))

    @property
    def means(self) -> Tensor:
        """Return the posterior means of the items (N, D)."""
        return self.group_means[self.groups] + self.offsets

    def users(self, vectors: Tensor, histories: Tensor, lengths: Tensor) -> Tensor:
        """Return users (B, D) after their histories (B, T), from item vectors (N, D)."""
        state = self.start.expand(len(histories), -1)
        if not histories.shape[1]:
            return state
        events = vectors[histories]  # B, T, D
        if self.gru is None:
            share = self.inertia.sigmoid()
            for t in range(histories.shape[1]):
                moved = share * state + (1 - share) * events[:, t]
                state = torch.where((t < lengths)[:, None], moved, state)
            return state
        states, _ = self.gru(events)
        last = states[torch.arange(len(states)), (lengths - 1).clamp_min(0)]
        return torch.where((lengths > 0)[:, None], self.out(last), state)

    def scores(self, users: Tensor, vectors: Tensor) -> Tensor:
        """Return minus the scaled distances (B, P) of users (B, D) from items (B, P, D)."""
        squares = (users[:, None] - vectors).pow(2).sum(dim=-1)
        return -self.log_sharpness.exp() * (squares + NEAR).sqrt()

    def slate_logits(self, users: Tensor, vectors: Tensor, slates: Tensor) -> Tensor:
        """Return logits (B, K + 1) of each place of slates (B, K), then of nothing."""
        is_item = slates >= 0
        items = vectors[slates.clamp_min(0)]
        scores = self.scores(users, items)
        scores = scores.masked_fill(~is_item, -torch.inf)
        longest = len(self.nothing) - 1  # of the slates that were learned from
        nothing = self.nothing[is_item.sum(dim=1).clamp(max=longest)]
        return torch.cat([scores, nothing[:, None]], dim=1)

    def divergence(self, prior_scale: float) -> Tensor:
        """Return the divergence () of the posterior of all items from their groups' prior.

        Groups have the prior N(0, `prior_scale`), and count by their means alone.
        """
        log_scales = self.log_group_scales[self.groups]  # N, 1
        variances = (2 * self.log_scales).exp()
        prior_variances = (2 * log_scales).exp()
        ratios = (variances + self.offsets.pow(2)) / prior_variances
        log_ratios = log_scales - self.log_scales
        items = 0.5 * (ratios - 1) + log_ratios
        groups = self.group_means / prior_scale
        return items.sum() + 0.5 * groups.pow(2).sum()


@dataclass(eq=False)
class SlateThompson(NetMethod, Recommender):
    """Learns the choice among the items really shown, and explores where items are little known.

    Every item has a Gaussian posterior under its category's prior; a user is the state of a
    recurrent net over what they chose. A choice is a softmax over minus the distances of the shown
    items, with "nothing" as one more answer. A slate with `policy` "in_slate" draws all items anew
    for every place, and puts the best unused one there; "thompson" draws once a slate, "greedy"
    takes the means. Draws are keyed by request id; requests without one get the greedy list.

    Differs from the paper: the recurrent net reads posterior draws of the last `length` choices;
    the divergence is weighed exactly by default, where the paper tempers it; a pool of `depth`
    items, chosen with two standard deviations of optimism, is drawn. Propensities are shares of
    `draws` slates, with the one shown among them. Without impressions, events are choices among all
    items.
    """

    reads_impressions: ClassVar[bool] = True

    policy: Literal["in_slate", "thompson", "greedy"] = "in_slate"
    """Draws of all items: one a place, one a slate, or none."""
    likelihood: Literal["slate", "all"] = "slate"
    """What a choice is made from: the slate and nothing, or all items."""
    user: Literal["gru", "linear"] = "gru"
    """How a choice moves a user: by a recurrent net, or a fixed share of the way."""
    width: int = 8
    """Width of users and items."""
    length: int = 20
    """Latest choices of a user that are read."""
    epochs: int = 20
    """Passes over the slates."""
    batch: int = 512
    """Slates per step."""
    lr: Annotated[float, Range(1e-3, 3e-2, log=True)] = 1e-2
    """Peak learning rate of AdamW; decays linearly to 1 %."""
    temper: Annotated[float, Range(0.01, 1.0, log=True)] = 1.0
    """Weight of what was observed against the prior; below 1 items stay less certain."""
    prior_scale: float = 5.0
    """Standard deviation of the prior of groups."""
    depth: int = 500
    """Items that draws are made for."""
    draws: int = 50
    """Slates drawn to estimate the propensities."""
    seed: int = 0
    """Seed of the draws of slates."""

    items_: Vocabulary = field(init=False, repr=False)
    groups_: np.ndarray = field(init=False, repr=False)
    """(N,) int64 category of each item."""
    places_: int = field(init=False, repr=False)
    """Most items of a slate that was learned from."""

    def __post_init__(self) -> None:
        counts = (self.width, self.length, self.epochs, self.batch, self.depth, self.draws - 1)
        if min(counts) < 1:
            raise DataError(
                f"width is {self.width}, length {self.length}, epochs {self.epochs}, batch"
                f" {self.batch}, depth {self.depth}, draws {self.draws}: from 1, draws from 2"
            )
        if not 0 < self.temper <= 1 or min(self.lr, self.prior_scale) <= 0:
            raise DataError(
                f"temper is {self.temper}, lr {self.lr}, prior_scale {self.prior_scale}: above 0,"
                " temper at most 1"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.groups_ = data.finest_categories
        choices, of_slates = self._choices_of(data)
        self.places_ = choices.slates.shape[1]
        weight = 1 / (self.temper * max(len(choices.places), 1))
        self._start_net(run)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(choices.places), self.batch, rng)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            net = self._net
            noise = torch.randn_like(net.offsets)
            vectors = net.means + net.log_scales.exp() * noise
            drawn = Choices(*(part[rows] for part in choices))
            losses = self._losses(net, vectors, drawn, of_slates)
            return losses.mean() + weight * net.divergence(self.prior_scale)

        if len(choices.places):
            report = self._train_net(data, run, Recipe(self.epochs, self.lr), batches, loss)
        else:
            report = self._leave_untrained("there is nothing to learn from")
        self.fit_report_ = {
            "slates": len(choices.places),
            "learned from": "slates" if of_slates else "choices among all items",
            "groups": int(self.groups_.max(initial=0)) + 1,
            **report,
        }

    def _choices_of(self, data: Dataset) -> tuple[Choices, bool]:
        """Return what was chosen and from what, and whether slates are known."""
        log = ShownLists.of(data, self.length)
        if not len(log):
            return self._events_as_choices(data), False
        is_chosen = log.is_chosen.any(axis=1)
        nothing = log.rows.shape[1]
        places = np.where(is_chosen, log.is_chosen.argmax(axis=1), nothing)
        is_used = (log.rows >= 0).any(axis=1)
        if self.likelihood == "all":
            is_used &= is_chosen
        numbers = np.flatnonzero(is_used)
        histories, lengths = _padded(log.queries.take(numbers), self.length)
        slates = log.rows[numbers].astype(np.int64)
        choices = Choices(histories, lengths, slates, places[numbers])
        return choices, self.likelihood == "slate"

    def _events_as_choices(self, data: Dataset) -> Choices:
        """Return every event as a slate of one item, which was chosen."""
        outcome = Outcome("drawn", length=self.length)
        examples = outcome.learn(data, np.random.default_rng(0))
        is_event = examples.labels > 0  # the others are negatives
        events = examples.take(np.flatnonzero(is_event))
        histories, lengths = _padded(events.queries, self.length)
        slates = events.items.astype(np.int64)[:, None]
        places = np.zeros(len(slates), np.int64)
        return Choices(histories, lengths, slates, places)

    def _losses(self, net: SlateNet, vectors: Tensor, choices: Choices, of_slates: bool) -> Tensor:
        """Return (B,) minus the log-likelihood of each choice."""
        tensors = [torch.from_numpy(part).to(vectors.device) for part in choices]
        histories, lengths, slates, places = tensors
        users = net.users(vectors, histories, lengths)
        if of_slates:
            logits = net.slate_logits(users, vectors, slates)
            return cross_entropy(logits, places, reduction="none")
        logits = net.scores(users, vectors.expand(len(users), -1, -1))
        chosen = slates.gather(1, places[:, None])[:, 0]
        return cross_entropy(logits, chosen, reduction="none")

    def _make_net(self) -> nn.Module:
        return SlateNet(self.groups_, self.width, self.places_, self.user)

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the means and standard deviations (N, D) of the items."""
        self._check_fitted()
        net = self._ready()
        with torch.inference_mode():
            return net.means.numpy(), net.log_scales.exp().numpy()

    def choice_log_probabilities(self, log: ShownLists) -> np.ndarray:
        """Return (R, K) log-probability of each item of a slate, if one is chosen at all."""
        self._check_fitted()
        net = self._ready()
        users, _ = self._users(log.queries.reindexed(self.items_))
        slates = torch.from_numpy(log.rows.astype(np.int64))
        with torch.inference_mode():
            logits = net.slate_logits(torch.from_numpy(users), net.means, slates)
            return np.asarray(logits[:, :-1].log_softmax(dim=1).numpy())

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None
        if candidates is not None:
            lists = candidates.reindexed(self.items_).ragged()
        parts = []
        for start, stop in blocks(len(queries), len(self.items_)):
            block = queries[start:stop]
            only = None if lists is None else lists.slice(start, stop)
            parts.append(self._slates(block, k, only))
        return Rankings.stack(parts) if parts else Rankings.empty(self.items_, 0, k)

    def _slates(self, queries: Queries, k: int, only: Ragged | None) -> Rankings:
        """Return greedy lists, and drawn ones where a request has an id."""
        users, sharpness = self._users(queries)
        means, scales = self.posterior()
        scores = -sharpness * _distances(users, means)  # B, N
        rows, best = top_k(scores, k, queries.exclude, queries.blocked_rows, only)
        notes = short_notes(self.name, queries, rows, k)
        greedy = Rankings(self.items_, rows, best, notes=notes)
        if self.policy == "greedy":
            return greedy
        reach = REACH * sharpness
        hopes = scores + reach * np.linalg.norm(scales, axis=1)
        depth = max(k, self.depth)
        pools, _ = top_k(hopes, depth, queries.exclude, queries.blocked_rows, only)
        drawn_rows = rows.copy()
        propensities = np.where(rows >= 0, 1.0, np.nan).astype(np.float32)
        for i, size in enumerate(greedy.lengths.tolist()):
            request_id = queries.request_id(i)
            if request_id is None or not size:
                continue
            pool = pools[i]
            pool = pool[pool >= 0]
            rng = Run(self.seed).rng("slate", request_id)
            slates = self._draw(users[i], means[pool], scales[pool], size, rng)
            drawn_rows[i, :size] = pool[slates[0]]
            propensities[i, :size] = (slates == slates[0]).mean(axis=0)
        known_rows = np.maximum(drawn_rows, 0)
        values = np.take_along_axis(scores, known_rows, axis=1).astype(np.float32)
        values[drawn_rows < 0] = -np.inf
        columns = {PROPENSITY: propensities}
        return replace(greedy, rows=drawn_rows, scores=values, columns=columns)

    def _users(self, queries: Queries) -> tuple[np.ndarray, float]:
        """Return the users (B, D) of queries over `items_`, and the factor of distances."""
        net = self._ready()
        histories, lengths = map(torch.from_numpy, _padded(queries, self.length))
        with torch.inference_mode():
            users = net.users(net.means, histories, lengths)
            return users.numpy(), float(net.log_sharpness.exp())

    def _draw(
        self,
        user: np.ndarray,
        means: np.ndarray,
        scales: np.ndarray,
        k: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return (draws, k) positions of slates drawn from a pool (P, D)."""
        worlds = k if self.policy == "in_slate" else 1  # draws of all items for one slate
        slates = np.empty((self.draws, k), dtype=np.int64)
        for draw in range(self.draws):
            noise = rng.standard_normal((worlds, *means.shape), dtype=np.float32)
            items = means + scales * noise  # worlds, P, D
            distances = ((user - items) ** 2).sum(axis=2)
            order = np.argsort(distances, axis=1, kind="stable")
            slates[draw] = interleave(order, k)
        return slates

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, length=8, epochs=3, draws=10)


def interleave(orders: np.ndarray, k: int) -> np.ndarray:
    """Return (k,) the best unused position of each of orders (W, P) in turn."""
    used: list[int] = []
    for number in range(k):
        order = orders[number % len(orders)]
        first = order[: len(used) + 1]  # one of them is unused
        unused = first[~np.isin(first, used)]
        used.append(int(unused[0]))
    return np.array(used, dtype=np.int64)


def _distances(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return (B, N) distances of users (B, D) from items (N, D)."""
    squares = (users**2).sum(axis=1)[:, None] + (items**2).sum(axis=1) - 2 * users @ items.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) + NEAR))


def _padded(queries: Queries, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the last events (B, T) of queries as int64 rows, 0 for padding, and their numbers."""
    recent = queries.histories.last(length)
    padded, _ = pad_rows(recent.values, recent.offsets[:-1], recent.lengths)
    return padded.astype(np.int64), recent.lengths
