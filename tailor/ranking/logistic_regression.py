"""Logistic regression over fields: the baseline that needs no vectors."""

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from tailor.core.search_space import Range
from tailor.nn.fields import LinearFields
from tailor.ranking.fields import FieldPredictor


@dataclass(eq=False)
class LogisticRegression(FieldPredictor):
    """Every value of every field has one number; what an example's values add up to is its
    log-odds.

    It knows which items are chosen more often and who chooses more, but not who chooses what: for
    that, values must meet (`FactorizationMachine`).
    """

    lr: Annotated[float, Range(1e-3, 0.1, log=True)] = 1e-2
    """Highest step."""

    def _make_field_net(self, codes: int, field_of: list[int]) -> nn.Module:
        return LinearFields(codes, field_of)

    @classmethod
    def tiny(cls) -> "LogisticRegression":
        return cls(epochs=3)
