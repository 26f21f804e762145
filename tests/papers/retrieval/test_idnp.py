"""IDNP: it knows when it is asked, never reads what it must predict, and says how sure it is."""

import math
from dataclasses import replace

import numpy as np
import pytest
from killed_fit import whole_and_resumed

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.nouns import History, Query
from tailor.data.queries import NO_TIME
from tailor.errors import DataError
from tailor.nn.interest_process import InterestProcess, Latent
from tailor.papers.retrieval.idnp import IDNP
from tailor.training.sequences import TrainingData, Windows
from tailor.worlds.ring import DAY_MS, ring

RUN = Run(workers=1, dtype="float32")
WORLD = ring(users=80, groups=6, group_items=3, sessions=5)


def model(**settings):
    defaults = {
        "width": 16,
        "length": 12,
        "negatives": None,
        "lr": 0.01,
        "epochs": 2,
        "patience": None,
        "batch_places": 512,
        "window": 3,
        "latent": 4,
    }
    return IDNP(**(defaults | settings))


@pytest.fixture(scope="module")
def fitted():
    return model().fit(WORLD.data, RUN)


def windows_of(times, now_ms=None):
    times = np.array(times, dtype=np.int64)
    count = np.array([len(times)])
    now = None if now_ms is None else np.array([now_ms])
    return Windows(np.zeros(len(times), np.int64), np.array([0]), count, times, False, now)


def test_ages_are_in_typical_gaps_before_the_query(fitted):
    gap = int(fitted.gap_ms_)
    start = 1_600_000_000_000
    batch = windows_of([start, start + 3 * gap], start + 4 * gap)
    assert fitted._event_ages(batch)[0] == pytest.approx([4, 1], abs=1e-4)
    unknown = windows_of([start, start + 3 * gap], NO_TIME)
    assert fitted._event_ages(unknown)[0] == pytest.approx([4, 1], abs=1e-4)
    early = windows_of([start, start + 3 * gap], start + gap)
    assert fitted._event_ages(early)[0] == pytest.approx([1, 0], abs=1e-4)
    untimed = windows_of([NO_TIME, NO_TIME, NO_TIME], start)
    assert fitted._event_ages(untimed)[0].tolist() == [3, 2, 1]
    assert fitted._event_ages(replace(untimed, times_ms=None))[0].tolist() == [3, 2, 1]


def test_the_typical_gap_is_the_mean_of_those_above_zero(fitted):
    gaps = np.concatenate(
        [np.diff(WORLD.data.sequences.times_ms[user]) for user in range(len(WORLD.data.users))]
    )
    assert fitted.gap_ms_ == pytest.approx(gaps[gaps > 0].mean())


def test_the_same_history_is_answered_otherwise_later(fitted):
    sequences = WORLD.data.sequences
    ids = WORLD.data.catalogue.named(sequences.rows[0])
    times = tuple(sequences.times_ms[0].tolist())
    query = Query(history=History(tuple(ids), times_ms=times))
    soon, later = fitted.drift(query, [times[-1] + DAY_MS, times[-1] + 20 * DAY_MS], k=18)
    assert dict(zip(soon.ids, soon.scores, strict=True)) != pytest.approx(
        dict(zip(later.ids, later.scores, strict=True)), abs=1e-4
    )


NINE = Ragged.of([list(range(9))])  # windows of the eight events before the last: 7 to 5, ...
NINE_TIMES = np.array([0, 1, 2, 3, 4, 5, 6, 7, 20]) * DAY_MS
CONTEXT = torch.tensor([[True, False, True]])


@pytest.fixture
def learning(fitted, monkeypatch):
    """A fitted method in the middle of training, and the loss of one history of nine events."""
    method = replace(fitted)
    method.__dict__ |= fitted.state() | {"_net": fitted._net, "_divergences": []}
    method._epoch_steps = 1
    monkeypatch.setattr(IDNP, "_context_mask", lambda self, is_window, rng: CONTEXT)
    batch = Windows(NINE.values, np.array([0]), np.array([8]), NINE_TIMES, every_place=False)
    training = TrainingData(None, NINE, NINE_TIMES, np.arange(18))
    return method, lambda: method._loss(batch, training, np.random.default_rng(0))


