"""Learn from a log of shown lists what a user does with an item; the reward of OneRec's papers.

Shapes: B histories, R shown lists, K items of a list, A actions, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.shown import ShownLists
from tailor.data.vocabulary import Vocabulary
from tailor.metrics.prediction import auc
from tailor.nn.devices import computing
from tailor.nn.engagement import EngagementNet
from tailor.nn.fitting import Recipe, fit_net
from tailor.nn.packing import pad_rows

HELD_OUT = 10  # one user of so many tells how good the reward is
LISTS = 64  # shown lists of a batch


@dataclass(frozen=True)
class RewardTraining:
    """Settings of the reward's training."""

    width: int = 32
    """Width of item vectors."""
    length: int = 50
    """Latest events of a history that are read."""
    epochs: int = 15
    """Passes over the shown lists."""
    lr: float = 3e-3
    """Peak learning rate of AdamW."""
    dropout: float = 0.1
    """Share of values zeroed during training."""


@dataclass(frozen=True, eq=False)
class ShownActions:
    """Shown lists with every action on every item, over some catalogue."""

    user_ids: np.ndarray
    """(R,) object."""
    histories: Ragged
    """(R,) item rows of what each user had chosen before."""
    rows: np.ndarray
    """(R, K) item rows, those that the catalogue lacks left out; -1 after the last."""
    labels: np.ndarray
    """(R, K, A) float32: whether each action followed."""

    @classmethod
    def of(
        cls, data: Dataset, items: Vocabulary, actions: Sequence[str], length: int
    ) -> "ShownActions":
        """Return the lists of a log; `actions` are conditions on events, or names of labels.

        Without actions there is one: that the item was chosen.
        """
        log = ShownLists.of(data, length)
        labels = [log.is_chosen]
        if actions and len(log):
            cuts = [data.cut(data.where(action)) for action in actions]
            labels = [ShownLists.of(cut, 0).is_chosen for cut in cuts]
        queries = log.queries.reindexed(items)
        table = np.r_[items.rows(data.catalogue.ids.tolist()), np.int32(-1)]
        rows = table[log.rows] if len(log) else log.rows
        order = np.argsort(rows < 0, axis=1, kind="stable")  # items first, as they were shown
        stacked = np.stack(labels, axis=-1).astype(np.float32)
        shown = cls(
            queries.user_ids,
            queries.histories,
            np.take_along_axis(rows, order, axis=1),
            np.take_along_axis(stacked, order[:, :, None], axis=1),
        )
        return shown.take(np.flatnonzero((shown.rows >= 0).any(axis=1)))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, numbers: np.ndarray) -> "ShownActions":
        """Return the lists with these numbers."""
        return ShownActions(
            self.user_ids[numbers],
            self.histories.take(numbers),
            self.rows[numbers],
            self.labels[numbers],
        )


@dataclass(frozen=True, eq=False)
class Engagement:
    """A fitted model of what users do with shown items."""

    net: EngagementNet
    """The net, ready to answer."""
    length: int
    """Latest events of a history that it reads."""
    report: dict[str, Any]
    """AUC of every action and of the one score on users that it did not learn from."""

    @classmethod
    def fit(
        cls,
        shown: ShownActions,
        actions: Sequence[str],
        vectors: np.ndarray,
        settings: RewardTraining,
        run: Run,
        key: str,
        listwise: bool = False,
    ) -> "Engagement":
        """Learn from shown lists of items with unit vectors (N, E).

        `key` tells this training from any other. One user of ten is held out and judged.
        """
        _, users = np.unique(shown.user_ids.astype(str), return_inverse=True)
        is_held_out = (run.rng("reward users").integers(HELD_OUT, size=len(users)) == 0)[users]
        if is_held_out.all() or not is_held_out.any():
            is_held_out[:] = False
        with computing(run.seed, run.workers):
            net = EngagementNet(
                torch.from_numpy(vectors),
                settings.width,
                shown.labels.shape[2],
                dropout=settings.dropout,
                listwise=listwise,
            )
        learned = shown.take(np.flatnonzero(~is_held_out))

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(rng.permutation(len(learned)), -(-len(learned) // LISTS))

        def loss(numbers: np.ndarray, rng: np.random.Generator) -> Tensor:
            batch = learned.take(numbers)
            logits = _logits(net, batch.histories.last(settings.length), batch.rows)
            labels = torch.from_numpy(batch.labels).to(net.device)
            is_item = torch.from_numpy(batch.rows >= 0).to(net.device)
            return net.loss(logits, labels, is_item)

        fit_net(net, batches, loss, run, Recipe(settings.epochs, settings.lr, 0.01), None, key)
        net.cpu().eval()
        model = cls(net, settings.length, {"lists": len(learned)})
        held_out = shown.take(np.flatnonzero(is_held_out))
        model.report.update(model._judged(held_out, [*(actions or ["chosen"]), "score"]))
        return model

    @torch.inference_mode()
    def probabilities(self, histories: Ragged, lists: np.ndarray) -> np.ndarray:
        """Return (B, K, A + 1): of every action, and the one score, of lists (B, K).

        -1 is no item, and has zeros.
        """
        # what is no item stands last, where nothing reads it
        order = np.argsort(lists < 0, axis=1, kind="stable")
        logits = _logits(
            self.net, histories.last(self.length), np.take_along_axis(lists, order, axis=1)
        )
        ordered = logits.sigmoid().cpu().numpy()
        values = np.empty_like(ordered)
        np.put_along_axis(values, order[:, :, None], ordered, axis=1)
        values[lists < 0] = 0
        return values

    def _judged(self, judged_lists: ShownActions, names: Sequence[str]) -> dict[str, Any]:
        """Return the AUC of every action by its tower, and of any by the one score."""
        if not len(judged_lists):
            return {}
        parts = np.array_split(np.arange(len(judged_lists)), -(-len(judged_lists) // LISTS))
        values = np.concatenate(
            [
                self.probabilities(judged_lists.histories.take(part), judged_lists.rows[part])
                for part in parts
            ]
        )
        is_item = judged_lists.rows >= 0
        totals = judged_lists.labels.max(axis=2, keepdims=True, initial=0)
        labels = np.concatenate([judged_lists.labels, totals], axis=2)
        report = {}
        for column, name in enumerate(names):
            truth = labels[:, :, column][is_item]
            if 0 < truth.sum() < len(truth):
                report[name] = round(auc(truth, values[:, :, column][is_item]), 4)
        return {"AUC": report}


def _logits(net: EngagementNet, histories: Ragged, lists: np.ndarray) -> Tensor:
    """Return the logits (B, K, A + 1) of lists (B, K); -1 behind the last item."""
    history, _ = pad_rows(histories.values, histories.offsets[:-1], histories.lengths)
    sizes = np.maximum((lists >= 0).sum(axis=1), 1)
    arrays = (history, histories.lengths, np.maximum(lists, 0), sizes)
    whole = [np.asarray(array, dtype=np.int64) for array in arrays]
    inputs = [torch.from_numpy(array).to(net.device) for array in whole]
    return net(*inputs)
