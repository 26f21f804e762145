"""AdaRetrieval: rounds that know what was retrieved, and learn from what was missed."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.papers.retrieval import ada_retrieval
from tailor.papers.retrieval.ada_retrieval import (
    AdaRetrieval,
    FourierFilter,
    _DepthValidation,
)
from tailor.retrieval.hstu import HSTU
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec
from tailor.training.sequences import Windows
from tailor.training.validation import Validation

RUN = Run(workers=1, dtype="float32")
ITEMS = 24


def ring_data(users=60, length=8, seed=0):
    """Everybody walks round a ring of items."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        start = int(rng.integers(ITEMS))
        for time in range(length):
            rows.append((f"u{user}", f"i{(start + time) % ITEMS}", time))
    schema = ["user_id", "item_id", "time_ms"]
    return Dataset({"events": pl.DataFrame(rows, schema=schema, orient="row")})


BACKBONE = SASRec(width=16, length=8, dropout=0.0, negatives=None, lr=0.01, epochs=3, patience=None)


def model(**settings):
    defaults = {"backbone": BACKBONE, "per_round": 3, "epochs": 2, "patience": None, "batch": 64}
    return AdaRetrieval(**(defaults | settings))


@pytest.fixture(scope="module")
def fitted():
    return model().fit(ring_data(), RUN)


def queries(n=6):
    return [Query(history=History.of(f"i{start}", f"i{start + 1}")) for start in range(n)]


def test_the_filter_lets_low_frequencies_pass_at_first():
    positions = torch.arange(16)[None, :, None]
    slow = torch.cos(2 * torch.pi * positions / 16).expand(1, 16, 4)
    fast = torch.cos(2 * torch.pi * positions * 7 / 16).expand(1, 16, 4)
    filtered = FourierFilter(16, 4)(slow + fast)
    assert torch.allclose(filtered, slow, atol=1e-5)


def test_the_filter_multiplies_frequencies():
    layer = FourierFilter(8, 2)
    rng = np.random.default_rng(0)
    layer.weights.data = torch.from_numpy(rng.normal(size=(5, 2, 2)).astype(np.float32))
    x = rng.normal(size=(1, 6, 2))
    padded = np.concatenate([x, np.zeros((1, 2, 2))], axis=1)
    weights = layer.weights.detach().numpy()
    spectrum = np.fft.rfft(padded, axis=1) * (weights[..., 0] + 1j * weights[..., 1])
    expected = np.fft.irfft(spectrum, n=8, axis=1)[:, :6]
    assert np.allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-5)


def test_untuned_rounds_are_the_backbones_list():
    method = model(epochs=0).fit(ring_data(), RUN)
    lists = method.recommend(queries(), 12)
    plain = method.backbone_.recommend(queries(), 12)
    assert [ranking.ids for ranking in lists] == [ranking.ids for ranking in plain]


def test_scores_fall_from_round_to_round_and_the_column_says_which(fitted):
    for ranking in fitted.recommend(queries(), 11):
        rounds = ranking.columns["round"]
        assert rounds.tolist() == [1] * 3 + [2] * 3 + [3] * 5
        whole = fitted.rounds - rounds
        assert ((ranking.scores > whole) & (ranking.scores <= whole + 1)).all()
    short = fitted.recommend(queries(), 4)[0]
    assert short.columns["round"].tolist() == [1, 1, 1, 2]


def test_a_round_answers_to_what_was_retrieved():
    """The same history with other items retrieved gives another user vector."""
    method = model().fit(ring_data(), RUN)
    net = method._net
    net.item_scale.data.fill_(1.0)
    net.user_scale.data.fill_(1.0)
    vectors = net.encoder.table(torch.tensor([[1, 2, 3]]))
    lengths = torch.tensor([3])
    with torch.inference_mode():
        first, memory = net.user(vectors, lengths, None, None)
        users = [
            net.user(vectors, lengths, torch.tensor([retrieved]), memory)[0]
            for retrieved in ([4, 5, 6], [7, 8, 9], [7, 8, 9, -1, -1])
        ]
        without_memory, _ = net.user(vectors, lengths, torch.tensor([[4, 5, 6]]), None)
        other_memory, _ = net.user(vectors, lengths, torch.tensor([[4, 5, 6]]), memory + 1)
    assert (users[0] - users[1]).abs().max() > 1e-3
    assert torch.allclose(users[1], users[2], atol=1e-6)  # -1 is no item
    assert (users[0] - first).abs().max() > 1e-3
    assert (users[0] - without_memory).abs().max() > 1e-3
    assert (users[0] - other_memory).abs().max() > 1e-3
    norms = torch.linalg.vector_norm(torch.cat(users), dim=1)
    assert torch.allclose(norms * BACKBONE.temperature, torch.ones(3), atol=1e-4)


