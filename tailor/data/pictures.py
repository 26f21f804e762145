"""Pictures: PNG files and their pixels, and the pictures of a data set's items.

A picture is the content of a file (bytes); its pixels are (H, W, 3) uint8, red, green, blue.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type of a PNG -> values of a pixel
PALETTE, WITH_ALPHA = 3, (4, 6)  # colour types
FILTERS = 5  # kinds of filters that a row may have
MAX_PIXELS = 1 << 24  # of a picture that is read
REMEDY = "save it as a PNG with 8 bits a channel and without interlacing"


def write_png(pixels: np.ndarray) -> bytes:
    """Return the content of a PNG file with these pixels (H, W, 3) uint8."""
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    no_filter = np.zeros((height, 1), np.uint8)
    rows = np.hstack([no_filter, pixels.reshape(height, -1)])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def read_png(picture: bytes) -> np.ndarray:
    """Return the pixels (H, W, 3) uint8 of a PNG file; what is transparent becomes white.

    Raises DataError for what is no PNG, is damaged, or has more than MAX_PIXELS pixels.
    """
    if not picture.startswith(SIGNATURE):
        raise DataError(f"a picture begins with {picture[:8]!r}, which is no PNG: {REMEDY}")
    chunks = dict(_chunks(picture))
    header = chunks.get(b"IHDR", b"")
    if len(header) != 13:
        raise DataError(f"a PNG has a header of {len(header)} bytes in place of 13: {REMEDY}")
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if bits != 8 or kind not in CHANNELS or interlaced:
        raise DataError(
            f"a PNG has {bits} bits a channel, colour type {kind}, interlacing {interlaced}:"
            f" {REMEDY}"
        )
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"a picture has {width} x {height} pixels: from 1 to {MAX_PIXELS}")
    raw = _inflated(chunks.get(b"IDAT", b""), height * (1 + width * CHANNELS[kind]))
    rows = np.frombuffer(raw, np.uint8).reshape(height, -1)
    values = _unfiltered(rows[:, 1:].reshape(height, width, CHANNELS[kind]), rows[:, 0])
    return _in_colours(values, kind, chunks.get(b"PLTE", b""))


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the parts of a PNG by name; those of the data are joined to one."""
    data = b""
    position = len(SIGNATURE)
    while position + 12 <= len(picture):
        (length,) = struct.unpack_from(">I", picture, position)
        name = picture[position + 4 : position + 8]
        content = picture[position + 8 : position + 8 + length]
        position += 12 + length
        if name == b"IDAT":
            data += content
        elif name == b"IEND":
            break
        else:
            yield name, content
    yield b"IDAT", data


def _inflated(data: bytes, size: int) -> bytes:
    """Return `size` decompressed bytes; never more, whatever a damaged file promises."""
    try:
        raw = zlib.decompressobj().decompress(data, size)
    except zlib.error as error:
        raise DataError(f"a PNG is damaged ({error}): {REMEDY}") from None
    if len(raw) != size:
        raise DataError(f"a PNG is cut off after {len(raw)} of {size} bytes: {REMEDY}")
    return raw


def _unfiltered(rows: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return the values of filtered rows (H, W, C), by the filter (H,) of each row.

    A value was stored as its difference from the values at its left, above it, and above its left
    neighbour. So all values of one diagonal are computed at once.
    """
    if not filters.any():
        return rows
    if filters.max() >= FILTERS:
        raise DataError(f"a PNG has a row of filter {filters.max()}, which is unknown: {REMEDY}")
    height, width, channels = rows.shape
    values = np.zeros((height + 1, width + 1, channels), np.int16)
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        left = values[y + 1, x]
        above = values[y, x + 1]
        guesses = (
            np.zeros_like(left),
            left,
            above,
            (left + above) // 2,
            _nearest(left, above, values[y, x]),
        )
        values[y + 1, x + 1] = (rows[y, x] + np.choose(filters[y, None], guesses)) & 255
    return values[1:, 1:].astype(np.uint8)


def _nearest(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return the neighbour that is nearest to left + above - corner (Paeth 1991)."""
    to_left = np.abs(above - corner)
    to_above = np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    is_left = (to_left <= to_above) & (to_left <= to_corner)
    return np.where(is_left, left, np.where(to_above <= to_corner, above, corner))


def _in_colours(values: np.ndarray, kind: int, palette: bytes) -> np.ndarray:
    """Return pixels (H, W, 3) of a PNG's values (H, W, C)."""
    if kind == PALETTE:
        colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
        if values.max() >= len(colours):
            raise DataError(
                f"a PNG names colour {values.max()} of a palette of {len(colours)}: {REMEDY}"
            )
        return colours[values[:, :, 0]]
    channels = values[:, :, : -1 if kind in WITH_ALPHA else None]
    pixels = np.broadcast_to(channels, (*values.shape[:2], 3))
    if kind not in WITH_ALPHA:
        return pixels
    opacity = values[:, :, -1:] / np.float32(255)
    return np.rint(255 + opacity * (pixels - np.float32(255))).astype(np.uint8)


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return a picture (size, size, 3) uint8 of pixels (H, W, 3): means of areas."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        if length == size:
            continue
        starts = np.arange(size) * length // size
        if length < size:
            pixels = pixels.take(starts, axis)
            continue
        sums = np.add.reduceat(pixels.astype(np.float32), starts, axis)
        counts = np.diff(starts, append=length).astype(np.float32)
        pixels = sums / counts.reshape([-1 if i == axis else 1 for i in range(3)])
    return np.rint(pixels).astype(np.uint8)


def small_pictures(pictures: Sequence[bytes], size: int) -> tuple[np.ndarray, dict[int, str]]:
    """Return pictures as (n, size, size, 3) uint8 pixels, and position -> what was wrong.

    What cannot be read is white, and so is an empty picture, which is no fault.
    """
    pixels = np.full((len(pictures), size, size, 3), 255, np.uint8)
    faults = {}
    for i, picture in enumerate(pictures):
        if not picture:
            continue
        try:
            pixels[i] = square(read_png(picture), size)
        except DataError as error:
            faults[i] = str(error)
    return pixels, faults


def item_pictures(data: Dataset) -> list[bytes]:
    """Return (N,) the picture of every item, b"" where it has none.

    An item's `asset` names a row of the table `assets`. Its picture is the column `content`, where
    there is one, else the file at `path`. Raises DataError for a file that cannot be read or has
    another content than `sha256` says.
    """
    if "assets" not in data.tables or "asset" not in data.item_table.columns:
        return [b""] * len(data.catalogue)
    asset_ids = data.item_table["asset"].to_list()
    assets = data.tables["assets"].filter(pl.col("asset_id").is_in(set(asset_ids) - {None}))
    pictures = {row["asset_id"]: _picture_of(row) for row in assets.iter_rows(named=True)}
    return [pictures.get(asset_id, b"") for asset_id in asset_ids]


def _picture_of(asset: dict[str, object]) -> bytes:
    content = asset.get("content")
    if isinstance(content, bytes):
        return content
    path = Path(str(asset["path"]))
    try:
        picture = path.read_bytes()
    except OSError as error:
        raise DataError(
            f'asset "{asset["asset_id"]}": {path} cannot be read ({error.strerror}): name it from'
            " the working folder, or as a whole path"
        ) from None
    if hashlib.sha256(picture).hexdigest() != asset["sha256"]:
        raise DataError(f'asset "{asset["asset_id"]}": {path} is another file than sha256 says')
    return picture
