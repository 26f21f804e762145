"""Answers of students as windows for a net, and the tags of questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tailor.data.arrays import Ragged
from tailor.data.attributes import attribute_values
from tailor.data.dataset import Dataset
from tailor.data.queries import NO_TIME
from tailor.nn.packing import pad_rows


class AnswerBatch(NamedTuple):
    """A batch of windows."""

    items: Tensor  # B, T
    answers: Tensor  # B, T
    visible: Tensor  # B, T, T: whether an earlier answer may be seen for a later one
    targets: Tensor  # B, T: whether an answer is to be predicted


@dataclass(frozen=True, eq=False)
class AnswerWindows:
    """Answers of students in windows of bounded length, in flat arrays (m,), oldest first."""

    items: np.ndarray
    """Item rows."""
    answers: np.ndarray
    """Codes of answers."""
    times_ms: np.ndarray
    """NO_TIME where absent."""
    is_target: np.ndarray
    """Whether an answer is to be predicted."""
    starts: np.ndarray
    """(n,) first position of each window."""
    lengths: np.ndarray
    """(n,)."""

    @classmethod
    def cut(
        cls,
        items: Ragged,
        answers: np.ndarray,
        times_ms: np.ndarray | None,
        is_target: np.ndarray,
        length: int,
    ) -> "AnswerWindows":
        """Cut each student's answers into windows of at most `length`, none of them twice."""
        n_windows = -(-items.lengths // length)
        numbers = np.arange(n_windows.sum()) - np.repeat(np.cumsum(n_windows), n_windows)
        ends = np.repeat(items.offsets[1:], n_windows) + (numbers + 1) * length
        starts = np.maximum(ends - length, np.repeat(items.offsets[:-1], n_windows))
        times = np.full(len(answers), NO_TIME) if times_ms is None else times_ms
        return cls(items.values, answers, times, is_target, starts, ends - starts)

    def padded(self, rows: np.ndarray) -> AnswerBatch:
        """Return these windows as a batch; answers of the same time do not see each other."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        items, mask = pad_rows(self.items, starts, lengths)
        answers, _ = pad_rows(self.answers, starts, lengths)
        is_target, _ = pad_rows(self.is_target, starts, lengths)
        times, _ = pad_rows(self.times_ms, starts, lengths)
        is_earlier = np.tri(mask.shape[1], k=-1, dtype=bool)  # T, T
        is_tied = (times[:, :, None] == times[:, None, :]) & (times[:, :, None] != NO_TIME)
        visible = is_earlier & ~is_tied & mask[:, None, :]
        return AnswerBatch(*map(torch.from_numpy, (items, answers, visible, is_target > 0)))


def question_tags(data: Dataset, columns: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the names of tags, and their codes (N + 1, S), filled up with the number of tags."""
    lists = [[value for _, value in pairs] for pairs in attribute_values(data.item_table, columns)]
    names = sorted({value for values in lists for value in values})
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.full((len(lists) + 1, max([1, *map(len, lists)])), len(names), dtype=np.int32)
    for row, values in enumerate(lists):
        codes[row, : len(values)] = [code_of[value] for value in values]
    return names, codes
