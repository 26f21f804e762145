"""The encoder and the language model that methods use where nobody names one."""

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
    """The encoder of a setting: itself, or for "default" the one of TAILOR_ENCODER, of tailor.toml,
    or the offline MiniLM.

    The variable holds the path of a TOML file or of a class. Raises ModelError for what is no
    encoder.
    """
    return _part(setting, Encoder, "encoder", ENCODER)  # type: ignore[type-abstract]


def language_model(setting: LanguageModel | str = DEFAULT) -> LanguageModel:
    """The language model of a setting: itself, or for "default" the one of TAILOR_LANGUAGE_MODEL,
    of tailor.toml, or the small local one.
    """
    return _part(setting, LanguageModel, "language_model", LANGUAGE_MODEL)  # type: ignore[type-abstract]


def _part(setting: P | str, kind: type[P], name: str, otherwise: Mapping[str, Any]) -> P:
    if isinstance(setting, kind):
        return setting
    if setting != DEFAULT:
        raise ModelError(
            f'{name} = {setting!r}: it must be "{DEFAULT}" or a table with a line class, such as'
            f" {otherwise['class']}"
        )
    variable = f"TAILOR_{name.upper()}"
    made = build_part(os.environ.get(variable) or configured(name, dict) or otherwise)
    if not isinstance(made, kind):
        raise ModelError(
            f"{variable} or {name} in tailor.toml names {type(made).__name__}, which is no"
            f" {name.replace('_', ' ')}"
        )
    return made
