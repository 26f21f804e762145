"""The training loop: what it keeps, where it stops, and that a killed run ends as an unbroken one."""

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tailor.core.run import Run  # noqa: E402
from tailor.errors import ModelError  # noqa: E402
from tailor.nn import fitting  # noqa: E402
from tailor.nn.checkpoints import read_checkpoint  # noqa: E402
from tailor.nn.devices import computing  # noqa: E402
from tailor.nn.dropout import Dropout  # noqa: E402
from tailor.nn.fitting import Recipe, fit_net  # noqa: E402
from tailor.scale.processes import device_of  # noqa: E402

X = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
Y = (X @ np.arange(5) + 1).astype(np.float32)[:, None]


def small_net():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), Dropout(0.2), nn.Linear(16, 1))


def batches(rng):
    return np.array_split(rng.permutation(96), 8)


def loss_of(net, at=None):
    calls = iter(range(10**9))

    def loss(batch, rng):
        if at is not None and next(calls) == at:
            raise KeyboardInterrupt
        # randomness of the batch's own
        noise = torch.from_numpy(rng.normal(size=(len(batch), 5)).astype(np.float32))
        return (
            (net(torch.from_numpy(X[batch]) + 0.01 * noise) - torch.from_numpy(Y[batch]))
            .pow(2)
            .mean()
        )

    return loss


def trained(run=Run(workers=1, dtype="float32"), validate=None, **recipe):
    net = small_net()
    report = fit_net(
        net, batches, loss_of(net), run, Recipe(**{"epochs": 6, "lr": 0.01} | recipe), validate
    )
    return net, report


def weights(net):
    return torch.cat([one.detach().reshape(-1) for one in net.parameters()])


def test_the_loss_falls_and_the_report_says_what_was_done():
    _, report = trained(epochs=40)
    assert report["loss"][-1] < 0.3 * report["loss"][0]
    assert (report["epochs"], report["steps"], report["stopped"]) == (40, 320, "all epochs done")
    assert not trained(epochs=2)[0].training  # ready for use


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    assert torch.equal(weights(trained()[0]), weights(trained()[0]))
    assert not torch.equal(
        weights(trained()[0]), weights(trained(Run(seed=1, workers=1, dtype="float32"))[0])
    )


@pytest.mark.parametrize("at", [None, 3])
def test_the_callers_random_state_and_threads_are_left_alone(at):
    net, threads = small_net(), torch.get_num_threads()
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    with contextlib.suppress(KeyboardInterrupt):  # nor does a run that is broken off change them
        fit_net(
            net,
            batches,
            loss_of(net, at),
            Run(workers=threads + 1, dtype="float32"),
            Recipe(2, 0.01),
        )
    assert torch.equal(torch.rand(1), wanted)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    "recipe", [{}, {"ema_decay": 0.9}, {"accumulate": 3}, {"patience": 2, "every": 1}]
)
def test_a_killed_run_goes_on_to_the_very_weights_of_an_unbroken_one(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)
    settings = Recipe(**{"epochs": 6, "lr": 0.01} | recipe)

    def attempt(folder, at=None):
        net = small_net()
        validate = (lambda: -float(weights(net).norm())) if "patience" in recipe else None
        run = Run(workers=1, dtype="float32", checkpoints=folder)
        return net, fit_net(net, batches, loss_of(net, at), run, settings, validate)

    whole, report = attempt(tmp_path / "whole")
    for at in (5, 11):  # killed in the first epoch, then again in a later one
        with pytest.raises(KeyboardInterrupt):
            attempt(tmp_path / "broken", at)
    resumed, other = attempt(tmp_path / "broken")
    assert torch.equal(weights(whole), weights(resumed))
    assert {key: report[key] for key in ("loss", "validation", "steps", "stopped")} == {
        key: other[key] for key in ("loss", "validation", "steps", "stopped")
    }
    assert not list((tmp_path / "broken").iterdir())  # a finished run leaves nothing behind


