"""Settings of a run: how many threads it uses by default."""

import pytest

from tailor.core.run import Run, usable_cores


@pytest.mark.parametrize(("value", "workers"), [("1", 1), ("3", 3), (" 5 ", 5), ("2,4", 2)])
def test_the_usual_variable_sets_the_number_of_threads(value, workers, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert Run().workers == workers
    assert Run(workers=7).workers == 7  # what is asked for goes first


@pytest.mark.parametrize("value", [None, "", "0", "-1", "many"])
def test_without_a_usable_number_it_is_the_cores(value, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert Run().workers == min(usable_cores(), 8)
