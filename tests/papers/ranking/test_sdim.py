"""SDIM: expected weights, tables and weights alike, and events that only hashing can see."""

import numpy as np
import pytest
import torch

from tailor.core.run import Run
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.nn.fields import FieldBatch
from tailor.papers.ranking.sdim import SDIM, BucketInterest
from tailor.testing.data import tiny_data

T, W = 6, 5


def batch_of(lengths, owners):
    is_real = torch.arange(T) < torch.tensor(lengths)[:, None]
    none = torch.zeros(len(lengths), T)
    return FieldBatch(none, none, none, torch.tensor(owners), none, is_real, none, none)


@pytest.fixture
def drawn():
    torch.manual_seed(0)
    distinct = torch.randn(8, W)
    positions = torch.randint(8, (3, T))
    return distinct, positions


def test_expected_weights_are_powers_of_the_angle():
    torch.manual_seed(0)
    interest = BucketInterest(2, hashes=2_000, bits=3)
    angles = torch.linspace(0, torch.pi, 13)
    events = torch.stack([angles.cos(), angles.sin()], dim=1)[:, None]  # a history of one each
    candidate = torch.tensor([[1.0, 0.0]]).expand(13, 2)
    batch = batch_of([1] * 13, list(range(13)))._replace(is_real=torch.ones(13, 1, dtype=bool))
    weights = interest.weights(interest.simhash(candidate), interest.simhash(events), batch)
    wanted = (1 - angles / torch.pi) ** 3
    assert (weights[:, 0] - wanted).abs().max() < 0.03


def test_the_interest_is_the_mean_of_the_candidates_bucket(drawn):
    distinct, positions = drawn
    interest = BucketInterest(W, hashes=4, bits=2)
    candidates = torch.randn(3, W)
    batch = batch_of([6, 3, 0], [0, 1, 2])
    out = interest(candidates, distinct, positions, batch)
    for row in range(3):
        means = []
        for directions in interest.simhash.directions:
            signs = directions @ candidates[row] > 0
            behaviours = distinct[positions[row]][batch.is_real[row]]
            is_same = ((behaviours @ directions.T > 0) == signs).all(dim=1)
            means.append(behaviours[is_same].mean(dim=0) if is_same.any() else torch.zeros(W))
        assert torch.allclose(out[row], torch.stack(means).mean(dim=0), atol=1e-5)


def test_many_candidates_read_tables_and_get_the_same(drawn):
    distinct, positions = drawn
    interest = BucketInterest(W, hashes=4, bits=2)
    candidates = torch.randn(40, W)  # more than 4 buckets for each of 3 histories
    owners = [0] * 20 + [1] * 15 + [2] * 5
    batch = batch_of([6, 3, 0], owners)
    together = interest(candidates, distinct, positions, batch)
    for row in (0, 19, 20, 39):
        owner = owners[row]
        alone = batch_of([[6, 3, 0][owner]], [0])
        wanted = interest(candidates[row : row + 1], distinct, positions[owner : owner + 1], alone)
        assert torch.allclose(together[row], wanted[0], atol=1e-5)


def test_only_the_summed_behaviours_learn(drawn):
    distinct, positions = drawn
    distinct.requires_grad_()
    candidates = torch.randn(3, W, requires_grad=True)
    interest = BucketInterest(W, hashes=8, bits=1)
    interest(candidates, distinct, positions, batch_of([6, 6, 6], [0, 1, 2])).sum().backward()
    assert candidates.grad is None and distinct.grad.abs().sum() > 0


def test_events_before_the_latest_count():
    method = SDIM.tiny().fit(tiny_data(), Run(workers=1))
    recent = ["thing-001", "thing-005", "thing-009", "thing-013"]
    early = [Query(history=History.of(item, *recent)) for item in ("thing-017", "thing-002")]
    one, other = (values[0] for values in method.predict(early, [["thing-021"]] * 2))
    assert abs(one - other) > 1e-6
    assert len(recent) == method.latest


def test_the_directions_come_with_the_weights(tmp_path):
    method = SDIM.tiny().fit(tiny_data(), Run(workers=1))
    method.save(tmp_path / "model")
    saved = SDIM.load(tmp_path / "model")
    wanted = method._ready().long.simhash.directions
    assert torch.equal(saved._ready().long.simhash.directions, wanted)
    query = Query(history=History.of("thing-001", "thing-005", "thing-002"))
    ids = [[f"thing-{number:03d}" for number in range(40)]]
    assert np.allclose(saved.predict([query], ids)[0], method.predict([query], ids)[0])


def test_settings_that_cannot_be_are_refused():
    for settings in ({"latest": 0}, {"hashes": 0}, {"bits": 17}):
        with pytest.raises(DataError, match="at least 1"):
            SDIM(**settings)
