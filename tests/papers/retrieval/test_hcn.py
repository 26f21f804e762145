"""HCN: centres share events out, and recent and earlier interests adjust each other."""

import copy

import numpy as np
import pytest
from scipy.special import expit, softmax

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.nn.interests import causal_readings, whole_readings  # noqa: E402
from tailor.papers.retrieval.hcn import (  # noqa: E402
    HCN,
    CoInterests,
    RefinedCentres,
    mean_redundancy,
)
from tailor.retrieval.sequences import whole_windows  # noqa: E402
from tailor.testing.data import tiny_data  # noqa: E402

WIDTH, K = 4, 3
RUN = Run(workers=1, dtype="float32")


def random_states(batch=2, positions=6, seed=0):
    return torch.randn(batch, positions, WIDTH, generator=torch.Generator().manual_seed(seed))


def co_interests(recent=2, layers=2):
    torch.manual_seed(1)
    return CoInterests(WIDTH, K, layers, recent).eval()


def stepped(cell, update, state):
    """Return a step of a GRU cell, in NumPy."""
    w_in, w_state, b_in, b_state = (weight.detach().numpy() for weight in cell.parameters())
    reset_in, gate_in, new_in = np.split(w_in @ update + b_in, 3)
    reset_state, gate_state, new_state = np.split(w_state @ state + b_state, 3)
    gate = expit(gate_in + gate_state)
    new = np.tanh(new_in + expit(reset_in + reset_state) * new_state)
    return (1 - gate) * new + gate * state


def refined(module, events):
    """Return interests (K, D) of events (T, D), and events nearest to each, by plain loops."""
    weight, bias = (part.detach().numpy() for part in module.key_proj.parameters())
    keys = np.tanh(events @ weight.T + bias)
    centres = module.start.detach().numpy()
    for cell in module.cells:
        means = shared_means(keys, keys, centres)
        centres = np.array([stepped(cell, *pair) for pair in zip(means, centres, strict=True)])
    nearest = (keys @ centres.T).argmax(axis=1)
    return shared_means(events, keys, centres), np.bincount(nearest, minlength=K)


def shared_means(values, keys, centres):
    shares = softmax(keys @ centres.T / keys.shape[1] ** 0.5, axis=1)
    return (shares.T @ values) / shares.sum(axis=0)[:, None]


def test_centres_move_layer_by_layer_towards_their_shares_of_the_events():
    torch.manual_seed(0)
    module = RefinedCentres(WIDTH, K, layers=3).eval()
    states, lengths = random_states(), torch.tensor([6, 4])
    interests, counts = module(states, whole_readings(lengths, 6))
    for b, length in enumerate(lengths.tolist()):
        wanted, wanted_counts = refined(module, states[b, :length].numpy())
        assert np.allclose(interests[b, 0].detach().numpy(), wanted, atol=1e-5)
        assert counts[b, 0].tolist() == wanted_counts.tolist()


def test_a_reading_depends_on_its_own_events_alone():
    module, states = co_interests(), random_states(1)
    together = module(states, causal_readings(6))[0]
    for stop in range(1, 7):
        alone = module(states[:, :stop], whole_readings(torch.tensor([stop]), stop))[0, 0]
        assert torch.allclose(alone, together[stop - 1], atol=1e-5)


def test_recent_and_earlier_events_both_count_and_only_within_their_parts_by_order():
    module, states = co_interests(recent=2), random_states(1)
    whole = whole_readings(torch.tensor([6]), 6)
    before = module(states, whole)
    for place in range(6):
        changed = states.clone()
        changed[0, place] = torch.randn(WIDTH)
        assert not torch.allclose(module(changed, whole), before, atol=1e-4), place
    earlier_shuffled = states[:, [2, 0, 3, 1, 4, 5]]
    assert torch.allclose(module(earlier_shuffled, whole), before, atol=1e-5)
    across = states[:, [4, 1, 2, 3, 0, 5]]
    assert not torch.allclose(module(across, whole), before, atol=1e-4)


def test_interests_that_hold_no_event_are_copies_of_the_fullest():
    module, states = co_interests(), random_states(1, positions=1)
    interests = module(states, whole_readings(torch.tensor([1]), 1))[0, 0]
    centres, counts = module.centres(module.norm(states), whole_readings(torch.tensor([1]), 1))
    assert counts[0, 0].sum() == 1
    assert torch.allclose(interests, centres[0, 0, counts[0, 0].argmax()].expand(K, -1), atol=1e-6)


