"""Weights in the GGUF format, rewritten so that every reader reads the same numbers."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from tailor.data.folders import replaced_by
from tailor.errors import MissingExtraError, ModelError

Kind = Literal["float16", "int8"]


def rewritten(source: Path, kind: Kind) -> Path:
    """The same weights as float16, or rounded to 8 bits (Q8_0), in a file beside `source` that is
    written once.

    openvino-genai reads 4-bit weights with a minimum (Q4_1) wrongly: its log-probs differ by nats
    from those of two other readers. Float16 and Q8_0 it reads as they stand (docs/log.md); float16
    holds what the file says, 8 bits are faster.
    """
    made = source.with_name(f"{source.stem}.{kind}.gguf")
    if made.exists():
        return made
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "local language models need the package gguf: pip install 'tailor-engine[llm]'"
        ) from error
    try:
        with replaced_by(made) as aside:
            _rewrite(gguf, source, aside, kind)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{source} cannot be rewritten as {made.name} ({error}): fetch it again, and look at"
            " the room on the disk"
        ) from error
    return made


def _rewrite(gguf: Any, source: Path, target: Path, kind: Kind) -> None:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, one in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        form, value = one.types[0], one.contents()
        if name == "general.file_type":
            value = int(
                gguf.LlamaFileType.MOSTLY_F16
                if kind == "float16"
                else gguf.LlamaFileType.MOSTLY_Q8_0
            )
        if form == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, form)
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        eight = gguf.GGMLQuantizationType.Q8_0
        if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, numbers)
        elif kind == "float16":
            writer.add_tensor(tensor.name, numbers.astype(np.float16))
        else:
            writer.add_tensor(tensor.name, gguf.quantize(numbers, eight), raw_dtype=eight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
