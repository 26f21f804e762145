"""Low-rank adapters on disk.

An adapter is a folder of peft's two files, and a third that names the weights it belongs to.
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
DIGEST_DIGITS = 10  # of each file
SHOWN_CHARACTERS = 200  # of another package's message


def adapter_digest(folder: Path) -> str:
    """Return a hash of an adapter's files. Raises ModelError for a folder that is no adapter."""
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"adapter is {str(folder)!r}: {name} is not there; a LoRA in peft's format holds"
                f" {SETTINGS} and {WEIGHTS}"
            )
    versions = []
    for name in (SETTINGS, WEIGHTS):
        status = os.stat(folder / name)
        versions.append((str(folder / name), status.st_mtime_ns, status.st_size))
    return _digest(tuple(versions))


@functools.lru_cache(maxsize=16)
def _digest(versions: tuple[tuple[str, int, int], ...]) -> str:
    return "".join(sha256_of(Path(path))[:DIGEST_DIGITS] for path, _, _ in versions)


def write_adapter(
    folder: Path, network: Any, record: Mapping[str, Any], overwrite: bool = False
) -> Path:
    """Write a network's adapter; `record` describes its training.

    The folder appears whole or not at all.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors = get_peft_model_state_dict(network, save_embedding_layers=False)
    weights = {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}
    settings = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in network.peft_config["default"].to_dict().items()
    }
    with written_aside(folder, overwrite, ModelError) as aside:
        (aside / SETTINGS).write_text(
            json.dumps(settings, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8"
        )
        save_file(weights, aside / WEIGHTS, metadata={"format": "pt"})
        (aside / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return folder


def with_adapter(network: Any, folder: Path, base: str) -> Any:
    """Return the network with an adapter on it, ready for prompts.

    Raises ModelError where the adapter belongs to other weights than `base`, or does not fit.
    """
    recorded_base = _recorded_base(folder)
    if recorded_base not in (None, base):
        raise ModelError(
            f"the adapter {folder} was taught to weights [{recorded_base}], the model has [{base}]:"
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
        adapted = PeftModel.from_pretrained(network, str(folder), use_safetensors=True).eval()
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            names = set(file.keys())
    except Exception as error:  # many kinds, of several packages
        raise ModelError(
            f"the adapter {folder} cannot be put onto this model ({type(error).__name__}:"
            f" {str(error)[:SHOWN_CHARACTERS]})"
        ) from error
    unmatched = names ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if unmatched:
        raise ModelError(
            f"the adapter {folder} is another model's: {sorted(unmatched)[0]} and"
            f" {len(unmatched) - 1} more have no counterpart"
        )
    return adapted


def _recorded_base(folder: Path) -> str | None:
    """Return the weights that an adapter belongs to; None where it was made elsewhere."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["base"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error!r}): teach the adapter again") from error
