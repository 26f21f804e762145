"""2T-HGNN: item vectors from a graph of items of two kinds, below two cheap towers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, relu

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.graphs import heaviest
from tailor.data.queries import NO_TIME, Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.devices import index_tensor
from tailor.nn.fitting import Recipe
from tailor.nn.towers import Tower
from tailor.ports.base import Encoder
from tailor.text.cached import item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.training.nets import NetMethod

PAPER = Paper(
    "two-tower-hgnn",
    "Personalized Audiobook Recommendations at Spotify Through Graph Neural Networks",
    "https://arxiv.org/abs/2403.05185",
    "On planted logs of an established kind of items and a new one (3 seeds) HR@10 of new items,"
    " for users with and without one before, is above two towers without the graph and popularity;"
    " without links among old items, without balancing the kinds of links, and without previews it"
    " is lower",
)
DAY_MS = 86_400_000
MOST_ITEMS = 100  # latest distinct items of a user that make edges
MOST_RARE = 10.0  # largest weight of a rare target, in mean weights
RELATIONS = ("new-new", "new-old", "old-old")


class GraphLayer(nn.Module):
    """A layer that adds to each item the maximum of its neighbours' messages, by relation.

    The relation of two items is that of their kinds, with a map of its own for each direction.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, width)
        self.messages = nn.ModuleList([nn.Linear(inputs, width) for _ in range(4)])

    def forward(self, x: Tensor, is_new: Tensor, neighbours: Tensor) -> Tensor:
        """Return (N, width) vectors of items, of unit length.

        `x` (N, D) are those of the layer before, `is_new` (N,) says the kinds, `neighbours`
        (N, 2, S) are rows of neighbours of either kind.
        """
        total = self.own(x)
        kinds = is_new.long()
        for kind in (0, 1):  # of the neighbours
            for own_kind in (0, 1):
                rows = (kinds == own_kind).nonzero()[:, 0]
                message_map = self.messages[2 * own_kind + kind]
                messages = relu(message_map(x))
                neighbour_rows = neighbours[rows, kind]
                largest = messages[neighbour_rows].amax(dim=1)
                total = total.index_add(0, rows, largest.to(total.dtype))
        vectors = relu(total).float()
        return normalize(vectors, dim=-1)


class TwoTowerNet(nn.Module):
    """The graph net of the items, and the towers of users and items above it."""

    def __init__(self, texts: int, users: int, items: int, width: int) -> None:
        """Make the net; `texts`, `users` and `items` are the widths of what the parts read."""
        super().__init__()
        first = GraphLayer(texts, width)
        second = GraphLayer(width, width)
        self.graph = nn.ModuleList([first, second])
        self.user_tower = _tower(users, width)
        self.item_tower = _tower(items, width)

    def graph_vectors(self, texts: Tensor, is_new: Tensor, neighbours: Tensor) -> Tensor:
        """Return the vectors (N, width) of items, of unit length."""
        x = texts
        for layer in self.graph:
            x = layer(x, is_new, neighbours)
        return x


def _tower(inputs: int, width: int) -> nn.Sequential:
    """Return a tower of two layers with a linear map to `width` on top."""
    hidden = 2 * width
    tower = Tower((inputs, 4 * width, hidden))
    return nn.Sequential(tower, nn.Linear(hidden, width))


