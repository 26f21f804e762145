"""OneRec: write a whole list for the visit, then learn from its own best and worst lists.

Shapes: B visits or queries, T events of a history, J items written so far, K items of a list,
G lists drawn for each, W lists kept by the search, L digits, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.sessions import SESSION_MS
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.generative.engagement import Engagement, RewardTraining, ShownActions
from tailor.generative.speller import Speller
from tailor.generative.speller_policy import Prompts, Reward, SpellerPolicy
from tailor.nn.blocks import expert_blocks, load_balance
from tailor.nn.codebooks import CodeKind
from tailor.nn.decoding import AllowedItems, beam_search, draw, log_probs_among
from tailor.nn.packing import pack_batches, pad_rows
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.text.hashing import HashingEncoder
from tailor.training.alignment import Alignment
from tailor.training.sequences import TrainingData, Windows, as_tensor
from tailor.training.validation import run_key

PAPER = Paper(
    "onerec",
    "OneRec: Unifying Retrieve and Rank with Generative Recommender and Iterative Preference"
    " Alignment",
    "https://arxiv.org/abs/2502.18965",
    "After at most three rounds of preferences among its own lists their true utility is above that"
    " of the net before, lists drawn without a rule against repeats repeat no more often, and the"
    " next item is found at most 5 % less often",
)
BALANCE = 0.01  # weight of the experts' load balance
NONE = np.zeros((0, 0), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Visits(Windows):
    """Histories, and the list that each was followed by."""

    lists: np.ndarray = field(default_factory=lambda: NONE)
    """(B, K) different items of the visit that followed, in order; -1 after the last."""

    def take(self, numbers: np.ndarray) -> "Visits":
        return replace(
            self,
            starts=self.starts[numbers],
            lengths=self.lengths[numbers],
            lists=self.lists[numbers],
        )

    @classmethod
    def of(
        cls, rows: Ragged, times_ms: np.ndarray | None, length: int, size: int, least: int
    ) -> "Visits":
        """Return the good visits of histories, each with the `length` events before it.

        A visit ends with an hour without an event. It is good if at least `least` items were
        chosen in it, and the user came back to one of them. Where none is, all of several items
        are taken, and where there are no times or no such visits, every `size` events are one.
        """
        first_of_user = np.repeat(rows.offsets[:-1], rows.lengths)
        begins = rows.from_start == 0
        if times_ms is not None:
            begins[1:] |= np.diff(times_ms) > SESSION_MS
            visits = _visits_of(rows.values, begins, first_of_user)
            is_good = (visits.counts >= least) & visits.has_return
            for mask in (is_good, visits.counts >= 2):
                if (mask & visits.has_past).any():
                    return visits.windows(mask & visits.has_past, rows, times_ms, length, size)
        begins = (rows.from_start - 1) % size == 0
        begins[rows.from_start == 0] = True
        visits = _visits_of(rows.values, begins, first_of_user)
        return visits.windows(visits.has_past, rows, times_ms, length, size)


@dataclass(frozen=True, eq=False)
class _VisitTable:
    """All visits of a log, in order."""

    starts: np.ndarray
    """First event of each."""
    firsts: np.ndarray
    """First event of its user."""
    items: Ragged
    """Different items chosen in it."""
    events: np.ndarray
    """Number of events of each."""

    @property
    def counts(self) -> np.ndarray:
        return self.items.lengths

    @property
    def has_return(self) -> np.ndarray:
        return self.events > self.counts

    @property
    def has_past(self) -> np.ndarray:
        return self.starts > self.firsts

    def windows(
        self, mask: np.ndarray, rows: Ragged, times_ms: np.ndarray | None, length: int, size: int
    ) -> Visits:
        """Return the visits of a mask as windows."""
        numbers = np.flatnonzero(mask)
        items = self.items.take(numbers)
        lists, is_item = pad_rows(items.values, items.offsets[:-1], np.minimum(items.lengths, size))
        lists = np.where(is_item, lists, -1).astype(np.int64)
        lengths = np.minimum(self.starts[numbers] - self.firsts[numbers], length)
        starts = self.starts[numbers] - lengths
        return Visits(rows.values, starts, lengths, times_ms, every_place=False, lists=lists)


def _visits_of(values: np.ndarray, begins: np.ndarray, first_of_user: np.ndarray) -> _VisitTable:
    starts = np.flatnonzero(begins)
    visit = np.cumsum(begins) - 1
    size = int(values.max(initial=0)) + 1
    _, first = np.unique(visit * size + values, return_index=True)
    first = np.sort(first)
    items = Ragged.of_lengths(np.bincount(visit[first], minlength=len(starts)), values[first])
    events = np.bincount(visit, minlength=len(starts))
    return _VisitTable(starts, first_of_user[starts], items, events)


@dataclass(eq=False)
class ListPolicy(SpellerPolicy):
    """OneRec as a policy whose answers are lists (B, G, K) of item rows."""

    method: "OneRec"

    def prompts(self, rng: np.random.Generator) -> Prompts:
        visits = self.method._visits(self.training.rows, self.training.times_ms)
        numbers = np.sort(
            rng.choice(len(visits.starts), min(self.batch, len(visits.starts)), replace=False)
        )
        visits = visits.take(numbers)
        stops = visits.starts + visits.lengths
        users = np.searchsorted(self.training.rows.offsets, stops, side="right") - 1
        return Prompts(users, visits, visits.lists[:, 0])

    def draw(self, prompts: Prompts, draws: int, generator: torch.Generator) -> Tensor:
        windows = _repeated(prompts.windows, draws)
        size = min(self.method.size, len(self.method.items_))
        trie = self.net.trie.to(self.net.device)
        lists = np.zeros((len(windows.starts), 0), dtype=np.int64)
        for _ in range(size):
            states = self.method._slot_states(windows, lists)[:, -1]
            allowed = AllowedItems(trie, Ragged.of(lists.tolist()))
            codes, _ = draw(self.net, states, trie, 1, generator, allowed=allowed)
            rows = trie.items_of(codes[:, 0]).cpu().numpy()
            lists = np.concatenate([lists, rows[:, None]], axis=1)
        return torch.from_numpy(lists).unflatten(0, (-1, draws))

    def log_probs(self, prompts: Prompts, answers: Tensor) -> Tensor:
        lists = answers.flatten(0, 1).cpu().numpy()
        windows = _repeated(prompts.windows, answers.shape[1])
        states = self.method._slot_states(windows, lists[:, :-1])
        trie = self.net.trie.to(states.device)
        taken = [row[:length] for row in lists.tolist() for length in range(len(row))]
        items = as_tensor(lists.ravel(), self.net)
        values = log_probs_among(
            self.net, states.flatten(0, 1), trie, items, AllowedItems(trie, Ragged.of(taken))
        )
        return values.unflatten(0, lists.shape).sum(dim=1).unflatten(0, answers.shape[:2])

    def legality(self, answers: Tensor) -> float:
        """Return the share of lists of different items that all exist."""
        ordered = np.sort(self.items_of(answers), axis=2)
        repeats = (np.diff(ordered, axis=2) == 0).any(axis=2)
        return float(((ordered >= 0).all(axis=2) & ~repeats).mean())

    def items_of(self, answers: Tensor) -> np.ndarray:
        return answers.cpu().numpy()

    def kept_loss(self, rng: np.random.Generator) -> Tensor:
        return self.method._loss(self.prompts(rng).windows, self.training, rng)


class ListDecoder(SemanticIdDecoder):
    """A decoder of semantic ids with a mark that ends the history and begins the list."""

    mark: nn.Parameter


@dataclass(eq=False)
class OneRec(Speller):
    """Write a page as one list, each item with the history and the items before it in view.

    The net reads the history, a mark, and the visit's items one after the other, and spells each;
    blocks are mixtures of experts. It learns from good visits. A reward net, learned from shown
    lists, then judges lists that the net draws: the best of a history's lists becomes likelier than
    the worst (DPO), in rounds whose reference is the net of the round before. No item stands twice
    in a list, in drawing and in searching alike.

    Differs from the paper: one causal net instead of an encoder and a decoder; one token an item;
    lists are drawn by chance, not by beam; a visit is good if the user came back to one of its
    items (a cart, an order), since histories have no watch time. Without impressions no reward is
    learned, and the lists are those of the log.
    """

    codes: CodeKind = "balanced"
    """Kind of codes: "balanced" shares items out evenly; "residual", "autoencoder", ...: see
    `nn/codebooks.py`.
    """
    size: int = 5
    """Items of a list; further ones follow by their probability after it."""
    mode: Literal["list", "items"] = "list"
    """Whether items are written as one list, or are the likeliest first items of one."""
    kept_lists: int = 4
    """Lists that the search keeps."""
    least: int = 2
    """Different items of a visit, at least, for a list to be learned from it."""
    experts: int = 4
    """Feed-forward nets of a block, of which each position uses the best two."""
    outcomes: tuple[str, ...] = ()
    """Labels or conditions of the events that the reward foresees; (): all labels of the data."""
    rounds: int = 2
    """Times that lists are drawn anew; 0: preferences teach nothing."""
    round_batches: int = 16
    """Batches of 64 visits per round."""
    steps_per_batch: int = 1
    """Steps per batch; from the second one on the net differs from the one that drew its lists."""
    draws: int = 16
    """Lists drawn per history."""
    beta: Annotated[float, Range(0.02, 1.0, log=True)] = 0.1
    """Sharpness of preferences."""
    reward_lr: Annotated[float, Range(1e-4, 1e-2, log=True)] = 1e-3
    """Peak learning rate while preferences teach."""
    keep: Annotated[float, Range(0.0, 1.0)] = 0.3
    """Weight of the loss on the log while preferences teach."""

    def __post_init__(self) -> None:
        super().__post_init__()
        minima = {"size": 1, "kept_lists": 1, "least": 1, "experts": 1, "rounds": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if self.exact and self.mode == "list":
            raise DataError('exact scores every item, and no list: set mode = "items"')
        self._alignment()

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            encoder=HashingEncoder(32), levels=2, width=8, length=10, size=3, epochs=3, rounds=1
        )

    def _alignment(self) -> Alignment:
        return Alignment(
            "dpo",
            rounds=max(self.rounds, 1),
            batches=self.round_batches,
            updates=self.steps_per_batch,
            draws=self.draws,
            lr=self.reward_lr,
            keep=self.keep,
            beta=self.beta,
            refreshes=True,
        )

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        super()._fit(data, run, valid)
        if self.rounds:
            self._adopt(self._preferred, data, run, valid)

    def preferred(self, data: Dataset, run: Run = Run()) -> Self:
        """Return a copy taught by its own best and worst lists, with the impressions of `data`."""
        self._check_fitted()
        return self._preferred(data, run)

    def _layers(self) -> list[nn.Module]:
        return expert_blocks(self.blocks, self.width, self.heads, self.dropout, self.experts)

    def _longest(self) -> int:
        return self.length + 1 + self.size

    def _make_net(self) -> SemanticIdDecoder:
        net = super()._make_net()
        net.mark = nn.Parameter(torch.randn(self.width) * 0.02)
        return net

    def _visits(self, rows: Ragged, times_ms: np.ndarray | None) -> Visits:
        return Visits.of(rows, times_ms, self.length, self.size, self.least)

    def _batches(self, windows: Windows, rows: Ragged, rng: np.random.Generator) -> list[Windows]:
        visits = self._visits(rows, windows.times_ms)
        batches = pack_batches(visits.lengths + self.size, self.batch_places, rng)
        return [visits.take(numbers) for numbers in batches]

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the loss of every item of the lists, after the items before it."""
        assert isinstance(batch, Visits)
        net = self._net
        states = self._slot_states(batch, batch.lists[:, :-1])
        is_item = batch.lists >= 0
        flat = states.flatten(0, 1)[as_tensor(np.flatnonzero(is_item), net)]
        loss = net.loss(flat, as_tensor(batch.lists[is_item], net), self.closed)
        return loss + BALANCE * load_balance(net)

    def _slot_states(self, windows: Windows, lists: np.ndarray) -> Tensor:
        """Return states (B, J + 1, D): at the mark, and after each item of lists (B, J)."""
        net = self._ready()
        count = lists.shape[1]
        history, _ = pad_rows(windows.rows, windows.starts, windows.lengths)
        rows = np.zeros((len(history), history.shape[1] + 1 + count), dtype=np.int64)
        rows[:, : history.shape[1]] = history
        slots = windows.lengths[:, None] + np.arange(count + 1)  # B, J + 1; the first is the mark
        owners = np.arange(len(rows))[:, None]
        rows[owners, slots[:, 1:]] = np.maximum(lists, 0)
        is_mark = np.arange(rows.shape[1]) == slots[:, :1]
        marks = torch.from_numpy(is_mark).to(net.device)[:, :, None]
        vectors = net.body.table(as_tensor(rows, net))
        vectors = torch.where(marks, net.mark.to(vectors.dtype), vectors)
        states = net.body.states(vectors)
        return states[as_tensor(owners, net), as_tensor(slots, net)]

    # preferences

    def _policy(self, training: TrainingData, reward: Reward, closed: bool) -> SpellerPolicy:
        return ListPolicy(self, training, reward, closed=closed)

    def _preferred(self, data: Dataset, run: Run) -> Self:
        method = self._with_state()
        method._net = self._ready()
        training = self._known_training(data)
        actions = self.outcomes or tuple(data.labels)
        settings = RewardTraining()
        log = ShownActions.of(data, self.items_, actions, settings.length)
        reason = ""
        if len(self.items_) < 2 or not training.has_pairs:
            reason = "there is nothing to choose between"
        elif not len(log):
            reason = "the log has no impressions of which a reward could be learned"
        if reason:
            method.fit_report_ = {**self.fit_report_, "alignment": {"stopped": reason}}
            return method
        engagement = self._reward_net(log, actions, settings, data, run)
        taught = self._taught(data, _sum_of_towers(engagement), self._alignment(), run)
        taught.fit_report_["reward"] = engagement.report
        return taught

    def _reward_net(
        self,
        log: ShownActions,
        actions: Sequence[str],
        settings: RewardTraining,
        data: Dataset,
        run: Run,
    ) -> Engagement:
        vectors = self._describing_vectors(data, run)
        key = f"{run_key(self, data, None, run)}-reward"
        return Engagement.fit(log, actions, vectors, settings, run, key, listwise=True)

    # answering

    def _query_states(self, windows: Windows, queries: Queries) -> Tensor:
        return self._slot_states(windows, np.zeros((len(windows.starts), 0), np.int64))[:, 0]

    def _rank_by_beam(
        self, states: Tensor, k: int, queries: Queries, candidates: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, k) of the likeliest list, and of what follows it.

        A score is the log-probability of the list up to its item.
        """
        if self.mode == "items":
            return super()._rank_by_beam(states, k, queries, candidates)
        recent = queries.histories.last(self.length)
        windows = Windows(recent.values, recent.offsets[:-1], recent.lengths)
        search = _ListSearch(self, windows, queries, candidates)
        size = min(k, self.size, len(self.items_))
        for _ in range(size):
            search.extend()
        rows, scores = search.best()
        if k <= size or size == len(self.items_):
            return rows, scores
        nexts, values = search.followers(k - size)
        return np.hstack([rows, nexts]), np.hstack([scores, values])


class _ListSearch:
    """Beam search over lists: each kept list is made longer by its likeliest next items."""

    def __init__(
        self, method: OneRec, windows: Windows, queries: Queries, candidates: Ragged | None
    ) -> None:
        self.method = method
        self.windows = windows
        self.queries = queries
        self.candidates = candidates
        n = len(windows.starts)
        self.lists = np.zeros((n, 1, 0), dtype=np.int64)  # B, W, J
        self.scores = np.zeros((n, 1, 0), dtype=np.float32)  # B, W, J: totals up to each item
        self.totals = np.zeros((n, 1), dtype=np.float32)  # B, W

    def extend(self) -> None:
        """Make every list one item longer, and keep the likeliest."""
        n = len(self.lists)
        rows, scores = self._next_items(self.method.kept_lists)
        totals = (self.totals[:, :, None] + scores).reshape(n, -1)
        order = np.argsort(-totals, axis=1, kind="stable")[:, : self.method.kept_lists]
        parent = order // rows.shape[2]
        numbers = np.arange(n)[:, None]
        self.totals = totals[numbers, order]
        items = rows.reshape(n, -1)[numbers, order]
        self.lists = np.concatenate([self.lists[numbers, parent], items[:, :, None]], axis=2)
        self.scores = np.concatenate(
            [self.scores[numbers, parent], self.totals[:, :, None]], axis=2
        )

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, J) of the likeliest list; keep it alone."""
        self.lists = self.lists[:, :1]
        self.totals = self.totals[:, :1]
        self.scores = self.scores[:, :1]
        return self.lists[:, 0], self.scores[:, 0]

    def followers(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, count) of the likeliest items after the best list."""
        rows, scores = self._next_items(count)
        return rows[:, 0], self.totals[:, :1] + scores[:, 0]

    def _next_items(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and log-probabilities (B, W, count) of the likeliest next items."""
        method = self.method
        n, list_count, length = self.lists.shape
        net = method._ready()
        trie = net.trie.to(net.device)
        lists = self.lists.reshape(n * list_count, length)
        states = method._slot_states(_repeated(self.windows, list_count), lists)[:, -1]
        owners = np.repeat(np.arange(n), list_count)
        allowed = AllowedItems(
            trie,
            self._excluded(owners, lists),
            self.queries.blocked_rows,
            None if self.candidates is None else self.candidates.take(owners),
        )
        width = min(max(method.beams, 2 * count), len(method.items_))
        rows, scores = beam_search(net, states, trie, width, allowed, method.closed)
        shape = (n, list_count, min(count, width))
        return (
            rows[:, :count].cpu().numpy().reshape(shape),
            scores[:, :count].cpu().numpy().reshape(shape),
        )

    def _excluded(self, owners: np.ndarray, lists: np.ndarray) -> Ragged:
        """Return what each list may not take: what is excluded, and what it has."""
        rows = lists.tolist()
        if self.queries.exclude is not None:
            excluded = self.queries.exclude
            rows = [[*row, *excluded[owner]] for row, owner in zip(rows, owners, strict=True)]
        return Ragged.of([[item for item in row if item >= 0] for row in rows])


def _sum_of_towers(engagement: Engagement) -> Reward:
    """Return the reward of lists: the sum over towers of their mean probability."""

    def reward(prompts: Prompts, lists: np.ndarray) -> np.ndarray:
        windows = _repeated(prompts.windows, lists.shape[1])
        flat = lists.reshape(-1, lists.shape[2])
        probabilities = engagement.probabilities(_histories(windows), flat)[:, :, :-1]
        totals: np.ndarray = probabilities.sum(axis=2).mean(axis=1).reshape(lists.shape[:2])
        return totals

    return reward


def _histories(windows: Windows) -> Ragged:
    rows, mask = pad_rows(windows.rows, windows.starts, windows.lengths)
    return Ragged.of_lengths(windows.lengths, rows[mask])


def _repeated(windows: Windows, times: int) -> Windows:
    """Return every window `times` times, one after the other."""
    return windows.take(np.repeat(np.arange(len(windows.starts)), times))
