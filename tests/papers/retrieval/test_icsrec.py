"""ICSRec: windows that lead to one item are partners, and clusters of states are intents."""

import copy

import numpy as np
import polars as pl
import pytest
from killed_fit import whole_and_resumed

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.papers.retrieval.icsrec import ICSRec, Intent, Occurrences
from tailor.training.sequences import TrainingData, Windows, last_states

RUN = Run(workers=1, dtype="float32")
THEMES, EACH = 4, 6  # items t0-0 .. t3-5


def theme_data(users=80, length=6, seed=0):
    """Everybody stays within a theme, in any order."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for time, item in enumerate(rng.permutation(EACH)[:length].tolist()):
            rows.append((f"u{user}", f"t{user % THEMES}-{item}", time))
    schema = ["user_id", "item_id", "time_ms"]
    return Dataset({"events": pl.DataFrame(rows, schema=schema, orient="row")})


def model(**settings):
    defaults = {
        "width": 16,
        "length": 8,
        "dropout": 0.1,
        "negatives": None,
        "lr": 0.01,
        "epochs": 7,
        "patience": None,
        "batch_places": 512,
        "clusters": THEMES,
        "contrast_temperature": 0.3,
    }
    return ICSRec(**(defaults | settings))


HISTORIES = Ragged.of([[0, 1, 2], [3, 1], [2, 0, 1, 2], [4]])


def test_occurrences_are_the_positions_of_events_with_one_before():
    occurrences = Occurrences.of(HISTORIES, 5)
    positions = [occurrences.by_item[item].tolist() for item in range(5)]
    assert positions == [[6], [1, 4, 7], [2, 8], [], []]
    assert occurrences.first_events.tolist() == [0, 0, 0, 3, 3, 5, 5, 5, 5, 9]


def test_the_partner_is_another_place_with_the_same_item():
    occurrences = Occurrences.of(HISTORIES, 5)
    rng = np.random.default_rng(0)
    items = np.array([1, 1, 1, 2, 2, 0])
    positions = np.array([1, 4, 7, 2, 8, 6])
    drawn = np.array([occurrences.draw_others(positions, items, rng) for _ in range(50)])
    others = [{4, 7}, {1, 7}, {1, 4}, {8}, {2}, {6}]  # item 0 is at 6 alone
    assert [set(drawn[:, column].tolist()) for column in range(6)] == others


def test_partners_lead_to_the_same_item_and_are_no_longer_than_the_batch():
    method = model()
    method._occurrences = Occurrences.of(HISTORIES, 5)
    starts = np.array([0, 3])
    batch = Windows(HISTORIES.values, starts, np.array([1, 1]), every_place=False)
    rng = np.random.default_rng(0)
    for _ in range(20):
        partners = method._partners(batch, rng)
        ends = partners.starts + partners.lengths
        assert HISTORIES.values[ends].tolist() == [1, 1]
        assert (ends != np.array([1, 4])).all()
        assert partners.lengths.tolist() == [1, 1]
        users = np.searchsorted(HISTORIES.offsets, ends, side="right")
        assert (np.searchsorted(HISTORIES.offsets, partners.starts, side="right") == users).all()
    short = Windows(HISTORIES.values, np.array([5]), np.array([3]), every_place=False)
    lengths = {int(method._partners(short, rng).lengths[0]) for _ in range(20)}
    assert lengths == {2}  # the other window that leads to item 2 has two events


def numpy_info_nce(left, right, same, temperature):
    left, right = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right))
    logits = left @ right.T / temperature
    losses = []
    for i, row in enumerate(logits):
        competing = [j for j in range(len(row)) if j == i or not same(i, j)]
        losses.append(np.log(np.exp(row[competing]).sum()) - row[i])
    return np.mean(losses)


def test_contrasts_by_hand():
    method = model(coarse=0.5, fine=0.25, contrast_temperature=0.2)
    method.fit(theme_data(), RUN)
    net = method._net
    rng = np.random.default_rng(1)
    states = rng.normal(size=(2, 5, 16)).astype(np.float32)
    targets = np.array([7, 3, 7, 1, 2])
    loss = method._contrast(torch.from_numpy(states), torch.from_numpy(targets)).item()
    left = states.reshape(10, 16)
    right = states[::-1].reshape(10, 16)
    both = np.r_[targets, targets]
    coarse = numpy_info_nce(left, right, lambda i, j: both[i] == both[j], 0.2)
    centres = net.centres.numpy()
    cosines = left @ centres.T
    number = cosines.argmax(axis=1)
    fine = numpy_info_nce(left, centres[number], lambda i, j: number[i] == number[j], 0.2)
    assert loss == pytest.approx(0.5 * coarse + 0.25 * fine, rel=1e-4)


def test_states_that_lead_to_one_item_come_together():
    def lead_of_pairs(**settings):
        method = model(epochs=2, dropout=0.3, fine=0.0, **settings).fit(theme_data(), RUN)
        rows = Ragged.of(np.random.default_rng(5).permuted(np.arange(24).reshape(4, 6), axis=1))
        windows = Windows(rows.values, np.arange(24), np.ones(24, dtype=np.int64))
        with torch.inference_mode():
            states = last_states(method._ready(), windows).numpy() * method.temperature
        themes = np.array([item_id[1] for item_id in method.items_.ids])[rows.values]
        same = themes[:, None] == themes
        return (states @ states.T)[same].mean() - (states @ states.T)[~same].mean()

    assert lead_of_pairs(coarse=1.0) > 0.8
    assert lead_of_pairs(coarse=0.0) < 0.7


def test_intents_are_the_themes():
    method = model(epochs=12).fit(theme_data(), RUN)
    histories = [History.of(f"t{theme}-0", f"t{theme}-1") for theme in range(THEMES)]
    queries = [Query(history=history) for history in histories]
    intents = method.intents(queries, items=3)
    assert len({intent.number for intent in intents}) == THEMES
    for theme, intent in enumerate(intents):
        assert {item_id[1] for item_id in intent.item_ids} == {str(theme)}
        assert 0.5 < intent.cosine <= 1.001
    assert method.intents([Query()]) == [Intent(-1, 0.0, ())]


def test_intents_that_were_not_learned_are_named():
    method = model(fine=0.0, epochs=2).fit(theme_data(), RUN)
    with pytest.raises(DataError, match="fine is 0"):
        method.intents([Query(history=History.of("t0-0"))])
    with pytest.raises(DataError, match="items is 0"):
        method.intents([], items=0)


def test_clusters_are_found_after_the_first_epoch_and_every_fifth_one(monkeypatch):
    steps = []
    find = ICSRec._find_centres

    def noting(self, training):
        steps.append(int(self._net.steps))
        return find(self, training)

    monkeypatch.setattr(ICSRec, "_find_centres", noting)
    per_epoch = model(epochs=12).fit(theme_data(), RUN).fit_report_["steps"] // 12
    assert steps == [1 * per_epoch, 6 * per_epoch, 11 * per_epoch]


def test_processes_share_the_steps_of_an_epoch(monkeypatch):
    method = model()
    rows = Ragged.of(np.tile(np.arange(6), (80, 1)))
    windows = Windows(rows.values, np.zeros(1, np.int64), np.ones(1, np.int64))
    batches = len(method._batches(windows, rows, np.random.default_rng(0)))
    monkeypatch.setenv("WORLD_SIZE", "2")
    method._batches(windows, rows, np.random.default_rng(0))
    assert method._epoch_steps == -(-batches // 2)


def test_fewer_states_than_clusters_are_no_crash():
    method = model(clusters=500, epochs=3).fit(theme_data(users=3), RUN)
    centres = method._net.centres.numpy()
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    assert len(np.unique(centres.round(5), axis=0)) < 50


def test_clusters_are_of_states_without_dropout():
    method = model(epochs=2).fit(theme_data(), RUN)
    rows = Ragged.of([[0, 1, 2], [3, 4, 5]])
    training = TrainingData(None, rows, None, np.arange(24))
    method._net.train()
    method._run = RUN
    first, second = (method._find_centres(training) for _ in range(2))
    assert torch.equal(first, second)
    assert method._net.training
    method._net.steps += 1
    assert method._find_centres(training).shape == first.shape


def test_a_fitted_model_can_be_copied():
    method = model(epochs=2).fit(theme_data(), RUN)
    copied = copy.deepcopy(method)
    query = Query(history=History.of("t0-0"))
    assert copied.recommend([query], 3)[0].ids == method.recommend([query], 3)[0].ids


def test_a_killed_fit_goes_on_to_the_same_model(tmp_path, monkeypatch):
    whole, resumed = whole_and_resumed(
        lambda: model(epochs=4), theme_data(), RUN, tmp_path, monkeypatch
    )
    for name, weights in whole.net_weights_.items():
        assert (weights == resumed.net_weights_[name]).all(), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "packed"}, 'sampler is "packed"'),
        ({"coarse": -1.0}, "coarse is -1.0"),
        ({"clusters": 0}, "clusters 0"),
        ({"contrast_temperature": 0.0}, "contrast_temperature is 0.0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        ICSRec(**settings)
