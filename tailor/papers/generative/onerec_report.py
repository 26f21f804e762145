"""OneRec's technical report: rewards by name teach a speller, with bad answers bounded early.

Shapes: M states, B prompts, G codes drawn for each, P events of a path, C clusters, N items,
D width.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest
from tailor.generative.engagement import Engagement, RewardTraining, ShownActions
from tailor.generative.speller import Speller
from tailor.generative.speller_policy import Prompts
from tailor.nn.attention import CrossAttention
from tailor.nn.blocks import expert_blocks, load_balance
from tailor.nn.fitting import Recipe, fit_net
from tailor.nn.losses import InfoNCE
from tailor.nn.packing import pad_rows
from tailor.nn.quantizers import unit
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.text.hashing import HashingEncoder
from tailor.training.alignment import Alignment
from tailor.training.rewards import legal, share_of, weighted
from tailor.training.sequences import Task, TrainingData, Windows, as_tensor
from tailor.training.validation import run_key

PAPER = Paper(
    "onerec-report",
    "OneRec Technical Report",
    "https://arxiv.org/abs/2506.13695",
    "Free decoding comes to name items that exist in 99 % of draws or more, true utility rises over"
    " next-token training, a category's share rises with its weight, and at ten times the learning"
    " rate bounded steps keep more entropy and more legality than plain ones",
)
PSCORE, LEGAL = "pscore", "legal"
TOKENS = 8  # that the lifelong path is compressed to
CLUSTERS = 16  # of the lifelong path, at most: those with most events
NEAR = 2  # places within which two items count as chosen together
CONTRAST_STEPS = 100  # at least, and one pass over the pairs
CONTRAST_LR = 3e-3
CONTRAST_BATCH = 512
CONTRAST_TEMPERATURE = 0.07
BALANCE = 0.01  # weight of the experts' load balance


@dataclass(frozen=True, eq=False)
class Paths:
    """Two longer paths of M histories: events that came back to an item, and clusters of all."""

    received: Ragged
    """(M,) item rows of the latest events that came back to an item."""
    clusters: Ragged
    """(M,) numbers of clusters, those with most events first."""
    pairs: np.ndarray
    """(E, 2) number of a cluster, and an item row in it."""
    shares: np.ndarray
    """(E,) share of the cluster's events that are the item's."""

    @classmethod
    def of(cls, earlier: Ragged, groups: np.ndarray, received: int) -> "Paths":
        """Return the paths of histories `earlier`; `groups` (N,) are clusters of the items."""
        size = len(groups)
        owners = earlier.row_ids
        returns = earlier.keep(_comes_back(owners * size + earlier.values))
        kinds, events = np.unique(
            owners * (int(groups.max(initial=0)) + 1) + groups[earlier.values], return_inverse=True
        )
        kind_counts = np.bincount(events, minlength=len(kinds))
        kind_owners = kinds // (int(groups.max(initial=0)) + 1)
        order = np.lexsort((-kind_counts, kind_owners))
        by_owner = Ragged.of_lengths(np.bincount(kind_owners, minlength=len(earlier)), order)
        largest = by_owner.keep(by_owner.from_start < CLUSTERS)
        number = np.full(len(kinds), -1)
        number[largest.values] = np.arange(len(largest.values))
        is_kept = number[events] >= 0
        keys = number[events[is_kept]] * size + earlier.values[is_kept]
        distinct, counts = np.unique(keys, return_counts=True)
        pairs = np.stack([distinct // size, distinct % size], axis=1)
        totals = kind_counts[largest.values][pairs[:, 0]]
        clusters = largest.with_values(np.arange(len(largest.values)))
        return cls(returns.last(received), clusters, pairs, (counts / totals).astype(np.float32))


class HistoryPaths(nn.Module):
    """Let states read two longer paths: what was well received, and all of a life in clusters."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(TOKENS, width) * 0.02)
        self.beginning = nn.Parameter(torch.zeros(width))  # so that no life is empty
        self.compress = CrossAttention(width, heads)
        self.read = CrossAttention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Tensor, table: nn.Module, paths: Paths) -> Tensor:
        """Return states (M, D) changed by their paths; `table` makes vectors of item rows."""
        lengths = as_tensor(paths.clusters.lengths + 1, self)
        means = self._padded(paths.clusters, self._means(table, paths))  # M, C, D
        beginning = self.beginning.expand(len(states), 1, -1)
        queries = self.queries.expand(len(states), -1, -1)
        life = self.compress(queries, torch.cat([beginning, means], dim=1), lengths)
        rows, inverse = np.unique(paths.received.values, return_inverse=True)
        vectors = table(as_tensor(rows, self))
        received = self._padded(paths.received.with_values(inverse), vectors)  # M, P, D
        memory = torch.cat([life, received], dim=1)
        read_lengths = as_tensor(paths.received.lengths + TOKENS, self)
        normed = self.norm(states)[:, None]
        return states + self.read(normed, memory, read_lengths)[:, 0]

    def _means(self, table: nn.Module, paths: Paths) -> Tensor:
        """Return the mean vector of every cluster's items."""
        rows, inverse = np.unique(paths.pairs[:, 1], return_inverse=True)
        distinct = table(as_tensor(rows, self))
        vectors = distinct[as_tensor(inverse, self)].float()
        shares = torch.from_numpy(paths.shares).to(self.device)
        clusters = as_tensor(paths.pairs[:, 0], self)
        sums = torch.zeros(len(paths.clusters.values), vectors.shape[1], device=self.device)
        return sums.index_add(0, clusters, vectors * shares[:, None])

    def _padded(self, numbers: Ragged, vectors: Tensor) -> Tensor:
        """Return (M, P, D) vectors by their numbers, padded at the right with anything."""
        padded, _ = pad_rows(numbers.values, numbers.offsets[:-1], numbers.lengths)
        if not len(vectors):
            return torch.zeros(*padded.shape, len(self.beginning), device=self.device)
        return vectors[as_tensor(padded, self)]

    @property
    def device(self) -> torch.device:
        return self.beginning.device


