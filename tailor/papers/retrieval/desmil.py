"""DESMIL: interests learned from weighted examples in which they say nothing of each other."""

import math
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.errors import DataError
from tailor.nn.interests import SelfAttentive
from tailor.retrieval.comirec import ComiRec
from tailor.training.sequences import Task, TrainingData
from tailor.training.validation import Validation

PAPER = Paper(
    "desmil",
    "Improving Multi-Interest Network with Stable Learning",
    "https://arxiv.org/abs/2207.06652",
    "On planted logs whose interests come in pairs for nine users of ten while learning, and for"
    " one of twenty later (3 seeds), recall@20 of later histories is above ComiRec's; of those as"
    " before at most 3 % is lost; the weighted dependence of interests is below the plain one and"
    " falls, and ComiRec's rises; shuffled weights gain nothing",
)
LEAST_EFFECTIVE = 0.3  # smallest share of the examples that weights may be worth
MEMORY = 0.9  # share of earlier batches in the covariances that weights are learned on
EARLY = 50  # steps after which dependence is noted for the first time
ITEMS_PER_INTEREST = 3  # items that the report names for an interest
START = math.log(math.e - 1)  # softplus of it is 1


class Dependence(nn.Module):
    """Measures how much interests say of each other, by covariances of random Fourier features.

    Two variables are independent where no function of one is correlated with one of the other;
    cosines of random frequencies stand in for all functions (Rahimi and Recht 2007). The
    covariances of batches are remembered in a moving mean.
    """

    covariances: Tensor
    frequencies: Tensor
    phases: Tensor

    def __init__(self, width: int, interests: int, features: int, seed: int) -> None:
        """Make the measure; each of `width` numbers of an interest has so many `features`.

        `seed` is that of the frequencies.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        size = (width, features)
        frequencies = torch.randn(size, generator=generator, device="cpu")
        phases = 2 * math.pi * torch.rand(size, generator=generator, device="cpu")
        pairs = combinations(range(interests), 2)
        first, second = map(list, zip(*pairs, strict=True))
        self.pairs = (first, second)
        numbers = width * features
        pair_size = (len(first), numbers, numbers)
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("phases", phases)
        self.register_buffer("covariances", torch.zeros(pair_size))

    def features(self, interests: Tensor) -> Tensor:
        """Return features (M, K, D * F) of interests (M, K, D).

        An interest's length is that of D numbers of scale 1: else no weight would move.
        """
        scaled = normalize(interests.float(), dim=-1) * interests.shape[-1] ** 0.5
        waves = torch.cos(scaled[..., None] * self.frequencies + self.phases)
        return math.sqrt(2) * waves.flatten(2)

    def of_batch(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return weighted covariances (pairs, D * F, D * F) of features.

        `features` are (M, K, D * F), `weights` (M,).
        """
        interests, size = features.shape[1:]
        shares = weights / weights.sum()
        shares = shares[:, None, None]
        means = (shares * features).sum(dim=0)
        centred = features - means
        left = (shares * centred).flatten(1)
        right = centred.flatten(1)
        products = left.T @ right  # K * D * F, K * D * F
        blocks = products.view(interests, size, interests, size)
        pairs: Tensor = blocks.transpose(1, 2)[self.pairs]
        return pairs

    def learn_weights(self, features: Tensor, steps: int, rate: float) -> Tensor:
        """Return weights (M,) with mean 1 under which interests depend less on each other.

        They are judged on a moving mean of covariances, in which this batch has a tenth.
        """
        raw = torch.full((len(features),), START, device=features.device, requires_grad=True)
        optimizer = torch.optim.Adam([raw], lr=rate)
        with torch.enable_grad():
            for _ in range(steps):
                weights = softplus(raw)
                covariances = self.of_batch(features, weights)
                mixed = MEMORY * self.covariances + (1 - MEMORY) * covariances
                excess = weights.mean() - 1
                loss = mixed.square().sum() + excess.square()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return bounded(softplus(raw.detach()))

    def remember(self, features: Tensor, weights: Tensor) -> None:
        """Move the covariances that are remembered towards those of a weighted batch."""
        self.covariances.lerp_(self.of_batch(features, weights), 1 - MEMORY)


class Notes(nn.Module):
    """Notes on the dependence of interests while a net learns, alike and weighted.

    Weights are not learned on these frequencies, and the covariances are means over batches, so
    that weights that fit the noise of a batch do not count.
    """

    steps: Tensor
    least_share: Tensor
    early: Tensor

    def __init__(self, width: int, interests: int, features: int) -> None:
        super().__init__()
        self.plain = Dependence(width, interests, features, seed=1)
        self.weighted = Dependence(width, interests, features, seed=1)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("least_share", torch.ones(()))
        self.register_buffer("early", torch.zeros(2))

    def add(self, interests: Tensor, weights: Tensor) -> None:
        """Take the interests (M, K, D) and weights (M,) of a batch into the notes."""
        features = self.plain.features(interests)
        self.plain.remember(features, torch.ones_like(weights))
        self.weighted.remember(features, weights)
        share = 1 / weights.square().mean()
        self.least_share.copy_(torch.minimum(self.least_share, share))
        self.steps += 1
        if self.steps <= EARLY:
            self.early.copy_(self.sizes())

    def sizes(self) -> Tensor:
        """Return (2,) the mean squares of the covariances, alike and weighted."""
        parts = (self.plain.covariances, self.weighted.covariances)
        return torch.stack([part.square().mean() for part in parts])


