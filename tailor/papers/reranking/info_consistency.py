"""Information consistency: the same request in other words gets the same items."""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.evaluation.consistency import consensus, wording_groups
from tailor.metrics.candidates import shared_share
from tailor.nn.fitting import Recipe, fit_net
from tailor.nn.policy import advantages, clipped, divergence, draw_orders, plackett_luce
from tailor.ports.base import Encoder
from tailor.text.cached import asking, item_vectors, plain
from tailor.text.hashing import HashingEncoder
from tailor.text.wordings import FRAMES, reworded
from tailor.training.nets import NetMethod
from tailor.training.validation import run_key

PAPER = Paper(
    "info-consistency",
    "Information-Consistent Language Model Recommendations through Group Relative Policy"
    " Optimization",
    "https://arxiv.org/abs/2512.12858",
    "Rewarded for agreement between wordings of a request beside good items, a policy gives unseen"
    " wordings more of the same items than one taught the good items alone, and items as good",
)
SHARPNESS = 20.0  # logits of an untrained policy: the cosine of request and item times this


@dataclass(frozen=True, eq=False)
class Wordings:
    """Vectors of the wordings of one request, and its good items."""

    vectors: np.ndarray
    """(P, D) float32."""
    items: np.ndarray
    """(m,) rows of the items that answer it."""