def test_an_event_reads_the_retrieved_item_that_it_resembles():
    net = model(epochs=0).fit(ring_data(), RUN)._net
    net.item_scale.data.fill_(1.0)
    net.filter.weights.data[..., 0] = 1.0  # all frequencies pass
    net.filter.weights.data[..., 1] = 0.0
    net.item_norm = torch.nn.Identity()
    table = torch.zeros(ITEMS, 16)
    table[torch.arange(4), torch.arange(4)] = 0.02
    net.encoder.table.weight.data = table
    vectors = net.encoder.table(torch.tensor([[1, 3]]))
    with torch.inference_mode():
        adapted = net.adapted_items(vectors, torch.tensor([2]), torch.tensor([[0, 1, 2, 3]]))
    context = (adapted - vectors)[0] / 0.02  # shares of the four items
    assert context[0, 1] > 0.99 and context[1, 3] > 0.99


def test_retrieving_in_blocks_changes_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(7, 4, generator=generator)
    catalogue = torch.randn(9, 4, generator=generator)
    masks = torch.zeros(2, 7, 9, dtype=torch.bool)
    whole = ada_retrieval._retrieve(users, catalogue, masks[0], 3)
    monkeypatch.setattr(ada_retrieval, "blocks", lambda queries, items: [(0, 3), (3, 7)])
    parts = ada_retrieval._retrieve(users, catalogue, masks[1], 3)
    assert torch.equal(whole.rows, parts.rows) and torch.equal(masks[0], masks[1])
    expected = np.argsort(-(users @ catalogue.T).numpy(), axis=1)[:, :3]
    assert (whole.rows.numpy() == expected).all()
    logits = (users @ catalogue.T).softmax(dim=1)
    assert torch.allclose(whole.shares, logits.gather(1, whole.rows), atol=1e-6)


def test_later_events_of_a_batch_do_not_change_shorter_histories(fitted):
    net = fitted._net
    rows = torch.tensor([[1, 2, 0, 0], [1, 2, 3, 4]])
    retrieved = torch.tensor([[5, 6], [7, 8]])
    with torch.inference_mode():
        padded = net.adapted_items(net.encoder.table(rows), torch.tensor([2, 4]), retrieved)
        alone = net.adapted_items(net.encoder.table(rows[:1, :2]), torch.tensor([2]), retrieved[:1])
    assert torch.allclose(padded[:1, :2], alone, atol=1e-6)


def test_no_round_of_training_retrieves_the_target_or_the_history(fitted, monkeypatch):
    rows = Ragged.of([[0, 1, 2, 3], [4, 5, 6, 7]])
    windows = Windows(rows.values, np.array([0, 4]), np.array([3, 3]), every_place=False)
    blocked = fitted._history_mask(windows)
    assert [np.flatnonzero(row).tolist() for row in blocked.numpy()] == [[0, 1, 2], [4, 5, 6]]
    retrieved = []
    rounds = AdaRetrieval._rounds

    def noting(self, windows, blocked, sizes):
        for outcome in rounds(self, windows, blocked, sizes):
            retrieved.append(outcome.rows.numpy())
            yield outcome

    monkeypatch.setattr(AdaRetrieval, "_rounds", noting)
    fitted._loss(windows, np.arange(ITEMS), np.random.default_rng(0))
    lists = np.concatenate(retrieved, axis=1)
    assert lists.shape == (2, 9)
    assert not set(lists[0].tolist()) & {0, 1, 2, 3}
    assert not set(lists[1].tolist()) & {4, 5, 6, 7}
    assert all(len(set(row)) == 9 for row in lists.tolist())