def test_left_out_windows_are_predicted_and_not_read(learning, monkeypatch):
    method, loss = learning
    calls = {}
    interest = InterestProcess.interest

    def noting(self, windows, ages, mask, z, asked):
        calls["mask"], calls["ages"], calls["asked"] = mask, ages, asked
        return interest(self, windows, ages, mask, z, asked)

    def noting_rows(self, states, rows, training, rng):
        calls["rows"] = rows.tolist()
        return states.sum()

    monkeypatch.setattr(InterestProcess, "interest", noting)
    monkeypatch.setattr(IDNP, "_item_loss", noting_rows)
    loss()
    assert torch.equal(calls["mask"], CONTEXT)
    assert calls["asked"][0, 0] == 0
    # the latest window holds the days 5 to 7, and the next event is on day 20
    assert calls["ages"][0, 0].item() == pytest.approx(14 * DAY_MS / method.gap_ms_, rel=1e-4)
    assert torch.equal(calls["asked"][0, 1:], calls["ages"][0])
    # the next event is 8; the window left out holds 2, 3, 4, and its latest is 4
    assert calls["rows"] == [8, 4]


def test_the_latent_of_the_context_knows_neither_target_nor_windows_left_out(learning, monkeypatch):
    method, loss = learning
    calls = []
    latent = InterestProcess.latent

    def noting(self, windows, ages, mask):
        calls.append((ages, mask))
        return latent(self, windows, ages, mask)

    monkeypatch.setattr(InterestProcess, "latent", noting)
    loss()
    (all_ages, everything), (context_ages, context) = calls
    assert torch.equal(context, CONTEXT) and context_ages.shape == (1, 3)
    assert everything.tolist() == [[True] * 4]
    assert all_ages[0, 0] == 0
    assert method._divergences[0] > 0


def test_the_posterior_knows_the_next_event(fitted):
    windows = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(0))
    ages = torch.tensor([[1.0, 2.0]])
    with torch.inference_mode():
        first, second = (fitted._posterior(windows, ages, torch.tensor([row])) for row in (3, 9))
    assert (first.mean - second.mean).abs().max() > 1e-4


def test_each_history_has_a_context():
    method = model(context=0.3)
    is_window = torch.tensor([[True, True, True, False], [True, False, False, False]])
    rng = np.random.default_rng(0)
    masks = torch.stack([method._context_mask(is_window, rng) for _ in range(300)])
    assert (masks & ~is_window).sum() == 0
    assert masks.any(dim=2).all()
    # a window is read with probability .3, and once more where it is the first of three by chance
    assert 0.3 < masks[:, 0, :3].float().mean() < 0.5


def test_the_divergence_counts_more_and_more(fitted):
    method = model(epochs=10)
    method._net = fitted._net
    fitted._net.steps.zero_()
    method._epoch_steps = 10  # a fifth of 100 steps is 20
    weights = [method._warmth() for _ in range(30)]
    assert weights[:2] == pytest.approx([0.05, 0.1])
    assert weights[19:] == [1.0] * 11


def test_answers_do_not_depend_on_chance(fitted):
    query = Query(history=History(("no such item",)))
    assert len(fitted.recommend([query], 3)[0]) == 0
    queries = WORLD.data.queries()[:5]
    first, second = fitted.recommend(queries, 5), fitted.recommend(queries, 5)
    assert [ranking.ids for ranking in first] == [ranking.ids for ranking in second]


def test_uncertainty_is_the_mean_spread(fitted, monkeypatch):
    queries = [*WORLD.data.queries()[:3], Query()]
    values = fitted.uncertainty(queries)
    assert values.shape == (4,) and values[3] == 1
    assert ((values[:3] > 0.1) & (values[:3] < 1)).all()
    spread = torch.tensor([[0.25, 0.75]])
    monkeypatch.setattr(
        InterestProcess,
        "latent",
        lambda self, windows, ages, mask: Latent(spread, spread.expand(len(windows), 2)),
    )
    assert fitted.uncertainty(queries[:2]) == pytest.approx([0.5, 0.5])


def test_the_report_tells_a_collapsed_latent(fitted):
    assert math.isfinite(fitted.fit_report_["divergence"])
    assert fitted.fit_report_["divergence"] > 0


def test_a_killed_fit_goes_on_to_the_same_model(tmp_path, monkeypatch):
    whole, resumed = whole_and_resumed(model, WORLD.data, RUN, tmp_path, monkeypatch)
    for name, weights in whole.net_weights_.items():
        assert (weights == resumed.net_weights_[name]).all(), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "packed"}, 'sampler is "packed"'),
        ({"window": 0}, "window is 0"),
        ({"latent": 0}, "latent 0"),
        ({"context": 0.0}, "context is 0.0"),
        ({"divergence": -1.0}, "divergence -1.0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        IDNP(**settings)
