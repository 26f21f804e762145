"""Low-rank adapters on disk: peft's two files, and a third that says which weights they were taught
to.
"""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailor.data.folders import sha256_of, written_aside
from tailor.errors import MissingExtraError, ModelError

SETTINGS, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "tailor.json"


def adapter_digest(folder: Path) -> str:
    """A hash of what an adapter holds. Raises ModelError for a folder that is none."""
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"adapter is {str(folder)!r}: {name} is not there; a LoRA in peft's format holds"
                f" {SETTINGS} and {WEIGHTS}"
            )
    marks = tuple(
        (str(folder / name), os.stat(folder / name).st_mtime_ns, os.stat(folder / name).st_size)
        for name in (SETTINGS, WEIGHTS)
    )
    return _digest(marks)


@functools.lru_cache(maxsize=16)
def _digest(marks: tuple[tuple[str, int, int], ...]) -> str:
    return "".join(sha256_of(Path(path))[:10] for path, _, _ in marks)


def write_adapter(
    folder: Path, network: Any, record: Mapping[str, Any], overwrite: bool = False
) -> Path:
    """Write a network's adapter; `record` says what it was taught to and how. The folder appears
    whole or not at all.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = {
        name: one.detach().cpu().float().contiguous()
        for name, one in get_peft_model_state_dict(network, save_embedding_layers=False).items()
    }
    with written_aside(folder, overwrite, ModelError) as aside:
        settings = {
            name: sorted(one) if isinstance(one, set) else one
            for name, one in network.peft_config["default"].to_dict().items()
        }
        (aside / SETTINGS).write_text(
            json.dumps(settings, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8"
        )
        save_file(weights, aside / WEIGHTS, metadata={"format": "pt"})
        (aside / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return folder


def with_adapter(network: Any, folder: Path, base: str) -> Any:
    """The network with an adapter on it, ready to be asked. Raises ModelError where it was taught
    to other weights than `base`, or does not fit.
    """
    taught_to = _recorded(folder)
    if taught_to not in (None, base):
        raise ModelError(
            f"the adapter {folder} was taught to weights [{taught_to}], the model has [{base}]:"
            " name the model it was taught to, or teach it anew"
        )
    try:
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors import safe_open
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "adapters need the package peft: pip install 'tailor-engine[llm]'"
        ) from error
    try:
        taught = PeftModel.from_pretrained(network, str(folder), use_safetensors=True).eval()
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            names = set(file.keys())
    except Exception as error:  # many kinds, of several packages
        raise ModelError(
            f"the adapter {folder} cannot be put onto this model ({type(error).__name__}:"
            f" {str(error)[:200]})"
        ) from error
    missing = names ^ set(get_peft_model_state_dict(taught, save_embedding_layers=False))
    if missing:
        raise ModelError(
            f"the adapter {folder} is another model's: {sorted(missing)[0]} and {len(missing) - 1}"
            " more have no counterpart"
        )
    return taught


def _recorded(folder: Path) -> str | None:
    """The base that an adapter says it was taught to; None where it was made elsewhere and says
    nothing.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["base"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error!r}): teach the adapter again") from error