@dataclass(eq=False)
class InfoConsistency(NetMethod, ScoringRecommender):
    """Answers a request in any words with the same items, learned from wordings of requests.

    A linear map of a request's vector scores the items. It is first taught the items that answer
    each wording. Then it draws lists for six wordings of a request as one group: half of a list's
    reward is its NDCG, half is how far it agrees with the group, by items in common with the
    group's vote and by being as sure as the group (GRPO). Without `intent_id` in the table of
    requests there is nothing to agree on, and it is taught the items alone.

    Differs from the paper: the policy is no language model, so that lists are drawn by
    Plackett-Luce; the information of a list is minus the mean log-probability of its items; items
    in common are ours. `consensus` needs no training: a request is asked in several manners.
    """

    reads_text = True

    encoder: Encoder | str = DEFAULT
    """Encoder of requests and items; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    help_share: float = 0.5
    """Share of NDCG in the reward; the remainder is agreement. 0 collapses to one list."""
    consensus: int = 1
    """Manners in which a request is asked, their probabilities multiplied; 1: as it is."""
    k: int = 10
    """Length of the drawn lists."""
    wordings: int = 6
    """Most wordings of a group."""
    draws: int = 8
    """Lists drawn of each wording."""
    groups: int = 8
    """Groups per batch."""
    taught_epochs: int = 60
    """Passes over the groups in which good items are taught; 0: none."""
    epochs: int = 12
    """Passes over the groups in which rewards are learned from; 0: none."""
    taught_lr: float = 5e-2
    """Peak learning rate of AdamW while items are taught; decays linearly to 1 %."""
    lr: float = 1e-2
    """Peak learning rate of AdamW while rewards are learned from; decays linearly to 1 %."""
    closeness: float = 1.0
    """Weight of the divergence from the policy that was taught; the paper's form has .01."""
    history_length: int = 5
    """Latest items whose texts stand in for a missing request."""

    texts_: list[str] = field(init=False, repr=False)
    """(N,) texts of the items, which stand in for missing requests."""
    width_: int = field(init=False, repr=False)
    """Width of the encoder's vectors."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        counts = (self.k, self.wordings, self.groups, self.draws - 1)
        if min(counts) < 1 or min(self.taught_epochs, self.epochs, self.history_length) < 0:
            raise ModelError(
                f"k is {self.k}, wordings {self.wordings}, groups {self.groups}, draws"
                f" {self.draws}: from 1, draws from 2; epochs and history_length are from 0"
            )
        if not 0 <= self.help_share <= 1 or min(self.lr, self.taught_lr) <= 0:
            raise ModelError(
                f"help_share is {self.help_share}, lr {self.lr}, taught_lr {self.taught_lr}: from 0"
                " to 1, and above 0"
            )
        if not 1 <= self.consensus <= len(FRAMES) or self.closeness < 0:
            raise ModelError(
                f"consensus is {self.consensus}, closeness {self.closeness}: from 1 to"
                f" {len(FRAMES)}, and from 0"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(HashingEncoder(32), taught_epochs=2, epochs=2, draws=2)

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        encoder = encoder_of(self.encoder)
        self.items_, self.texts_, self.space_ = data.catalogue, data.item_texts, encoder.space
        vectors = item_vectors(encoder, self.texts_, run.progress)
        self.width_ = vectors.shape[1]
        self._start_net(run)
        with torch.no_grad():
            self._net.weight.copy_(SHARPNESS * torch.from_numpy(vectors))
            self._net.bias.zero_()
        groups = self._groups(data, plain(encoder))
        counts = {"requests": len(groups), "wordings": sum(len(g.vectors) for g in groups)}
        if groups:
            key = run_key(self, data, None, run)
            report = self._learn(groups, run, key)
        else:
            report = self._leave_untrained("no request has items that are judged good")
        self.fit_report_ = {**counts, **report}

    def _make_net(self) -> nn.Linear:
        return nn.Linear(self.width_, len(self.items_))

    def _groups(self, data: Dataset, encoder: Encoder) -> list[Wordings]:
        """Return the requests with good items of the catalogue; their texts are not cached."""
        groups = []
        for group in wording_groups(data, least=1):
            rows = self.items_.rows(group.item_ids)
            if (rows >= 0).any():
                groups.append((group.texts, rows[rows >= 0].astype(np.int64)))
        vectors = encoder.encode([text for texts, _ in groups for text in texts])
        edges = np.cumsum([len(texts) for texts, _ in groups])[:-1]
        parts = np.split(vectors, edges) if groups else []
        return [Wordings(part, rows) for part, (_, rows) in zip(parts, groups, strict=True)]

    def _learn(self, groups: Sequence[Wordings], run: Run, key: str) -> dict[str, Any]:
        """Teach the items, then learn from rewards of groups; keep the weights."""
        reports = {}
        if self.taught_epochs:
            recipe = Recipe(self.taught_epochs, self.taught_lr)
            reports["taught"] = self._train(f"{key}-taught", groups, self._taught_loss, recipe, run)
        reference = copy.deepcopy(self._net).requires_grad_(False)
        several = [group for group in groups if len(group.vectors) > 1]
        if self.epochs and several:
            loss = functools.partial(self._reward_loss, reference=reference)
            recipe = Recipe(self.epochs, self.lr)
            reports["rewarded"] = self._train(f"{key}-rewarded", several, loss, recipe, run)
        self._keep_weights()
        return reports

    def _train(
        self,
        key: str,
        groups: Sequence[Wordings],
        batch_loss: Callable[[Sequence[Wordings]], Tensor],
        recipe: Recipe,
        run: Run,
    ) -> dict[str, Any]:
        """Train one stage on batches of groups."""

        def batches(rng: np.random.Generator) -> list[list[Wordings]]:
            parts = shuffled_batches(len(groups), self.groups, rng)
            return [[groups[i] for i in part] for part in parts]

        def loss(batch: list[Wordings], rng: np.random.Generator) -> Tensor:
            return batch_loss([self._drawn(group, rng) for group in batch])

        return fit_net(self._net, batches, loss, run, recipe, key=key)

    def _drawn(self, group: Wordings, rng: np.random.Generator) -> Wordings:
        """Return a group with at most `wordings` of its wordings, drawn at random."""
        numbers = rng.permutation(len(group.vectors))[: self.wordings]
        return Wordings(group.vectors[numbers], group.items)

    def _taught_loss(self, batch: Sequence[Wordings]) -> Tensor:
        """Return the mean cross-entropy of the good items, equal shares each."""
        log_probs = self._logits(self._net, batch).log_softmax(dim=-1)  # W, N
        shares = np.zeros(log_probs.shape, np.float32)
        start = 0
        for group in batch:
            end = start + len(group.vectors)
            shares[start:end, group.items] = 1 / len(group.items)
            start = end
        targets = torch.from_numpy(shares).to(log_probs.device)
        gains = (log_probs * targets).sum(dim=-1)
        return -gains.mean()

    def _reward_loss(self, batch: Sequence[Wordings], reference: nn.Linear) -> Tensor:
        """Return the loss of lists drawn for the wordings of several groups."""
        logits = self._logits(self._net, batch)  # W, N
        k = min(self.k, logits.shape[1])
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        orders = draw_orders(logits.detach().cpu(), self.draws, generator)[..., :k]  # G, W, k
        orders = orders.to(logits.device)
        log_probs = plackett_luce(logits.expand(self.draws, -1, -1), orders)  # G, W
        advantage = self._advantages(batch, orders, log_probs.detach())
        with torch.no_grad():
            before = self._logits(reference, batch)
        distance = divergence(logits, before)
        return clipped(log_probs, log_probs, advantage) + self.closeness * distance

    def _advantages(self, batch: Sequence[Wordings], orders: Tensor, log_probs: Tensor) -> Tensor:
        """Return (G, W) rewards of lists less the mean of all lists of their group."""
        sizes = [len(group.vectors) for group in batch]
        parts = zip(batch, orders.split(sizes, 1), log_probs.split(sizes, 1), strict=True)
        of_groups = []
        for group, of_orders, of_log_probs in parts:
            rewards = list_rewards(of_orders, of_log_probs, group.items, self.help_share)
            of_groups.append(advantages(rewards.flatten()).reshape(rewards.shape))
        return torch.cat(of_groups, dim=1)

    def _logits(self, net: nn.Linear, batch: Sequence[Wordings]) -> Tensor:
        """Return (W, N) logits of all wordings of the groups, one after the other."""
        vectors = torch.from_numpy(np.concatenate([group.vectors for group in batch]))
        logits: Tensor = net(vectors.to(net.weight.device))
        return logits.float()

    # --- answering

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        requests = [self._request(queries, i) for i in range(len(queries))]
        rows = [i for i, request in enumerate(requests) if request]
        scores = np.full((len(queries), len(self.items_)), -np.inf, np.float32)
        if not rows:
            return scores
        encoder = asking(encoder_of(self.encoder), self.space_)
        worded = [text for i in rows for text in reworded(requests[i], self.consensus)]
        net = self._ready()
        vectors = torch.from_numpy(encoder.encode(worded)).to(net.weight.device)
        log_probs = net(vectors).log_softmax(dim=-1).cpu().numpy()
        scores[rows] = log_probs.reshape(len(rows), -1, log_probs.shape[1]).mean(axis=1)
        return scores

    def _request(self, queries: Queries, i: int) -> str:
        """Return a query's text, else the texts of its latest items."""
        latest = queries.histories[i].tolist()[::-1][: self.history_length][::-1]
        return queries.text(i).strip() or " ".join(self.texts_[row] for row in latest).strip()


def list_rewards(
    orders: Tensor, log_probs: Tensor, good_items: np.ndarray, help_share: float
) -> Tensor:
    """Return the rewards (G, P) of lists drawn for wordings of one request.

    `orders` (G, P, k) are item rows and `log_probs` (G, P) theirs. A reward is `help_share` times
    the NDCG, and the remainder times the mean of two agreements with the group: items in common
    with its vote (Jaccard), and 1 less the distance of the list's information from the group's
    mean, in nats an item.
    """
    k = orders.shape[-1]
    lists = orders.reshape(-1, k).cpu().numpy()  # G * P, k
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = discounts[: len(good_items)].sum()
    helpful = np.isin(lists, good_items) @ discounts / best
    vote = np.tile(consensus(lists, k), (len(lists), 1))
    in_common = shared_share(lists, vote)
    information = -log_probs.flatten().cpu().numpy() / k  # nats an item
    steady = np.maximum(1 - np.abs(information - information.mean()), 0)
    agreement = (in_common + steady) / 2
    rewards = help_share * helpful + (1 - help_share) * agreement
    return torch.from_numpy(rewards).float().reshape(log_probs.shape).to(log_probs.device)
