"""DIN: what a batch uses, and weights that depend on the candidate."""

import numpy as np
import pytest
import torch

from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.splits import by_time
from tailor.errors import DataError
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.din import DIN, count_uses, penalty_of_used
from tailor.ranking.behaviours import MeanInterest
from tailor.testing.data import tiny_data
from tailor.worlds.interests import interests

SMALL = {"people": 400, "items": 120, "groups": 12, "length": 30, "slate": 6}
SHOWN = {"source": "shown", "width": 8, "history": 30, "epochs": 5, "lr": 1e-2}


@pytest.fixture(scope="module")
def fitted():
    return DIN.tiny().fit(tiny_data(), Run(workers=1))


@pytest.fixture(scope="module")
def examples():
    return Outcome("drawn", length=8).learn(tiny_data(), np.random.default_rng(0))


def used_codes(layout, batch, row):
    """Return the codes that one example of a batch uses, behaviours' among them."""
    codes = batch.codes[row][batch.weights[row] > 0].tolist()
    owner = batch.owners[row]
    for item in batch.behaviours[owner][batch.is_real[owner]].tolist():
        codes += layout.item_codes[item][layout.item_weights[item] > 0].tolist()
    return codes


def test_uses_are_counted_over_all_examples(fitted, examples):
    layout = fitted._ready_features().layout
    encoded = fitted._encode_examples(examples.take(np.arange(40)))
    batch = encoded.batch(np.arange(40))
    wanted = np.zeros(layout.codes)
    for row in range(40):
        np.add.at(wanted, used_codes(layout, batch, row), 1)
    assert count_uses(encoded, layout).tolist() == np.maximum(wanted, 1).tolist()


def test_the_penalty_shrinks_only_what_a_batch_uses_rare_vectors_more(fitted, examples):
    layout = fitted._ready_features().layout
    encoded = fitted._encode_examples(examples)
    uses = torch.from_numpy(count_uses(encoded, layout))
    rows = np.flatnonzero(examples.queries.histories.lengths == 5)[:3]
    batch = encoded.batch(rows)
    net = fitted._ready()
    codes = sorted({code for row in range(3) for code in used_codes(layout, batch, row)})
    table = net.vectors.table.weight
    behaviours_alone = set(codes) - set(batch.codes[batch.weights > 0].tolist())
    assert behaviours_alone
    penalty = penalty_of_used(net, batch, uses)
    wanted = sum(table[code].square().sum().item() / uses[code].item() for code in codes)
    assert penalty.item() == pytest.approx(wanted, rel=1e-4)
    (gradient,) = torch.autograd.grad(penalty, table)
    assert gradient.abs().sum(dim=1).nonzero()[:, 0].tolist() == codes
    assert torch.allclose(gradient[codes], 2 * table[codes] / uses[codes, None])


def test_the_penalty_reaches_training():
    strong = DIN.tiny().fit(tiny_data(), Run(workers=1)).net_weights_["vectors.table.weight"]
    settings = DIN.tiny().params() | {"l2": 100.0}
    weak = DIN(**settings).fit(tiny_data(), Run(workers=1)).net_weights_["vectors.table.weight"]
    assert np.abs(weak).mean() < 0.5 * np.abs(strong).mean()


@pytest.mark.parametrize("normalise", [False, True])
def test_weights_depend_on_the_candidate(normalise):
    method = DIN(**DIN.tiny().params() | {"normalise": normalise})
    method.fit(tiny_data(), Run(workers=1))
    examples = Outcome("drawn", length=8).learn(tiny_data(), np.random.default_rng(0))
    one = examples.take(np.flatnonzero(examples.queries.histories.lengths == 5)[:1])
    batch = method._encode_examples(one).batch(np.zeros(2, dtype=np.int64))
    layout = method._ready_features().layout
    slots = layout.item_codes.shape[1]
    batch.codes[1, :slots] = torch.from_numpy(layout.item_codes[(one.items[0] + 1) % 40])
    weights = method._ready().attention_of(batch)
    assert not torch.allclose(weights[0], weights[1])
    sums = weights.sum(dim=1)
    assert torch.allclose(sums, torch.ones(2)) == normalise


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="attention"):
        DIN(attention=())


@pytest.mark.slow
def test_attention_finds_the_events_of_the_candidates_group():
    world = interests(**SMALL, seed=1)
    split = by_time(world.data)
    methods = {"mean": MeanInterest(**SHOWN), "DIN": DIN(**SHOWN)}
    for method in methods.values():
        method.fit(split.train, Run(workers=1), split)
    judged = evaluate_predictions(methods, split)
    assert judged.auc_differences("mean")[0].low > 0
