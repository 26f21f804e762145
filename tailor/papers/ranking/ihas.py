"""iHAS: groups of examples, and a net with its own dimensions of every field for each group."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.errors import DataError
from tailor.nn.crossing import CrossNet, DeepCrossedFields
from tailor.nn.fields import CrossedFields, FieldBatch, FieldLayout
from tailor.nn.fitting import Recipe
from tailor.nn.gates import polariser
from tailor.nn.instance_gates import (
    GatedVectors,
    RoutedNet,
    gate,
    numbers_of,
    open_gates,
)
from tailor.nn.quantizers import k_means, nearest_word
from tailor.ranking.deep_fields import DeepFieldPredictor
from tailor.ranking.fields import HeldOut

PAPER = Paper(
    "ihas",
    "iHAS: Instance-wise Hierarchical Architecture Search for Deep Learning Recommendation Models",
    "https://arxiv.org/abs/2309.07967",
    "In planted tables with two kinds of rows (3 seeds) the clusters are the kinds (ARI above .6);"
    " with 60 % of the numbers of the full net AUC is not below it, and above one pruned net for"
    " all rows; fields without effect keep fewer dimensions",
)
SEARCH = "search"
STEPS = 50  # of k-means
BLOCK = 8_192  # examples whose gates are read at a time


@dataclass(eq=False)
class IHAS(DeepFieldPredictor):
    """Search for each kind of example the dimensions that its fields need (Yu et al. 2023, iHAS).

    A controller opens and shuts every number of an example's vectors by random gates, while the
    net learns; a penalty shuts what does not help, and another drives gates to 0 or 1. The open
    gates of examples are put into `clusters`. Each cluster gets a net of its own that has only the
    dimensions which most of its examples use, trained anew.

    Differs from the paper: reconstructed from its idea, the exact losses were not at hand. The
    search has a part of the examples, the nets the others. Probabilities are calibrated over all
    clusters at once, after examples are routed.
    """

    base: Literal["fm", "deepfm", "dcn"] = "deepfm"
    """The net whose dimensions are searched."""
    clusters: Annotated[int, Choices(1, 2, 3, 4)] = 2
    """Clusters of examples, at most; 1: one pruned net for all."""
    history: int = 0
    """Latest items of the history that are used; 0: none."""
    smallest: float = 0.05
    """Share of examples below which a cluster is given up for the nearest other."""
    search_share: float = 0.3
    """Share of examples that the search learns from; the nets learn from the others."""
    search_epochs: int = 8
    """Passes of the search."""
    search_lr: float = 5e-3
    """Peak learning rate of the search."""
    warmup: float = 0.3
    """Share of the search's steps without penalties on gates; then these rise evenly."""
    l1: Annotated[float, Range(1e-2, 3.0, log=True)] = 1.0
    """Weight of the mean probability that a gate is open."""
    polarise: float = 0.1
    """Weight of the mean of p (1 - p) over gates, in the end."""
    heat: float = 0.5
    """Temperature of the random gates."""
    controller: int = 64
    """Width of the controller's hidden layer."""

    masks_: np.ndarray = field(init=False, repr=False)
    """(K, F, D) dimensions of each cluster's net; empty while they are searched."""
    centres_: np.ndarray = field(init=False, repr=False)
    """(K, F * D) float32 mean gates of each cluster."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("clusters", "search_epochs", "controller"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("smallest", "search_share", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: from 0, and below 1")
        if min(self.l1, self.polarise) < 0 or not self.heat > 0 or not self.search_lr > 0:
            raise DataError(
                f"l1 is {self.l1}, polarise {self.polarise}: at least 0; heat {self.heat} and"
                f" search_lr {self.search_lr}: above 0"
            )

    def _learn_more(self, data: Dataset, examples: Examples, run: Run) -> None:
        self.masks_ = np.zeros((0, 0, 0), dtype=bool)
        self.centres_ = np.zeros((0, 0), dtype=np.float32)

    def _base_net(self, layout: FieldLayout) -> nn.Module:
        """Return the net whose dimensions are searched, untrained."""
        if self.base == "fm":
            return CrossedFields(layout, self.width, 0.01)
        if self.base == "dcn":
            return CrossNet(layout, self.width, self.layers, 2, self.dropout)
        return DeepCrossedFields(layout, self.width, self.layers, self.dropout)

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        searched = gate(self._base_net(layout), layout, self.width, self.controller, self.heat)
        if not len(self.masks_):
            return searched
        router = searched.vectors
        assert isinstance(router, GatedVectors)
        return RoutedNet(router, self.centres_, self.masks_, lambda: self._base_net(layout))

    def _recipe(self, stage: str) -> Recipe:
        if stage == SEARCH:
            return Recipe(self.search_epochs, self.search_lr)
        return super()._recipe(stage)

    def _train(self, data: Dataset, run: Run, examples: Examples, judge: HeldOut) -> dict[str, Any]:
        """Search gates, cluster the examples by them, and train a new net for each cluster."""
        is_for_search = run.rng("search").random(len(examples)) < self.search_share
        searched = examples.take(np.flatnonzero(is_for_search))
        others = examples.take(np.flatnonzero(~is_for_search))
        if not len(searched) or not len(others):
            searched = others = examples
        self._planned_steps = self.search_epochs * -(-len(searched) // self.batch)
        search = self._train_stage(data, run, searched, None, SEARCH)
        self._searched = self._net.vectors
        gates = self._gates(searched)
        report = self._cluster(gates, run)
        nets = self._train_stage(data, run, others, judge, "nets")
        del self._searched
        return {"search": search, **report, **nets}

    def _start_net(self, run: Run) -> None:
        super()._start_net(run)
        if isinstance(self._net, RoutedNet):
            self._net.router.load_state_dict(self._searched.state_dict())

    def _gates(self, examples: Examples) -> np.ndarray:
        """Return (n, F * D) the open gates of examples."""
        encoded = self._encode_examples(examples)
        starts = range(0, len(encoded), BLOCK)
        parts = [
            open_gates(self._searched, encoded.batch(slice(start, start + BLOCK))).flatten(1)
            for start in starts
        ]
        return np.concatenate([part.numpy() for part in parts])

    def _cluster(self, gates: np.ndarray, run: Run) -> dict[str, Any]:
        """Learn centres and masks from gates (n, F * D); return the report."""
        centres = k_means(gates, self.clusters, STEPS, run.rng("clusters"))
        shares = np.bincount(nearest_word(gates, centres), minlength=len(centres)) / len(gates)
        is_kept = shares >= min(self.smallest, shares.max())
        self.centres_ = np.asarray(centres[is_kept], dtype=np.float32)
        cluster = nearest_word(gates, self.centres_)
        layout = self._ready_features().layout
        shape = (len(self.centres_), layout.fields, self.width)
        means = np.stack([gates[cluster == number].mean(axis=0) for number in range(shape[0])])
        means = means.reshape(shape)
        best = means == means.max(axis=2, keepdims=True)
        has_none = ~(means > 0.5).any(axis=2, keepdims=True)
        self.masks_ = (means > 0.5) | (best & has_none)
        features = self._ready_features()
        names = features.about["names"]
        sizes = features.about["sizes"]
        full = sum(sizes) * self.width
        counts = np.bincount(cluster, minlength=shape[0])
        return {
            "clusters": [
                {
                    "share": round(float(counts[number] / len(gates)), 4),
                    "numbers": int(numbers),
                    "share of all numbers": round(float(numbers / full), 4),
                    "dimensions": dict(zip(names, mask.sum(axis=1).tolist(), strict=True)),
                }
                for number, (mask, numbers) in enumerate(
                    zip(self.masks_, numbers_of(self.masks_, sizes), strict=True)
                )
            ],
            "clusters given up": int((~is_kept).sum()),
        }

    def _loss(
        self, batch: FieldBatch, labels: Tensor, rows: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        loss = super()._loss(batch, labels, rows, rng)
        gated = getattr(self._net, "vectors", None)
        if not isinstance(gated, GatedVectors):
            return loss
        gated.steps += 1
        done = gated.steps / max(self._planned_steps, 1)
        rise = (done - self.warmup).clamp(min=0) / (1 - self.warmup)
        assert gated.probabilities is not None
        opened = gated.probabilities.mean()
        return loss + rise * (self.l1 * opened + self.polarise * polariser(gated.probabilities))

    def cluster_of(self, examples: Examples) -> np.ndarray:
        """Return (n,) the cluster of each example."""
        net = self._ready()
        encoded = self._encode_examples(examples)
        starts = range(0, len(encoded), BLOCK)
        with torch.inference_mode():
            parts = [
                net.clusters(encoded.batch(slice(start, start + BLOCK))).numpy() for start in starts
            ]
        return np.concatenate(parts)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, layers=(8,), epochs=2, search_epochs=2, lr=1e-2, controller=8)
