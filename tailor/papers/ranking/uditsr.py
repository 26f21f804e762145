"""UDITSR: taste plus demand is an item; searches tell the demand, else it is generated."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, mse_loss

from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.event_columns import event_texts
from tailor.data.graphs import heaviest, means
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.devices import index_tensor
from tailor.nn.fitting import Recipe
from tailor.nn.graphs import Edges
from tailor.nn.losses import BPR
from tailor.text.tfidf import count_words
from tailor.training.nets import NetMethod
from tailor.training.validation import cut_validation

PAPER = Paper(
    "uditsr",
    "Unified Dual-Intent Translation for Joint Modeling of Search and Recommendation",
    "https://arxiv.org/abs/2407.00912",
    "On a planted shop with searches (3 seeds) NDCG@5 of recommendations is above that of the same"
    " model without searches and without the loss of generation; the generated demand is nearer to"
    " the true one than the mean of the user's queries; search is not worse than learned alone",
)


class _Translation(nn.Module):
    """Hold vectors of items and words, the generator of demands, and a head per task.

    Shapes: N items, V words, D width, M pairs, W words of an item.
    """

    def __init__(self, item_words: np.ndarray, words: int, width: int) -> None:
        """Make the net; `item_words` (N, W) are words typed for items, -1 for none."""
        super().__init__()
        self.items = nn.Embedding(len(item_words), width)
        self.words = nn.Embedding(max(words, 1), width)
        self.item_words: Tensor
        codes = torch.from_numpy(item_words)
        self.register_buffer("item_words", codes, persistent=False)
        self.key = nn.Linear(2 * width, width)
        inputs = 4 * width
        hidden = 2 * width
        self.generator = _tanh_net(inputs, hidden, hidden, width)
        self.browse_head = _tanh_net(inputs, width, 1)
        self.search_head = _tanh_net(inputs, width, 1)
        for table in (self.items, self.words):
            nn.init.normal_(table.weight, std=0.3)

    def generate(
        self, users: Tensor, recent: Tensor, rows: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """Return (M, D) the demands with which users would come to items without a search.

        `users` (M, D) are their items' mean, `recent` (M, D) their latest queries, `rows` (M,) the
        items. `hidden` (M, W) marks words of the item that are not read.
        """
        codes = self.item_words[rows]
        is_word = codes >= 0
        if hidden is not None:
            is_word = is_word & ~hidden
        words = self.words(codes.clamp(min=0))  # M, W, D
        query = self.key(torch.cat([users, recent], dim=1))
        products = words @ query[:, :, None]
        logits = products[:, :, 0].masked_fill(~is_word, -1e30)
        weights = logits.softmax(dim=1) * is_word
        attended = (weights[:, :, None] * words).sum(dim=1)
        inputs = torch.cat([users, self.items(rows), recent, attended], dim=1)
        demands: Tensor = self.generator(inputs)
        return demands

    def score(self, users: Tensor, items: Tensor, demands: Tensor, searched: bool) -> Tensor:
        """Return (M,) scores of items for users with a demand, each (M, D)."""
        products = (users + demands) * items
        inputs = torch.cat([users, items, demands, products], dim=1)
        head = self.search_head if searched else self.browse_head
        scores: Tensor = head(inputs)[:, 0]
        return scores


def _tanh_net(*sizes: int) -> nn.Sequential:
    """Return a net of linear layers of these sizes with a tanh between each two."""
    return nn.Sequential(*_tanh_layers(sizes))


def _tanh_layers(sizes: tuple[int, ...]) -> Iterator[nn.Module]:
    """Yield linear layers of these sizes with a tanh between each two."""
    for number, (before, after) in enumerate(pairwise(sizes)):
        if number:
            yield nn.Tanh()
        yield nn.Linear(before, after)


class _Log(nn.Module):
    """Hold the events (E,) of all users, with the words that led to them."""

    def __init__(
        self, rows: Ragged, words: sp.csr_matrix, item_words: np.ndarray, method: "UDITSR"
    ) -> None:
        """Make the log of items (U rows) and word counts (E, V)."""
        super().__init__()
        items = len(item_words)
        events = len(rows.values)
        positions = np.arange(events)
        ones = np.ones(events, np.float32)
        by_item = sp.csr_matrix((ones, (rows.values, positions)), shape=(items, events))
        item_lengths = np.diff(by_item.indptr)
        shares = 1 / np.maximum(item_lengths, 1)
        starts = rows.offsets[rows.row_ids]
        recent = recent_queries(words, starts, positions, method.recent)
        to_users = means(rows.with_values(positions), events)
        self.words = Edges(words)
        self.recent = Edges(recent)
        self.to_items = Edges(sp.diags(shares) @ by_item)
        self.to_users = Edges(to_users)
        tensors = {
            "item_of": rows.values.astype(np.int64),
            "user_of": rows.row_ids.astype(np.int64),
            "lengths": rows.lengths.astype(np.float32)[:, None],
            "is_search": np.diff(words.indptr) > 0,
            "is_chosen": item_lengths > 0,
            "hidden": own_words(rows, words, item_words, method.least),
        }
        for name, values in tensors.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def without(self, vectors: Tensor, events: Tensor) -> Tensor:
        """Return (M, D) means of `vectors` (E, D) over the users' other events."""
        users = self.user_of[events]
        lengths = self.lengths[users]
        return (self.to_users(vectors)[users] * lengths - vectors[events]) / (lengths - 1)

    item_of: Tensor
    """(E,) the item of each event."""
    user_of: Tensor
    """(E,) the user of each event."""
    lengths: Tensor
    """(U, 1) the number of events of each user."""
    is_search: Tensor
    """(E,) bool: a search led to the event."""
    is_chosen: Tensor
    """(N,) bool: the item has events."""
    hidden: Tensor
    """(E, W) bool: a word of the event's item that too few others typed."""


