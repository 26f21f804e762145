"""Hierarchical reinforcement learning of how much novelty a user wants, now and in general.

Shapes: R lists, B lists of a batch, K places of a list, C candidates, T events of a session, N
items, D width of item vectors, O options, F features of a user.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import NO_TIME, Queries, Rankings
from tailor.data.shown import ShownLists
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.metrics.lists import intra_list_diversity
from tailor.nn.fitting import Recipe
from tailor.nn.packing import pad_rows
from tailor.nn.policy import place_log_probs
from tailor.pipeline.explore import PROPENSITY
from tailor.text.tfidf import svd_vectors, unit_rows
from tailor.training.nets import NetMethod

PAPER = Paper(
    "hrl-novelty",
    "Hierarchical Reinforcement Learning for Modeling User Novelty-Seeking Intent in Recommender"
    " Systems",
    "https://arxiv.org/abs/2306.01476",
    "In a planted world the two-level policy earns more than a flat one of the same reward and than"
    " the base's greedy lists; it tells users' lasting appetite for novelty and a session's",
)
APPETITE = "appetite"
"""The name in `Ranking.details` of a user's appetite for novelty, 0 to 1."""
NOVELTY = "novelty"
"""The column of an answer that holds how far an item is from the user's latest ones."""
SESSION_MS = 3_600_000  # without an event for longer, another session begins
RECENT = 10  # latest events that an item is compared with
MOST_WEIGHT = 10.0  # bound of importance weights
MOST_LISTS = 20_000  # latest lists that are learned from
BASE_SCALE = 4.0  # log-odds between the base's best item and its last, at first
LEVELS = 3.0  # log-odds per unit of novelty between the first and the last option, at first
FOLDS = 2  # parts of the users; the base scores each from what the others chose


class Candidates(NamedTuple):
    """Items that a list may be made of, one row a list."""

    rows: np.ndarray
    """(R, C) int32 item rows; -1 for no item. The places of a shown list come first."""
    scores: np.ndarray
    """(R, C) float32 score of the base, 1 for its best, 0 for what it did not list."""
    novelty: np.ndarray
    """(R, C) float32: 1 - the largest cosine with the latest events."""


class Visits(NamedTuple):
    """Each request's user: the session so far, and what was before it."""

    events: np.ndarray
    """(R, T) int64 item rows of the session, oldest first; 0 for padding."""
    event_novelty: np.ndarray
    """(R, T) float32 novelty of each, when it was chosen."""
    lengths: np.ndarray
    """(R,) events of the session."""
    summaries: np.ndarray
    """(R, F) float32 features of the events before the session."""