@dataclass(eq=False)
class OneRecReport(Speller):
    """Spell the next item, and learn from rewards whose weights the user sets.

    After learning from the log, the net draws codes freely. A reward judges them: `pscore`, what
    users would do with the item, learned from shown lists; `legal`, whether the code is an item's;
    and a group of items that is asked for. Codes better than their prompt's mean become likelier,
    and the step against worse ones is bounded early (ECPO). A state reads the last events, events
    that came back to an item (a cart, an order, a second visit), and clusters of all events.

    Differs from the paper: the vectors that codes are made from are of text and of choices, mapped
    by a contrast of items chosen together, instead of captions and pictures; no static features of
    users; every drawn code gets all rewards, instead of some the legality alone; one token an item.
    Without impressions `pscore` cannot be learned, and a table that asks for it teaches nothing.
    """

    ids_from: Literal["text", "behaviour", "both"] = "both"
    """What codes are made from: item texts, users' choices, or both; users' choices where there is
    no text.
    """
    closed: bool = False
    """Whether a digit's probability is shared by the continuations that exist, else by all digits.
    """
    length: int = 20
    """Most recent events that are read one by one."""
    received: int = 64
    """Most recent events that are read of those that came back to an item."""
    lifelong: int = 256
    """Most recent events that are read as clusters."""
    experts: int = 4
    """Feed-forward nets of a block, of which each position uses the best two."""
    contrast: bool = True
    """Whether vectors are mapped so that items chosen together come near each other."""
    reward: dict[str, float] = field(default_factory=lambda: {PSCORE: 1.0, LEGAL: 0.2})
    """Weights of rewards: "pscore", "legal", and "COLUMN=VALUE" of the items table, such as
    "category=new".
    """
    outcomes: tuple[str, ...] = ()
    """Labels or conditions of the events that `pscore` foresees; (): all labels of the data."""
    objective: Literal["ecpo", "grpo"] = "ecpo"
    """How rewards move the net: bounded for bad codes ("ecpo"), or not ("grpo")."""
    rounds: int = 10
    """Times that codes are drawn anew; 0: rewards teach nothing."""
    draws: int = 16
    """Codes drawn per history."""
    reward_lr: Annotated[float, Range(1e-4, 1e-2, log=True)] = 1e-3
    """Peak learning rate while rewards teach."""
    keep: Annotated[float, Range(0.0, 1.0)] = 0.3
    """Weight of the loss on the log while rewards teach."""

    def __post_init__(self) -> None:
        super().__post_init__()
        minima = {"received": 1, "lifelong": 1, "experts": 1, "rounds": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        for name in self.reward:
            if name not in (PSCORE, LEGAL) and "=" not in name:
                raise DataError(
                    f'reward "{name}": write {PSCORE}, {LEGAL}, or a column and its value as in'
                    f' "category=new".{nearest(name, [PSCORE, LEGAL])}'
                )
        self._alignment()

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            encoder=HashingEncoder(32),
            levels=2,
            width=8,
            length=10,
            epochs=3,
            rounds=1,
            reward={LEGAL: 1.0},
        )

    def _alignment(self) -> Alignment:
        return Alignment(
            self.objective,
            rounds=max(self.rounds, 1),
            draws=self.draws,
            lr=self.reward_lr,
            keep=self.keep,
        )

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        super()._fit(data, run, valid)
        if self.rounds:
            self._adopt(self._rewarded, data, run, valid)

    def rewarded(self, data: Dataset, run: Run = Run()) -> Self:
        """Return a copy that the present table `reward` has taught, on the histories of `data`.

        To try several tables, fit with `rounds=0`, then set `reward` and `rounds` of a copy.
        """
        self._check_fitted()
        return self._rewarded(data, run)

    def _code_vectors(self, training: TrainingData, run: Run) -> np.ndarray:
        vectors = super()._code_vectors(training, run)
        pairs = _near_pairs(training.rows.keep(training.rows.values >= 0))
        if not self.contrast or len(vectors) < 2 or not len(pairs):
            return vectors
        return _contrasted(vectors, pairs, run, f"{run_key(self, training.data, None, run)}-map")

    def _layers(self) -> list[nn.Module]:
        return expert_blocks(self.blocks, self.width, self.heads, self.dropout, self.experts)

    def _make_net(self) -> SemanticIdDecoder:
        net = super()._make_net()
        net.paths = HistoryPaths(self.width, self.heads)
        return net

    def _make_task(self, batch: Windows, rng: np.random.Generator) -> Task:
        """Return the task without targets that only repeat the event before."""
        task = super()._make_task(batch, rng)
        if not batch.every_place:
            return task
        is_new = task.targets != batch.rows[task.events - 1]
        if not is_new.any():
            return task
        return Task(
            task.rows,
            task.inputs,
            task.positions[is_new],
            task.targets[is_new],
            task.events[is_new],
        )

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        return super()._loss(batch, training, rng) + BALANCE * load_balance(self._net)

    def _task_states(self, task: Task, training: TrainingData, rng: np.random.Generator) -> Tensor:
        states = super()._task_states(task, training, rng)
        rows = training.rows
        users = np.searchsorted(rows.offsets, task.events, side="right") - 1
        starts = np.maximum(rows.offsets[users], task.events - self.lifelong)
        return self._with_paths(states, spans(rows.values, starts, task.events))

    def _with_paths(self, states: Tensor, earlier: Ragged) -> Tensor:
        """Return states (M, D) that have read the longer paths of their histories."""
        net = self._ready()
        paths = Paths.of(earlier, self.codes_[:, 0], self.received)
        return net.paths(states, net.body.table, paths)

    # rewards

    def _rewarded(self, data: Dataset, run: Run) -> Self:
        method = self._with_state()
        method._net = self._ready()
        training = self._known_training(data)
        shown = self._shown(data)
        reason = ""
        if len(self.items_) < 2 or not training.has_pairs:
            reason = "there is nothing to choose between"
        if self.reward.get(PSCORE) and not len(shown):
            reason = "the log has no impressions of which pscore could be learned"
        if reason:
            method.fit_report_ = {**self.fit_report_, "alignment": {"stopped": reason}}
            return method
        engagement = self._engagement(shown, data, run) if self.reward.get(PSCORE) else None
        members = {name: members_of(data, self.items_, name) for name in self.reward if "=" in name}

        def reward(prompts: Prompts, items: np.ndarray) -> np.ndarray:
            parts = {LEGAL: legal(items)}
            parts |= {name: share_of(items, mask) for name, mask in members.items()}
            if engagement is not None:
                earlier = self._before(training.rows, prompts, engagement.length)
                parts[PSCORE] = engagement.probabilities(earlier, items)[:, :, -1]
            weights = {name: weight for name, weight in self.reward.items() if name in parts}
            return weighted(parts, weights)

        try:
            taught = self._taught(data, reward, self._alignment(), run, closed=False)
        except DataError as error:  # no draw is better than another, as of two items
            method.fit_report_ = {**self.fit_report_, "alignment": {"stopped": str(error)}}
            return method
        if engagement is not None:
            taught.fit_report_["pscore"] = engagement.report
        return taught

    def _shown(self, data: Dataset) -> ShownActions:
        return ShownActions.of(data, self.items_, self._outcomes(data), RewardTraining().length)

    def _outcomes(self, data: Dataset) -> tuple[str, ...]:
        return self.outcomes or tuple(data.labels)

    def _engagement(self, shown: ShownActions, data: Dataset, run: Run) -> Engagement:
        """Return the learned P-score."""
        vectors = self._describing_vectors(data, run)
        key = f"{run_key(self, data, None, run)}-pscore"
        return Engagement.fit(shown, self._outcomes(data), vectors, RewardTraining(), run, key)

    def _before(self, rows: Ragged, prompts: Prompts, length: int) -> Ragged:
        """Return the events before each prompt's target, the last `length` of them."""
        stops = prompts.windows.starts + prompts.windows.lengths
        starts = np.maximum(rows.offsets[:-1][prompts.users], stops - length)
        return spans(rows.values, starts, stops)

    # answering

    def _query_states(self, windows: Windows, queries: Queries) -> Tensor:
        states = super()._query_states(windows, queries)
        return self._with_paths(states, queries.histories.last(self.lifelong))


