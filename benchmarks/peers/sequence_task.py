"""What the sequence models of other projects share: reading the task, the clock of a budget,
writing the answer. numpy alone; see README.md.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

K = 10  # items answered


@dataclass
class Task:
    """Item rows of all people to learn from, and of all histories to answer, oldest first; each a
    pair (offsets, values).
    """

    folder: Path
    items: int
    train: tuple[np.ndarray, np.ndarray]
    asked: tuple[np.ndarray, np.ndarray]
    seed: int


def arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("folder", type=Path, help="holds task.npz; the answer is written there")
    parser.add_argument(
        "--minutes", type=float, required=True, help="for preparing the data and training"
    )
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="minutes of the processor, not on the wall: on a machine that others use",
    )
    parser.add_argument("--epochs", type=int, default=10_000, help="epochs at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--loss", help="one of the library's; its own default where left out")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # before torch is imported
    return given


def read_task(folder: Path) -> Task:
    with np.load(folder / "task.npz") as task:
        train, asked = (
            (task[f"{name}_offsets"], task[f"{name}_values"]) for name in ("train", "asked")
        )
        return Task(folder, int(task["items"]), train, asked, int(task["seed"]))


@dataclass
class Clock:
    """Counts a budget from its making, in seconds on the wall or of the processor, and the epochs
    that fit into it.
    """

    budget_s: float
    in_cpu_time: bool = False
    started: float = 0.0
    begun: float = 0.0  # as the budget counts
    trained_from: float = 0.0
    cpu_from: float = 0.0
    epoch_s: list[float] = field(default_factory=list)  # of whole epochs
    batches: int = 0  # of all epochs
    batches_an_epoch: int = 0
    _epoch_from: float = 0.0

    def __post_init__(self) -> None:
        self.started, self.begun = time.perf_counter(), self._now()

    def _now(self) -> float:
        return time.process_time() if self.in_cpu_time else time.perf_counter()

    def begin_training(self, batches_an_epoch: int) -> None:
        self.trained_from, self.cpu_from, self.batches_an_epoch = (
            time.perf_counter(),
            time.process_time(),
            batches_an_epoch,
        )

    def begin_epoch(self) -> None:
        self._epoch_from = time.perf_counter()

    def end_batch(self) -> bool:
        """Whether the budget is used up."""
        self.batches += 1
        return self._now() - self.begun >= self.budget_s

    def end_epoch(self) -> None:
        """Counts an epoch if it was a whole one."""
        if self.batches == (len(self.epoch_s) + 1) * self.batches_an_epoch:
            self.epoch_s.append(time.perf_counter() - self._epoch_from)

    def figures(self) -> dict:
        train_s, cpu_s = (
            time.perf_counter() - self.trained_from,
            time.process_time() - self.cpu_from,
        )
        share = self.batches / self.batches_an_epoch
        whole = len(self.epoch_s) > 0
        return {
            "prepare_s": round(self.trained_from - self.started, 2),
            "train_s": round(train_s, 2),
            "epochs": round(share, 3),
            "seconds_an_epoch": round(
                float(np.median(self.epoch_s)) if whole else train_s / share, 2
            ),
            "from_whole_epochs": whole,
            "cpu_seconds_an_epoch": round(cpu_s / share, 2),
        }


def targets(task: Task, most: int | None = None) -> int:
    """Events that one epoch learns to predict: all but each person's first, the latest `most` of
    each where given.
    """
    lengths = np.maximum(np.diff(task.train[0]) - 1, 0)
    return int((lengths if most is None else np.minimum(lengths, most)).sum())


def write_answer(task: Task, name: str, rows: np.ndarray, figures: dict) -> None:
    """Write the lists (Q, K), -1 where a place is empty, and print the line that our programs read."""
    np.savez(task.folder / f"{name}.npz", rows=rows.astype(np.int32))
    print(json.dumps({"name": name, "lists": f"{name}.npz", **figures}))
