"""A fit that is killed in the middle, and one that goes on from its checkpoint."""

from dataclasses import replace

import pytest

from tailor.nn import fitting

KILLED_AT = 9  # steps


class Killed(Exception):
    pass


def whole_and_resumed(make, data, run, folder, monkeypatch):
    """Return a method of `make()` that was fitted in one go, and one killed and fitted again."""
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)
    whole = make().fit(data, run)
    run = replace(run, checkpoints=folder)
    calls = iter(range(1000))
    loss = type(whole)._loss

    def dying(self, batch, training, rng):
        if next(calls) == KILLED_AT:
            raise Killed
        return loss(self, batch, training, rng)

    with monkeypatch.context() as patch:
        patch.setattr(type(whole), "_loss", dying)
        with pytest.raises(Killed):
            make().fit(data, run)
    assert list(folder.iterdir())
    return whole, make().fit(data, run)
