"""DESMIL: weights part what came together by chance, and without them it is ComiRec."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.papers.retrieval.desmil import DESMIL, Dependence, Notes, bounded  # noqa: E402
from tailor.retrieval.comirec import ComiRec  # noqa: E402
from tailor.retrieval.sequences import whole_windows  # noqa: E402
from tailor.testing.data import tiny_data  # noqa: E402

RUN = Run(workers=1, dtype="float32")


def paired_interests(examples=400, width=3, seed=0):
    """Return two interests (M, 2, D) that agree for three examples of four."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((2, width))
    first = rng.integers(2, size=examples)
    second = np.where(rng.random(examples) < 0.75, first, 1 - first)
    interests = kinds[np.stack([first, second], axis=1)]
    noisy = interests + 0.05 * rng.standard_normal(interests.shape)
    return torch.from_numpy(noisy).float(), torch.from_numpy(first == second)


def test_covariances_are_those_of_weighted_features():
    interests, _ = paired_interests(50)
    measure = Dependence(width=3, interests=2, features=2, seed=0)
    features = measure.features(interests)
    units = interests.numpy() / np.linalg.norm(interests.numpy(), axis=2, keepdims=True)
    angles = units[..., None] * 3**0.5 * measure.frequencies.numpy() + measure.phases.numpy()
    wanted = (2**0.5 * np.cos(angles)).reshape(50, 2, 6)
    assert np.allclose(features.numpy(), wanted, atol=1e-5)
    weights = torch.rand(50) + 0.2
    (found,) = measure.of_batch(features, weights)
    covariance = np.cov(wanted[:, 0].T, wanted[:, 1].T, aweights=weights.numpy(), bias=True)
    assert np.allclose(found.numpy(), covariance[:6, 6:], atol=1e-5)


def test_learned_weights_lower_what_usually_comes_together():
    interests, is_together = paired_interests()
    measure = Dependence(width=3, interests=2, features=2, seed=0)
    features = measure.features(interests)
    weights = measure.learn_weights(features, steps=100, rate=0.1)
    plain = measure.of_batch(features, torch.ones(len(weights))).square().mean()
    weighted = measure.of_batch(features, weights).square().mean()
    assert weighted < 0.3 * plain
    assert weights[is_together].mean() < 0.8 and weights[~is_together].mean() > 1.3
    assert weights.mean().item() == pytest.approx(1, abs=1e-5) and weights.min() >= 0
    shuffled = weights[torch.randperm(len(weights), generator=torch.Generator().manual_seed(0))]
    assert measure.of_batch(features, shuffled).square().mean() > 0.5 * plain


def test_weights_answer_for_the_batches_before_too():
    interests, _ = paired_interests()
    measure = Dependence(width=3, interests=2, features=1, seed=0)
    features = measure.features(interests)
    even = torch.ones(len(features))
    plain = measure.of_batch(features, even)
    measure.remember(features, even)
    assert torch.allclose(measure.covariances, 0.1 * plain)
    measure.covariances.copy_(-0.1 / 0.9 * plain)  # earlier batches lean the other way
    weights = measure.learn_weights(features, steps=20, rate=0.05)
    assert (weights - 1).abs().max() < 0.05  # nothing is left to part


@pytest.mark.parametrize("spread", [0.1, 5.0])
def test_weights_are_worth_at_least_three_examples_of_ten(spread):
    raw = torch.rand(100, generator=torch.Generator().manual_seed(0))
    weights = bounded(raw ** (10 * spread))
    share = weights.sum() ** 2 / weights.square().sum() / 100
    assert weights.mean().item() == pytest.approx(1, abs=1e-5) and weights.min() >= 0
    if spread < 1:
        assert torch.allclose(weights, raw / raw.mean(), atol=1e-4)
    else:
        assert share.item() == pytest.approx(0.3, abs=1e-3)


def first_loss(method, state):
    """Return the loss of the first batch under the weights of another net."""
    data = tiny_data()
    training = method._training_data(data, data)
    windows = whole_windows(training.rows, method.length)
    method._net.load_state_dict(state, strict=False)
    method._net.train()
    torch.manual_seed(0)
    return method._loss(windows, training, np.random.default_rng(0)).item()


