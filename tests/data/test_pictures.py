"""PNG files: read whatever filters they have, refuse what is no picture; pictures of items."""

import hashlib
import struct
import zlib

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.pictures import (
    MAX_PIXELS,
    SIGNATURE,
    item_pictures,
    read_png,
    small_pictures,
    square,
    write_png,
)
from tailor.errors import DataError

PIXELS = np.random.default_rng(5).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(rows, width, height, kind=2, bits=8, interlaced=0, palette=b""):
    """A file of raw rows (their filter first), put together by the standard."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    data = zlib.compress(bytes(rows))
    parts = [chunk(b"IHDR", header), chunk(b"tEXt", b"made by hand")]
    parts += [chunk(b"PLTE", palette)] if palette else []
    parts += [chunk(b"IDAT", data[:7]), chunk(b"IDAT", data[7:]), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


def filtered(pixels, filters):
    """Rows filtered value by value, as the standard writes it."""
    height, width, channels = pixels.shape
    values = pixels.astype(int)
    out = []
    for y in range(height):
        out.append(filters[y])
        for x in range(width):
            for c in range(channels):
                a = values[y, x - 1, c] if x else 0
                b = values[y - 1, x, c] if y else 0
                d = values[y - 1, x - 1, c] if x and y else 0
                p = a + b - d
                nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - d), 2, d))[2]
                guess = [0, a, b, (a + b) // 2, nearest][filters[y]]
                out.append((values[y, x, c] - guess) % 256)
    return out


def test_what_is_written_is_read():
    assert np.array_equal(read_png(write_png(PIXELS)), PIXELS)


@pytest.mark.parametrize("filters", [[f] * 6 for f in range(5)] + [[4, 3, 2, 1, 0, 4]])
def test_rows_of_every_filter_are_read(filters):
    assert np.array_equal(read_png(png(filtered(PIXELS, filters), 9, 6)), PIXELS)


def test_grey_palettes_and_transparency_become_colours():
    grey = read_png(png([0, 7, 250], 2, 1, kind=0))
    assert grey.tolist() == [[[7, 7, 7], [250, 250, 250]]]
    named = read_png(png([0, 1, 0], 2, 1, kind=3, palette=bytes([1, 2, 3, 4, 5, 6])))
    assert named.tolist() == [[[4, 5, 6], [1, 2, 3]]]
    clear = read_png(png([0, 10, 20, 30, 255, 10, 20, 30, 0], 2, 1, kind=6))
    assert clear.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert read_png(png([0, 55, 51], 1, 1, kind=4)).tolist() == [[[215, 215, 215]]]


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (b"\xff\xd8\xff\xe0 a photograph", "no PNG"),
        (SIGNATURE, "header"),
        (png([0, 1, 2, 3], 1, 1, bits=16), "16 bits"),
        (png([0, 1, 2, 3], 1, 1, interlaced=1), "interlacing 1"),
        (png([0], MAX_PIXELS, 2), "pixels"),
        (png([0], 0, 2), "pixels"),
        (png([0, 1, 2], 1, 1), "cut off after 3 of 4"),
        (png([5, 1, 2, 3], 1, 1), "filter 5"),
        (png([0, 3], 1, 1, kind=3, palette=bytes(6)), "colour 3 of a palette of 2"),
        (write_png(PIXELS)[:60], "damaged|cut off"),
        (write_png(PIXELS).replace(b"IDAT\x78", b"IDAT\x00"), "damaged"),
    ],
)
def test_what_is_no_picture_is_named(picture, words):
    with pytest.raises(DataError, match=words):
        read_png(picture)


def test_a_file_that_swells_is_read_to_its_size_only():
    swollen = png(bytes(4_000_000), 1, 1)
    assert len(swollen) < 10_000 and read_png(swollen).shape == (1, 1, 3)


def test_squares_are_means_of_areas():
    pixels = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6)[:, :, None].repeat(3, axis=2)
    quarters = [[pixels[:2, :3], pixels[:2, 3:]], [pixels[2:, :3], pixels[2:, 3:]]]
    means = [[round(float(part.mean())) for part in row] for row in quarters]
    assert square(pixels, 2)[:, :, 0].tolist() == means
    assert square(pixels[:1, :2], 4)[:, :, 0].tolist() == [[0, 0, 1, 1]] * 4
    assert np.array_equal(square(PIXELS[:6, :6], 6), PIXELS[:6, :6])


def test_what_cannot_be_read_is_white_and_named():
    pixels, faults = small_pictures([write_png(PIXELS), b"", b"GIF89a"], 3)
    assert pixels.shape == (3, 3, 3, 3) and (pixels[1:] == 255).all() and (pixels[0] < 255).any()
    assert list(faults) == [2] and "GIF89a" in faults[2]


def with_assets(**columns):
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "asset": ["one", None, "gone"]})
    assets = pl.DataFrame({"asset_id": ["one"], **{name: [v] for name, v in columns.items()}})
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})
    return Dataset({"events": events, "items": items, "assets": assets})


def pictures_by_id(data):
    return dict(zip(data.catalogue.ids.tolist(), item_pictures(data), strict=True))


def test_items_have_the_pictures_of_their_assets(tmp_path):
    picture = write_png(PIXELS)
    digest = hashlib.sha256(picture).hexdigest()
    inline = with_assets(path="one.png", sha256=digest, content=picture)
    assert pictures_by_id(inline) == {"a": picture, "b": b"", "c": b""}
    path = tmp_path / "one.png"
    path.write_bytes(picture)
    assert pictures_by_id(with_assets(path=str(path), sha256=digest))["a"] == picture
    with pytest.raises(DataError, match="another file"):
        item_pictures(with_assets(path=str(path), sha256="0" * 64))
    with pytest.raises(DataError, match=r"gone\.png cannot be read"):
        item_pictures(with_assets(path=str(tmp_path / "gone.png"), sha256=digest))
    without = Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})})
    assert item_pictures(without) == [b""]


def test_pictures_stay_with_a_saved_data_set(tmp_path):
    data = with_assets(path="one.png", sha256="-", content=write_png(PIXELS))
    data.save(tmp_path / "data")
    opened = Dataset.open(tmp_path / "data")
    assert item_pictures(opened) == item_pictures(data)
    assert Dataset(dict(opened.tables)).content_hash == data.content_hash