@dataclass(frozen=True, eq=False)
class ItemGraph:
    """Which items the same users consumed: the neighbours of each item, by kind."""

    links: tuple[sp.csr_matrix, sp.csr_matrix]
    """(N, N) counts of users, to old and to new items; the heaviest of each item."""

    def edges(self, is_new: np.ndarray) -> dict[str, np.ndarray]:
        """Return relation -> (E, 2) pairs of rows."""
        to_old, to_new = (np.stack(matrix.nonzero(), axis=1) for matrix in self.links)
        new_to_old = is_new[to_old[:, 0]]
        new_to_new = is_new[to_new[:, 0]]
        mixed_kinds = [to_new[~new_to_new], to_old[new_to_old]]
        return {
            "new-new": to_new[new_to_new],
            "new-old": np.concatenate(mixed_kinds),
            "old-old": to_old[~new_to_old],
        }

    def neighbours(self, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return (N, 2, size) rows of neighbours of either kind, drawn or the heaviest.

        An item without neighbours of a kind sees itself.
        """
        return np.stack([_neighbours(matrix, size, rng) for matrix in self.links], axis=1)


def _neighbours(matrix: sp.csr_matrix, size: int, rng: np.random.Generator | None) -> np.ndarray:
    items = matrix.shape[0]
    degrees = np.diff(matrix.indptr)[:, None]
    if rng is None:
        ranks = np.arange(size) % np.maximum(degrees, 1)
    else:
        draws = rng.random((items, size))
        ranks = (draws * degrees).astype(np.int64)
    rows = np.arange(items)[:, None]
    itself = np.broadcast_to(rows, ranks.shape)
    if not matrix.nnz:
        return itself.astype(np.int64)
    starts = matrix.indptr[:-1, None]
    entries = np.minimum(starts + ranks, matrix.nnz - 1)
    neighbours = matrix.indices[entries]
    return np.where(degrees > 0, neighbours, itself).astype(np.int64)


def item_graph(
    histories: Ragged, is_new: np.ndarray, relations: tuple[str, ...], most: int
) -> ItemGraph:
    """Link items that a user consumed both, the `most` heaviest links to each kind."""
    latest = histories.last(MOST_ITEMS).distinct()
    consumed = latest.matrix(len(is_new))
    together = sp.csr_matrix(consumed.T @ consumed)
    together.setdiag(0)
    together.eliminate_zeros()
    links = []
    for kind in (False, True):
        matrix = together.tocoo()
        from_new = is_new[matrix.row]
        names = np.where(from_new & kind, "new-new", "new-old")
        names[~from_new & (not kind)] = "old-old"
        to_kind = is_new[matrix.col] == kind
        mask = to_kind & np.isin(names, relations)
        pairs = (matrix.row[mask], matrix.col[mask])
        weights = matrix.data[mask]
        matching = sp.csr_matrix((weights, pairs), shape=together.shape)
        links.append(heaviest(matching, most))
    return ItemGraph((links[0], links[1]))


@dataclass(frozen=True, eq=False)
class Targets:
    """Events to be predicted, each with the events of its user before it."""

    users: np.ndarray
    """(M,) row of the user."""
    items: np.ndarray
    """(M,) row of the item."""
    starts: np.ndarray
    """(M,) position of the first event that is read, among all users' events."""
    stops: np.ndarray
    """(M,) position of the target."""


@dataclass(eq=False)
class TwoTowerHGNN(NetMethod, ScoringRecommender):
    """A new kind of items is recommended by what users chose of an established kind.

    A graph net over items alone, in which two are linked if a user consumed both, makes item
    vectors from texts; each kind of link has its own maps, and all are shown equally often. A cheap
    user tower reads the mean vector of the latest items, previews and other weak signals among
    them, an item tower text and vector. New items are served by their texts.

    Differs from the paper: every item keeps its heaviest links, of which some are drawn while
    learning, all items are computed in each step, and training does not stop early.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    kind: str = "kind"
    """Column of the items table that says of what kind an item is."""
    new: str | None = None
    """Value of that column of the new kind, which alone is recommended; None: all items are one
    kind, and recommended.
    """
    consumed: tuple[str, ...] = ()
    """Actions that are links and targets; other events are weak signals. Empty: all actions."""
    context: tuple[str, ...] = ()
    """Columns of users, and attributes of a query's context, that the user tower reads."""
    relations: tuple[str, ...] = RELATIONS
    """Kinds of links that the graph has."""
    balanced: bool = True
    """Whether all kinds of links are shown equally often, as often as the rarest."""
    graph: bool = True
    """Whether towers read vectors of the graph beside those of texts."""
    days: float = 90.0
    """Days before the query whose events are read; events without times are all read."""
    width: int = 64
    """Width of the vectors of graph and towers."""
    neighbours: int = 20
    """Links that an item keeps to either kind; half as many are drawn in each step."""
    margin: float = 0.2
    """Least difference of cosines of a link and a pair drawn at random."""
    graph_epochs: int = 20
    """Passes over the links."""
    epochs: int = 10
    """Passes of the towers over the targets."""
    temperature: Annotated[float, Range(0.03, 0.3, log=True)] = 0.1
    """Divisor of the cosine of user and item."""
    lr: Annotated[float, Range(3e-4, 1e-2, log=True)] = 1e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 128
    """Targets of a batch, which are each other's negatives; links of a batch are twice as many."""

    texts_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of item texts, of unit length; zero for an item without text."""
    is_new_: np.ndarray = field(init=False, repr=False)
    """(N,) bool: items of the new kind."""
    features_: np.ndarray = field(init=False, repr=False)
    """(N, F) what the towers read of an item: text, and its vector of the graph."""
    context_values_: list[list[str]] = field(init=False, repr=False)
    """Values of each context column."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        check_settings(self)
        sizes = (self.width, self.neighbours, self.batch)
        if min(sizes) < 1 or min(self.graph_epochs, self.epochs) < 0:
            raise DataError("width, neighbours and batch must be at least 1, epochs at least 0")
        if min(self.lr, self.temperature, self.days) <= 0 or self.margin < 0:
            raise DataError("lr, temperature and days must be above 0, margin at least 0")
        unknown = sorted(set(self.relations) - set(RELATIONS))
        if unknown:
            raise DataError(f'relations names "{unknown[0]}": they are {", ".join(RELATIONS)}')

    @classmethod
    def tiny(cls) -> "TwoTowerHGNN":
        return cls(HashingEncoder(32), width=8, neighbours=4, graph_epochs=2, epochs=3, batch=64)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.texts_ = item_vectors(encoder, data.item_texts, run.progress)
        self.space_ = encoder.space
        self.is_new_ = self._kinds(data)
        contexts = data.contexts(data.users.ids)
        self.context_values_ = [_values(contexts.get(name)) for name in self.context]
        strong = self._is_strong(data)
        consumption = data.sequences.rows.keep(strong)
        graph = item_graph(consumption, self.is_new_, self.relations, self.neighbours)
        size = (len(self.items_), self._item_inputs())
        self.features_ = np.zeros(size, dtype=np.float32)
        self._start_net(run)
        report = {"graph": self._train_graph(graph, data, run)} if self.graph else {}
        self.features_ = self._item_features(graph)
        targets = self._targets(data, strong)
        tower_report = self._train_towers(targets, contexts, data, run)
        edges = graph.edges(self.is_new_)
        self.fit_report_ = {
            "links": {name: len(pairs) for name, pairs in edges.items()},
            "targets": len(targets.items),
            **report,
            **tower_report,
        }

    def _kinds(self, data: Dataset) -> np.ndarray:
        """Return (N,) bool, the items of the new kind; without `new` all of them."""
        if self.new is None:
            return np.ones(len(data.catalogue), dtype=bool)
        if self.kind not in data.item_table.columns:
            raise DataError(f'the items have no column "{self.kind}", which says their kind')
        kinds = data.item_table[self.kind].cast(str)
        matches = (kinds == self.new).fill_null(False)
        is_new = np.asarray(matches.to_numpy())
        if not is_new.any():
            raise DataError(f'no item has the {self.kind} "{self.new}"')
        return is_new

    def _is_strong(self, data: Dataset) -> np.ndarray:
        """Return (m,) bool: events of the sequences that are consumption."""
        if not self.consumed:
            return np.ones(len(data.sequences.events), dtype=bool)
        if "action" not in data.events.columns:
            raise DataError("consumed names actions, and the events have none")
        actions = data.events["action"]
        matches = actions.is_in(list(self.consumed)).fill_null(False)
        is_strong = matches.to_numpy()
        return np.asarray(is_strong[data.sequences.events])

    # the graph

    def _train_graph(self, graph: ItemGraph, data: Dataset, run: Run) -> dict[str, Any]:
        edges = graph.edges(self.is_new_)
        edges = {name: pairs for name, pairs in edges.items() if len(pairs)}
        if not edges:
            return self._leave_untrained("no user consumed two items")
        sample = max(1, self.neighbours // 2)
        batch_links = 2 * self.batch

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            pairs = _shown_edges(edges, self.balanced, rng)
            return shuffled_batches(pairs, batch_links, rng)

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            neighbours = graph.neighbours(sample, rng)
            vectors = self._graph_vectors(neighbours)
            negatives = rng.integers(len(self.items_), size=len(batch))
            return hinge(vectors, batch, negatives, self.margin)

        recipe = Recipe(self.graph_epochs, self.lr)
        return self._train_net(data, run, recipe, batches, loss, stage="graph")

    def _graph_vectors(self, neighbours: np.ndarray) -> Tensor:
        """Return the vectors (N, width) of items with these neighbours (N, 2, S)."""
        device = next(self._net.parameters()).device
        texts = torch.from_numpy(self.texts_).to(device)
        is_new = torch.from_numpy(self.is_new_).to(device)
        rows = torch.from_numpy(neighbours).to(device)
        vectors: Tensor = self._net.graph_vectors(texts, is_new, rows)
        return vectors

    def _item_inputs(self) -> int:
        return self.texts_.shape[1] + (self.width if self.graph else 0)

    @torch.inference_mode()
    def _item_features(self, graph: ItemGraph) -> np.ndarray:
        """Return (N, F) texts, and vectors of the graph where it is used."""
        if not self.graph:
            return self.texts_
        neighbours = graph.neighbours(self.neighbours)
        vectors = self._graph_vectors(neighbours).numpy()
        features = np.concatenate([self.texts_, vectors], axis=1)
        return features.astype(np.float32)

    # the towers

    def _make_net(self) -> TwoTowerNet:
        users = self._item_inputs() + sum(len(values) for values in self.context_values_)
        return TwoTowerNet(self.texts_.shape[1], users, self._item_inputs(), self.width)

    def _targets(self, data: Dataset, strong: np.ndarray) -> Targets:
        """Return the consumption of recommended items that has events before it."""
        rows = data.sequences.rows
        times = data.sequences.times_ms
        is_recommended = self.is_new_[rows.values]
        stops = np.flatnonzero(strong & is_recommended)
        users = rows.row_ids[stops]
        starts = rows.offsets[users]
        if times is not None:
            window_ms = int(self.days * DAY_MS)
            starts = _first_within(times, stops, users, window_ms)
        mask = starts < stops
        stops = stops[mask]
        items = rows.values[stops]
        return Targets(users[mask], items, starts[mask], stops)

    def _train_towers(
        self, targets: Targets, contexts: Mapping[str, np.ndarray], data: Dataset, run: Run
    ) -> dict[str, Any]:
        if not len(targets.items):
            return self._leave_untrained("no recommended item was consumed after other events")
        features = self.features_[data.sequences.rows.values]
        means = _window_means(features, targets)
        context = self._context_inputs(contexts, len(data.users))
        inputs = np.c_[means, context[targets.users]].astype(np.float32)
        weights = rarity(targets.items, len(self.items_))
        recipe = Recipe(self.epochs, self.lr)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(inputs), self.batch, rng)

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            return self._loss(inputs[batch], targets.items[batch], weights[batch])

        return self._train_net(data, run, recipe, batches, loss)

    def _loss(self, inputs: np.ndarray, items: np.ndarray, weights: np.ndarray) -> Tensor:
        """Return the mean loss of targets among those of the batch; rare ones weigh more."""
        net = self._net
        device = next(net.parameters()).device
        rows = index_tensor(items, device)
        users = _unit_outputs(net.user_tower, inputs)
        vectors = _unit_outputs(net.item_tower, self.features_[items])
        logits = users @ vectors.T / self.temperature
        is_same = rows[:, None] == rows
        is_same.fill_diagonal_(False)
        logits = logits.masked_fill(is_same, -torch.inf)
        labels = torch.arange(len(rows), device=device)
        losses = cross_entropy(logits, labels, reduction="none")
        shares = torch.from_numpy(weights).to(device)
        return (losses * shares).mean()

    def _context_inputs(self, contexts: Mapping[str, np.ndarray], n: int) -> np.ndarray:
        """Return (n, C) indicators of the values of context; 0 for unknown ones."""
        columns = []
        for name, values in zip(self.context, self.context_values_, strict=True):
            unknown = np.full(n, None, dtype=object)
            column = contexts.get(name, unknown)
            texts = ["" if value is None else str(value) for value in column]
            present = np.array(texts, dtype=object)
            choices = np.array(values, dtype=object)
            columns.append(present[:, None] == choices)
        if not columns:
            return np.zeros((n, 0), dtype=np.float32)
        indicators = np.concatenate(columns, axis=1)
        return indicators.astype(np.float32)

    # answering

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        recent = self._recent(queries)
        counts = np.maximum(recent.lengths, 1)[:, None]
        sums = recent.matrix(len(self.items_)) @ self.features_
        means = sums / counts
        context = self._context_inputs(queries.contexts, len(queries))
        inputs = np.c_[means, context].astype(np.float32)
        net = self._ready()
        users = _unit_outputs(net.user_tower, inputs)
        items = _unit_outputs(net.item_tower, self.features_)
        logits = users @ items.T / self.temperature
        scores: np.ndarray = logits.numpy()
        scores[:, ~self.is_new_] = -np.inf
        scores[recent.lengths == 0] = -np.inf
        return scores

    def _recent(self, queries: Queries) -> Ragged:
        """Return the histories of the last `days` before the query, or before its last event."""
        times = queries.columns.get("times_ms")
        if times is None or not len(times.values):
            return queries.histories
        times_ms = times.values
        last_ms = np.full(len(queries), NO_TIME)
        np.maximum.at(last_ms, times.row_ids, times_ms)
        now_ms = queries.now_ms
        if now_ms is not None:
            last_ms = np.where(now_ms == NO_TIME, last_ms, now_ms)
        ages_ms = last_ms[times.row_ids] - np.maximum(times_ms, 0)
        is_recent = ages_ms <= self.days * DAY_MS
        return queries.histories.keep((times_ms == NO_TIME) | is_recent)


def hinge(vectors: Tensor, pairs: np.ndarray, negatives: np.ndarray, margin: float) -> Tensor:
    """Return the mean of max(0, margin - z_a . z_p + z_a . z_n) over links (E, 2)."""
    triples = np.column_stack([pairs, negatives])
    columns = index_tensor(triples, vectors.device).unbind(dim=1)
    first, second, other = (vectors[rows] for rows in columns)
    linked = (first * second).sum(dim=-1)
    drawn = (first * other).sum(dim=-1)
    gaps = relu(margin - linked + drawn)
    return gaps.mean()


def _unit_outputs(tower: nn.Module, inputs: np.ndarray) -> Tensor:
    """Return what a tower makes of inputs (M, F), scaled to unit length."""
    device = next(tower.parameters()).device
    outputs = tower(torch.from_numpy(inputs).to(device))
    return normalize(outputs.float(), dim=-1)


def _window_means(features: np.ndarray, targets: Targets) -> np.ndarray:
    """Return (M, F) the mean features of the events that are read for each target."""
    events, width = features.shape
    sums = np.zeros((events + 1, width))
    np.cumsum(features, axis=0, dtype=np.float64, out=sums[1:])
    starts = targets.starts
    stops = targets.stops
    totals = sums[stops] - sums[starts]
    lengths = stops - starts
    means: np.ndarray = totals / lengths[:, None]
    return means


def _shown_edges(
    edges: Mapping[str, np.ndarray], balanced: bool, rng: np.random.Generator
) -> np.ndarray:
    """Return as many links as an epoch shows, which depends on the rarest kind.

    Balanced, of each kind as many as of the rarest; else as many in all, of all kinds together.
    """
    kinds = list(edges.values())
    least = min(map(len, kinds))
    if balanced:
        drawn = [rng.permutation(pairs)[:least] for pairs in kinds]
        return np.concatenate(drawn)
    shuffled = rng.permutation(np.concatenate(kinds))
    return shuffled[: least * len(kinds)]


def rarity(items: np.ndarray, n: int) -> np.ndarray:
    """Return weights (M,) of targets, inverse to how often their items occur.

    Their mean is 1; before the last scaling none is above 10.
    """
    counts = np.bincount(items, minlength=n)
    weights = 1 / counts[items]
    weights /= weights.mean()
    weights = np.minimum(weights, MOST_RARE)
    weights /= weights.mean()
    return weights.astype(np.float32)


def _first_within(
    times: Ragged, stops: np.ndarray, users: np.ndarray, window_ms: int
) -> np.ndarray:
    """Return (M,) the position of each user's first event at most `window_ms` before a target."""
    firsts = times.offsets[users]
    bounds = zip(firsts.tolist(), stops.tolist(), strict=True)
    starts = firsts.copy()
    for i, (first, stop) in enumerate(bounds):
        earliest = times.values[stop] - window_ms
        window = times.values[first:stop]
        starts[i] = first + np.searchsorted(window, earliest)
    return starts


def _values(column: np.ndarray | None) -> list[str]:
    """Return the distinct values of a context column, ascending."""
    if column is None:
        return []
    return sorted({str(value) for value in column if value is not None})
