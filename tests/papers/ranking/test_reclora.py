"""RecLoRA: the mixture of products, texts by likeness, users by a classical model, and opposite
responses to one text.
"""

import numpy as np
import polars as pl
import pytest
import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.splits import by_time
from tailor.errors import DataError, ModelError
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.reclora import AdaptedLinear, RecLoRA, TextBatch, most_like
from tailor.ranking.behaviours import MeanInterest
from tailor.ranking.boosted_trees import BoostedTrees
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder
from tailor.worlds.styles import responses

DATA = tiny_data()


@pytest.fixture(scope="module")
def fitted():
    return RecLoRA.tiny().fit(DATA, Run(workers=1))


def test_the_addition_is_a_mixture_of_products():
    torch.manual_seed(0)
    layer = AdaptedLinear(3, 5, adapters=2, rank=2, scale=1.5)
    torch.nn.init.normal_(layer.up)
    x = torch.randn(4, 6, 3)
    shares = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7], [0.5, 0.5]])
    out = layer(x, shares)
    for row in range(4):
        addition = sum(
            shares[row, k] * layer.up[k] @ layer.down[k] for k in range(2)
        )  # outputs, inputs
        wanted = layer.base(x[row]) + 1.5 * x[row] @ addition.T
        assert torch.allclose(out[row], wanted, atol=1e-5)
    mean_of_both = (layer.up.mean(0) @ layer.down.mean(0)).T
    apart = layer.base(x[3]) + 1.5 * x[3] @ mean_of_both
    assert not torch.allclose(out[3], apart, atol=1e-2)


def test_adapters_begin_without_effect():
    layer = AdaptedLinear(3, 5, adapters=2, rank=2, scale=1.5)
    x = torch.randn(1, 2, 3)
    assert torch.equal(layer(x, torch.tensor([[0.4, 0.6]])), layer.base(x))


def test_the_items_most_like_the_candidate_are_read_best_first():
    texts = np.array([[1.0, 0], [0.8, 0.6], [0, 1], [-1, 0], [0, 0]])
    events = np.array([[2, 1, 3, 0], [3, 2, 4, 4]])
    best = most_like(texts, np.array([0, 2]), events, 3)
    assert best.tolist() == [[0, 1, 2], [2, 3, 4]]
    assert most_like(texts, np.array([0]), events[:1, :2], 3).tolist() == [[1, 2]]


def test_padding_is_not_read_and_the_candidate_always_is(fitted):
    net = fitted._ready()
    unknown = len(DATA.catalogue)
    users = torch.zeros(1, 4)

    def answer(rows):
        items = torch.tensor([rows])
        is_real = items < unknown
        is_real[:, 0] = True
        return net(TextBatch(items, is_real, users))[0].item()

    assert answer([3, 5, unknown, unknown]) == pytest.approx(answer([3, 5]), abs=1e-5)
    assert answer([3, 5, unknown]) != pytest.approx(answer([3, 5, 7]), abs=1e-5)
    assert np.isfinite(answer([unknown, unknown]))


def test_a_user_is_the_log_odds_of_probes_by_the_classical_model(fitted):
    queries = DATA.queries(["person-001", "person-002"])
    over_items = Queries.of(queries).reindexed(fitted.items_)
    users = fitted._users_of(over_items)
    names = fitted.items_.named(fitted.probes_)
    p = np.array(fitted.classical_.predict(queries, [names, names]))
    odds = np.log(p / (1 - p))
    wanted = (odds - fitted.moments_[0]) / fitted.moments_[1]
    assert np.allclose(users, wanted, atol=1e-3)


def test_the_mixture_does_not_depend_on_the_item_that_is_asked_about(fitted):
    queries = DATA.queries(["person-001"])
    batch = Queries.of(queries).reindexed(fitted.items_)
    pairs = fitted._pairs_of(batch, Ragged.of([[0, 5, 9]]))
    assert (pairs.users == pairs.users[0]).all()
    shares = fitted.mixtures(queries)
    assert np.allclose(shares.sum(axis=1), 1) and shares.shape == (1, 2)


