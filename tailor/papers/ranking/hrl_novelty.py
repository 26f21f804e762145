"""Hierarchical reinforcement learning of how much novelty a user wants, now and in general.

Shapes: R lists, B lists of a batch, K places of a list, C candidates, T events of a session, N
items, D width of item vectors, O options, F features of a user.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import shuffled_batches
from tailor.data.sessions import sessions_back, sessions_of
from tailor.data.shown import ShownLists
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.metrics.lists import intra_list_diversity
from tailor.nn.fitting import Recipe
from tailor.nn.options import OptionNet, entropy, importance, mixed, scaled, summed
from tailor.nn.packing import pad_rows
from tailor.nn.policy import NEVER, place_log_probs
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
RECENT = 10  # latest events that an item is compared with
MOST_LISTS = 20_000  # latest lists that are learned from
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
        self.usual_ = usual_novelty(event_novelty(events, self.vectors_), events.from_start)
        features = len(PAST_FEATURES) + self.dims
        self.summary_moments_ = np.zeros((2, features), np.float32)
        self.summary_moments_[1] = 1.0
        self._start_net(run)
        log = ShownLists.of(data, self.length)
        log = log.take(np.arange(len(log))[-MOST_LISTS:])
        if log.is_chosen.any():
            report = self._learn_policy(data, log, run)
        else:
            report = self._leave_untrained("no list of the log was chosen from")
        levels = self._ready().levels.detach().numpy()
        self.fit_report_ = {
            "lists": len(log),
            "log-odds per unit of novelty": np.round(levels, 3).tolist(),
            self.base_.name: self.base_.fit_report_,
            **report,
        }

    def _learn_policy(self, data: Dataset, log: ShownLists, run: Run) -> dict[str, Any]:
        """Train both policies on logged lists, and return the report."""
        self.summary_moments_ = moments_of(self._visits(log.queries).summaries)
        visits = self._visits(log.queries)
        candidates = self._logged_candidates(data, log, run)
        rewards = self._rewards(log, candidates)
        logged = Logged(visits, candidates, rewards, log.propensities, log.rows >= 0)
        sessions = sessions_of(log.queries)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(sessions), self.batch, rng)

        def loss(numbers: np.ndarray, rng: np.random.Generator) -> Tensor:
            drawn = sessions.take(numbers)
            return self._policy_loss(logged.take(drawn.values), drawn)

        recipe = Recipe(self.epochs, self.lr)
        report = self._train_net(data, run, recipe, batches, loss)
        mean_reward = float(rewards.sum(axis=1).mean())
        return {"sessions": len(sessions), "mean reward": mean_reward, **report}

    def _rewards(self, log: ShownLists, candidates: Candidates) -> np.ndarray:
        """Return (R, K) float32 the reward of each place; a list's diversity is shared by all."""
        is_item = log.rows >= 0
        places = log.rows.shape[1]
        novelty = candidates.novelty[:, :places]
        rewards = log.is_chosen * (1 + self.novelty * novelty)
        diversity = np.nan_to_num(intra_list_diversity(log.rows, self.vectors_))
        lengths = np.maximum(is_item.sum(axis=1), 1)
        bonus = self.diversity * diversity / lengths
        rewards = np.where(is_item, rewards + bonus[:, None], 0.0)
        return rewards.astype(np.float32)

    def _policy_loss(self, logged: "Logged", sessions: Ragged) -> Tensor:
        """Return the loss () of both policies and their baselines for the lists of sessions."""
        net: OptionNet = self._net
        lists = logged.tensors()
        owners = torch.from_numpy(sessions.row_ids)  # B
        pasts = lists.summaries[torch.from_numpy(sessions.offsets[:-1])]  # S, F
        states = net.states(lists.events, lists.event_novelty, lists.lengths)
        users = torch.cat([states, lists.summaries], dim=-1)
        logits = net.item_logits(users, lists.rows, lists.scores, lists.novelty)  # B, O, C
        log_probs = first_place_log_probs(logits, lists.is_item)  # B, O, K
        log_options = net.high(pasts).log_softmax(dim=-1)  # S, O
        evidence = summed(log_probs.sum(dim=-1), owners, len(pasts))
        shares = (log_options + evidence).softmax(dim=-1).detach()
        of_lists = shares[owners]  # B, O
        now = mixed(log_probs.exp(), of_lists).detach()  # B, K
        weights = importance(now, lists.propensities)
        weights = weights * lists.is_item
        log_items = mixed(log_probs, of_lists)
        low = self._low_loss(net.low_value(users), log_items, weights, lists)
        returns = summed(lists.rewards.sum(dim=-1), owners, len(pasts))
        sums = summed(weights.sum(dim=-1), owners, len(pasts))
        places = lists.is_item.float().sum(dim=-1)
        counts = summed(places, owners, len(pasts))
        log_session = (shares * log_options).sum(dim=-1)
        expected = net.high_value(pasts)[:, 0]
        high = self._high_loss(expected, log_session, sums / counts, returns)
        of_items = entropy(logits.log_softmax(dim=-1))
        item_spread = (of_lists * of_items).sum(dim=-1)
        spread = entropy(log_options).mean() + item_spread.mean()
        return low + high - self.entropy * spread

    def _low_loss(
        self, expected: Tensor, log_probs: Tensor, weights: Tensor, lists: "ListTensors"
    ) -> Tensor:
        """Return the loss () of the lower policy and its baseline (B, 1)."""
        baseline = mse_loss(expected.expand_as(lists.rewards), lists.rewards)
        leads = scaled((lists.rewards - expected.detach()) * lists.is_item)
        return baseline - (weights * leads * log_probs).sum() / lists.is_item.sum()

    def _high_loss(
        self, expected: Tensor, log_probs: Tensor, weights: Tensor, returns: Tensor
    ) -> Tensor:
        """Return the loss () of the upper policy and its baseline (S,)."""
        baseline = mse_loss(expected, returns)
        leads = scaled(returns - expected.detach())
        return baseline - (weights * leads * log_probs).mean()

    def _make_net(self) -> nn.Module:
        features = len(PAST_FEATURES) + self.vectors_.shape[1]
        return OptionNet(self.vectors_, features, self.options, self.width)

    def _visits(self, queries: Queries) -> Visits:
        """Return the session and the past of queries over `items_`."""
        recent = queries.keep_events(queries.histories.from_end < self.length)
        histories = recent.histories
        novelty = event_novelty(histories, self.vectors_)
        in_session = sessions_back(recent) == 0
        session = histories.keep(in_session)
        starts = session.offsets[:-1]
        rows, _ = pad_rows(session.values, starts, session.lengths)
        values, _ = pad_rows(novelty[in_session], starts, session.lengths)
        past = histories.keep(~in_session)
        summaries = summaries_of(past, novelty[~in_session], self.usual_, self.vectors_)
        mean, divisor = self.summary_moments_
        summaries = (summaries - mean) / divisor
        return Visits(rows.astype(np.int64), values, session.lengths, summaries)

    def _logged_candidates(self, data: Dataset, log: ShownLists, run: Run) -> Candidates:
        """Return the items shown, and behind them the base's others.

        The base scores the lists of some users from the events of the others.
        """
        fold_of_user = run.rng("folds").permutation(len(data.users)) % FOLDS
        fold_of_event = fold_of_user[data.users.codes(data.events["user_id"])]
        user_ids = log.queries.user_ids.tolist()
        users = data.users.rows(user_ids)
        fold_of_list = np.where(users >= 0, fold_of_user[users], 0)
        width = log.rows.shape[1] + self.depth
        rows = np.full((len(log), width), -1, np.int32)
        scores = np.zeros(rows.shape, np.float32)
        for fold in range(FOLDS):
            is_other = fold_of_event != fold
            others = data.cut(is_other) if is_other.any() else data
            base = clone(self.base).fit(others, run)
            numbers = np.flatnonzero(fold_of_list == fold)
            queries = log.queries.take(numbers).without_history()
            pool = base.recommend(queries, self.depth)
            pool = pool.reindexed(self.items_)
            of_fold, of_scores = joined(log.rows[numbers], pool)
            filled = of_fold.shape[1]
            rows[numbers, :filled] = of_fold
            scores[numbers, :filled] = of_scores
        return Candidates(rows, scores, self._novelty_of(rows, log.queries))

    def _novelty_of(self, rows: np.ndarray, queries: Queries) -> np.ndarray:
        """Return (R, C) 1 - the largest cosine of items (R, C) with the latest events."""
        recent = queries.histories.last(RECENT)
        events, is_event = pad_rows(recent.values, recent.offsets[:-1], recent.lengths)
        items = self.vectors_[np.maximum(rows, 0)]  # R, C, D
        novelty = np.ones(rows.shape, np.float32)
        for column, is_real in zip(events.T, is_event.T, strict=True):
            latest = self.vectors_[column]  # R, D
            cosines = np.einsum("rd,rcd->rc", latest, items)
            cosines[~is_real] = 0.0
            novelty = np.minimum(novelty, 1 - cosines)
        return novelty

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        depth = max(2 * k, self.depth)
        pool = self.base_.recommend(queries, depth, candidates)
        pool = pool.reindexed(self.items_)
        width = min(k, pool.rows.shape[1])
        if not width or not len(queries):
            empty = Rankings.empty(self.items_, len(queries), k)
            return replace(empty, notes=pool.notes)
        is_short = np.minimum(pool.lengths, width) < k
        notes = {i: note for i, note in pool.notes.items() if is_short[i]}
        drawn = self._drawn(queries.reindexed(self.items_), pool, width)
        return replace(drawn, notes=notes)

    def _drawn(self, queries: Queries, pool: Rankings, k: int) -> Rankings:
        """Return lists of k items drawn from a pool, with novelty, propensities and appetites."""
        novelty = self._novelty_of(pool.rows, queries)
        pooled = Candidates(pool.rows, unit_scores(pool), novelty)
        visits = self._visits(queries)
        log_options, logits = self._policies(visits, pooled)
        order = np.full((len(queries), k), -1)
        values = np.full(order.shape, -np.inf, np.float32)
        propensities = np.full(order.shape, np.nan, np.float32)
        keys = past_keys(queries)
        lengths = np.minimum(pool.lengths, k)
        for i, size in enumerate(lengths.tolist()):
            request_id = queries.request_id(i)
            option = self._option(log_options[i], keys[i], request_id)
            worths = logits[i, option].astype(np.float64)
            places, shares = self._draw(worths, size, request_id)
            order[i, :size] = places
            propensities[i, :size] = shares
            values[i, :size] = worths[places]
        columns = {**pool.columns, NOVELTY: novelty}
        lists = replace(pool, columns=columns).reordered(order)
        appetites = self._expected(np.exp(log_options)).round(4).astype(object)
        details = np.repeat(appetites[:, None], k, axis=1)
        details[order < 0] = None
        columns = {**lists.columns, PROPENSITY: propensities}
        return replace(lists, scores=values, columns=columns, details={APPETITE: details})

    def _draw(
        self, worths: np.ndarray, k: int, request_id: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the places (k,) of a list drawn by log-worths (C,), and their probabilities."""
        if request_id is None:
            return np.argsort(-worths, kind="stable")[:k], np.ones(k)
        noise = Run(self.seed).rng("list", request_id).gumbel(size=len(worths))
        order = np.argsort(-(worths + noise), kind="stable")[:k]
        return order, place_shares(worths, order)

    def _policies(self, visits: Visits, pooled: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-probabilities (R, O) of options, and logits (R, O, C) of items."""
        net = self._ready()
        events, novelty, lengths, pasts = map(torch.from_numpy, visits)
        with torch.inference_mode():
            log_options = net.high(pasts).log_softmax(dim=-1)
            states = net.states(events, novelty, lengths)
            users = torch.cat([states, pasts], dim=-1)
            logits = net.item_logits(users, *map(torch.from_numpy, pooled))
        return log_options.numpy(), logits.numpy()

    def _option(self, log_options: np.ndarray, key: str, request_id: str | None) -> int:
        """Return the option of a session; one is drawn from the key of its past."""
        if request_id is None:
            return int(log_options.argmax())
        noise = Run(self.seed).rng("session", key).gumbel(size=len(log_options))
        return int((log_options + noise).argmax())

    def _expected(self, shares: np.ndarray) -> np.ndarray:
        """Return (...,) the expected option of shares (..., O), scaled to 0 to 1."""
        return np.asarray(shares @ np.arange(self.options)) / max(self.options - 1, 1)

    def option_shares(self, queries: Queries) -> np.ndarray:
        """Return (n, O) the probability of each option of a session that the queries begin."""
        self._check_fitted()
        summaries = self._visits(queries.reindexed(self.items_)).summaries
        with torch.inference_mode():
            shares = self._ready().high(torch.from_numpy(summaries)).softmax(dim=-1)
        return np.asarray(shares.numpy())

    def appetites(self, queries: Queries) -> Appetites:
        """Return what the options say of users' appetites for novelty.

        A session's option is inferred from the upper policy, and from how likely each option would
        have listed what was chosen before the base's present candidates. What a user wants in
        general is the mean over past sessions, and one session of which nothing is known.
        """
        self._check_fitted()
        pool = self.base_.recommend(queries, self.depth).reindexed(self.items_)
        queries = queries.reindexed(self.items_)
        queries = queries.keep_events(queries.histories.from_end < self.length)
        evidence = self._event_evidence(queries, pool)  # m, O
        back = sessions_back(queries)
        owners = queries.histories.row_ids
        shape = (len(queries), int(back.max(initial=0)) + 1)
        sums = np.zeros((*shape, self.options))
        np.add.at(sums, (owners, back), evidence)
        shares = self.option_shares(queries)
        prior = np.log(shares)[:, None]
        posterior = softmax(prior + sums, axis=2)
        expected = self._expected(posterior)
        is_past = np.zeros(shape, dtype=bool)
        is_past[owners, back] = back > 0
        of_past = (expected * is_past).sum(axis=1)
        sessions = 1 + is_past.sum(axis=1)
        lasting = (self._expected(shares) + of_past) / sessions
        return Appetites(lasting, expected[:, 0])

    def _event_evidence(self, queries: Queries, pool: Rankings) -> np.ndarray:
        """Return (m, O) the log-likelihood of each event before the candidates of a pool.

        All are compared as a session's first, and the base's scores are left out: they are the
        same for all options.
        """
        histories = queries.histories
        starts = histories.offsets[:-1]
        events, is_event = pad_rows(histories.values, starts, histories.lengths)
        of_events = event_novelty(histories, self.vectors_)
        event_values, _ = pad_rows(of_events, starts, histories.lengths)
        pool_values = self._novelty_of(pool.rows, queries)
        event_rows = np.where(is_event, events, -1)
        rows = np.concatenate([event_rows, pool.rows], axis=1)
        values = np.concatenate([event_values, pool_values], axis=1)
        even = np.zeros(rows.shape, np.float32)
        visits = self._visits(queries)
        begun = visits._replace(lengths=np.zeros_like(visits.lengths))
        _, logits = self._policies(begun, Candidates(rows, even, values))
        of_events, others = np.split(logits, [events.shape[1]], axis=2)
        others = np.maximum(others, NEVER)
        total = logsumexp(others, axis=2, keepdims=True)
        likely = of_events - np.logaddexp(of_events, total)  # n, O, T
        by_event = likely.transpose(0, 2, 1)
        return np.asarray(by_event[is_event])

    @classmethod
    def tiny(cls) -> Self:
        inner = {"class": "CoVisitation"}
        small = {"width": 4, "dims": 4, "length": 10, "epochs": 2, "options": 3}
        return build({"class": cls.__name__, "base": inner, **small}, cls)


class ListTensors(NamedTuple):
    """The lists of some sessions as tensors; for the shapes see Visits, Candidates and Logged."""

    events: Tensor
    event_novelty: Tensor
    lengths: Tensor
    summaries: Tensor
    rows: Tensor
    scores: Tensor
    novelty: Tensor
    rewards: Tensor
    propensities: Tensor
    is_item: Tensor


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

    def tensors(self) -> ListTensors:
        """Return the same as tensors; events are cut to the longest session."""
        events, novelty, lengths, summaries = self.visits
        longest = int(lengths.max(initial=0))
        events = np.ascontiguousarray(events[:, :longest])
        novelty = np.ascontiguousarray(novelty[:, :longest])
        visits = (events, novelty, lengths, summaries)
        propensities = self.propensities.astype(np.float32)
        columns = (*visits, *self.candidates, self.rewards, propensities, self.is_item)
        return ListTensors(*map(torch.from_numpy, columns))


def joined(rows: np.ndarray, pool: Rankings) -> tuple[np.ndarray, np.ndarray]:
    """Return lists (R, K) with a pool behind them, and the pool's scores of all: 0 for none.

    What stands in the list already is no item (-1) in the pool.
    """
    scores = unit_scores(pool)
    of_rows = np.zeros(rows.shape, np.float32)
    others = pool.rows.copy()
    for place, column in enumerate(rows.T):
        is_same = (pool.rows == column[:, None]) & (pool.rows >= 0)
        listed, position = np.nonzero(is_same)
        of_rows[listed, place] = scores[listed, position]
        others[is_same] = -1
    all_rows = np.concatenate([rows, others], axis=1)
    all_scores = np.concatenate([of_rows, scores], axis=1)
    return all_rows, all_scores


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


def past_keys(queries: Queries) -> list[str]:
    """Return for each query a key of the user and the events before the session."""
    past = queries.histories.keep(sessions_back(queries) > 0)
    names = queries.catalogue.named(past.values)
    offsets = past.offsets.tolist()
    owners = [
        user_id if user_id is not None else f"request {queries.request_id(i)}"
        for i, user_id in enumerate(queries.user_ids.tolist())
    ]
    return [
        "\0".join([owner, *names[offsets[i] : offsets[i + 1]]]) for i, owner in enumerate(owners)
    ]


def event_novelty(histories: Ragged, vectors: np.ndarray) -> np.ndarray:
    """Return (m,) 1 - the largest cosine with the latest events before; 1 for the first."""
    rows = histories.values
    position = histories.from_start
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
    position = past.from_start
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
    means = summaries.mean(axis=0)
    divisors = summaries.std(axis=0) + 1e-3
    of_vector = divisors[len(PAST_FEATURES) :]
    of_vector *= np.sqrt(len(of_vector))
    moments = np.stack([means, divisors])
    return moments.astype(np.float32)


def mean_of_rows(rows: Ragged, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return (n,) the mean of each row's values (m,) where `mask`, and of one 0."""
    sums = np.bincount(rows.row_ids, values * mask, len(rows))
    return sums / (np.bincount(rows.row_ids, mask, len(rows)) + 1)


def unit_scores(lists: Rankings) -> np.ndarray:
    """Return (R, C) float32 scores of lists, from 0 to 1 within each; 0 for no item."""
    is_item = lists.rows >= 0
    finite = np.where(is_item, lists.scores, np.nan)
    shares = np.zeros(finite.shape, np.float32)
    for number in np.flatnonzero(is_item.any(axis=1)):
        row = finite[number]
        low = np.nanmin(row)
        span = np.nanmax(row) - low
        shares[number] = (row - low) / span if span else 1.0
    return np.where(is_item, shares, 0.0).astype(np.float32)


def first_place_log_probs(logits: Tensor, is_item: Tensor) -> Tensor:
    """Return (B, O, K) log-probabilities of lists that are the first K of the candidates.

    0 where there is no item in a place, `is_item` (B, K).
    """
    places = torch.arange(is_item.shape[1]).expand(*logits.shape[:2], -1)
    return place_log_probs(logits, places).masked_fill(~is_item[:, None], 0.0)


def place_shares(logits: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return (K,) the probability of each place of an order, after the places before it."""
    values = torch.from_numpy(logits)
    return np.asarray(place_log_probs(values, torch.from_numpy(order)).exp().numpy())
