"""Threads of a training: as many as are of use here and now."""

import pytest

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.nn import devices  # noqa: E402
from tailor.nn.devices import threads_for  # noqa: E402
from tailor.nn.fitting import Recipe, fit_net  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize(("gain", "threads"), [(0.05, 1), (1.0, 1), (1.05, 1), (1.7, 4)])
def test_several_threads_are_used_where_they_are_faster(gain, threads, monkeypatch):
    monkeypatch.setattr(devices, "_gain_of_threads", lambda workers: gain)
    assert threads_for(4, CPU) == threads


def test_one_thread_and_accelerators_are_not_measured(monkeypatch):
    monkeypatch.setattr(devices, "_gain_of_threads", lambda workers: 1 / 0)
    assert threads_for(1, CPU) == 1
    assert threads_for(0, CPU) == 1
    assert threads_for(4, torch.device("cuda:0")) == 4


def test_measuring_happens_once_and_leaves_the_number_of_threads_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(devices, "_times", lambda compute, n: calls.append(n) or [1.0] * n)
    devices._gain_of_threads.cache_clear()
    before = torch.get_num_threads()
    assert threads_for(2, CPU) == threads_for(2, CPU) == 1  # equally fast
    assert len(calls) == 8
    assert torch.get_num_threads() == before
    devices._gain_of_threads.cache_clear()


@pytest.mark.parametrize(("gain", "threads"), [(0.5, 1), (2.0, 2)])
def test_a_training_uses_and_reports_them(gain, threads, monkeypatch):
    monkeypatch.setattr(devices, "_gain_of_threads", lambda workers: gain)
    net = torch.nn.Linear(2, 1)
    used = []

    def loss(batch, rng):
        used.append(torch.get_num_threads())
        return net(batch).square().mean()

    batches = [torch.ones(3, 2)] * 2
    report = fit_net(net, lambda rng: batches, loss, Run(workers=2), Recipe(1, 0.01))
    assert report["threads"] == threads
    assert used == [threads, threads]
