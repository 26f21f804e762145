"""Teach a method's net what pictures show, from labels of items."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.pictures import small_pictures
from tailor.data.sampling import shuffled_batches
from tailor.nn.fitting import Recipe
from tailor.nn.pictures import SIZE, PictureReader, label_loss
from tailor.training.nets import NetMethod

MOST_PICTURES = 20_000  # that are learned from
HELD_OUT = 0.1  # share of the pictures that the accuracy is measured on
BATCH = 64  # pictures


def teach_labels(
    method: NetMethod,
    reader: PictureReader,
    pictures: Sequence[bytes],
    codes: np.ndarray,
    recipe: Recipe,
    data: Dataset,
    run: Run,
) -> dict[str, Any]:
    """Train the reader inside a method's net, and return the report with accuracies.

    `pictures` (N,) are files, empty for none, `codes` (N, A) what they show, below 0 where it is
    not known. The accuracy of each label is measured on a tenth of the pictures, held out.
    """
    is_labelled = (codes >= 0).any(axis=1)
    rows = np.array([i for i in np.flatnonzero(is_labelled).tolist() if pictures[i]], np.int64)
    rows = run.rng("pictures").permutation(rows)[:MOST_PICTURES]
    held, learned = np.split(rows, [round(HELD_OUT * len(rows))])
    if not len(learned):
        return {"pictures": 0, **method._leave_untrained("no item has a picture and a label")}
    pixels, _ = small_pictures([pictures[row] for row in learned.tolist()], SIZE)

    def batches(rng: np.random.Generator) -> list[np.ndarray]:
        return shuffled_batches(len(learned), BATCH, rng)

    def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
        device = next(reader.parameters()).device
        logits = reader(torch.from_numpy(pixels[batch]).to(device))
        return label_loss(logits, torch.from_numpy(codes[learned[batch]]).to(device))

    report = method._train_net(data, run, recipe, batches, loss)
    held_pixels, _ = small_pictures([pictures[row] for row in held.tolist()], SIZE)
    accuracy = accuracies(reader, held_pixels, codes[held])
    return {"pictures": len(learned), "accuracy": accuracy, **report}


@torch.no_grad()
def accuracies(reader: PictureReader, pixels: np.ndarray, codes: np.ndarray) -> list[float | None]:
    """Return for each label the share of pictures whose value is named; None without any."""
    values: list[float | None] = []
    logits = reader(torch.from_numpy(pixels)) if len(pixels) else []
    for of_label, of_codes in zip(logits, codes.T, strict=False):
        is_known = of_codes >= 0
        is_right = of_label.argmax(dim=1).numpy() == of_codes
        values.append(round(float(is_right[is_known].mean()), 4) if is_known.any() else None)
    return values
