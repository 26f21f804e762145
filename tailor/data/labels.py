"""Labels of items: the values of chosen columns of the items table, as codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError, nearest

UNKNOWN = -1
"""Code of an item whose value is missing or rare."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Codes of a catalogue's items in columns such as colour and shape."""

    values: Mapping[str, list[str]]
    """Column -> its values, the most frequent first."""
    codes: np.ndarray
    """(N, A) int64 code of each item's value in each column, UNKNOWN where it has none."""

    @classmethod
    def of(cls, data: Dataset, columns: Sequence[str], most: int = 100) -> "Labels":
        """Return the labels of a data set; of a column the `most` frequent values.

        The last entry of a list counts; a column without a value is left out. Raises DataError for
        a column that the items lack.
        """
        table = data.item_table
        values, codes = {}, []
        for name in columns:
            if name not in table.columns:
                raise DataError(f'the items have no column "{name}".{nearest(name, table.columns)}')
            column = table[name].list.last() if table[name].dtype == pl.List else table[name]
            texts = column.cast(pl.String)
            counts = texts.drop_nulls().value_counts(sort=True, name="items")
            frequent = counts.sort("items", name, descending=[True, False])[name].to_list()[:most]
            code_of = {value: code for code, value in enumerate(frequent)}
            if frequent:
                values[name] = frequent
                codes.append([code_of.get(value, UNKNOWN) for value in texts.to_list()])
        return cls(values, np.array(codes, np.int64).reshape(len(values), len(table)).T)