def test_a_round_learns_only_from_targets_that_earlier_ones_missed(fitted, monkeypatch):
    ids = ["i0", "i1", "i2", "i3", "i8", "i9", "i10", "i20", "i4", "i5", "i6", "i7"]
    rows = fitted.items_.rows(ids)  # the second target is far off
    starts = np.array([0, 4, 8])
    windows = Windows(rows, starts, np.array([3, 3, 3]), every_place=False)
    learned = []

    class Noting:
        def __call__(self, users, positive, negative, targets, drawn, items):
            learned.append(targets.tolist())
            return users.sum() * 0 + 1

    monkeypatch.setattr("tailor.papers.retrieval.ada_retrieval.SampledSoftmax", Noting)
    loss = fitted._loss(windows, np.arange(ITEMS), np.random.default_rng(0))
    assert loss.item() == pytest.approx(1 + 0.3 + 0.09)
    (first,) = fitted._rounds(windows, fitted._history_mask(windows), [3])
    targets = rows[starts + 3]
    missed = [
        target
        for target, retrieved in zip(targets.tolist(), first.rows.tolist(), strict=True)
        if target not in retrieved
    ]
    assert learned[0] == targets.tolist()
    assert learned[1] == missed
    assert 0 < len(missed) < 3
    assert set(learned[2]) <= set(missed)


def test_tuning_begins_with_the_backbones_weights():
    method = model(epochs=0).fit(ring_data(), RUN)
    for name, weights in method.backbone_.net_weights_.items():
        assert (method.net_weights_[f"encoder.{name}"] == weights).all()
    other = model(epochs=0, rounds=1).fit(ring_data(), RUN)
    for name, weights in method.backbone_.net_weights_.items():
        assert (other.backbone_.net_weights_[name] == weights).all()


def test_all_adapters_learn():
    method = model(epochs=3).fit(ring_data(), RUN)
    assert np.abs(method.net_weights_["item_scale"]).max() > 1e-4
    assert np.abs(method.net_weights_["user_scale"]).max() > 1e-4
    assert method.fit_report_["loss"][-1] < method.fit_report_["loss"][0]


def test_candidates_and_exclusions_hold_in_every_round(fitted):
    candidates = Ranking(tuple(f"i{item}" for item in range(7)), np.zeros(7))
    query = Query(history=History.of("i2"), exclude=("i3",))
    ranking = fitted.recommend([query], 7, [candidates])[0]
    assert sorted(ranking.ids) == ["i0", "i1", "i2", "i4", "i5", "i6"]
    assert ranking.columns["round"].tolist() == [1, 1, 1, 2, 2, 2]


def test_validation_counts_hits_within_all_rounds(monkeypatch):
    split = last_out(ring_data())
    method = model().fit(split.train, RUN, split)
    validation = Validation.of(split.train, RUN, split)
    lists = method.recommend(validation.queries, 9)
    targets = [
        validation.queries.catalogue.ids[validation.targets[i][0]] for i in range(len(lists))
    ]
    share = np.mean([target in ranking.ids for target, ranking in zip(targets, lists, strict=True)])
    assert _DepthValidation(validation, 9).value(method) == pytest.approx(share)
    depths = []

    def noting(validation, depth):
        depths.append(depth)
        return _DepthValidation(validation, depth)

    monkeypatch.setattr(ada_retrieval, "_DepthValidation", noting)
    stopped = model(patience=1, epochs=3).fit(split.train, RUN, split)
    assert depths == [9]
    assert 1 <= len(stopped.fit_report_["validation"]) <= 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"per_round": 0}, "per_round is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"patience": 0}, "patience is 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        AdaRetrieval(**settings)


@pytest.mark.parametrize("backbone", [Popularity(), HSTU()])
def test_other_backbones_are_refused(backbone):
    with pytest.raises(ModelError, match="it must be"):
        AdaRetrieval(backbone)