def test_without_a_gate_for_users_all_have_one_mixture():
    settings = {**RecLoRA.tiny().params(), "personal": False}
    method = RecLoRA(**settings).fit(DATA, Run(workers=1))
    shares = method.mixtures(DATA.queries())
    assert np.allclose(shares, shares[0])
    personal = RecLoRA.tiny().fit(DATA, Run(workers=1)).mixtures(DATA.queries())
    assert not np.allclose(personal, personal[0], atol=1e-3)


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_the_loss_evens_out_a_gate_that_leaves_an_adapter_unused(balance):
    settings = {**RecLoRA.tiny().params(), "balance": balance}
    method = RecLoRA(**settings).fit(DATA, Run(workers=1))
    net = method._net
    with torch.no_grad():
        net.gate.bias.copy_(torch.tensor([2.0, -2.0]))
    batch = TextBatch(torch.tensor([[3, 5]] * 4), torch.ones(4, 2, dtype=bool), torch.zeros(4, 4))
    optimizer = torch.optim.SGD([net.gate.bias], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        method._loss(batch, torch.tensor([1.0, 0.0, 1.0, 0.0])).backward()
        optimizer.step()
    largest = net.shares(batch.users)[0].max().item()
    assert (largest < 0.6) == bool(balance)


def test_candidate_and_history_are_told_apart(fitted):
    net = fitted._ready()
    users = torch.zeros(1, 4)
    is_real = torch.ones(1, 2, dtype=bool)
    with torch.no_grad():
        one = net(TextBatch(torch.tensor([[3, 5]]), is_real, users))[0]
        other = net(TextBatch(torch.tensor([[5, 3]]), is_real, users))[0]
        roles = net.roles.clone()
        net.roles[1] = net.roles[0]
        alike = net(TextBatch(torch.tensor([[3, 5]]), is_real, users))[0]
        net.roles.copy_(roles)
    assert not torch.allclose(one, other, atol=1e-5) and not torch.allclose(one, alike, atol=1e-5)


def test_probes_are_items_that_the_classical_model_has_seen():
    events = DATA.events.filter(pl.col("item_id") < "thing-020")
    data = Dataset({**DATA.tables, "events": events})
    classical = MeanInterest(
        **{**MeanInterest.tiny().params(), "source": "label", "label": "value >= 4"}
    )
    settings = {**RecLoRA.tiny().params(), "classical": classical, "probes": 16}
    method = RecLoRA(**settings).fit(data, Run(workers=1))
    assert max(method.items_.named(method.probes_)) < "thing-020"


def test_likeness_is_searched_in_a_history_of_its_own_length():
    settings = {**RecLoRA.tiny().params(), "history": 3}
    assert RecLoRA(**settings).outcome().length == 8, "the classical model reads 8"
    assert RecLoRA(**{**settings, "history": 30}).outcome().length == 30
    method = RecLoRA(**settings).fit(DATA, Run(workers=1))
    query = Queries.of([Query(history=History.of(*[f"thing-{i:03d}" for i in range(6)]))])
    pairs = method._pairs_of(query.reindexed(method.items_), Ragged.of([[7]]))
    names = set(method.items_.named(pairs.rows[0, 1:]))
    assert names == {"thing-003", "thing-004", "thing-005"}


def test_the_reader_learns_from_a_share_of_the_rows(fitted):
    all_rows = fitted.fit_report_["MeanInterest"]["examples"]
    assert fitted.fit_report_["examples"] == round(0.5 * all_rows)


def test_cold_users_and_blank_histories_are_answered(fitted):
    queries = [Query(), Query(history=History.of("none")), Query(history=History.of("thing-001"))]
    values = np.array(fitted.predict(queries, [["thing-003", "none"]] * 3))
    assert np.isfinite(values).all() and (values > 0).all() and (values < 1).all()
    assert np.allclose(values[0], values[1], atol=1e-6)


@pytest.mark.slow
def test_opposite_responses_to_one_text_need_an_own_mixture():
    world = responses(users=300, items=120, styles=2, topics=8, visits=8)
    split = by_time(world.data)
    classical = MeanInterest(
        source="shown", history=50, width=8, layers=(16,), epochs=6, lr=1e-2, batch=256
    )
    common = {"encoder": HashingEncoder(64), "share": 0.3, "adapters": 2, "rank": 2, "width": 16}
    common |= {"heads": 2, "blocks": 1, "epochs": 25, "lr": 5e-3, "batch": 128, "probes": 16}
    methods = {
        "own": RecLoRA(classical, **common),
        "one for all": RecLoRA(classical, **common, personal=False),
    }
    for method in methods.values():
        method.fit(split.train, Run(workers=1), split)
    predictions = evaluate_predictions(methods, split)
    assert predictions.overall("own", "AUC") > predictions.overall("one for all", "AUC") + 0.01


def test_settings_that_cannot_be_are_refused():
    for settings in ({"adapters": 0}, {"width": 30}, {"share": 0.0}, {"similar": -1}):
        with pytest.raises(DataError):
            RecLoRA(**settings)
    with pytest.raises(ModelError, match="probabilities"):
        RecLoRA(BoostedTrees(source="value"))
