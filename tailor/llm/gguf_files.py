"""Weights in the GGUF format, rewritten so that every reader reads the same numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from tailor.data.folders import replaced_by
from tailor.errors import MissingExtraError, ModelError


def with_float16(source: Path) -> Path:
    """The same weights as float16, in a file beside `source` that is written once.

    openvino-genai reads 4-bit weights with a minimum (Q4_1) as if the minimum were a whole number of steps: its log-probs then differ by nats from those of the file.
    Numbers in float16 it reads as they stand (docs/log.md).
    """
    made = source.with_name(f"{source.stem}.float16.gguf")
    if made.exists():
        return made
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtraError("local language models need the package gguf: pip install 'tailor-engine[llm]'") from error
    try:
        with replaced_by(made) as aside:
            _rewrite(gguf, source, aside)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{source} cannot be rewritten as {made.name} ({error}): fetch it again, and look at the room on the disk"
        ) from error
    return made


def _rewrite(gguf: Any, source: Path, target: Path) -> None:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, one in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind, value = one.types[0], one.contents()
        if name == "general.file_type":
            value = int(gguf.LlamaFileType.MOSTLY_F16)
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        is_whole = tensor.tensor_type == gguf.GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, numbers if is_whole else numbers.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