def test_a_checkpoint_cut_off_is_named(tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"half a file")
    with pytest.raises(ModelError, match=r"net\.safetensors cannot be read .* delete it"):
        trained(Run(checkpoints=tmp_path))


def test_a_loss_that_is_no_number_stops_with_the_setting_to_change(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)
    net = small_net()
    calls = iter(range(1000))

    def loss(batch, rng):
        return net(torch.from_numpy(X[batch])).mean() * (float("nan") if next(calls) == 12 else 1.0)

    with pytest.raises(
        ModelError,
        match=(
            r"the loss is nan at step 13 \(epoch 2\): lower lr, which is 0\.01; the last good state"
            r" is in"
        ),
    ):
        fit_net(net, batches, loss, Run(checkpoints=tmp_path, dtype="float32"), Recipe(3, 0.01))
    tensors, plain = read_checkpoint(tmp_path / "net.safetensors")
    assert plain["step"] == 12
    assert all(torch.isfinite(one).all() for one in tensors.values())


def test_the_best_weights_are_kept_and_training_stops_when_nothing_gains():
    seen = []
    net = small_net()

    def validate():
        assert not net.training
        seen.append(weights(net).clone())
        return [0.1, 0.5, 0.3, 0.2, 0.4][len(seen) - 1]

    report = fit_net(
        net,
        batches,
        loss_of(net),
        Run(dtype="float32"),
        Recipe(50, 0.01, patience=3, every=2),
        validate,
    )
    assert torch.equal(weights(net), seen[1])
    assert report["best_epoch"] == 4
    assert report["epochs"] == 10
    assert report["stopped"] == "no better value in 3 validations"


def normed_net():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 1))


def state_of(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_best_weights_come_with_the_moments_of_batch_norm_of_their_epoch():
    net, states = normed_net(), []

    def validate():
        states.append(state_of(net))
        return [0.1, 0.5, 0.3, 0.2][len(states) - 1]

    fit_net(net, batches, loss_of(net), Run(dtype="float32"), Recipe(4, 0.01), validate)
    assert not torch.equal(states[1]["1.running_mean"], states[3]["1.running_mean"])
    assert_same_state(state_of(net), states[1])


def test_a_killed_run_goes_on_with_the_moments_of_batch_norm(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)

    def attempt(folder, at=None):
        net = normed_net()
        run = Run(workers=1, dtype="float32", checkpoints=folder)
        fit_net(net, batches, loss_of(net, at), run, Recipe(3, 0.01))
        return state_of(net)

    whole = attempt(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path / "broken", at=11)
    assert_same_state(whole, attempt(tmp_path / "broken"))


def test_validation_comes_after_the_last_epoch_whatever_the_rhythm():
    net = small_net()
    report = fit_net(
        net, batches, loss_of(net), Run(dtype="float32"), Recipe(3, 0.01, every=2), lambda: 1.0
    )
    assert [epoch for epoch, _ in report["validation"]] == [2, 3]


def test_a_deadline_stops():
    _, report = trained(Run(deadline_s=0.0, dtype="float32"))
    assert report["stopped"] == "deadline"
    assert report["steps"] == 1


def test_a_device_that_is_not_there_is_an_error_and_no_other_is_taken():
    for name in ("cuda:7", "tpu", "gpu0"):
        with pytest.raises(ModelError, match=f'device "{name}" cannot be used .*: take one of cpu'):
            trained(Run(device=name))


def test_an_unknown_number_format_is_refused():
    with pytest.raises(ModelError, match='dtype is "float8"'):
        trained(Run(dtype="float8"))


def test_bfloat16_learns_too():
    net = small_net()
    report = fit_net(net, batches, loss_of(net), Run(dtype="bfloat16"), Recipe(40, 0.01))
    assert report["loss"][-1] < 0.4 * report["loss"][0]
    assert report["dtype"] == "bfloat16"
    assert all(one.dtype == torch.float32 for one in net.parameters())


def test_rows_of_a_sparse_table_move_where_they_were_touched_only():
    net = nn.Embedding(10, 4, sparse=True)
    before = net.weight.detach().clone()
    fit_net(
        net,
        lambda rng: [0, 1],
        lambda batch, rng: net(torch.tensor([1, 3])).pow(2).mean(),
        Run(dtype="float32"),
        Recipe(3, 0.1),
    )
    moved = (net.weight.detach() != before).any(dim=1)
    assert moved.nonzero()[:, 0].tolist() == [1, 3]


def test_the_step_falls_in_a_straight_line_after_warming_up():
    recipe = Recipe(10, 1.0, warmup=4)
    assert [recipe.lr_at(step, 0.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert recipe.lr_at(50, 0.5) == pytest.approx(0.505)
    assert recipe.lr_at(99, 1.0) == pytest.approx(0.01)


def table_net():
    torch.manual_seed(7)
    return nn.Sequential(nn.Embedding(96, 5, sparse=True), Dropout(0.2), nn.Linear(5, 1))


def table_loss(net, at=None):
    calls = iter(range(10**9))

    def loss(batch, rng):
        if at is not None and next(calls) == at:
            raise KeyboardInterrupt
        return (
            (net(torch.from_numpy(np.asarray(batch)) % 50) - torch.from_numpy(Y[batch]))
            .pow(2)
            .mean()
        )

    return loss


def test_a_killed_run_with_a_sparse_table_goes_on_to_the_very_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)

    def attempt(folder, at=None):
        net = table_net()
        fit_net(
            net,
            batches,
            table_loss(net, at),
            Run(workers=1, dtype="float32", checkpoints=folder),
            Recipe(6, 0.05),
        )
        return weights(net)

    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path / "broken", 19)
    assert torch.equal(attempt(tmp_path / "broken"), attempt(tmp_path / "whole"))


def killed(folder, monkeypatch, run):
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)
    net = small_net()
    with pytest.raises(KeyboardInterrupt):
        fit_net(net, batches, loss_of(net, 5), replace(run, checkpoints=folder), Recipe(6, 0.01))