@dataclass(eq=False)
class UDITSR(NetMethod, ScoringRecommender):
    """Taste plus the demand of the moment is the item that a user chooses.

    Searches tell what is wanted: the words of a query are a vector, the demand, and taste + demand
    = item is learned as a translation. Where nobody searched, a small net generates the demand from
    the user's items and latest queries, the item, and words that others typed for it; searches
    teach it (Zhang et al. 2024). `Query.text` is a search; without it, items are scored by the
    demand generated for each. `History.texts` are earlier queries.

    Differs from the paper: a user's taste is the mean of their items less the demands, so strangers
    are served and nothing is kept of users; while learning, the target is left out of it; heads
    read the product of translation and item too; a demand is generated from queries before it, and
    from words that at least two other users typed.
    """

    reads_text = True

    width: int = 32
    """Width of the vectors (paper: 100)."""
    layers: int = 1
    """Steps from items to users and back over the graph of events; one is two of the paper's."""
    recent: int = 3
    """Latest queries of a user that the generator reads."""
    item_words: int = 10
    """Words typed most often for an item that the generator reads."""
    least: int = 2
    """Users who must have typed a word for an item, for it to be one of the item's words."""
    reads_searches: bool = True
    """Whether searches are learned from; without, all events count as browsed."""
    translation: Annotated[float, Range(0.01, 2.0, log=True)] = 0.2
    """Weight of the loss of taste + demand = item."""
    generation: Annotated[float, Range(0.05, 10.0, log=True)] = 1.5
    """Weight of the squared distance of generated demand and query; 0: searches do not teach it."""
    negatives: int = 4
    """Items drawn for each target."""
    lr: Annotated[float, Range(3e-4, 3e-2, log=True)] = 1e-2
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 1e-5
    """Weight decay of matrices in AdamW."""
    batch: int = 512
    """Events per batch."""
    epochs: int = 20
    """Maximum number of epochs."""
    patience: int | None = 4
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    words_: list[str] = field(init=False, repr=False)
    """(V,) words that at least two users typed."""
    item_words_: np.ndarray = field(init=False, repr=False)
    """(N, W) codes of the words typed most often for each item; -1 for none."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) item vectors, averaged over the layers; zero for an item that nobody chose."""

    def __post_init__(self) -> None:
        check_settings(self)
        sizes = (self.width, self.recent, self.item_words, self.least, self.negatives, self.batch)
        if min(sizes) < 1 or not self.lr > 0:
            raise DataError(
                f"width, recent, item_words, least, negatives and batch are {sizes}, lr {self.lr}:"
                " all must be above 0"
            )
        least = min(self.layers, self.epochs, self.translation, self.generation, self.weight_decay)
        if least < 0:
            raise DataError(
                f"layers {self.layers}, epochs {self.epochs}, translation {self.translation},"
                f" generation {self.generation}, weight_decay {self.weight_decay}: none below 0"
            )

    @classmethod
    def tiny(cls) -> "UDITSR":
        return cls(width=8, epochs=5)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        is_validated = self.patience is not None
        validation, learned = cut_validation(data, run, valid, needed=is_validated)
        self.items_ = data.catalogue
        rows = learned.sequences.rows
        words = self._learn_words(query_texts(learned), rows)
        self.item_words_ = words_of_items(rows, words, len(self.items_), self)
        self._log = _Log(rows, words, self.item_words_, self)
        self._start_net(run)
        has_others = np.repeat(rows.lengths > 1, rows.lengths)
        positions = np.flatnonzero(has_others)
        recipe = Recipe(self.epochs, self.lr, self.weight_decay, patience=self.patience, every=5)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(positions, self.batch, rng)

        if len(positions):
            report = self._train_net(data, run, recipe, batches, self._loss, validation)
        else:
            report = self._leave_untrained("no user has two events to learn from")
        searches = int(np.count_nonzero(np.diff(words.indptr)))
        self.fit_report_ = {"searches": searches, "words": len(self.words_), **report}

    def _learn_words(self, texts: list[str], rows: Ragged) -> sp.csr_matrix:
        """Keep the words that enough users typed; return their counts (E, V) by event."""
        events = len(texts)
        if not self.reads_searches:
            texts = [""] * events
        counts, columns = count_words(texts)
        by_user = rows.with_values(np.arange(events)).matrix(events)
        user_counts = by_user @ counts
        typed_by = np.bincount(user_counts.indices, minlength=len(columns))
        is_common = typed_by >= self.least
        self.words_ = [word for word, code in columns.items() if is_common[code]]
        common = sp.csr_matrix(counts[:, is_common])
        common.resize(events, max(len(self.words_), 1))  # nets need a word
        return common

    def _make_net(self) -> _Translation:
        return _Translation(self.item_words_, len(self.words_), self.width)

    def _propagate(self) -> tuple[Tensor, Tensor]:
        """Return the demands (E, D) of all events and the item vectors (N, D).

        Demands are generated where nobody searched; vectors are averaged over the layers.
        """
        log = self._log
        events = (log.item_of, log.user_of)
        demands = self._demands(*events, log.to_users, log.words, log.recent)
        state = self._net.items.weight
        total = state
        total_weight = 1.0
        for layer in range(1, self.layers + 1):
            tastes = state[log.item_of] - demands
            users = log.to_users(tastes)
            wishes = users[log.user_of] + demands
            state = log.to_items(wishes)
            total = total + state / (layer + 1)
            total_weight += 1 / (layer + 1)
        vectors = total / total_weight
        return demands, vectors * log.is_chosen[:, None]

    def _demands(
        self, item_of: Tensor, user_of: Tensor, to_users: Edges, words: Edges, recent: Edges
    ) -> Tensor:
        """Return the demands (E, D) of events."""
        net = self._ready()
        table = net.words.weight
        users = to_users(net.items(item_of))
        word_counts, _ = words.degrees()
        browsed = torch.nonzero(word_counts == 0)[:, 0]
        event_users = users[user_of[browsed]]
        queries = recent(table)[browsed]
        generated = net.generate(event_users, queries, item_of[browsed])
        return words(table).index_copy(0, browsed, generated)

    def _loss(self, positions: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return the mean loss of events (M,)."""
        net = self._net
        device = net.items.weight.device
        log = self._log.to(device)
        events = torch.from_numpy(positions).to(device)
        demands, vectors = self._propagate()
        tastes = vectors[log.item_of] - demands
        users = log.without(tastes, events)[:, None]  # M, 1, D
        rows = self._with_negatives(log.item_of[events], rng)  # M, 1 + K
        generated = self._generated(events, rows)
        query_vectors = log.words(net.words.weight)[events]
        is_search = log.is_search[events]
        used = torch.where(is_search[:, None, None], query_vectors[:, None], generated)
        items = vectors[rows]
        scores = self._pair_scores(users.expand(items.shape), items, used, is_search)
        translated = users + used
        nearer = _distance_loss(translated, items)
        ranking = BPR()(scores[:, 0], scores[:, 1:])
        loss = ranking + self.translation * nearer
        if is_search.any():
            searched = query_vectors[is_search].detach()
            taught = mse_loss(generated[is_search, 0], searched)
            loss = loss + self.generation * taught
        return loss

    def _pair_scores(
        self, users: Tensor, items: Tensor, demands: Tensor, is_search: Tensor
    ) -> Tensor:
        """Return scores (M, 1 + K) of the events' pairs, those of searches first."""
        parts = []
        for searched in (True, False):
            mask = is_search == searched
            inputs = (part[mask].flatten(0, 1) for part in (users, items, demands))
            scores = self._net.score(*inputs, searched=searched)
            parts.append(scores.view(-1, items.shape[1]))
        return torch.cat(parts)

    def _with_negatives(self, targets: Tensor, rng: np.random.Generator) -> Tensor:
        """Return (M, 1 + K) rows: each target, then items drawn from those with events."""
        is_chosen = self._log.is_chosen.cpu().numpy()
        candidates = np.flatnonzero(is_chosen)
        size = (len(targets), self.negatives)
        drawn = rng.choice(candidates, size)
        negatives = torch.from_numpy(drawn).to(targets.device)
        return torch.cat([targets[:, None], negatives], dim=1)

    def _generated(self, events: Tensor, rows: Tensor) -> Tensor:
        """Return (M, 1 + K, D) demands generated for events' users and items `rows`.

        A user is made without the event; words that only they typed for its item are not read.
        """
        net, log = self._net, self._log
        users = log.without(net.items(log.item_of), events)
        recent = log.recent(net.words.weight)[events]
        size = (*rows.shape, log.hidden.shape[1])
        hidden = torch.zeros(size, dtype=torch.bool, device=rows.device)
        hidden[:, 0] = log.hidden[events]
        repeats = rows.shape[1]
        users = users.repeat_interleave(repeats, dim=0)
        recent = recent.repeat_interleave(repeats, dim=0)
        generated = net.generate(users, recent, rows.flatten(), hidden.flatten(0, 1))
        return generated.view(*rows.shape, -1)

    def _keep_weights(self) -> None:
        super()._keep_weights()
        self._log.cpu()
        with torch.no_grad():
            self.vectors_ = self._propagate()[1].numpy()
        del self._log  # single users' events

    # answering

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        net = self._ready()
        device = net.items.weight.device
        users, item_means, recent, vectors = self._users(queries)
        size = len(queries)
        texts = [queries.text(i) for i in range(size)]
        searches = Edges(self._words_of(texts)).to(device)
        query_vectors = searches(net.words.weight)
        word_counts, _ = searches.degrees()
        rows = torch.arange(len(vectors), device=device)
        scores = torch.full((size, len(rows)), -torch.inf, device=device)
        for i in range(size):
            is_search = bool(word_counts[i] > 0)
            if not (is_search or users[i].any()):
                continue
            parts = (users[i], query_vectors[i], item_means[i], recent[i])
            user, demands, mean, latest = (part.expand(len(rows), -1) for part in parts)
            if not is_search:
                demands = net.generate(mean, latest, rows)
            scores[i] = net.score(user, vectors, demands, is_search)
        is_unknown = ~vectors.any(dim=1)
        scores[:, is_unknown] = -torch.inf
        return scores.cpu().numpy()

    def _users(self, queries: Queries) -> tuple[Tensor, ...]:
        """Return tastes, item means, latest queries, each (B, D), and item vectors (N, D)."""
        net = self._ready()
        device = net.items.weight.device
        vectors = self._item_vectors(device)
        rows = queries.histories
        words = self._words_of(_history_texts(queries))
        starts = rows.offsets[:-1]
        events = np.arange(len(rows.values))
        event_means = means(rows.with_values(events), len(events))
        before = recent_queries(words, starts[rows.row_ids], events, self.recent)
        latest = recent_queries(words, starts, rows.offsets[1:], self.recent)
        matrices = (event_means, words, before, latest)
        average, *event_edges, latest_words = (Edges(part).to(device) for part in matrices)
        item_of = index_tensor(rows.values, device)
        user_of = index_tensor(rows.row_ids, device)
        demands = self._demands(item_of, user_of, average, *event_edges)
        tastes = average(vectors[item_of] - demands)
        item_means = average(net.items(item_of))
        queries_before = latest_words(net.words.weight)
        return tastes, item_means, queries_before, vectors

    def _item_vectors(self, device: torch.device) -> Tensor:
        """Return (N, D) item vectors: those learned so far where the method is validated."""
        if "_log" in self.__dict__:
            return self._propagate()[1]
        return torch.from_numpy(self.vectors_).to(device)

    def _words_of(self, texts: list[str]) -> sp.csr_matrix:
        """Return (n, V) counts of known words."""
        codes = {word: code for code, word in enumerate(self.words_)}
        counts, _ = count_words(texts, codes)
        counts.resize(len(texts), max(len(self.words_), 1))
        return counts


def _distance_loss(translated: Tensor, items: Tensor) -> Tensor:
    """Return the mean loss that asks targets to be nearer to `translated` than negatives.

    Both are (M, 1 + K, D); targets are the first of the 1 + K.
    """
    differences = translated - items
    distances = differences.square().mean(dim=2)
    gaps = distances[:, 1:] - distances[:, :1]
    return -logsigmoid(gaps).mean()


def _history_texts(queries: Queries) -> list[str]:
    """Return the text of each event of the queries' histories, "" for none."""
    texts = queries.columns.get("texts")
    if texts is None:
        return [""] * len(queries.histories.values)
    return [text or "" for text in texts.values]


def query_texts(data: Dataset) -> list[str]:
    """Return the search that led to each event of the sequences; "" for none.

    Searches are texts of kind "query" (all, where texts have no kind) that name the event's user,
    item and, where both have one, time.
    """
    texts = event_texts(data, data.events, "query")
    return [texts[row] for row in data.sequences.events.tolist()]


def recent_queries(
    words: sp.csr_matrix, starts: np.ndarray, positions: np.ndarray, most: int
) -> sp.csr_matrix:
    """Return (m, V) the summed words of the latest searches before `positions` (m,).

    `words` (E, V) are those of all events, `starts` (m,) where the events of each one's user begin.
    At most `most` searches count.
    """
    searched = np.flatnonzero(np.diff(words.indptr))
    stop = np.searchsorted(searched, positions)
    first = np.searchsorted(searched, starts)
    start = np.maximum(first, stop - most)
    lengths = stop - start
    empty = np.zeros(lengths.sum(), np.int64)
    window = Ragged.of_lengths(lengths, empty)
    numbers = window.from_start + np.repeat(start, lengths)
    latest = window.with_values(searched[numbers])
    window_sums = latest.matrix(words.shape[0])
    return sp.csr_matrix(window_sums @ words)


def _typed_keys(rows: Ragged, words: sp.csr_matrix, items: int) -> np.ndarray:
    """Return distinct sorted numbers of (user, item, word) that occur."""
    entries = words.tocoo()
    users = rows.row_ids[entries.row]
    item_rows = rows.values[entries.row]
    pairs = users * items + item_rows
    keys = pairs * words.shape[1] + entries.col
    return np.unique(keys)


def words_of_items(rows: Ragged, words: sp.csr_matrix, items: int, method: UDITSR) -> np.ndarray:
    """Return (N, W) codes of the words typed most for each item; -1 for none."""
    keys = _typed_keys(rows, words, items)
    size = words.shape[1]
    item_word_keys = keys % (items * size)
    typed = np.divmod(item_word_keys, size)
    ones = np.ones(len(keys), np.float32)
    counts = sp.csr_matrix((ones, typed), shape=(items, size))
    counts.sum_duplicates()
    is_rare = counts.data < method.least
    counts.data[is_rare] = 0
    best = heaviest(counts, method.item_words)
    offsets = best.indptr.astype(np.int64)
    ranks = Ragged(offsets, best.indices)
    codes = np.full((items, method.item_words), -1, dtype=np.int64)
    codes[ranks.row_ids, ranks.from_start] = best.indices
    return codes


def own_words(rows: Ragged, words: sp.csr_matrix, item_words: np.ndarray, least: int) -> np.ndarray:
    """Return (E, W) bool: a word of the event's item that too few others than its user typed."""
    items, size = len(item_words), words.shape[1]
    keys = _typed_keys(rows, words, items)
    codes = item_words[rows.values]
    words_in_all = items * size
    item_keys = rows.values[:, None].astype(np.int64) * size
    item_word_keys = item_keys + codes
    users_of_word = np.bincount(keys % words_in_all, minlength=words_in_all)
    user_keys = rows.row_ids[:, None] * words_in_all
    is_own = np.isin(user_keys + item_word_keys, keys)
    other_users = users_of_word[item_word_keys] - is_own
    hidden: np.ndarray = (other_users < least) & (codes >= 0)
    return hidden
