"""NBPO: an item without an event may be liked all the same.

Shapes: B votes, Z items of a vote (the item voted for first, then items without an event of the
user), U users, N items, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, logsigmoid

from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.graphs import means
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError
from tailor.nn.devices import index_tensor
from tailor.nn.fitting import Recipe
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "nbpo",
    "Sampler Design for Implicit Feedback Data by Noisy-label Robust Learning",
    "https://arxiv.org/abs/2007.07204",
    "In planted logs that hide 40 % of the groups that a user likes, NDCG@10 against the true likes"
    " is above that of the same factors without flips and of BPR; the probabilities of flips go"
    " with the true ones (correlation above .3); where nothing is hidden nothing is lost",
)
NOISE_FREE = ("no flips", "pairs")


@dataclass(eq=False)
class NBPO(NetMethod, ScoringRecommender):
    """A like may leave no event: its odds are learned beside what is liked.

    Two products of factors belong to a user and an item, R for liking and G for a flipped label.
    With s the sigmoid, an event has the probability s(R) s(-G), its absence 1 - s(R) s(-G); both
    are fitted to the events and to `negatives` items without an event each. Items are ordered by R.
    Flips start rare: the factors of G are five times larger, and negative. `hidden_likes` says how
    likely an item without an event is liked, `sampling_weights` how safely it is a negative for
    other nets. The likelihoods "no flips" (BPO) and "pairs" (BPR) are the rivals of the paper.

    Differs from the paper: a user is the mean of vectors of the items chosen, without the item that
    is to be predicted, so that strangers are served and no user is kept; AdamW in place of steps of
    falling size; penalties are means over the votes of a batch, not of all factors per batch.
    """

    likelihood: Literal["released", "exact", "no flips", "pairs"] = "released"
    """Form of the loss; released: the updates of the authors' code, chosen on validation; exact:
    Bayes' rule; no flips: G is left out; pairs: the event's item above the others, without flips.
    """
    width: int = 50
    """Width of the factors."""
    negatives: int = 4
    """Items without an event that are drawn for each event."""
    l2: Annotated[float, Range(1e-5, 1e-1, log=True)] = 1e-3
    """Penalty of the squared length of the factors of R."""
    flip_l2: Annotated[float, Range(1e-5, 1e-1, log=True)] = 5e-3
    """Penalty of the squared length of the factors of G; draws every flip towards one half."""
    lr: Annotated[float, Range(1e-3, 5e-2, log=True)] = 1e-2
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 1_000
    """Events of a batch (paper: 5,000)."""
    epochs: int = 60
    """Passes over the events, at most."""
    patience: int | None = 3
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    has_event_: np.ndarray = field(init=False, repr=False)
    """(N,) bool: items with an event, the only ones that are scored."""

    def __post_init__(self) -> None:
        check_settings(self)
        sizes = {name: getattr(self, name) for name in ("width", "negatives", "batch")}
        if min(sizes.values()) < 1 or self.epochs < 0 or not self.lr > 0:
            raise DataError(
                f"{sizes}, epochs {self.epochs}, lr {self.lr}: sizes from 1, lr above 0"
            )
        if not min(self.l2, self.flip_l2) >= 0:
            raise DataError(f"l2 is {self.l2}, flip_l2 {self.flip_l2}: both must be 0 or more")

    @classmethod
    def tiny(cls) -> "NBPO":
        return cls(width=8, epochs=3)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        self.items_ = data.catalogue
        rows = learned.sequences.rows.distinct()
        self.has_event_ = np.bincount(rows.values, minlength=len(self.items_)) > 0
        self._start_net(run)
        votes = np.flatnonzero(np.repeat(rows.lengths > 1, rows.lengths))
        if len(votes):
            report = self._train(data, rows, votes, validation, run)
        else:
            report = self._leave_untrained("no user has two items to learn from")
        self.fit_report_ = {"votes": len(votes), **report}

    def _train(
        self,
        data: Dataset,
        rows: Ragged,
        votes: np.ndarray,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train on events, which are positions of values in `rows`."""

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(votes, self.batch, rng)

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            return self._loss(self._draw(rows, batch, rng))

        recipe = Recipe(self.epochs, self.lr, patience=self.patience, every=5)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _draw(self, rows: Ragged, votes: np.ndarray, rng: np.random.Generator) -> "_Votes":
        """Return votes, which are positions in `rows`, with items that were not voted for."""
        users, user = np.unique(rows.row_ids[votes], return_inverse=True)
        histories = rows.take(users)
        candidates = np.flatnonzero(self.has_event_)
        shape = (len(votes), self.negatives)
        numbers = rng.integers(len(candidates), size=shape)
        drawn = candidates[numbers]
        items = np.int64(len(self.items_))
        voted_keys = histories.row_ids * items + histories.values
        drawn_keys = user[:, None] * items + drawn
        mask = np.ones((len(votes), 1 + self.negatives), bool)
        mask[:, 1:] = ~np.isin(drawn_keys, voted_keys)
        rows_of_items = np.c_[rows.values[votes], drawn]
        return _Votes(histories, user, rows_of_items.astype(np.int64), mask)

    def _make_net(self) -> nn.ModuleDict:
        items = len(self.items_)
        nets = {"likes": _Factors(items, self.width, 1.0, 1.0)}
        if self.likelihood not in NOISE_FREE:
            nets["flips"] = _Factors(items, self.width, 5.0, -1.0)
        return nn.ModuleDict(nets)

    def _loss(self, votes: "_Votes") -> Tensor:
        """Return the mean loss of votes, penalties of the factors included."""
        likes, like_size = self._net["likes"](votes)  # B, Z
        device = likes.device
        mask = torch.from_numpy(votes.mask).to(device)
        penalty = self.l2 * like_size
        if self.likelihood == "pairs":
            losses = -logsigmoid(likes[:, :1] - likes[:, 1:]) * mask[:, 1:]
        elif self.likelihood == "no flips":
            losses = -torch.cat([logsigmoid(likes[:, :1]), logsigmoid(-likes[:, 1:])], 1) * mask
        else:
            flips, flip_size = self._net["flips"](votes)
            penalty = penalty + self.flip_l2 * flip_size
            form = _exact_losses if self.likelihood == "exact" else _released_losses
            losses = form(likes, flips) * mask
        return losses.sum(dim=1).mean() + penalty

    # answering

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        rows = self._known(queries)
        scores = self._products("likes", rows)
        scores[:, ~self.has_event_] = -np.inf
        scores[rows.lengths == 0] = -np.inf
        return scores

    def _known(self, queries: Queries) -> Ragged:
        """Return the distinct items of users that have an event."""
        rows = queries.histories.distinct()
        return rows.keep(self.has_event_[rows.values])

    def _products(self, part: str, rows: Ragged) -> np.ndarray:
        """Return (B, N) R ("likes") or G ("flips") of users with these distinct items."""
        net = self._ready()[part]
        chosen = net.chosen.weight.detach().cpu().numpy()
        offered = net.offered.weight.detach().cpu().numpy()
        users = means(rows, len(self.items_)) @ chosen
        products: np.ndarray = users @ offered.T
        return products.astype(np.float32)

    def hidden_likes(self, queries: Sequence[Query]) -> np.ndarray:
        """Return (B, N) the probability that each item is liked, if it has no event.

        Columns are in the order of `items_`; NaN for items that nobody chose, and in rows of users
        without a known item. Raises ModelError for a likelihood without flips.
        """
        self._check_fitted()
        if self.likelihood in NOISE_FREE:
            raise ModelError(
                f'likelihood is "{self.likelihood}", which learns no flips: take exact'
            )
        rows = self._known(Queries.of(queries).reindexed(self.items_))
        like = expit(self._products("likes", rows))
        flip = expit(self._products("flips", rows))
        hidden: np.ndarray = like * flip / np.maximum(1 - like * (1 - flip), 1e-9)
        hidden[:, ~self.has_event_] = np.nan
        hidden[rows.lengths == 0] = np.nan
        return hidden

    def sampling_weights(self, queries: Sequence[Query]) -> np.ndarray:
        """Return (B, N) the probability that an item without an event is not liked.

        NaN and ModelError as of `hidden_likes`.
        """
        weights: np.ndarray = 1 - self.hidden_likes(queries)
        return weights


