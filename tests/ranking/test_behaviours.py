"""Nets over fields and behaviours, against values worked out by hand."""

import numpy as np
import polars as pl
import pytest
import torch

from tailor.core.run import Run
from tailor.core.specs import discover
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.nn.crossing import CrossLayer
from tailor.nn.fields import FieldBatch
from tailor.nn.interest import ActivationUnit, TargetAttention, pooled
from tailor.nn.towers import Dice, StandardisedBatch
from tailor.ranking.behaviours import MeanInterest
from tailor.ranking.dcn import DCNV2
from tailor.ranking.deepfm import DeepFM
from tailor.ranking.fields import FieldPredictor
from tailor.testing.data import tiny_data

B, T, D = 5, 4, 3
CLASSES = [
    found.cls
    for found in discover()
    if found.cls is not None and issubclass(found.cls, FieldPredictor)
]


def batch_of(lengths, owners):
    is_real = torch.arange(T) < torch.tensor(lengths)[:, None]
    none = torch.zeros(len(lengths), T)
    codes = torch.zeros(len(owners), 1)
    items = torch.zeros(len(owners))
    return FieldBatch(codes, codes, items, torch.tensor(owners), none, is_real, none, none)


@pytest.fixture
def drawn():
    torch.manual_seed(0)
    return torch.randn(B, D), torch.randn(2, T, D), batch_of([4, 2], [0, 0, 1, 1, 0])


def test_the_unit_reads_candidate_behaviour_difference_and_product(drawn):
    candidates, behaviours, batch = drawn
    unit = ActivationUnit(D, (6, 4), "relu").eval()
    weights = unit(candidates, behaviours, batch)
    for b, owner in enumerate(batch.owners.tolist()):
        for t in range(T):
            q, k = candidates[b], behaviours[owner, t]
            first = (
                unit.of_candidate(q)
                + unit.of_behaviour(k)
                + unit.of_difference(q - k)
                + unit.of_product(q * k)
            )
            wanted = unit.head(unit.tower(first[None]))[0, 0] * batch.is_real[owner, t]
            assert weights[b, t].item() == pytest.approx(wanted.item(), abs=1e-5)


def test_one_history_of_many_candidates_has_the_weights_of_many_histories(drawn):
    candidates, behaviours, _ = drawn
    unit = ActivationUnit(D, (6, 4), "dice").eval()
    together = unit(candidates, behaviours[:1], batch_of([3], [0] * B))
    apart = unit(candidates, behaviours[:1].expand(B, T, D), batch_of([3] * B, list(range(B))))
    assert torch.allclose(together, apart, atol=1e-6) and (together[:, 3:] == 0).all()


@pytest.mark.parametrize("kind", ["mean", "unit", "dot", "relu"])
@pytest.mark.parametrize("normalise", [False, True])
def test_padding_changes_no_weight_and_no_interest(drawn, kind, normalise):
    candidates, behaviours, batch = drawn
    attention = TargetAttention(D, kind, normalise=normalise)
    weights = attention(candidates, behaviours, batch)
    assert (weights[:, 2:][batch.owners == 1] == 0).all()
    other = behaviours.clone()
    other[1, 2:] = 99.0
    again = attention(candidates, other, batch)
    assert torch.allclose(weights, again, atol=1e-6), "padding reached the moments of Dice"
    assert torch.allclose(
        pooled(weights, behaviours, batch), pooled(again, other, batch), atol=1e-5
    )
    if kind == "mean" or (normalise and kind != "relu"):
        assert torch.allclose(weights.sum(dim=1), torch.ones(B))


def test_only_the_top_behaviours_are_kept(drawn):
    candidates, behaviours, batch = drawn
    attention = TargetAttention(D, "dot", normalise=True, top=2)
    assert ((attention(candidates, behaviours, batch) > 0).sum(dim=1) == 2).all()


def test_ties_keep_no_more_than_the_top_behaviours(drawn):
    candidates, _, batch = drawn
    attention = TargetAttention(D, "dot", normalise=True, top=2)
    weights = attention(candidates, torch.ones(2, T, D), batch)
    assert ((weights > 0).sum(dim=1) == 2).all()


def test_no_behaviour_is_no_interest_for_every_kind():
    candidates = torch.randn(2, D)
    batch = batch_of([0, 0], [0, 1])
    for kind in ("mean", "unit", "dot", "relu"):
        weights = TargetAttention(D, kind, normalise=True)(candidates, torch.randn(2, T, D), batch)
        assert (weights == 0).all() and weights.isfinite().all()


def test_the_latest_behaviours_are_the_last_of_each_history():
    batch = batch_of([4, 1, 0], [0, 1, 2])
    batch = batch._replace(
        behaviours=torch.arange(12).view(3, 4), gaps=torch.arange(12.0).view(3, 4)
    )
    latest = batch.latest(2)
    assert latest.is_real.tolist() == [[True, True], [True, False], [False, False]]
    assert latest.behaviours[0].tolist() == [2, 3] and latest.behaviours[1, 0] == 4
    assert latest.gaps[0].tolist() == [2.0, 3.0]
    assert batch.latest(4) is batch


def test_blocks_hold_few_pairs_of_few_histories():
    data = tiny_data()
    method = MeanInterest.tiny().fit(data, Run(workers=1))
    queries = Queries.of([Query(), Query(), Query(), Query()]).reindexed(data.catalogue)
    encoded = method._encode(queries, Ragged.of([[0, 1, 2, 3, 4], [0], [], [1, 2]]))
    blocks = [(block.start, block.stop) for block in encoded.blocks(3, 1)]
    assert blocks == [(0, 3), (3, 5), (5, 6), (6, 8)]
    assert [block.stop for block in encoded.blocks(100, 2)] == [6, 8]