def test_a_checkpoint_in_another_number_format_is_not_taken_up(tmp_path, monkeypatch):
    killed(tmp_path, monkeypatch, Run(dtype="bfloat16"))
    with pytest.raises(
        ModelError,
        match=r"net\.safetensors was made in bfloat16, and dtype is now float32: .* or delete it",
    ):
        trained(Run(dtype="float32", checkpoints=tmp_path))
    # auto goes on with what it had
    assert trained(Run(checkpoints=tmp_path))[1]["dtype"] == "bfloat16"


def test_a_checkpoint_of_another_number_of_processes_is_not_taken_up(tmp_path, monkeypatch):
    killed(tmp_path, monkeypatch, Run(dtype="float32"))
    monkeypatch.setattr(fitting, "world_size", lambda: 2)
    monkeypatch.setattr(fitting, "init_process_group", lambda device: None)
    with pytest.raises(
        ModelError,
        match=r"net\.safetensors was made by 1 process, and there are 2 now: .* or delete it",
    ):
        trained(Run(dtype="float32", checkpoints=tmp_path))


def test_a_checkpoint_of_another_net_is_not_taken_up(tmp_path, monkeypatch):
    killed(tmp_path, monkeypatch, Run(dtype="float32"))
    net = nn.Linear(5, 1)
    with pytest.raises(
        ModelError, match=r"net\.safetensors holds another net than this one: delete it"
    ):
        fit_net(
            net, batches, loss_of(net), Run(dtype="float32", checkpoints=tmp_path), Recipe(2, 0.01)
        )


WORKER = """
import signal, sys, time
signal.alarm(250)  # processes that wait for each other must not outlive the test
sys.path[:0] = [{tests!r}]
from pathlib import Path
import torch
import test_fitting as t
from tailor.core.run import Run
from tailor.nn import fitting
from tailor.nn.fitting import Recipe, fit_net
from tailor.scale.processes import rank
{body}
if rank() == 0:
    torch.save({{"weights": t.weights(net), "report": report}}, {out!r})
"""


