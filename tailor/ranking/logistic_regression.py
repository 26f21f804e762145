"""Logistic regression over fields: the baseline without vectors."""

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from tailor.core.search_space import Range
from tailor.nn.fields import FieldLayout, LinearFields
from tailor.ranking.fields import FieldPredictor


@dataclass(eq=False)
class LogisticRegression(FieldPredictor):
    """Sum a number per value of every field: the log-odds of an example.

    It learns which items are chosen more often and which users choose more, but not who chooses
    what: that needs products of values (`FactorizationMachine`).
    """

    lr: Annotated[float, Range(1e-3, 0.1, log=True)] = 1e-2
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return LinearFields(layout)

    @classmethod
    def tiny(cls) -> "LogisticRegression":
        return cls(epochs=3)
