"""The default pipeline."""

from pathlib import Path
from typing import cast

from tailor.base import Recommender
from tailor.specs import build

DEFAULT = Path(__file__).with_name("default.toml")


def default_pipeline() -> Recommender:
    """A fresh default pipeline: co-visitation in one step and in two, text neighbours and EASE fused, filtered, popularity where they are silent."""
    return cast(Recommender, build(DEFAULT))
