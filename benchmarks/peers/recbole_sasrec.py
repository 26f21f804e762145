"""SASRec of RecBole: `python recbole_sasrec.py FOLDER --minutes 10`, see README.md. Loss: CE, over
all items.
"""

import time
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from sequence_task import Clock, K, Task, arguments, read_task, targets, write_answer

GIVEN = arguments(__doc__)

import numpy as np  # noqa: E402

for gone, now in (
    ("float", float),
    ("int", int),
    ("bool", bool),
    ("long", np.int64),
    ("float_", np.float64),
    ("complex_", np.complex128),
    ("unicode_", np.str_),
):
    # names that numpy took away and RecBole 1.2.1, or what it imports, still uses
    if gone not in np.__dict__:
        setattr(np, gone, now)

import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset  # noqa: E402
from recbole.data.dataloader import TrainDataLoader  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.model.sequential_recommender import SASRec  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402

NAME, LENGTH, BLOCK = "task", 50, 512


class Watched:
    """A data loader that ends where the budget is used up."""

    def __init__(self, loader: TrainDataLoader, clock: Clock) -> None:
        self.loader, self.clock, self.is_over = loader, clock, False

    def __iter__(self):
        self.clock.begin_epoch()
        for batch in self.loader:
            yield batch
            if self.clock.end_batch():
                self.is_over = True
                return

    def __len__(self) -> int:
        return len(self.loader)


def configured(task: Task, folder: str) -> Config:
    """Writes the training data as RecBole's atomic file (places stand in for times), and describes
    the run.
    """
    offsets, values = task.train
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    places = np.arange(len(values)) - np.repeat(offsets[:-1], np.diff(offsets))
    (Path(folder) / NAME).mkdir()
    lines = "".join(
        f"{user}\t{item}\t{place}\n"
        for user, item, place in zip(users, values, places, strict=True)
    )
    (Path(folder) / NAME / f"{NAME}.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\n" + lines, encoding="utf-8"
    )
    return Config(
        model="SASRec",
        dataset=NAME,
        config_dict={
            "data_path": folder,
            "checkpoint_dir": folder,
            "seed": task.seed,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "n_layers": 1,
            "n_heads": 1,
            "hidden_size": 64,
            "inner_size": 64,
            "loss_type": "CE",
            "MAX_ITEM_LIST_LENGTH": LENGTH,
            "train_neg_sample_args": None,
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            "topk": [K],
        },
    )


def main(task: Task) -> None:
    clock = Clock(60 * GIVEN.minutes, GIVEN.cpu)
    with TemporaryDirectory() as folder:
        config = configured(task, folder)
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        # what dataset.build() does before it holds events back: nothing is held back here
        dataset._change_feat_format()
        loader = Watched(TrainDataLoader(config, dataset, None, shuffle=True), clock)
        model = SASRec(config, dataset).to(config["device"])
        trainer = Trainer(config, model)
        clock.begin_training(len(loader))
        for epoch in range(GIVEN.epochs):
            trainer._train_epoch(loader, epoch)
            clock.end_epoch()
            if loader.is_over:
                break
        figures = clock.figures()
        started = time.perf_counter()
        rows = answers(model, dataset, task)
    write_answer(
        task,
        "recbole-CE",
        rows,
        {
            **figures,
            "targets_an_epoch": targets(task),
            "answer_s": round(time.perf_counter() - started, 2),
            "loss": "CE",
            "threads": torch.get_num_threads(),
            "settings": {
                "width": 64,
                "blocks": 1,
                "heads": 1,
                "length": LENGTH,
                "batch": config["train_batch_size"],
                "negatives": "all",
                "dropout": config["hidden_dropout_prob"],
                "lr": config["learning_rate"],
            },
            "versions": {name: version(name) for name in ("recbole", "torch", "numpy")},
        },
    )


@torch.no_grad()
def answers(model: SASRec, dataset: object, task: Task) -> np.ndarray:
    """(Q, K) item rows, items of the history left out; a history without a known item gets none."""
    model.eval()
    known = dataset.field2token_id["item_id"]
    to_theirs = np.array([known.get(str(item), 0) for item in range(task.items)])  # 0 pads
    to_ours = np.full(len(known), -1, dtype=np.int64)
    to_ours[to_theirs[to_theirs > 0]] = np.flatnonzero(to_theirs > 0)
    offsets, values = task.asked
    rows = np.full((len(offsets) - 1, K), -1, dtype=np.int32)
    for start in range(0, len(rows), BLOCK):
        histories = [
            to_theirs[values[offsets[i] : offsets[i + 1]]]
            for i in range(start, min(start + BLOCK, len(rows)))
        ]
        histories = [one[one > 0] for one in histories]
        padded, lengths = (
            np.zeros((len(histories), LENGTH), dtype=np.int64),
            np.array([min(len(one), LENGTH) for one in histories]),
        )
        for at, one in enumerate(histories):
            padded[at, : lengths[at]] = one[-LENGTH:]
        asked = Interaction(
            {
                "item_id_list": torch.from_numpy(padded),
                "item_length": torch.from_numpy(np.maximum(lengths, 1)),
            }
        )
        scores = model.full_sort_predict(asked).numpy()
        scores[:, 0] = -np.inf
        for at, one in enumerate(histories):
            scores[at, one] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        best[~np.isfinite(np.take_along_axis(scores, best, 1))] = 0
        best[lengths == 0] = 0
        rows[start : start + len(histories)] = to_ours[best]
    return rows


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(GIVEN.threads)
    main(read_task(GIVEN.folder))