class _Votes(NamedTuple):
    """Events of a batch, each with items that its user has no event of."""

    histories: Ragged
    """Distinct items of the users of the batch."""
    user: np.ndarray
    """(B,) number of each event's user."""
    items: np.ndarray
    """(B, Z) int64 rows, that of the event first."""
    mask: np.ndarray
    """(B, Z) bool: false where an item that was drawn has an event of the user."""


class _Factors(nn.Module):
    """Products of users and items; a user is the mean of items chosen."""

    def __init__(self, items: int, width: int, size: float, sign: float) -> None:
        super().__init__()
        self.chosen = nn.Embedding(items, width)
        self.offered = nn.Embedding(items, width)
        with torch.no_grad():
            for table, factor in ((self.chosen, 1.0), (self.offered, sign)):
                nn.init.uniform_(table.weight, 0.0, size / width**0.5).mul_(factor)

    def forward(self, votes: _Votes) -> tuple[Tensor, Tensor]:
        """Return products (B, Z), and the mean squared length of the factors of a vote."""
        device = self.chosen.weight.device
        histories = votes.histories
        values = index_tensor(histories.values, device)
        offsets = index_tensor(histories.offsets[:-1], device)
        user = index_tensor(votes.user, device)
        items = index_tensor(votes.items, device)
        counts = index_tensor(histories.lengths, device)[user] - 1
        sums = embedding_bag(values, self.chosen.weight, offsets, mode="sum")  # U, D
        targets = self.chosen(items[:, 0])
        # without the item that is to be predicted
        users = (sums[user] - targets) / counts[:, None]
        offered = self.offered(items)  # B, Z, D
        user_size = users.square().sum(-1).mean()
        item_size = offered.square().sum(-1).mean()
        products = torch.einsum("bd,bzd->bz", users, offered)
        return products, user_size + item_size


def _exact_losses(likes: Tensor, flips: Tensor) -> Tensor:
    """Return minus the log-likelihoods (B, Z) of an event and of absences."""
    log_event = logsigmoid(likes) + logsigmoid(-flips)
    log_absence = torch.log(-torch.expm1(log_event[:, 1:]).clamp(max=-1e-7))
    return -torch.cat([log_event[:, :1], log_absence], 1)


def _released_losses(likes: Tensor, flips: Tensor) -> Tensor:
    """Return numbers (B, Z) whose gradients are the updates of the authors' code."""
    like = torch.sigmoid(likes).detach()
    flip = torch.sigmoid(flips).detach()
    is_event = torch.zeros_like(like, dtype=torch.bool)
    is_event[:, 0] = True
    of_event = (1 - flip) * (1 - like)
    of_absence = flip * (1 - like) - like
    for_likes = torch.where(is_event, of_event, of_absence)
    for_flips = torch.where(is_event, -flip * like, (1 - flip) * like)
    return -(for_likes * likes + for_flips * flips)
