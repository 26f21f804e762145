"""The reward of shown lists: what is learned of a log, held out, and read in the company of others."""

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.data.arrays import Ragged  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.vocabulary import Vocabulary  # noqa: E402
from tailor.generative.engagement import Engagement, RewardTraining, ShownActions  # noqa: E402
from tailor.nn.engagement import EngagementNet  # noqa: E402

RUN = Run(workers=1, dtype="float32")
ACTIONS = ("click", "order")


def kinds(items=None):
    """Return unit vectors of six items: three kinds of two."""
    numbers = np.arange(6) if items is None else items
    vectors = np.zeros((6, 5), dtype=np.float32)
    vectors[np.arange(6), numbers // 2] = 1
    vectors[np.arange(6), 3 + numbers % 2] = 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def net(**settings):
    torch.manual_seed(0)
    return EngagementNet(torch.from_numpy(kinds()), 8, 2, **settings).eval()


def log(users=60, seed=0):
    """Everybody is shown all six items, clicks all of one kind, and orders the even ones of it."""
    rng = np.random.default_rng(seed)
    events, requests, impressions = [], [], []
    for user in range(users):
        kind = user % 3
        for visit in range(3):
            request, time = f"r{user}-{visit}", visit * 1_000
            requests.append((request, f"u{user}", time))
            for position, item in enumerate(rng.permutation(6).tolist()):
                impressions.append((request, f"i{item}", position))
                if item // 2 == kind:
                    events.append((f"u{user}", f"i{item}", time + 10, "click", request))
                if item == 2 * kind:
                    events.append((f"u{user}", f"i{item}", time + 20, "order", request))
    schemas = {
        "events": ["user_id", "item_id", "time_ms", "action", "request_id"],
        "requests": ["request_id", "user_id", "time_ms"],
        "impressions": ["request_id", "item_id", "position"],
    }
    rows = {"events": sorted(events, key=lambda row: row[2])}
    rows |= {"requests": requests, "impressions": impressions}
    tables = {
        name: pl.DataFrame(rows[name], schema=schema, orient="row")
        for name, schema in schemas.items()
    }
    labels = {action: f"action = '{action}'" for action in ACTIONS}
    return Dataset(tables, labels=labels)


def items_of(data):
    return Vocabulary.of_items(data.catalogue.ids.tolist())


def test_labels_are_the_actions_on_each_shown_item():
    data = log(users=3)
    items = items_of(data)
    shown = ShownActions.of(data, items, ACTIONS, 50)
    assert shown.labels.shape == (9, 6, 2)
    for user_id, rows, labels in zip(shown.user_ids, shown.rows, shown.labels, strict=True):
        kind = int(user_id[1:]) % 3
        numbers = np.array([int(item_id[1:]) for item_id in items.named(rows)])
        assert (labels[:, 0] == (numbers // 2 == kind)).all()
        assert (labels[:, 1] == (numbers == 2 * kind)).all()
    # three events a visit, and nothing of the visit itself
    assert sorted(shown.histories.lengths.tolist()) == [0, 0, 0, 3, 3, 3, 6, 6, 6]


def test_items_that_the_catalogue_lacks_are_left_out_of_lists():
    data = log(users=3)
    few = Vocabulary.of_items(["i0", "i3"])
    shown = ShownActions.of(data, few, ACTIONS, 50)
    assert (shown.rows[:, 2:] == -1).all()
    assert np.sort(shown.rows[:, :2], axis=1).tolist() == [[0, 1]] * 9
    clicks = {
        (user_id, few.named(rows[:2])[place]): labels[place, 0]
        for user_id, rows, labels in zip(shown.user_ids, shown.rows, shown.labels, strict=True)
        for place in (0, 1)
    }
    assert clicks["u0", "i0"] == 1 and clicks["u0", "i3"] == 0 and clicks["u1", "i3"] == 1


def test_a_log_without_impressions_has_no_lists():
    data = log(users=3)
    assert not len(ShownActions.of(Dataset({"events": data.events}), items_of(data), ACTIONS, 5))


@pytest.fixture(scope="module")
def learned():
    data = log()
    shown = ShownActions.of(data, items_of(data), ACTIONS, 50)
    settings = RewardTraining(width=8, epochs=25, lr=0.03, dropout=0.0)
    vectors = kinds(np.array([int(item_id[1:]) for item_id in items_of(data).ids.tolist()]))
    return shown, Engagement.fit(shown, ACTIONS, vectors, settings, RUN, "test")


def test_likes_of_users_held_out_are_foreseen(learned):
    _, engagement = learned
    assert engagement.report["lists"] < 180
    assert all(value > 0.8 for value in engagement.report["AUC"].values())
    assert set(engagement.report["AUC"]) == {"click", "order", "score"}


def test_the_one_score_is_the_mean_of_the_actions(learned):
    shown, engagement = learned
    with_past = np.flatnonzero(shown.histories.lengths > 0)
    values = engagement.probabilities(shown.histories.take(with_past), shown.rows[with_past])
    error = np.abs(values[:, :, -1] - shown.labels[with_past].mean(axis=2)).mean()
    assert error < 0.12


def test_what_is_no_item_has_zeros_and_changes_nothing(learned):
    shown, engagement = learned
    history = shown.histories.take(np.array([5]))
    plain = engagement.probabilities(history, np.array([[0, 3, 4]]))
    holed = engagement.probabilities(history, np.array([[-1, 0, 3, -1, 4]]))
    assert (holed[0, [0, 3]] == 0).all()
    assert np.allclose(holed[0, [1, 2, 4]], plain[0], atol=1e-6)
    nothing = engagement.probabilities(Ragged.of([[]]), np.array([[-1, -1]]))
    assert (nothing == 0).all()


@pytest.mark.parametrize("listwise", [False, True])
def test_items_of_a_list_read_each_other_only_listwise(listwise):
    judge = net(listwise=listwise)
    history, lengths = torch.tensor([[0, 1]]), torch.tensor([2])
    first = judge(history, lengths, torch.tensor([[2, 3]]), torch.tensor([2]))
    other = judge(history, lengths, torch.tensor([[2, 5]]), torch.tensor([2]))
    alone = judge(history, lengths, torch.tensor([[2, 5]]), torch.tensor([1]))
    assert torch.allclose(first[:, 0], other[:, 0], atol=1e-6) != listwise
    assert torch.allclose(alone[:, 0], other[:, 0], atol=1e-6) != listwise


def test_the_loss_by_hand():
    logits = torch.tensor([[[0.0, 1.0, -1.0], [9.0, 9.0, 9.0]]])
    labels = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    is_item = torch.tensor([[True, False]])
    softplus = torch.nn.functional.softplus
    own = (softplus(torch.tensor(-0.0)) + softplus(torch.tensor(1.0))) / 2
    fused = (softplus(torch.tensor(1.0)) + softplus(torch.tensor(-1.0))) / 2
    assert net().loss(logits, labels, is_item).item() == pytest.approx((own + fused).item())


def test_an_empty_history_has_no_mean():
    judge = net()
    means = judge._means(torch.tensor([[1, 3], [2, 0]]), torch.tensor([2, 0]))
    wanted = (kinds()[1] + kinds()[3]) / 2 * 5**0.5
    assert np.allclose(means[0].numpy(), wanted, atol=1e-6) and (means[1] == 0).all()
