"""DeepFM of torch-rechub and of DeepCTR-Torch on prepared codes; see benchmarks/ctr_peers.py.

    python ctr_packages.py FOLDER

FOLDER/task.npz holds `train`, `valid` and `test` (rows, fields) codes, their `*_labels`, and `sizes`
(fields,). Writes FOLDER/PACKAGE.npy, the probabilities of the test rows after the epoch with the
best AUC on `valid`, and prints a line of JSON a package.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

WIDTH, LAYERS, BATCH, LR, EPOCHS = 16, (128, 64), 1024, 1e-3, 10


def rechub(sizes):
    """Return the net of torch-rechub, called with a dictionary of columns."""
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.ranking import DeepFM

    features = [
        SparseFeature(str(i), vocab_size=int(n), embed_dim=WIDTH) for i, n in enumerate(sizes)
    ]
    net = DeepFM(features, features, {"dims": list(LAYERS), "dropout": 0.0, "activation": "relu"})
    return net, lambda rows: {str(i): rows[:, i] for i in range(rows.shape[1])}


def deepctr(sizes):
    """Return the net of DeepCTR-Torch, called with one matrix."""
    from deepctr_torch.inputs import SparseFeat
    from deepctr_torch.models import DeepFM

    columns = [SparseFeat(str(i), int(n), embedding_dim=WIDTH) for i, n in enumerate(sizes)]
    net = DeepFM(columns, columns, dnn_hidden_units=LAYERS, device="cpu")
    return net, lambda rows: rows.float()


def fit(make, task, torch_rows):
    """Return test probabilities of the best epoch, and the seconds of an epoch."""
    torch.manual_seed(0)
    net, arguments = make(task["sizes"])
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    labels = torch.from_numpy(task["train_labels"]).float()
    best, answer, took = -1.0, None, []
    for _ in range(EPOCHS):
        started = time.process_time()
        net.train()
        for chosen in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            output = net(arguments(torch_rows["train"][chosen])).reshape(-1)
            torch.nn.functional.binary_cross_entropy(output, labels[chosen]).backward()
            optimizer.step()
        took.append(time.process_time() - started)
        net.eval()
        with torch.inference_mode():
            valid = net(arguments(torch_rows["valid"])).reshape(-1).numpy()
            value = roc_auc_score(task["valid_labels"], valid)
            if value > best:
                best = value
                answer = net(arguments(torch_rows["test"])).reshape(-1).numpy()
    return answer, float(np.median(took))


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    task = dict(np.load(folder / "task.npz"))
    torch_rows = {part: torch.from_numpy(task[part]) for part in ("train", "valid", "test")}
    for name, make in (("torch-rechub", rechub), ("deepctr-torch", deepctr)):
        answer, seconds = fit(make, task, torch_rows)
        np.save(folder / f"{name}.npy", answer)
        print(json.dumps({"name": f"{name} {version(name)}", "seconds an epoch": seconds}))


if __name__ == "__main__":
    main()