def test_without_steps_it_is_comirec():
    settings = {"width": 8, "length": 10, "epochs": 1, "interests": 2, "patience": None}
    plain = ComiRec(**settings).fit(tiny_data(), RUN)
    state = plain._net.state_dict()
    even, weighted = (DESMIL(**settings, steps=n).fit(tiny_data(), RUN) for n in (0, 5))
    assert first_loss(even, state) == pytest.approx(first_loss(plain, state), abs=1e-6)
    assert abs(first_loss(weighted, state) - first_loss(plain, state)) > 1e-4


@pytest.mark.parametrize("negatives", [None, 20])
def test_the_loss_is_that_of_weighted_examples(negatives):
    method = DESMIL.tiny()
    method.negatives = negatives
    method.fit(tiny_data(), RUN)
    rng = np.random.default_rng(0)
    states, positive, negative = (
        torch.from_numpy(rng.standard_normal((n, 8))).float() for n in (6, 6, 20)
    )
    targets, drawn = torch.arange(6), torch.arange(10, 30)
    arguments = (states, positive, negative, targets, drawn, 40)
    parts = []
    for number in range(6):
        method._weights = 6 * torch.eye(6)[number]
        parts.append(method._compare(*arguments).item())
    method._weights = torch.tensor([0.5, 1.5, 1, 2, 0, 1.0])
    assert np.ptp(parts) > 0.01
    wanted = float((method._weights.numpy() * parts).mean())
    assert method._compare(*arguments).item() == pytest.approx(wanted, rel=1e-4)


def test_notes_are_of_other_functions_than_weights_are_learned_on():
    interests, _ = paired_interests()
    notes = Notes(width=3, interests=2, features=2)
    learned_on = Dependence(width=3, interests=2, features=2, seed=0)
    assert not torch.allclose(notes.plain.frequencies, learned_on.frequencies)
    weights = learned_on.learn_weights(learned_on.features(interests), steps=60, rate=0.1)
    for _ in range(60):
        notes.add(interests, weights)
    plain, weighted = notes.sizes()
    assert weighted < 0.5 * plain
    assert torch.equal(notes.plain.frequencies, notes.weighted.frequencies)
    assert notes.least_share.item() == pytest.approx(1 / weights.square().mean().item(), abs=1e-5)
    assert notes.steps == 60 and (notes.early < notes.sizes()).all()  # the mean of 50 is smaller


def test_weights_that_fit_the_noise_of_batches_are_worth_nothing_in_the_notes():
    notes = Notes(width=3, interests=2, features=1)
    learned_on = Dependence(width=3, interests=2, features=1, seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        interests = torch.randn(200, 2, 3, generator=generator)
        features = learned_on.features(interests)
        weights = learned_on.learn_weights(features, steps=10, rate=0.05)
        learned_on.remember(features, weights)
        notes.add(interests, weights)
    plain, weighted = notes.sizes()
    assert weighted > 0.5 * plain


def test_the_report_ranks_entangled_interests_as_they_were_and_names_their_items():
    method = DESMIL(**DESMIL.tiny().params() | {"interests": 3}).fit(tiny_data(), RUN)
    assert method.dependence_.shape == (2, 2)
    assert 0.3 <= method.fit_report_["least_effective_share"] <= 1
    agreeing, _ = paired_interests(width=8)
    other = torch.randn(400, 1, 8, generator=torch.Generator().manual_seed(0))
    interests = torch.cat([other, agreeing], dim=1)
    notes = method._net.extractor.notes
    for _ in range(50):
        notes.add(interests, torch.ones(400))
    pairs = method._entangled()
    assert pairs[0]["interests"] == [1, 2] and len(pairs) == 3
    assert pairs[0]["dependence"] > 2 * pairs[1]["dependence"] > 0
    assert all(len(ids) == 3 and set(ids) <= set(method.items_.ids) for ids in pairs[0]["items"])


@pytest.mark.parametrize("settings", [{"interests": 1}, {"steps": -1}, {"rate": 0.0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(DataError, match="at least 2, 0, 1"):
        DESMIL(**settings)
