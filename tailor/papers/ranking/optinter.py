"""OptInter: for each pair of fields, memorise combinations, multiply factors, or neither."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Choices
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.errors import DataError
from tailor.metrics.information import information_above_noise, joined
from tailor.nn.fields import FieldBatch, FieldLayout
from tailor.nn.fitting import Recipe
from tailor.nn.pair_operations import (
    OPERATIONS,
    TABLE,
    PairOperationsNet,
    cross_keys,
    field_pairs,
    first_slots,
)
from tailor.ranking.deep_fields import DeepFieldPredictor
from tailor.ranking.fields import HeldOut

PAPER = Paper(
    "optinter",
    "Memorize, Factorize, or be Naïve: Learning Optimal Feature Interaction Methods for CTR"
    " Prediction",
    "https://arxiv.org/abs/2108.01265",
    "In planted tables of pairs (3 seeds) 80 % of the pairs get back their operation; AUC is above"
    " all products and above no pairs, and within .002 of all tables with half of their numbers",
)
SEARCH = "search"


@dataclass(eq=False)
class OptInter(DeepFieldPredictor):
    """Choose for every pair of fields how it is read (Lyu et al. 2021, OptInter).

    A table has a vector for every frequent combination of values, so it learns any dependence and
    costs the most; a product of the values' factors also speaks of combinations never seen; a pair
    without either costs nothing. First all three are mixed by shares that are learned on one half
    of the examples while the vectors are learned on the other; then a new net is trained with the
    largest share of each pair.

    Differs from the paper: the examples of shares and vectors are apart, since shares learned from
    the same examples prefer tables, which memorise them. A field of several values is crossed by
    its first one.
    """

    width: Annotated[int, Choices(8, 16, 20)] = 20
    """Width of the vector of a value."""
    pair_width: Annotated[int, Choices(5, 10, 20)] = 10
    """Width of the vector of a pair."""
    history: int = 0
    """Latest items of the history that are used; 0: none."""
    least_crossed: int = 2
    """Examples that a combination must have for a vector of its own."""
    search_epochs: int = 5
    """Passes over the data in which the operations are searched."""
    search_lr: float = 3e-3
    """Peak learning rate of the search; of the shares too."""
    cooling: float = 1e-3
    """Fall of the search's temperature with every step, from 1 to .01 at least."""
    operations: tuple[str, ...] = ()
    """Operation of every pair, "table", "product" or "none", in place of a search; (): search."""

    cross_keys_: np.ndarray = field(init=False, repr=False)
    """(K,) int64 keys of the combinations with a vector."""
    choices_: np.ndarray = field(init=False, repr=False)
    """(P,) the operation of each pair; empty while they are searched."""

    def __post_init__(self) -> None:
        super().__post_init__()
        minima = {"pair_width": 1, "least_crossed": 1, "search_epochs": 1}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if not self.search_lr > 0 or not 0 <= self.cooling < 1:
            raise DataError(
                f"search_lr is {self.search_lr}, cooling {self.cooling}: above 0, and from 0 to 1"
            )
        wrong = [name for name in self.operations if name not in OPERATIONS]
        if wrong:
            raise DataError(f'operations holds "{wrong[0]}": one of {", ".join(OPERATIONS)}')

    def _learn_more(self, data: Dataset, examples: Examples, run: Run) -> None:
        layout = self._ready_features().layout
        pairs = field_pairs(layout.fields)
        if self.operations and len(self.operations) not in (1, len(pairs)):
            raise DataError(
                f"operations has {len(self.operations)} names for {len(pairs)} pairs of fields:"
                " one for each, or one for all"
            )
        codes = self._encode_examples(examples).codes[:, first_slots(layout.field_of)]
        kept_keys = []
        for number, (left, right) in enumerate(pairs.tolist()):
            keys = cross_keys(codes[:, left], codes[:, right], number, layout.codes)
            distinct, counts = np.unique(keys, return_counts=True)
            kept_keys.append(distinct[counts >= self.least_crossed])
        self.cross_keys_ = np.concatenate([np.zeros(0, np.int64), *kept_keys])
        self.choices_ = np.zeros(0, np.int64)

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return PairOperationsNet(
            layout,
            self.width,
            self.pair_width,
            self.layers,
            self.cross_keys_,
            self.choices_ if len(self.choices_) else None,
            self.cooling,
        )

    def _recipe(self, stage: str) -> Recipe:
        if stage == SEARCH:
            return Recipe(self.search_epochs, self.search_lr)
        return super()._recipe(stage)

    def _train(self, data: Dataset, run: Run, examples: Examples, judge: HeldOut) -> dict[str, Any]:
        """Search the operations, and train a new net with the chosen ones."""
        layout = self._ready_features().layout
        pairs = field_pairs(layout.fields)
        if not len(pairs):
            return self._train_stage(data, run, examples, judge)
        search: dict[str, Any] = {}
        if self.operations:
            names = self.operations * (len(pairs) if len(self.operations) == 1 else 1)
            choices = np.array([OPERATIONS.index(name) for name in names])
        else:
            self._is_for_shares = run.rng("halves").random(len(examples)) < 0.5
            report = self._train_stage(data, run, examples, None, SEARCH)
            search = {"search": report}
            choices = self._net.shares.detach().argmax(dim=1).numpy()
            del self._is_for_shares
        every_key = len(self.cross_keys_)
        self.choices_ = choices
        has_table = np.isin(self.cross_keys_ // layout.codes**2, np.flatnonzero(choices == TABLE))
        self.cross_keys_ = self.cross_keys_[has_table]
        report = self._train_stage(data, run, examples, judge)
        return {**search, **self._choice_report(examples, every_key), **report}

    def _choice_report(self, examples: Examples, every_key: int) -> dict[str, Any]:
        """Return each pair's operation and information, and the share of all tables' vectors."""
        features = self._ready_features()
        names = features.about["names"]
        codes = self._encode_examples(examples).codes[:, first_slots(features.field_of)]
        labels = (examples.labels > 0.5).astype(np.int64)
        rows = []
        for (left, right), choice in zip(
            field_pairs(len(names)).tolist(), self.choices_, strict=True
        ):
            crossed = joined(codes[:, left], codes[:, right])
            rows.append(
                {
                    "pair": [names[left], names[right]],
                    "operation": OPERATIONS[choice],
                    "information": round(information_above_noise(crossed, labels), 6),
                }
            )
        counts = Counter(row["operation"] for row in rows)
        return {
            "operations": dict(counts),
            "pairs": rows,
            "share of cross vectors": round(len(self.cross_keys_) / max(every_key, 1), 4),
        }

    def _loss(
        self, batch: FieldBatch, labels: Tensor, rows: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        if self._net.shares is None:
            return super()._loss(batch, labels, rows, rng)
        self._net.steps += 1
        is_for_shares = torch.from_numpy(self._is_for_shares[rows]).to(labels.device)
        weights = dict(self._net.named_parameters())
        fixed_shares = {"shares": weights["shares"].detach()}
        fixed_rest = {name: param.detach() for name, param in weights.items() if name != "shares"}
        total = labels.new_zeros(())
        for fixed, mask in ((fixed_shares, ~is_for_shares), (fixed_rest, is_for_shares)):
            logits, penalty = functional_call(self._net, fixed, (batch,))
            losses = binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
            total = total + (losses * mask).sum() / mask.sum().clamp(min=1) + self.l2 * penalty
        return total

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, pair_width=2, layers=(8,), epochs=2, search_epochs=1, lr=1e-2)
