"""The pipelines that come with Tailor."""

import importlib.util
from pathlib import Path
from typing import cast

from tailor.core.methods import Recommender
from tailor.core.specs import build
from tailor.errors import ModelError, nearest

FILES = {name: Path(__file__).with_name(f"{name}.toml") for name in ("default", "counting")}


def pipeline_file(name: str = "default") -> Path:
    """The file of a pipeline that comes with Tailor; "default" is "counting" where PyTorch is not
    installed. Raises ModelError for another name.
    """
    if name not in FILES:
        raise ModelError(f'there is no pipeline "{name}".{nearest(name.lower(), FILES)}')
    return FILES["counting" if name == "default" and not has_nets() else name]


def has_nets() -> bool:
    """Whether what nets need is installed: PyTorch alone, which other packages bring along, does
    not write checkpoints.
    """
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "safetensors"))


def default_pipeline() -> Recommender:
    """A fresh default pipeline: co-visitation in one step and in two, text neighbours, EASE and,
    where PyTorch is installed, SASRec fused, filtered; popularity where they are silent.
    """
    return cast(Recommender, build(pipeline_file()))


def counting_pipeline() -> Recommender:
    """The default pipeline without a net: seconds to fit, and most of the accuracy."""
    return cast(Recommender, build(FILES["counting"]))
