"""The pipelines that come with Tailor."""

import importlib.util
from pathlib import Path

from tailor.core.methods import Recommender
from tailor.core.specs import build
from tailor.errors import ModelError, nearest

FILES = {name: Path(__file__).with_name(f"{name}.toml") for name in ("default", "counting")}


def pipeline_file(name: str = "default") -> Path:
    """Return the file of a pipeline that comes with Tailor.

    "default" is "counting" where PyTorch is not installed. Raises ModelError for another name.
    """
    if name not in FILES:
        raise ModelError(f'there is no pipeline "{name}".{nearest(name.lower(), FILES)}')
    return FILES["counting" if name == "default" and not has_nets() else name]


def has_nets() -> bool:
    """Return whether all that nets need is installed.

    PyTorch alone does not write checkpoints; other packages bring it along.
    """
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "safetensors"))


def default_pipeline() -> Recommender:
    """Return a fresh default pipeline.

    Co-visitation in one step and in two, text neighbours, EASE and, where PyTorch is installed,
    SASRec are fused and filtered; popularity fills what they leave empty.
    """
    return build(pipeline_file(), Recommender)  # type: ignore[type-abstract]


def counting_pipeline() -> Recommender:
    """Return the default pipeline without a net: seconds to fit, and most of the accuracy."""
    return build(FILES["counting"], Recommender)  # type: ignore[type-abstract]