def bounded(weights: Tensor) -> Tensor:
    """Return weights (M,) of mean 1, worth at least 30 % of the examples.

    That is the effective sample size, (sum of w)^2 / sum of w^2; where it is less, all weights
    move towards 1.
    """
    weights = weights / weights.mean()
    most = 1 / LEAST_EFFECTIVE - 1
    variance = (weights - 1).square().mean()
    shrink = (most / variance.clamp(min=1e-12)).sqrt().clamp(max=1)
    return 1 + (weights - 1) * shrink


@dataclass(eq=False)
class DESMIL(ComiRec):
    """Weigh examples so that a user's interests say nothing of each other while the net learns.

    Where two interests often come together, a net takes one for the other, and fails when they
    part. In each step weights of the examples are learned that make the interests uncorrelated,
    random functions of them included; then the net learns from the weighted examples. Answers are
    those of `ComiRec`.

    Differs from the paper, of which we had a summary: the random functions are drawn once, so that
    a moving mean of covariances over batches is of the same ones.
    """

    steps: int = 20
    """Steps in which the weights of a batch are learned; 0: all weigh the same, as in ComiRec."""
    rate: Annotated[float, Range(0.003, 0.3, log=True)] = 0.05
    """Learning rate of the weights."""
    features: int = 1
    """Random functions of each number of an interest."""

    dependence_: np.ndarray = field(init=False, repr=False)
    """(2, 2) mean square of covariances between interests, early and in the end; columns: all
    examples alike, and weighted.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        is_low = self.interests < 2 or self.steps < 0 or self.features < 1
        if is_low or not self.rate > 0:
            raise DataError(
                f"interests is {self.interests}, steps {self.steps}, features {self.features}, rate"
                f" {self.rate}: at least 2, 0, 1, and above 0"
            )

    def _extractor(self) -> nn.Module:
        extractor = super()._extractor()
        sizes = (self.width, self.interests, self.features)
        extractor.dependence = Dependence(*sizes, seed=0)
        extractor.notes = Notes(*sizes)
        return extractor

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        try:
            report = super()._train(training, validation, run)
        finally:
            self.__dict__.pop("_weights", None)
        notes: Notes = self._net.extractor.notes
        self.dependence_ = torch.stack([notes.early, notes.sizes()]).numpy()
        report["least_effective_share"] = round(notes.least_share.item(), 3)
        return report | {"entangled": self._entangled()}

    def _target_interests(self, task: Task, vectors: Tensor) -> Tensor:
        interests = super()._target_interests(task, vectors)
        with torch.autocast(interests.device.type, enabled=False):
            self._weights = self._weigh(interests.detach().float())
        return interests

    def _weigh(self, interests: Tensor) -> Tensor:
        """Return the weights (M,) of examples with these interests (M, K, D), and note them."""
        extractor = self._net.extractor
        features = extractor.dependence.features(interests)
        weights = torch.ones(len(features), device=features.device)
        if self.steps:
            weights = extractor.dependence.learn_weights(features, self.steps, self.rate)
            extractor.dependence.remember(features, weights)
        extractor.notes.add(interests, weights)
        return weights

    def _target_weights(self) -> Tensor:
        return self._weights

    def _entangled(self) -> list[dict[str, Any]]:
        """Return pairs of interests with the items that weigh most in either.

        Those that say most of each other come first.
        """
        net = self._ready()
        extractor: SelfAttentive = net.extractor
        with torch.inference_mode():
            hidden = extractor.hidden_proj(net._item_vectors())
            scores = extractor.head_proj(torch.tanh(hidden))  # N, K
        count = min(ITEMS_PER_INTEREST, len(scores))
        heaviest = scores.topk(count, dim=0).indices.T.numpy()
        plain: Dependence = net.extractor.notes.plain
        sizes = plain.covariances.square().mean(dim=(1, 2))
        order = sizes.argsort(descending=True)
        pairs = []
        for number in order.tolist():
            interests = [part[number] for part in plain.pairs]
            item_ids = [self.items_.named(heaviest[k]) for k in interests]
            size = float(f"{sizes[number].item():.3g}")
            pairs.append({"interests": interests, "dependence": size, "items": item_ids})
        return pairs

    @classmethod
    def tiny(cls) -> "DESMIL":
        return cls(width=8, length=10, epochs=3, negatives=20, interests=2, steps=3)