def spans(values: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> Ragged:
    """Return the values from each start to before its stop."""
    lengths = stops - starts
    positions = np.arange(int(lengths.sum())) + np.repeat(
        starts - (np.cumsum(lengths) - lengths), lengths
    )
    return Ragged.of_lengths(lengths, values[positions])


def members_of(data: Dataset, items: Vocabulary, name: str) -> np.ndarray:
    """Return (N,) bool: items whose column has a value, as "category=new" says it.

    "category" is any of an item's categories. Raises DataError for a column that the items lack,
    and for a value that none of them has.
    """
    column, _, value = name.partition("=")
    table = data.item_table
    used_column = "categories" if column == "category" and column not in table.columns else column
    if used_column not in table.columns:
        raise DataError(f'reward "{name}": no such column.{nearest(column, table.columns)}')
    cells = table[used_column]
    if isinstance(cells.dtype, pl.List):
        is_member = cells.list.contains(value).fill_null(False).to_numpy()
    else:
        is_member = (cells.cast(pl.String) == value).fill_null(False).to_numpy()
    if not is_member.any():
        values = cells.explode() if isinstance(cells.dtype, pl.List) else cells
        existing = values.drop_nulls().cast(pl.String).unique().to_list()
        raise DataError(f'reward "{name}": no item has it.{nearest(value, existing)}')
    rows = data.catalogue.rows(items.ids.tolist())
    mask: np.ndarray = is_member[rows] & (rows >= 0)
    return mask


def _comes_back(keys: np.ndarray) -> np.ndarray:
    """Return (E,) bool: whether the same key stands before."""
    _, first = np.unique(keys, return_index=True)
    mask = np.ones(len(keys), dtype=bool)
    mask[first] = False
    return mask


def _near_pairs(rows: Ragged) -> np.ndarray:
    """Return (pairs, 2) different items that a user chose at most NEAR places apart."""
    pairs = np.concatenate(
        [np.stack(rows.pairs(distance), axis=1) for distance in range(1, NEAR + 1)]
    )
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _contrasted(vectors: np.ndarray, pairs: np.ndarray, run: Run, key: str) -> np.ndarray:
    """Return unit vectors (N, D), mapped so that the items of a pair are near each other."""
    width = vectors.shape[1]
    net = nn.Linear(width, width, bias=False)
    nn.init.eye_(net.weight)  # begins as no change
    inputs = torch.from_numpy(vectors.astype(np.float32))
    contrast = InfoNCE(CONTRAST_TEMPERATURE)

    def batches(rng: np.random.Generator) -> list[np.ndarray]:
        return np.array_split(rng.permutation(len(pairs)), -(-len(pairs) // CONTRAST_BATCH))

    def loss(numbers: np.ndarray, rng: np.random.Generator) -> Tensor:
        left, right = (torch.from_numpy(pairs[numbers, side].astype(np.int64)) for side in (0, 1))
        item_inputs = inputs.to(net.weight.device)
        same = right[:, None] == right
        return contrast(net(item_inputs[left]), net(item_inputs[right]), same)

    epochs = -(-CONTRAST_STEPS // len(batches(np.random.default_rng(0))))
    fit_net(net, batches, loss, run, Recipe(epochs, CONTRAST_LR), None, key)
    with torch.inference_mode():
        mapped: np.ndarray = net.cpu()(inputs).numpy()
    return unit(mapped)
