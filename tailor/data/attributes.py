"""The values of items' attributes, one list an item."""

from collections.abc import Sequence

import polars as pl


def attribute_values(table: pl.DataFrame, names: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return the (column, value) pairs of every row of an items table, in the order of `names`.

    Each element of a list is a value. Columns that the table lacks, nulls and blanks are left out.
    """
    rows: list[list[tuple[str, str]]] = [[] for _ in range(len(table))]
    for name in names:
        if name not in table.columns:
            continue
        for row, value in zip(rows, table[name].to_list(), strict=True):
            values = value if isinstance(value, list) else [value]
            texts = [str(part).strip() for part in values if part is not None]
            row += [(name, text) for text in dict.fromkeys(texts) if text]
    return rows
