"""Rewrite weights in the GGUF format, so that every reader reads the same numbers."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from tailor.data.folders import replaced_by
from tailor.errors import MissingExtraError, ModelError

Kind = Literal["float16", "int8"]


def rewritten(source: Path, kind: Kind) -> Path:
    """Return a file beside `source` with the weights as float16 or 8 bits (Q8_0).

    The file is written once, and found again later. It is needed because openvino-genai reads
    4-bit weights with a minimum (Q4_1) wrongly. Its log-probs then differ by whole nats from those
    of two other readers. It reads float16 and Q8_0 correctly (docs/log.md). Float16 keeps the
    numbers of `source`. Q8_0 rounds them, and is faster.
    """
    target = source.with_name(f"{source.stem}.{kind}.gguf")
    if target.exists():
        return target
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "local language models need the package gguf: pip install 'tailor-engine[llm]'"
        ) from error
    try:
        with replaced_by(target) as aside:
            _rewrite(gguf, source, aside, kind)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{source} cannot be rewritten as {target.name} ({error}): check the free space on the"
            " disk, or download the file again"
        ) from error
    return target


def _rewrite(gguf: Any, source: Path, target: Path, kind: Kind) -> None:
    """Write the fields and tensors of `source` to `target`; float32 tensors stay as they are."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    _copy_fields(gguf, reader, writer, kind)
    eight_bits = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, numbers)
        elif kind == "float16":
            writer.add_tensor(tensor.name, numbers.astype(np.float16))
        else:
            quantized = gguf.quantize(numbers, eight_bits)
            writer.add_tensor(tensor.name, quantized, raw_dtype=eight_bits)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy_fields(gguf: Any, reader: Any, writer: Any, kind: Kind) -> None:
    """Copy the metadata, with the file type of the new weights."""
    file_types = {
        "float16": gguf.LlamaFileType.MOSTLY_F16,
        "int8": gguf.LlamaFileType.MOSTLY_Q8_0,
    }
    for name, record in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue  # the writer writes these itself
        value = record.contents()
        if name == "general.file_type":
            value = int(file_types[kind])
        if record.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, record.types[0])
