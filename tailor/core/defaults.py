"""The encoder and the language model that methods use where none is named."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from tailor.core.specs import build_part
from tailor.errors import ModelError
from tailor.ports.base import Encoder, LanguageModel, Port
from tailor.ports.configuration import configured

P = TypeVar("P", bound=Port)
DEFAULT = "default"
ENCODER: dict[str, Any] = {"class": "text.sentences.SentenceEncoder", "model": "minilm"}
LANGUAGE_MODEL: dict[str, Any] = {"class": "llm.local.LocalModel", "model": "smollm2-135m"}


def encoder(setting: Encoder | str = DEFAULT) -> Encoder:
    """Return the encoder that a setting names.

    An encoder is returned as it is. "default" is the encoder of the variable TAILOR_ENCODER (the
    path of a TOML file or of a class), else of tailor.toml, else the offline MiniLM. Raises
    ModelError for anything else.
    """
    return _part(setting, Encoder, "encoder", ENCODER)  # type: ignore[type-abstract]


def language_model(setting: LanguageModel | str = DEFAULT) -> LanguageModel:
    """Return the language model that a setting names.

    A language model is returned as it is. "default" is the one of TAILOR_LANGUAGE_MODEL, else of
    tailor.toml, else the small local one. Raises ModelError for anything else.
    """
    name = "language_model"
    return _part(setting, LanguageModel, name, LANGUAGE_MODEL)  # type: ignore[type-abstract]


def _part(setting: P | str, kind: type[P], name: str, fallback: Mapping[str, Any]) -> P:
    """Return the part of a setting; "default" looks at the environment, then at tailor.toml."""
    if isinstance(setting, kind):
        return setting
    if setting != DEFAULT:
        raise ModelError(
            f'{name} = {setting!r}: it must be "{DEFAULT}" or a table with a line class, such as'
            f" {fallback['class']}"
        )
    variable = f"TAILOR_{name.upper()}"
    part = build_part(os.environ.get(variable) or configured(name, dict) or fallback)
    if not isinstance(part, kind):
        raise ModelError(
            f"{variable} or {name} in tailor.toml names {type(part).__name__}, which is no"
            f" {name.replace('_', ' ')}"
        )
    return part