class NoveltyNet(nn.Module):
    """Two policies: an option a session from its past, items from the session and the option.

    Options differ by their vectors and by how much a unit of novelty is worth; these levels ascend.
    """

    def __init__(self, vectors: np.ndarray, features: int, options: int, width: int) -> None:
        super().__init__()
        dims = vectors.shape[1]
        self.vectors: Tensor
        self.register_buffer("vectors", torch.from_numpy(vectors))
        self.high = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, options))
        self.high_value = nn.Linear(features, 1)
        self.gru = nn.GRU(dims + 1, width, batch_first=True)
        self.option_vectors = nn.Embedding(options, width)
        self.query = nn.Linear(2 * width + features, dims)
        self.appetite = nn.Linear(width + features, 1)
        self.low_value = nn.Linear(width + features, 1)
        self.first_level = nn.Parameter(torch.tensor(-LEVELS / 2 if options > 1 else 0.0))
        step = np.log(np.expm1(LEVELS / max(options - 1, 1)))
        self.level_steps = nn.Parameter(torch.full((options - 1,), float(step)))
        self.base_weight = nn.Parameter(torch.tensor(BASE_SCALE))
        for layer in (self.query, self.appetite, self.high[-1]):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    @property
    def levels(self) -> Tensor:
        """Return (O,) log-odds per unit of novelty of each option, ascending."""
        steps = softplus(self.level_steps).cumsum(dim=0)
        return torch.cat([self.first_level[None], self.first_level + steps])

    def states(self, events: Tensor, event_novelty: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (B, W) of sessions after their events (B, T)."""
        if not events.shape[1]:
            return self.option_vectors.weight.new_zeros(len(events), self.gru.hidden_size)
        inputs = torch.cat([self.vectors[events], event_novelty[..., None]], dim=-1)
        states, _ = self.gru(inputs)
        last = states[torch.arange(len(states)), (lengths - 1).clamp_min(0)]
        return torch.where((lengths > 0)[:, None], last, torch.zeros_like(last))

    def item_logits(
        self, states: Tensor, summaries: Tensor, rows: Tensor, scores: Tensor, novelty: Tensor
    ) -> Tensor:
        """Return logits (B, O, C) of candidates (B, C) under each option, -inf for no item."""
        users = torch.cat([states, summaries], dim=-1)
        options = self.option_vectors.weight
        both = torch.cat(
            [
                users[:, None].expand(-1, len(options), -1),
                options.expand(len(states), -1, -1),
            ],
            dim=-1,
        )
        likings = torch.einsum("bod,bcd->boc", self.query(both), self.vectors[rows.clamp_min(0)])
        worth = self.levels + self.appetite(users)  # B, O
        logits = likings + worth[..., None] * novelty[:, None]
        logits = logits + self.base_weight * scores[:, None]
        return logits.masked_fill((rows < 0)[:, None], -torch.inf)


class Appetites(NamedTuple):
    """Users' appetites for novelty, from 0, the familiar, to 1."""

    lasting: np.ndarray
    """(n,) expected option before the session."""
    session: np.ndarray
    """(n,) expected option after what was chosen in the session."""


@dataclass(eq=False)
class HRLNovelty(NetMethod, Recommender):
    """Chooses how adventurous a session is, and within it the items, both learned from rewards.

    Once a session the upper policy draws one of `options` levels of novelty from the user's past;
    at each request the lower one reads the session with a recurrent net, and draws a list from the
    base's candidates. A choice is worth 1 and a share of its novelty, a list a share of its
    diversity. Both learn by REINFORCE with baselines from logged lists, weighted by how much
    likelier they would be shown now. Draws are keyed by request id; requests without one get the
    likeliest option and list.

    Differs from the paper: which option a logged session had is not in the log, so that options
    share it by how likely they explain it, which is the gradient of the mixture; a session weighs
    the mean of its places; advantages are scaled; the base scores logged lists from other users'
    events alone; the lower policy reads the past too, so that a flat one knows as much.
    """

    reads_impressions: ClassVar[bool] = True

    base: Recommender
    """The recommender whose lists are drawn from."""
    options: int = 4
    """Levels of novelty; 1: a flat policy."""
    novelty: float = 0.1
    """Reward of a chosen item's novelty; a choice alone is worth 1."""
    diversity: float = 0.1
    """Reward of a list's diversity, chosen from or not."""
    entropy: Annotated[float, Range(1e-3, 0.1, log=True)] = 0.01
    """Weight of the entropy of both policies, beside advantages of deviation 1."""
    depth: int = 200
    """The base's items that a list is drawn from."""
    width: int = 16
    """Width of the nets."""
    dims: int = 16
    """Width of item vectors, which are made of users and categories."""
    length: int = 50
    """Latest events of a user that are read."""
    epochs: int = 10
    """Passes over the sessions."""
    batch: int = 64
    """Sessions per step."""
    lr: Annotated[float, Range(1e-3, 3e-2, log=True)] = 5e-3
    """Peak learning rate of AdamW; decays linearly to 1 %."""
    seed: int = 0
    """Seed of the draws of options and lists."""

    items_: Vocabulary = field(init=False, repr=False)
    base_: Recommender = field(init=False, repr=False)
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) float32 item vectors of unit length."""
    usual_: np.ndarray = field(init=False, repr=False)
    """(RECENT + 1,) mean novelty of events by the number of events before them."""
    summary_moments_: np.ndarray = field(init=False, repr=False)
    """(2, F) float32 mean of the features of users' pasts, and what they are divided by."""

    def __post_init__(self) -> None:
        if not isinstance(self.base, Recommender):
            raise ModelError(f"HRLNovelty.base is {self.base!r}: it must be a recommender")
        counts = (self.options, self.depth, self.width, self.dims, self.length, self.batch)
        if min(*counts, self.epochs) < 1:
            raise DataError(
                f"options is {self.options}, depth {self.depth}, width {self.width}, dims"
                f" {self.dims}, length {self.length}, batch {self.batch}, epochs {self.epochs}: at"
                " least 1"
            )
        if min(self.novelty, self.diversity, self.entropy) < 0 or not self.lr > 0:
            raise DataError(
                f"novelty is {self.novelty}, diversity {self.diversity}, entropy {self.entropy}, lr"
                f" {self.lr}: at least 0, lr above 0"
            )

    def restrict(self, queries: Queries) -> Queries:
        return self.base_.restrict(queries)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.base_ = clone(self.base).fit(data, run, valid)
        self.items_ = data.catalogue
        self.vectors_ = item_vectors(data, self.dims)
        events = data.sequences.rows
        position = np.arange(len(events.values)) - events.offsets[:-1][events.row_ids]
        self.usual_ = usual_novelty(event_novelty(events, self.vectors_), position)
        features = len(PAST_FEATURES) + self.dims
        self.summary_moments_ = np.stack([np.zeros(features), np.ones(features)]).astype(np.float32)
        self._start_net(run)
        shown = ShownLists.of(data, self.length)
        shown = shown.take(np.arange(len(shown))[-MOST_LISTS:])
        if not shown.is_chosen.any():
            report = self._leave_untrained("no list of the log was chosen from")
        else:
            report = self._learn_policy(data, shown, run)
        self.fit_report_ = {
            "lists": len(shown),
            "log-odds per unit of novelty": np.round(self._levels(), 3).tolist(),
            self.base_.name: self.base_.fit_report_,
            **report,
        }

    def _levels(self) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(self._ready().levels.numpy())

    def _learn_policy(self, data: Dataset, shown: ShownLists, run: Run) -> dict[str, Any]:
        """Train both policies on logged lists, and return the report."""
        self.summary_moments_ = moments_of(self._visits(shown.queries).summaries)
        visits = self._visits(shown.queries)
        candidates = self._logged_candidates(data, shown, run)
        sessions = sessions_of(shown.queries)
        is_item = shown.rows >= 0
        novelty = candidates.novelty[:, : shown.rows.shape[1]]
        variety = np.nan_to_num(intra_list_diversity(shown.rows, self.vectors_))[:, None]
        places = np.maximum(is_item.sum(axis=1, keepdims=True), 1)
        rewards = shown.is_chosen * (1 + self.novelty * novelty)
        rewards = np.where(is_item, rewards + self.diversity * variety / places, 0.0)
        logged = Logged(visits, candidates, rewards.astype(np.float32), shown.propensities, is_item)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            order = rng.permutation(len(sessions))
            return np.array_split(order, -(-len(order) // self.batch))

        def loss(numbers: np.ndarray, rng: np.random.Generator) -> Tensor:
            chosen = sessions.take(numbers)
            return self._policy_loss(logged.take(chosen.values), chosen)

        report = self._train_net(data, run, Recipe(self.epochs, self.lr), batches, loss)
        return {
            "sessions": len(sessions),
            "mean reward": float(rewards.sum(axis=1).mean()),
            **report,
        }

    def _policy_loss(self, logged: "Logged", sessions: Ragged) -> Tensor:
        """Return the loss () of both policies and their baselines for the lists of sessions."""
        net: NoveltyNet = self._net
        visits, candidates, rewards, propensities, is_item = logged.tensors()
        states = net.states(*visits[:3])
        summaries = visits[3]
        logits = net.item_logits(states, summaries, *candidates)  # B, O, C
        places = torch.arange(rewards.shape[1]).expand(*logits.shape[:2], -1)
        log_probs = place_log_probs(logits, places)
        log_probs = log_probs.masked_fill(~is_item[:, None], 0.0)  # B, O, K
        owners = torch.from_numpy(sessions.row_ids)
        first = torch.from_numpy(sessions.offsets[:-1])
        log_options = net.high(summaries[first]).log_softmax(dim=-1)  # S, O
        shares = (log_options + summed(log_probs.sum(dim=-1), owners, len(first))).softmax(dim=-1)
        shares = shares.detach()
        share_of_list = shares[owners][..., None]  # B, O, 1
        now = (share_of_list * log_probs.exp()).sum(dim=1).detach()  # B, K
        weights = importance(now, propensities) * is_item
        expected = net.low_value(torch.cat([states, summaries], dim=-1))  # B, 1
        lead = (rewards - expected.detach()) * is_item
        low = -(share_of_list * log_probs * (weights * scaled(lead))[:, None]).sum()
        returns = summed(rewards.sum(dim=-1), owners, len(first))  # S
        expected_return = net.high_value(summaries[first])[:, 0]
        mean_weight = summed(weights.sum(dim=-1), owners, len(first)) / summed(
            is_item.float().sum(dim=-1), owners, len(first)
        )
        session_lead = scaled(returns - expected_return.detach()) * mean_weight
        high = -((shares * log_options).sum(dim=-1) * session_lead).mean()
        baselines = mse_loss(expected.expand_as(rewards), rewards) + mse_loss(
            expected_return, returns
        )
        entropies = (
            entropy(log_options).mean()
            + (share_of_list[..., 0] * entropy(logits.log_softmax(dim=-1))).sum(dim=1).mean()
        )
        return low / is_item.sum() + high + baselines - self.entropy * entropies

    def _make_net(self) -> nn.Module:
        features = len(PAST_FEATURES) + self.vectors_.shape[1]
        return NoveltyNet(self.vectors_, features, self.options, self.width)

    def _visits(self, queries: Queries) -> Visits:
        """Return the session and the past of queries over `items_`."""
        recent = queries.keep_events(queries.histories.from_end < self.length)
        histories = recent.histories
        novelty = event_novelty(histories, self.vectors_)
        in_session = is_in_session(recent)
        session = histories.keep(in_session)
        rows, _ = pad_rows(session.values, session.offsets[:-1], session.lengths)
        values, _ = pad_rows(novelty[in_session], session.offsets[:-1], session.lengths)
        past = histories.keep(~in_session)
        summaries = summaries_of(past, novelty[~in_session], self.usual_, self.vectors_)
        summaries = (summaries - self.summary_moments_[0]) / self.summary_moments_[1]
        return Visits(rows.astype(np.int64), values, session.lengths, summaries)

    def _logged_candidates(self, data: Dataset, shown: ShownLists, run: Run) -> Candidates:
        """Return the items shown, and behind them the base's others.

        The base scores the lists of some users from the events of the others.
        """
        fold_of_user = run.rng("folds").permutation(len(data.users)) % FOLDS
        users = data.users.rows(shown.queries.user_ids.tolist())
        fold = np.where(users >= 0, fold_of_user[users], 0)
        places = shown.rows.shape[1]
        shape = (len(shown), places + self.depth)
        rows = np.full(shape, -1, np.int32)
        scores = np.zeros(shape, np.float32)
        rows[:, :places] = shown.rows
        fold_of_event = fold_of_user[data.users.codes(data.events["user_id"])]
        for number in range(FOLDS):
            of_fold = np.flatnonzero(fold == number)
            is_other = fold_of_event != number
            other = data.cut(is_other) if is_other.any() else data
            base = clone(self.base).fit(other, run)
            queries = shown.queries.take(of_fold).without_history()
            pool = base.recommend(queries, self.depth).reindexed(self.items_)
            listed = np.arange(pool.rows.shape[1]) + places
            pool_scores = unit_scores(pool)
            same = (pool.rows[:, None] == shown.rows[of_fold][:, :, None]) & (pool.rows >= 0)[
                :, None
            ]
            scores[of_fold, :places] = (same * pool_scores[:, None]).max(axis=2, initial=0.0)
            scores[of_fold[:, None], listed] = pool_scores
            rows[of_fold[:, None], listed] = np.where(same.any(axis=1), -1, pool.rows)
        return Candidates(rows, scores, self._novelty_of(rows, shown.queries))

    def _novelty_of(self, rows: np.ndarray, queries: Queries) -> np.ndarray:
        """Return (R, C) 1 - the largest cosine of items (R, C) with the latest events."""
        recent = queries.histories.last(RECENT)
        events, is_event = pad_rows(recent.values, recent.offsets[:-1], recent.lengths)
        novelty = np.ones(rows.shape, np.float32)
        for place in range(events.shape[1]):
            event = self.vectors_[events[:, place]]  # R, D
            cosines = np.einsum("rd,rcd->rc", event, self.vectors_[np.maximum(rows, 0)])
            near = np.where(is_event[:, place, None], 1 - cosines, 1.0)
            novelty = np.minimum(novelty, near.astype(np.float32))
        return novelty

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        pool = self.base_.recommend(queries, max(2 * k, self.depth), candidates)
        pool = pool.reindexed(self.items_)
        queries = queries.reindexed(self.items_)
        width = min(k, pool.rows.shape[1])
        lengths = np.minimum(pool.lengths, width)
        notes = {i: note for i, note in pool.notes.items() if lengths[i] < k}
        if not width or not len(queries):
            return replace(Rankings.empty(self.items_, len(queries), k), notes=notes)
        visits = self._visits(queries)
        some = Candidates(pool.rows, unit_scores(pool), self._novelty_of(pool.rows, queries))
        log_options, logits = self._policies(visits, some)
        order = np.full((len(queries), width), -1)
        values = np.full((len(queries), width), -np.inf, np.float32)
        propensity = np.full((len(queries), width), np.nan, np.float32)
        keys = past_keys(queries)
        for i in range(len(queries)):
            request_id = queries.request_id(i)
            size = int(lengths[i])
            option = self._option(log_options[i], keys[i], request_id)
            of_option = logits[i, option].astype(np.float64)
            noise = np.zeros(len(of_option))
            if request_id is not None:
                noise = Run(self.seed).rng("list", request_id).gumbel(size=len(of_option))
            order[i, :size] = np.argsort(-(of_option + noise), kind="stable")[:size]
            values[i, :size] = of_option[order[i, :size]]
            propensity[i, :size] = 1.0
            if request_id is not None:
                propensity[i, :size] = place_shares(of_option, order[i, :size])
        answers = pool.reordered(order)
        appetite = np.where(order >= 0, self._expected(log_options)[:, None], np.nan)
        details = np.where(order >= 0, appetite.round(4).astype(object), None)
        novelty = np.take_along_axis(some.novelty, np.maximum(order, 0), axis=1)
        columns = {
            **answers.columns,
            PROPENSITY: propensity,
            NOVELTY: np.where(order >= 0, novelty, np.nan).astype(np.float32),
        }
        return replace(
            answers, scores=values, columns=columns, notes=notes, details={APPETITE: details}
        )

    def _policies(self, visits: Visits, some: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-probabilities (R, O) of options, and logits (R, O, C) of items."""
        net = self._ready()
        tensors = [torch.from_numpy(np.ascontiguousarray(part)) for part in (*visits, *some)]
        with torch.inference_mode():
            log_options = net.high(tensors[3]).log_softmax(dim=-1)
            states = net.states(*tensors[:3])
            logits = net.item_logits(states, tensors[3], *tensors[4:])
        return log_options.numpy(), logits.numpy()

    def _option(self, log_options: np.ndarray, key: str, request_id: str | None) -> int:
        """Return the option of a session; one is drawn from the key of its past."""
        if request_id is None:
            return int(log_options.argmax())
        noise = Run(self.seed).rng("session", key).gumbel(size=len(log_options))
        return int((log_options + noise).argmax())

    def _expected(self, log_options: np.ndarray) -> np.ndarray:
        """Return (n,) the expected option of distributions (n, O), scaled to 0 to 1."""
        steps = np.arange(self.options) / max(self.options - 1, 1)
        return np.asarray(np.exp(log_options) @ steps)

    def appetites(self, queries: Queries) -> Appetites:
        """Return what the policies infer of users' appetites for novelty.

        A session's events are weighed by how likely each option would have listed them first,
        among the base's present candidates.
        """
        self._check_fitted()
        pool = self.base_.recommend(queries, self.depth).reindexed(self.items_)
        queries = queries.reindexed(self.items_)
        visits = self._visits(queries)
        novelty = self._novelty_of(pool.rows, queries)
        even = np.zeros(pool.rows.shape, np.float32)  # the base is the same for all options
        log_options, _ = self._policies(visits, Candidates(pool.rows, even, novelty))
        posterior = log_options.astype(np.float64)
        for event in range(visits.events.shape[1]):
            before = visits._replace(lengths=np.minimum(visits.lengths, event))
            rows = np.c_[visits.events[:, event], pool.rows].astype(np.int32)
            values = np.c_[visits.event_novelty[:, event], novelty]
            scores = np.c_[even[:, :1], even] if even.shape[1] else np.zeros(rows.shape, np.float32)
            _, logits = self._policies(before, Candidates(rows, scores, values))
            likely = log_softmax(logits.astype(np.float64), axis=2)[:, :, 0]
            posterior += np.where((event < visits.lengths)[:, None], likely, 0.0)
        posterior = log_softmax(posterior, axis=1)
        return Appetites(self._expected(log_options), self._expected(posterior))

    @classmethod
    def tiny(cls) -> Self:
        inner = {"class": "CoVisitation"}
        small = {"width": 4, "dims": 4, "length": 10, "epochs": 2, "options": 3}
        return build({"class": cls.__name__, "base": inner, **small}, cls)


@dataclass(frozen=True, eq=False)
class Logged:
    """R logged lists as the policies see them."""

    visits: Visits
    candidates: Candidates
    rewards: np.ndarray
    """(R, K) float32 reward of each place."""
    propensities: np.ndarray
    """(R, K) probability of each place in the log; NaN where unknown."""
    is_item: np.ndarray
    """(R, K) bool: False behind the last place."""

    def take(self, rows: np.ndarray) -> "Logged":
        """Return the lists with these numbers."""
        return Logged(
            Visits(*(part[rows] for part in self.visits)),
            Candidates(*(part[rows] for part in self.candidates)),
            self.rewards[rows],
            self.propensities[rows],
            self.is_item[rows],
        )

    def tensors(self) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor]:
        """Return the same as tensors; events are cut to the longest session."""
        longest = int(self.visits.lengths.max(initial=0))
        events, novelty, lengths, summaries = self.visits
        cut = (events[:, :longest], novelty[:, :longest], lengths, summaries)
        return (
            [torch.from_numpy(np.ascontiguousarray(part)) for part in cut],
            [torch.from_numpy(part) for part in self.candidates],
            torch.from_numpy(self.rewards),
            torch.from_numpy(self.propensities).float(),
            torch.from_numpy(self.is_item),
        )


def item_vectors(data: Dataset, dims: int) -> np.ndarray:
    """Return (N, dims) float32 vectors of unit length, made of users and finest categories."""
    n = len(data.catalogue)
    users = data.sequences.rows.matrix(n).T.tocsr()
    categories = data.finest_categories
    one_hot = sp.csr_matrix((np.ones(n, np.float32), (np.arange(n), categories)))
    parts = [unit_rows(users)]
    if one_hot.shape[1] > 1:
        parts.append(one_hot)
    vectors = svd_vectors(sp.hstack(parts).tocsr(), dims)
    return np.pad(vectors, ((0, 0), (0, dims - vectors.shape[1])))


def sessions_of(queries: Queries) -> Ragged:
    """Return the numbers of the requests of each session, oldest first.

    A session is of one user, and has no gap of over an hour; requests without a user are alone.
    """
    names = [
        f"stranger {i}" if user_id is None else f"user {user_id}"
        for i, user_id in enumerate(queries.user_ids.tolist())
    ]
    _, users = np.unique(np.array(names, dtype=str), return_inverse=True)
    now_ms = queries.now_ms
    assert now_ms is not None
    order = np.lexsort((now_ms, users))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(users[order]) != 0) | (np.diff(now_ms[order]) > SESSION_MS)
    return Ragged(np.r_[np.flatnonzero(is_first), len(order)].astype(np.int64), order)


def is_in_session(queries: Queries) -> np.ndarray:
    """Return (m,) bool: events with no gap of over an hour between them and the request.

    False for all where times are absent.
    """
    histories = queries.histories
    times = queries.columns.get("times_ms")
    if times is None or queries.now_ms is None or not len(histories.values):
        return np.zeros(len(histories.values), dtype=bool)
    after = np.r_[times.values[1:], 0]
    is_last = histories.from_end == 0
    after[is_last] = queries.now_ms[histories.row_ids[is_last]]
    is_known = (times.values != NO_TIME) & (after != NO_TIME)
    is_break = ~is_known | (after - np.where(is_known, times.values, 0) > SESSION_MS)
    breaks = np.r_[0, np.cumsum(is_break)]
    later = breaks[histories.offsets[1:]][histories.row_ids] - breaks[:-1]
    return np.asarray(later == 0)


def past_keys(queries: Queries) -> list[str]:
    """Return for each query a key of the user and the events before the session."""
    past = queries.histories.keep(~is_in_session(queries))
    names = queries.catalogue.named(past.values)
    offsets = past.offsets.tolist()
    return [
        "\0".join([str(queries.user_ids[i]), *names[offsets[i] : offsets[i + 1]]])
        for i in range(len(queries))
    ]


def event_novelty(histories: Ragged, vectors: np.ndarray) -> np.ndarray:
    """Return (m,) 1 - the largest cosine of each event with the latest before it; 1 for the first."""
    rows = histories.values
    position = np.arange(len(rows)) - histories.offsets[:-1][histories.row_ids]
    novelty = np.ones(len(rows), np.float32)
    for back in range(1, RECENT + 1):
        later = np.flatnonzero(position >= back)
        cosines = (vectors[rows[later]] * vectors[rows[later - back]]).sum(axis=1)
        novelty[later] = np.minimum(novelty[later], 1 - cosines)
    return novelty


PAST_FEATURES = ("excess novelty", "latest excess novelty", "events")
LATEST = 5  # events of the second


def usual_novelty(novelty: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return (RECENT + 1,) mean novelty (m,) of events by the number of events before them."""
    age = np.minimum(position, RECENT)
    sums = np.bincount(age, novelty, RECENT + 1)
    return (sums + 0.5) / (np.bincount(age, minlength=RECENT + 1) + 1)


def summaries_of(
    past: Ragged, novelty: np.ndarray, usual: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """Return (R, F) float32: PAST_FEATURES, and the mean vector of the past's items.

    `novelty` (m,) of the events; the excess is over what is usual after as many events. First
    events have nothing before them and say nothing.
    """
    position = np.arange(len(past.values)) - past.offsets[:-1][past.row_ids]
    excess = novelty - usual[np.minimum(position, RECENT)]
    means = [
        mean_of_rows(past, excess, position > 0),
        mean_of_rows(past, excess, (position > 0) & (past.from_end < LATEST)),
        np.log1p(past.lengths) / 3,
    ]
    mean_vectors = past.matrix(len(vectors)) @ vectors / np.maximum(past.lengths, 1)[:, None]
    return np.c_[np.stack(means, axis=1), mean_vectors].astype(np.float32)


def moments_of(summaries: np.ndarray) -> np.ndarray:
    """Return (2, F) the mean of features, and what makes their deviations 1 when divided by it.

    Those of the mean vector together weigh as much as one feature.
    """
    divisors = summaries.std(axis=0) + 1e-3
    vector = slice(len(PAST_FEATURES), None)
    divisors[vector] *= np.sqrt(len(divisors[vector]))
    return np.stack([summaries.mean(axis=0), divisors]).astype(np.float32)


def mean_of_rows(rows: Ragged, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return (n,) the mean of each row's values (m,) where `mask`, and of one 0."""
    sums = np.bincount(rows.row_ids, values * mask, len(rows))
    return sums / (np.bincount(rows.row_ids, mask, len(rows)) + 1)


def unit_scores(lists: Rankings) -> np.ndarray:
    """Return (R, C) float32 scores of lists, from 0 to 1 within each; 0 for no item."""
    is_item = lists.rows >= 0
    high = np.where(is_item, lists.scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    low = np.where(is_item, lists.scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    span = np.where(high > low, high - low, 1.0)
    with np.errstate(invalid="ignore"):
        shares = np.where(high > low, (lists.scores - low) / span, 1.0)
    return np.where(is_item, shares, 0.0).astype(np.float32)


def place_shares(logits: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return (K,) the probability of each place of an order, after the places before it."""
    values = torch.from_numpy(logits)
    return np.asarray(place_log_probs(values, torch.from_numpy(order)).exp().numpy())


def importance(now: Tensor, then: Tensor) -> Tensor:
    """Return now / then, at most MOST_WEIGHT; 1 where it is not known how likely it was then."""
    return torch.where(then > 0, now / then, torch.ones_like(now)).clamp(max=MOST_WEIGHT)


def summed(values: Tensor, owners: Tensor, n: int) -> Tensor:
    """Return (n, ...) the sums of values (B, ...) by owner (B,)."""
    return values.new_zeros(n, *values.shape[1:]).index_add(0, owners, values)


def scaled(leads: Tensor) -> Tensor:
    """Return leads divided by their root mean square."""
    return leads / leads.pow(2).mean().sqrt().clamp_min(1e-6)


def entropy(log_probs: Tensor) -> Tensor:
    """Return (...,) the entropy of log-probabilities (..., C), of which some may be -inf."""
    return -(log_probs.exp() * log_probs.clamp_min(-30.0)).sum(dim=-1)
