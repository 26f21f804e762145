"""SASRec of RecTools: `python rectools_sasrec.py FOLDER --minutes 10`, see README.md. Losses:
softmax, BCE, gBCE, sampled_softmax.
"""

import time
import warnings
from importlib.metadata import version

from sequence_task import Clock, K, Task, arguments, read_task, targets, write_answer

GIVEN = arguments(__doc__)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything  # noqa: E402
from rectools import Columns  # noqa: E402
from rectools.dataset import Dataset  # noqa: E402
from rectools.models import SASRecModel  # noqa: E402

NEGATIVES = {"BCE": 1, "gBCE": 256, "sampled_softmax": 256}


class Watch(Callback):
    """Tells the clock of every batch, and ends the training where the budget is used up."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.clock.begin_training(int(trainer.num_training_batches))

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.clock.begin_epoch()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        if self.clock.end_batch():
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.clock.end_epoch()


def interactions(sequences: tuple[np.ndarray, np.ndarray]) -> pd.DataFrame:
    """One row an event; days stand in for times, so that the order is that of the sequence."""
    offsets, values = sequences
    places = np.arange(len(values)) - np.repeat(offsets[:-1], np.diff(offsets))
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
            Columns.Item: values,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(places, unit="D"),
        }
    )


def main(task: Task) -> None:
    loss = GIVEN.loss or "softmax"
    seed_everything(task.seed)
    clock = Clock(60 * GIVEN.minutes, GIVEN.cpu)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=GIVEN.epochs,
            callbacks=[Watch(clock)],
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

    model = SASRecModel(
        n_blocks=1,
        n_heads=1,
        n_factors=64,
        session_max_len=50,
        loss=loss,
        n_negatives=NEGATIVES.get(loss, 1),
        get_trainer_func=trainer,
        recommend_torch_device="cpu",
    )
    model.fit(Dataset.construct(interactions(task.train)))
    watch = next(one for one in model.fit_trainer.callbacks if isinstance(one, Watch))
    figures = watch.clock.figures()
    started = time.perf_counter()
    rows = answers(model, task)
    write_answer(
        task,
        f"rectools-{loss}",
        rows,
        {
            **figures,
            "targets_an_epoch": targets(task, 50),
            "answer_s": round(time.perf_counter() - started, 2),
            "loss": loss,
            "threads": torch.get_num_threads(),
            "settings": {
                "width": 64,
                "blocks": 1,
                "heads": 1,
                "length": 50,
                "batch": 128,
                "negatives": NEGATIVES.get(loss, 0),
                "dropout": 0.2,
                "lr": 0.001,
            },
            "versions": {name: version(name) for name in ("rectools", "torch")},
        },
    )


def answers(model: SASRecModel, task: Task) -> np.ndarray:
    """(Q, K) item rows, items of the history left out; a history without a known item gets none."""
    asked = Dataset.construct(interactions(task.asked))
    users = np.arange(len(task.asked[0]) - 1)
    found = model.recommend(users, asked, K, filter_viewed=True, on_unsupported_targets="ignore")
    rows = np.full((len(users), K), -1, dtype=np.int32)
    rows[found[Columns.User], found[Columns.Rank] - 1] = found[Columns.Item]
    return rows


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(GIVEN.threads)
    main(read_task(GIVEN.folder))