def test_dice_switches_at_the_mean_and_uses_moving_moments_outside_of_training():
    dice = Dice(1)
    torch.nn.init.constant_(dice.slope, 0.5)
    x = torch.tensor([[-3.0], [1.0], [5.0]])
    dice(x)
    dice.eval()
    mean, var = dice.standardise.running_mean, dice.standardise.running_var
    share = ((x - mean) / (var + 1e-8).sqrt()).sigmoid()
    assert torch.allclose(dice(x), share * x + (1 - share) * 0.5 * x)
    assert torch.allclose(dice(x[:1]), dice(x)[:1])


@pytest.mark.parametrize("rows", [0, 1])
def test_a_single_row_is_standardised_by_the_moving_moments(rows):
    norm = StandardisedBatch(2)
    norm(torch.tensor([[1.0, 2.0], [3.0, -2.0], [4.0, 9.0]]))
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    x = torch.tensor([[5.0, 6.0]])[:rows]
    assert torch.allclose(norm(x), (x - mean) / (var + norm.eps).sqrt())
    assert torch.equal(norm.running_mean, mean)


@pytest.mark.parametrize("events", [1, 2])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_one_event_is_enough_to_learn_from(cls, events):
    log = {
        "user_id": ["a"] * events,
        "item_id": [f"thing-{number}" for number in range(events)],
        "time_ms": list(range(events)),
        "value": [1.0] * events,
    }
    data = Dataset({"events": pl.DataFrame(log)}, "one user")
    liked = {"source": "label", "label": "value = 1"} if cls._is_binary else {}
    method = cls(**cls.tiny().params() | liked)
    method.fit(data, Run(workers=1))
    assert np.isfinite(method.predict([Query()], [["thing-0"]])[0]).all()


def test_a_cross_layer_keeps_its_input():
    layer = CrossLayer(3)
    torch.nn.init.zeros_(layer.product.weight)
    torch.nn.init.zeros_(layer.product.bias)
    x = torch.randn(2, 3)
    assert torch.equal(layer(torch.randn(2, 3), x), x)
    assert CrossLayer(300).product[0].weight.shape == (32, 300)


@pytest.mark.parametrize("cls", [DeepFM, DCNV2, MeanInterest])
def test_many_items_of_a_query_are_answered_as_one_by_one(cls):
    data = tiny_data()
    method = cls.tiny().fit(data, Run(workers=1))
    ids = data.catalogue.ids[:7].tolist()
    query = Query(history=History.of("thing-001", "thing-005", "thing-001"))
    together = method.predict([query], [ids])[0]
    alone = [method.predict([query], [[item_id]])[0][0] for item_id in ids]
    assert np.allclose(together, alone, atol=1e-6)


def test_histories_are_shared_by_the_items_of_a_query():
    data = tiny_data()
    method = MeanInterest.tiny().fit(data, Run(workers=1))
    queries = Queries.of([Query(history=History.of("thing-001", "thing-002")), Query()])
    encoded = method._encode(queries.reindexed(data.catalogue), Ragged.of([[0, 1, 2], [3, -1]]))
    batch = encoded.batch(np.arange(5))
    assert batch.behaviours.shape == (2, 2) and batch.owners.tolist() == [0, 0, 0, 1, 1]
    assert batch.items.tolist() == [0, 1, 2, 3, len(data.catalogue)]
    assert batch.is_real.tolist() == [[True, True], [False, False]]


def test_behaviours_bring_their_age_and_value():
    data = tiny_data()
    method = MeanInterest.tiny().fit(data, Run(workers=1))
    examples = Outcome("drawn", length=8).learn(data, np.random.default_rng(0))
    batch = method._encode_examples(examples).batch(np.arange(len(examples)))
    assert (batch.gaps[batch.is_real] > 0).all() and batch.gaps.max() < np.log1p(24 * 30)
    assert set(batch.values[batch.is_real].tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_an_explanation_names_what_raises_the_number():
    data = tiny_data()
    method = MeanInterest.tiny().fit(data, Run(workers=1))
    query = Query(history=History.of("thing-001", "thing-002", "thing-003"))
    reasons = method.explain([query], [["thing-005", "thing-009"]])[0]
    assert [reason.item_id for reason in reasons] == ["thing-005", "thing-009"]
    whole = method.predict([query], [["thing-005"]])[0][0]
    named = {evidence.id: evidence.share for evidence in reasons[0].evidence}
    for item_id in query.history.item_ids:
        rest = [other for other in query.history.item_ids if other != item_id]
        without = method.predict([Query(history=History.of(*rest))], [["thing-005"]])[0][0]
        assert (item_id in named) == (without < whole)


def test_without_an_item_field_behaviours_cannot_be_read():
    with pytest.raises(DataError, match='add "item_id"'):
        MeanInterest(fields=("hour",), epochs=1).fit(tiny_data(), Run(workers=1))


def test_the_hidden_layer_has_one_number_format_for_any_number_of_pairs():
    data = tiny_data()
    method = DeepFM.tiny().fit(data, Run(workers=1))
    queries = Queries.of([Query()]).reindexed(data.catalogue)
    none, single = (method.hidden(queries, Ragged.of([rows])) for rows in ([], [3]))
    assert none.shape == (0, single.shape[1]) and none.dtype == single.dtype == np.float32
