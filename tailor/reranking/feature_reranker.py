"""FeatureReranker: the base of small nets that read seven features of request and document."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.ports.base import Encoder
from tailor.reranking.learned_reranker import LearnedReranker
from tailor.reranking.pair_features import PairFeatures
from tailor.reranking.shortlist import Shortlist
from tailor.text.cached import known_encoder
from tailor.text.hashing import HashingEncoder


@dataclass(eq=False)
class FeatureReranker(LearnedReranker):
    """Reads `PairFeatures` of every list with one encoder, the one that it was fitted with.

    A subclass says what its net is (`_make_net`, of (n, 7) features), the losses of its stages and
    the scores of a list.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of requests and documents; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""

    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(depth=8, encoder=HashingEncoder(32), epochs=2)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.space_ = encoder_of(self.encoder).space
        super()._fit(data, run, valid)

    def _inputs(self, shortlists: Sequence[Shortlist]) -> list[np.ndarray]:
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        return PairFeatures(encoder).of(shortlists)

    def _logits(self, features: np.ndarray) -> Tensor:
        """Return what the net gives for features (n, 7), in the number format of training."""
        net = self._ready()
        logits: Tensor = net(torch.from_numpy(features).to(next(net.parameters()).device))
        return logits