def test_an_interest_without_recent_events_is_that_of_earlier_ones():
    module = co_interests(recent=1)
    mask = whole_readings(torch.tensor([4]), 4)
    with torch.no_grad():  # recent and earlier interests leave each other alone
        module.recent_gate.bias.fill_(50.0)
        module.early_gate.bias.fill_(50.0)
    kinds = set()
    for seed in range(8):
        states = random_states(1, positions=4, seed=seed)
        x, is_recent = module.norm(states), torch.arange(4) >= 3
        late, late_counts = (part[0, 0] for part in module.centres(x, mask & is_recent))
        early, early_counts = (part[0, 0] for part in module.centres(x, mask & ~is_recent))
        for number, interest in enumerate(module(states, mask)[0, 0]):
            if late_counts[number]:
                kind, wanted = "late", late[number]
            elif early_counts[number]:
                kind, wanted = "early", early[number]
            else:
                kind, wanted = "copy", late[late_counts.argmax()]
            kinds.add(kind)
            assert torch.allclose(interest, wanted, atol=1e-5), kind
    assert kinds == {"late", "early", "copy"}


def test_earlier_interests_are_adjusted_by_the_recent_ones():
    module, states = co_interests(), random_states(1)
    mask = whole_readings(torch.tensor([6]), 6)
    with torch.no_grad():  # what is recent fills the earlier interests, or nothing of it does
        module.early_gate.bias.fill_(-50.0)
        adjusted = module(states, mask)
        module.early_gate.bias.fill_(50.0)
        plain = module(states, mask)
    assert not torch.allclose(adjusted, plain, atol=1e-3)


def test_redundancy_counts_squared_cosines_of_a_users_interests_without_copies():
    assert mean_redundancy(3 * torch.eye(K)[None]) == pytest.approx(0, abs=1e-6)
    assert mean_redundancy(torch.ones(2, K, WIDTH)) == pytest.approx(0, abs=1e-6)
    pair = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.0, 2.0]]])
    assert mean_redundancy(pair) == pytest.approx(2 * 0.36 / 2, abs=1e-6)
    with_copy = pair[:1, [0, 1, 1]]
    assert mean_redundancy(with_copy) == pytest.approx(2 * 0.36, abs=1e-6)


def test_first_centres_are_noisy_in_training_alone():
    module, states = co_interests(), random_states(1)
    mask = whole_readings(torch.tensor([6]), 6)
    assert torch.equal(module(states, mask), module(states, mask))
    module.train()
    assert not torch.allclose(module(states, mask), module(states, mask), atol=1e-6)


@pytest.fixture(scope="module")
def fitted():
    return HCN.tiny().fit(tiny_data(), RUN)


def loss_of(method, weight=None):
    data = tiny_data()
    training = method._training_data(data, data)
    windows = whole_windows(training.rows, method.length).take(np.arange(8))
    method.redundancy = method.redundancy if weight is None else weight
    torch.manual_seed(0)
    return method._loss(windows, training, np.random.default_rng(0))


def test_the_loss_holds_the_weighted_redundancy():
    method = HCN.tiny().fit(tiny_data(), RUN)
    plain, weighed = (loss_of(method, weight).item() for weight in (0.0, 0.5))
    assert weighed - plain == pytest.approx(0.5 * method._redundancy.item(), rel=1e-4)
    assert method._redundancy > 0


def test_a_fitted_method_can_be_copied(fitted):
    query = tiny_data().queries()[:3]
    copied = copy.deepcopy(fitted)
    assert np.array_equal(copied.recommend(query, 5).scores, fitted.recommend(query, 5).scores)


def test_all_interests_learn_at_first_and_the_nearest_alone_later(fitted):
    assert int(fitted._net.extractor.steps) == fitted.fit_report_["steps"] > fitted.warmup
    interests = torch.eye(3).repeat(1, 1, 1)
    target = torch.tensor([[0.2, 0.7, 0.1]])
    assert torch.equal(fitted._choose(interests, target), torch.eye(3)[[1]])
    fitted._net.extractor.steps.zero_()
    wanted = torch.softmax(target, dim=1)
    assert torch.allclose(fitted._choose(interests, target), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"layers": 0}, {"recent": 0}, {"recent": 50}, {"redundancy": -0.1}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(DataError, match="at least"):
        HCN(**settings)
