"""Tables of pictures that are drawn, not read from files."""

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from tailor.data.pictures import write_png


def asset_table(asset_ids: Sequence[str], pictures: Sequence[np.ndarray]) -> pl.DataFrame:
    """Return a table of assets whose content (PNG) stands in the table itself."""
    contents = [write_png(pixels) for pixels in pictures]
    return pl.DataFrame(
        {
            "asset_id": asset_ids,
            "path": [f"{asset_id}.png" for asset_id in asset_ids],
            "sha256": [hashlib.sha256(content).hexdigest() for content in contents],
            "kind": "image/png",
            "content": contents,
        }
    )
