"""SCASRec: write a short list item by item, and learn when to stop."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tailor.core.methods import Paper, Recommender, blocks
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged, in_deviations
from tailor.data.attributes import attribute_values
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import shuffled_batches
from tailor.data.shown import ShownLists
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.blocks import DecoderBlock, TransformerBlock
from tailor.nn.fitting import Recipe
from tailor.training.nets import NetMethod
from tailor.training.sequences import check_blocks

PAPER = Paper(
    "scasrec",
    "SCASRec: A Self-Correcting and Auto-Stopping Model for Generative Route List Recommendation",
    "https://arxiv.org/abs/2602.03324",
    "On planted maps (3 seeds) lists cover the route taken more often, with less overlap, than a"
    " ranking with a rule against overlap at the same mean length; their length follows the number"
    " of useful routes; equal weights of all steps are worse",
)
FEWEST_USERS = 5  # with a value of the context, for it to be kept
HELD_OUT = 0.1  # share of the lists on which the end's threshold is chosen
HIDDEN = -1e9  # logit of what cannot be picked
NOT_NUMBERS = ("lat", "lon", "created_ms")  # numeric columns that describe nothing


@dataclass(frozen=True, eq=False)
class Lists:
    """A batch of candidate lists as the net reads them. Shapes: K candidates, F features."""

    features: Tensor
    """(B, K, F) numbers of each candidate."""
    is_candidate: Tensor
    """(B, K) bool: false after a list's end."""
    overlaps: Tensor
    """(B, K, K) share of their parts that two candidates have in common."""
    scene: Tensor
    """(B, C) which values the context has."""
    history: Tensor
    """(B, G) mean numbers of the items of the history; zero for none."""


class PickingNet(nn.Module):
    """Reads all candidates, then picks one after the other, or the end of the list.

    The logit of a candidate is its product with the state, plus weights of the state times its
    overlap with what was picked. Shapes: B lists, K candidates, M steps, D width.
    """

    def __init__(self, features: int, values: int, numbers: int, method: "SCASRec") -> None:
        super().__init__()
        width, heads, dropout = method.width, method.heads, method.dropout
        self.of_features = nn.Linear(features, width)
        self.of_scene = nn.Linear(values, width)
        self.of_history = nn.Linear(numbers, width)
        self.encoder = nn.ModuleList(
            [TransformerBlock(width, heads, dropout, causal=False) for _ in range(method.blocks)]
        )
        self.decoder = DecoderBlock(width, heads, dropout)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query = nn.Linear(width, width)
        self.of_overlaps = nn.Linear(width, 2)
        self.end = nn.Linear(width, 1)

    def encode(self, lists: Lists) -> tuple[Tensor, Tensor]:
        """Return what is known of the candidates (B, K, D), and of the request (B, 1, D)."""
        request = (self.of_scene(lists.scene) + self.of_history(lists.history))[:, None]
        x = self.of_features(lists.features) + request
        lengths = lists.is_candidate.sum(dim=1)
        for block in self.encoder:
            x = block(x, lengths)
        return self.norms[0](x), request

    def logits(self, lists: Lists, encoded: Tensor, request: Tensor, picks: Tensor) -> Tensor:
        """Return the logits (B, M + 1, K + 1) after none, one, ... all of the picks (B, M).

        The last column is the end of the list. What was picked cannot be picked again.
        """
        picked = encoded.gather(1, picks[:, :, None].expand(-1, -1, encoded.shape[2]))
        lengths = lists.is_candidate.sum(dim=1)
        states = self.decoder(torch.cat([request, picked], dim=1), encoded, lengths)
        states = self.norms[1](states)  # B, M + 1, D
        products = self.query(states) @ encoded.transpose(1, 2) / encoded.shape[2] ** 0.5
        overlaps = torch.stack(overlaps_with_picks(lists.overlaps, picks), dim=-1)
        weighted = (self.of_overlaps(states)[:, :, None] * overlaps.to(states.dtype)).sum(dim=-1)
        is_picked = nn.functional.one_hot(picks, encoded.shape[1]).cumsum(dim=1) > 0
        is_picked = pad(is_picked, (0, 0, 1, 0))
        is_hidden = is_picked | ~lists.is_candidate[:, None]
        logits = (products + weighted).float().masked_fill(is_hidden, HIDDEN)
        return torch.cat([logits, self.end(states).float()], dim=2)