def of_two_processes(folder, body, fails=False):
    """What the first of two processes that ran `body` ends with: weights and report."""
    script = folder / "worker.py"
    script.write_text(
        WORKER.format(tests=str(Path(__file__).parent), out=str(folder / "out.pt"), body=body)
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=280, env=env
    )
    assert bool(done.returncode) == fails, done.stderr
    return {} if fails else torch.load(folder / "out.pt", weights_only=True)


def assert_as_one_that_accumulates(two):
    net, report = trained(epochs=4, accumulate=2)
    assert torch.allclose(two["weights"], weights(net), atol=1e-6)
    assert np.allclose(two["report"]["loss"], report["loss"], atol=2e-5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_take_the_steps_of_one_that_accumulates(tmp_path):
    two = of_two_processes(
        tmp_path,
        """
net = t.small_net()
report = fit_net(net, t.batches, t.loss_of(net), Run(workers=1, dtype="float32"), Recipe(4, 0.01))
""",
    )
    assert_as_one_that_accumulates(two)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_share_the_rows_of_a_sparse_table(tmp_path):
    two = of_two_processes(
        tmp_path,
        """
net = t.table_net()
odd = lambda rng: t.batches(rng)[:7]  # the last step has a batch for one process only
report = fit_net(net, odd, t.table_loss(net), Run(workers=1, dtype="float32"), Recipe(4, 0.01))
""",
    )
    net = table_net()
    fit_net(
        net,
        lambda rng: batches(rng)[:7],
        table_loss(net),
        Run(workers=1, dtype="float32"),
        Recipe(4, 0.01, accumulate=2),
    )
    assert torch.allclose(two["weights"], weights(net), atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_that_were_killed_end_as_if_they_had_not(tmp_path):
    body = """
fitting.SAVE_S = 0.0
net = t.small_net()
report = fit_net(net, t.batches, t.loss_of(net, {at}), Run(workers=1, dtype="float32", checkpoints=Path({folder!r})), Recipe(4, 0.01))
"""
    of_two_processes(tmp_path, body.format(at=6, folder=str(tmp_path / "state")), fails=True)
    assert list((tmp_path / "state").iterdir())
    resumed = of_two_processes(tmp_path, body.format(at=None, folder=str(tmp_path / "state")))
    assert_as_one_that_accumulates(resumed)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_meet_a_deadline_and_stop_together(tmp_path):
    two = of_two_processes(
        tmp_path,
        """
net = t.small_net()
run = Run(workers=1, dtype="float32", deadline_s=10**6 if rank() else 0.5)  # as two clocks that differ
value = lambda: time.perf_counter() * (1 - 2 * rank())  # the first gains at every validation, the other never
report = fit_net(net, t.batches, t.loss_of(net), run, Recipe(10**6, 0.01, patience=1), value)
""",
    )
    assert two["report"]["stopped"] == "deadline"


def test_each_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch):
    assert device_of("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [device_of(name) for name in ("cuda", "cuda:3", "cpu")] == ["cuda:1", "cuda:3", "cpu"]


def test_a_c_library_without_mallopt_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "other")
    with computing(3, 1):
        other = torch.rand(2)
    monkeypatch.undo()
    with computing(3, 1):
        assert torch.equal(torch.rand(2), other)


class RowsOfTable(nn.Module):
    """Sums of rows of one small table, which many examples share."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 90 * 16).reshape(90, 16))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.table[rows].tanh().sum(dim=1)


def test_threads_that_share_rows_of_a_table_add_their_gradients_in_one_order(monkeypatch):
    monkeypatch.setattr(fitting, "threads_for", lambda workers, _: workers)
    rows = torch.randint(0, 90, (4096, 20), generator=torch.Generator().manual_seed(1))
    weights = []
    for _ in range(6):
        net = RowsOfTable()
        fit_net(
            net,
            lambda rng: [rows] * 4,
            lambda batch, rng, net=net: (net(batch) - 1).square().mean(),
            Run(workers=4, dtype="float32"),
            Recipe(epochs=2, lr=0.01),
        )
        weights.append(net.table.detach())
    assert all(torch.equal(one, weights[0]) for one in weights)