def overlaps_with_picks(overlaps: Tensor, picks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest and the mean overlap with the picks so far, both (B, M + 1, K).

    `overlaps` are (B, K, K), `picks` (B, M). They are 0 before the first pick.
    """
    rows = overlaps.gather(1, picks[:, :, None].expand(-1, -1, overlaps.shape[2]))  # B, M, K
    if not rows.shape[1]:
        none = torch.zeros_like(overlaps[:, :1])
        return none, none
    counts = torch.arange(1, rows.shape[1] + 1, device=rows.device)[:, None]
    largest = rows.cummax(dim=1).values
    mean = rows.cumsum(dim=1) / counts
    return pad(largest, (0, 0, 1, 0)), pad(mean, (0, 0, 1, 0))


def corrections(
    overlaps: Tensor,
    chosen: Tensor,
    picks: Tensor,
    covers: float,
    redundancy: float,
    cost: float,
) -> tuple[Tensor, Tensor]:
    """Return what each step should have picked (B, M + 1), and what that would have gained.

    `chosen` (B,) are the places of what the users took; `overlaps` and `picks` are as above. A
    list covers the chosen item by one that overlaps with it by `covers` or more. Until then the
    chosen item is right; it gains 1, less `redundancy` x its overlap with the picks, less `cost`.
    Then the end is right (K), which saves `cost`. Steps after the first right end gain 0.
    """
    largest, _ = overlaps_with_picks(overlaps, picks)
    targets = chosen[:, None, None].expand(-1, largest.shape[1], 1)
    overlap = largest.gather(2, targets)[:, :, 0]  # B, M + 1
    gains = 1 - redundancy * overlap - cost
    is_end = (overlap >= covers) | (gains <= 0)
    is_over = pad(is_end, (1, -1)).cummax(dim=1).values
    labels = torch.where(is_end, overlaps.shape[1], chosen[:, None])
    weights = torch.where(is_end, cost, gains).masked_fill(is_over, 0.0)
    return labels, weights


@dataclass(eq=False)
class SCASRec(NetMethod, Recommender):
    """Write a list item by item, learn from the steps that still fail, and learn when to stop.

    An encoder reads all candidates together. A decoder then points at one candidate after the
    other, or at the end of the list, and sees how much each shares with what it has picked. In
    training it picks by itself; each step is taught what would have been right after these picks,
    weighted by what that would have gained: a list that already covers the chosen item should end.
    The end is picked where its probability is above a threshold, chosen on lists held out.

    Differs from the paper (details reconstructed): a small net; a gain is 1 for the chosen item,
    less its overlap with the picks and `cost`; the end's threshold is chosen on held-out lists.
    """

    needs_candidates: ClassVar[bool] = True
    trains_on_candidates: ClassVar[bool] = True
    reads_impressions = True

    parts: str = "categories"
    """Column of lists in the items table: two items overlap by the entries that they share, such
    as segments of routes.
    """
    stop: Literal["auto", "never"] = "auto"
    """Whether a list ends where nothing is worth its place, else only when it is full."""
    covers: float = 0.8
    """Overlap, from 0 to 1, from which an item of the list stands for the chosen one."""
    redundancy: Annotated[float, Range(0.0, 1.0)] = 0.5
    """What a step loses of its weight by an overlap of 1 with what was picked before."""
    cost: Annotated[float, Range(0.02, 0.4)] = 0.1
    """Probability to cover the chosen item that an item must add to be worth its place."""
    weights: Literal["gain", "uniform"] = "gain"
    """Weights of the steps in training: what the right pick would have gained, or all the same."""
    steps: int = 5
    """Picks of a list in training."""
    width: Annotated[int, Choices(32, 64, 128)] = 64
    """Width of the states."""
    blocks: int = 2
    """Transformer blocks that read the candidates."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    dropout: Annotated[float, Range(0.0, 0.5)] = 0.1
    """Share of values zeroed during training."""
    length: int = 20
    """Latest items of the history that are read."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 128
    """Lists of a batch."""
    epochs: int = 20
    """Passes over the lists."""

    items_: Vocabulary = field(init=False, repr=False)
    numbers_: np.ndarray = field(init=False, repr=False)
    """(N, F) float32 numeric columns of the items, in deviations from their mean."""
    parts_: sp.csr_matrix = field(init=False, repr=False)
    """(N, P) which parts an item has."""
    values_: Vocabulary = field(init=False, repr=False)
    """Values of the context, such as purpose=work."""
    end_threshold_: float = field(init=False, repr=False)
    """Probability of the end above which a list ends."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_blocks(self.blocks, self.heads, self.width)
        if min(self.steps, self.length, self.batch, self.epochs) < 1 or not self.lr > 0:
            raise DataError(
                f"steps is {self.steps}, length {self.length}, batch {self.batch}, epochs"
                f" {self.epochs}, lr {self.lr}: at least 1 each, and lr above 0"
            )
        if not 0 < self.cost < 1 or not 0 < self.covers <= 1:
            raise DataError(
                f"cost is {self.cost}, covers {self.covers}: both must be above 0, cost below 1 and"
                " covers at most 1"
            )
        if not 0 <= self.redundancy <= 1 or not 0 <= self.dropout < 1:
            raise DataError(
                f"redundancy is {self.redundancy}, dropout {self.dropout}: redundancy must be from"
                " 0 to 1, dropout from 0 to below 1"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=8, blocks=1, steps=3, epochs=3)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.numbers_ = _numbers(data.item_table)
        self.parts_ = _parts(data.item_table, self.parts)
        examples = _examples(data, self.length)
        self.values_ = _common_values(examples.queries)
        self.end_threshold_ = 1.0
        self._start_net(run)
        share = HELD_OUT if self.stop == "auto" and self.steps > 1 else 0.0
        learned, held = _held_apart(len(examples.chosen), share, run)
        if len(learned):
            report = self._train(data, examples.take(learned), run)
        else:
            report = self._leave_untrained("no list has an item that was chosen from it")
        if len(held):
            self.end_threshold_ = self._best_threshold(examples.take(held))
        self.fit_report_ = {
            "lists": len(learned),
            "held_out": len(held),
            "end_threshold": round(self.end_threshold_, 4),
            **report,
        }

    def _train(self, data: Dataset, examples: "ChosenLists", run: Run) -> dict[str, Any]:
        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(examples.chosen), self.batch, rng)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            drawn = examples.take(rows)
            lists = self._lists(drawn.queries, drawn.lists)
            return self._loss(lists, torch.from_numpy(drawn.chosen).to(lists.features.device))

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01)
        return self._train_net(data, run, recipe, batches, loss)

    def _loss(self, lists: Lists, chosen: Tensor) -> Tensor:
        """Return the weighted cross-entropy of the right picks (B,) along drawn lists."""
        net: PickingNet = self._net
        encoded, request = net.encode(lists)
        picks = self._drawn_picks(lists, encoded.detach(), request.detach())
        labels, weights = corrections(
            lists.overlaps, chosen, picks, self.covers, self.redundancy, self.cost
        )
        if self.weights == "uniform":
            weights = (weights > 0).float()
        logits = net.logits(lists, encoded, request, picks)
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="none"
        )
        return (losses * weights.flatten()).sum() / weights.sum().clamp(min=1e-9)

    @torch.no_grad()
    def _drawn_picks(self, lists: Lists, encoded: Tensor, request: Tensor) -> Tensor:
        """Return (B, M) places that the net picks by chance, in proportion to its probabilities."""
        picks = torch.zeros(len(encoded), 0, dtype=torch.long, device=encoded.device)
        # a shorter list is over before: all of its candidates have been picked
        for _ in range(min(self.steps, encoded.shape[1]) - 1):
            logits = self._net.logits(lists, encoded, request, picks)[:, -1, :-1]
            pick = torch.multinomial(logits.softmax(dim=1), 1)
            picks = torch.cat([picks, pick], dim=1)
        return picks

    def _best_threshold(self, examples: "ChosenLists") -> float:
        """Return the threshold of the end with the best lists: coverage less `cost` an item."""
        picks, _, ends = self._greedy(examples.queries, examples.lists, self.steps)
        overlaps = torch.from_numpy(self._overlaps(examples.lists))
        largest, _ = overlaps_with_picks(overlaps, torch.from_numpy(np.maximum(picks, 0)))
        chosen = torch.from_numpy(examples.chosen)[:, None, None]
        overlap = largest.gather(2, chosen.expand(-1, largest.shape[1], 1))[:, 1:, 0]
        is_covered = (overlap >= self.covers).numpy()
        thresholds = np.unique(np.quantile(ends[:, 1:], np.linspace(0, 1, 41))).tolist()
        values = []
        for threshold in [*thresholds, 1.0]:
            lengths = _lengths(picks, ends, threshold)
            value = is_covered[np.arange(len(picks)), lengths - 1] - self.cost * lengths
            values.append(float(value.mean()))
        return float([*thresholds, 1.0][int(np.argmax(values))])

    # the net

    def _make_net(self) -> PickingNet:
        numbers = self.numbers_.shape[1]
        return PickingNet(2 * numbers + 1, max(len(self.values_), 1), numbers, self)

    def _lists(self, queries: Queries, lists: Rankings) -> Lists:
        """Return candidate lists over `items_` as the net reads them."""
        device = next(self._net.parameters()).device
        is_candidate = lists.rows >= 0
        numbers = self.numbers_[np.maximum(lists.rows, 0)]  # B, K, F
        scores = np.where(np.isfinite(lists.scores), lists.scores, 0.0)[:, :, None]
        within = _within_lists(np.concatenate([numbers, scores], axis=2), is_candidate)
        history = queries.histories.last(self.length)
        sums = history.matrix(len(self.items_)) @ self.numbers_
        arrays = (
            np.concatenate([numbers, within], axis=2),
            is_candidate,
            self._overlaps(lists),
            self._scene(queries),
            sums / np.maximum(history.lengths, 1)[:, None],
        )
        return Lists(*[torch.from_numpy(_single(array)).to(device) for array in arrays])

    def _overlaps(self, lists: Rankings) -> np.ndarray:
        """Return (B, K, K) the share of their parts that two candidates have in common."""
        rows = lists.rows
        size = rows.shape[1]
        items = self.parts_[np.maximum(rows, 0).ravel()]  # B * K, P
        # parts of two lists are told apart, so that one product gives all pairs of each list
        list_of = np.repeat(np.repeat(np.arange(len(rows)), size), np.diff(items.indptr))
        width = self.parts_.shape[1]
        columns = items.indices + list_of.astype(np.int64) * width
        shape = (rows.size, len(rows) * width)
        apart = sp.csr_matrix((items.data, columns, items.indptr), shape=shape)
        common = (apart @ apart.T).tocoo()
        overlaps = np.zeros((len(rows), size, size), dtype=np.float32)
        overlaps[common.row // size, common.row % size, common.col % size] = common.data
        counts = np.diff(items.indptr).reshape(rows.shape)
        union = counts[:, :, None] + counts[:, None] - overlaps
        overlaps /= np.maximum(union, 1)
        places = np.arange(size)
        overlaps[:, places, places] = 1
        return overlaps

    def _scene(self, queries: Queries) -> np.ndarray:
        """Return (B, C) float32: 1 for every value that the context has."""
        scene = np.zeros((len(queries), max(len(self.values_), 1)), dtype=np.float32)
        for texts in _context_values(queries):
            rows = self.values_.rows(texts)
            places = np.flatnonzero(rows >= 0)
            scene[places, rows[places]] = 1
        return scene

    # answering

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        assert candidates is not None  # `recommend` refuses to go on without
        queries = queries.reindexed(self.items_)
        lists = candidates.reindexed(self.items_)
        lists = lists.only(queries.allowed_in(lists))
        picks, log_probabilities, ends = self._greedy(queries, lists, k)
        lengths = (picks >= 0).sum(axis=1)
        notes = {
            i: (f"{self.name}: {lengths[i]} of {k} items are candidates",)
            for i in np.flatnonzero(lengths < k).tolist()
        }
        if self.stop == "auto":
            stops = _lengths(picks, ends, self.end_threshold_)
            for i in np.flatnonzero(stops < lengths).tolist():
                notes[i] = (f"{self.name}: the list ends after {stops[i]}, more would add little",)
            picks[np.arange(picks.shape[1]) >= stops[:, None]] = -1
        scores = np.where(picks >= 0, log_probabilities.cumsum(axis=1), -np.inf)
        answers = replace(lists, notes={}).reordered(picks)
        kind = "log-probability of the list so far"
        return replace(answers, scores=scores.astype(np.float32), score_kind=kind, notes=notes)

    def _greedy(
        self, queries: Queries, lists: Rankings, k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the likeliest picks, all (B, k): their places in the lists, -1 for none, their
        log-probabilities, and the probability of the end before each.
        """
        shape = (len(lists), k)
        picks = np.full(shape, -1)
        log_probabilities = np.zeros(shape, dtype=np.float32)
        ends = np.ones(shape, dtype=np.float32)
        size = lists.rows.shape[1]
        net: PickingNet = self._ready()
        for start, stop in blocks(len(lists), size * max(size, self.width)):
            block = np.arange(start, stop)
            batch = self._lists(queries.take(block), lists.take(block))
            drawn = self._greedy_block(net, batch, min(k, size))
            picks[block, : min(k, size)], log_probabilities[block, : min(k, size)] = drawn[:2]
            ends[block, : min(k, size)] = drawn[2]
        return picks, log_probabilities, ends

    @torch.inference_mode()
    def _greedy_block(
        self, net: PickingNet, lists: Lists, k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Do `_greedy` for one block."""
        encoded, request = net.encode(lists)
        picks = torch.zeros(len(encoded), 0, dtype=torch.long, device=encoded.device)
        values, ends = [], []
        for _ in range(k):
            logits = net.logits(lists, encoded, request, picks)[:, -1]
            ends.append(logits.softmax(dim=1)[:, -1])
            value, pick = logits[:, :-1].log_softmax(dim=1).max(dim=1)
            values.append(value)
            picks = torch.cat([picks, pick[:, None]], dim=1)
        is_pick = torch.arange(k, device=picks.device) < lists.is_candidate.sum(dim=1)[:, None]
        places = picks.masked_fill(~is_pick, -1).cpu().numpy()
        return places, torch.stack(values, 1).cpu().numpy(), torch.stack(ends, 1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class ChosenLists:
    """Candidate lists from which something was chosen. Shapes: R lists, K candidates."""

    queries: Queries
    """(R,) over the items of the method."""
    lists: Rankings
    """(R,) lists of up to K of these items."""
    chosen: np.ndarray
    """(R,) int64 place of the item that was chosen."""

    def take(self, rows: np.ndarray) -> "ChosenLists":
        """Return the examples with these numbers."""
        return ChosenLists(self.queries.take(rows), self.lists.take(rows), self.chosen[rows])


def _examples(data: Dataset, length: int) -> ChosenLists:
    """Return lists to learn from: those of an earlier stage where there are, else those shown.

    An item chosen stands among the candidates; where several do, the first in the list counts.
    """
    if data.lists is not None:
        queries = data.lists.queries.reindexed(data.catalogue)
        lists = data.lists.rankings.reindexed(data.catalogue)
        targets = data.lists.targets
        keys = np.arange(len(lists))[:, None] * len(data.catalogue) + lists.rows
        target_rows = data.lists.queries.catalogue.named(targets.values)
        rows = data.catalogue.rows(target_rows)
        target_keys = (targets.row_ids * len(data.catalogue) + rows)[rows >= 0]
        is_chosen = np.isin(keys, target_keys) & (lists.rows >= 0)
    else:
        log = ShownLists.of(data, length)
        queries, is_chosen = log.queries, log.is_chosen
        lists = Rankings(data.catalogue, log.rows, np.where(log.rows >= 0, 0.0, -np.inf))
    rows, places = np.nonzero(is_chosen)
    rows, firsts = np.unique(rows, return_index=True)
    return ChosenLists(queries.take(rows), lists.take(rows), places[firsts])


def _held_apart(lists: int, share: float, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of lists to learn from, and of a share that is held out."""
    order = run.rng("held out lists").permutation(lists)
    held = int(share * lists)
    return np.sort(order[held:]), np.sort(order[:held])


def _numbers(items: pl.DataFrame) -> np.ndarray:
    """Return (N, F) float32 numeric columns of items, in deviations; 0 for a missing value.

    There is one of zeros where there are none.
    """
    columns = [
        items[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name, kind in items.schema.items()
        if kind.is_numeric() and name not in NOT_NUMBERS
    ]
    columns = columns or [np.zeros(len(items))]
    values = np.array(columns, dtype=np.float64)
    return in_deviations(values).T.astype(np.float32)


def _parts(items: pl.DataFrame, name: str) -> sp.csr_matrix:
    """Return (N, P) float32: 1 where an item has a part; no parts where there is no such column."""
    pairs = attribute_values(items, [name])
    names = [part for of_item in pairs for _, part in of_item]
    vocabulary = Vocabulary(sorted(set(names)))
    parts = Ragged.of_lengths(list(map(len, pairs)), vocabulary.rows(names))
    return parts.matrix(len(vocabulary), np.ones(len(names), dtype=np.float32))


def _context_values(queries: Queries) -> list[list[str]]:
    """Return for each attribute of the context its (B,) values as texts."""
    return [
        [f"{name}={value}" for value in values.tolist()]
        for name, values in sorted(queries.contexts.items())
    ]


def _common_values(queries: Queries) -> Vocabulary:
    """Return the values of the context that several users have."""
    users = queries.user_ids.tolist()
    pairs = {(text, user) for texts in _context_values(queries) for text, user in zip(texts, users)}
    counts = Counter(text for text, _ in pairs)
    return Vocabulary(sorted(text for text, count in counts.items() if count >= FEWEST_USERS))


def _within_lists(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return values (B, K, F) in deviations from their list's mean, over the places of `mask`."""
    rows = np.where(mask[:, :, None], values, np.nan).transpose(0, 2, 1)  # B, F, K
    deviations = in_deviations(rows.reshape(-1, rows.shape[2]))
    return deviations.reshape(rows.shape).transpose(0, 2, 1)


def _lengths(picks: np.ndarray, ends: np.ndarray, threshold: float) -> np.ndarray:
    """Return (B,) the lengths of lists that end where that is likelier than the threshold.

    `picks` (B, k) are -1 where there are no candidates left. No list ends before its first item.
    """
    is_end = (ends > threshold) | (picks < 0)
    is_end[:, 0] = picks[:, 0] < 0
    is_end = np.pad(is_end, ((0, 0), (0, 1)), constant_values=True)
    return np.asarray(is_end.argmax(axis=1))


def _single(array: np.ndarray) -> np.ndarray:
    """Return a mask as it is, and any other array in float32."""
    return np.ascontiguousarray(array, dtype=None if array.dtype == bool else np.float32)
