"""BehaveGPT: weights of groups by hand, a reference of other users, counts, moments, rollouts."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.moments import DAY_MS, HOUR_MS
from tailor.data.nouns import History, Query
from tailor.errors import DataError, NotFittedError
from tailor.papers.generative.behavegpt import (
    WAITS,
    WEIGHT_SCALE,
    BehaveGPT,
    _groups_of_equal_share,
    _of_users,
    _wait_classes,
    _waits_after,
)
from tailor.training.sequences import TrainingData, Windows, ask_at_next, whole_windows

RUN = Run(seed=1, workers=1, dtype="float32")
START = 18_000 * DAY_MS  # midnight


def log(**events) -> Dataset:
    """Return the events of users: pairs of a behaviour and hours since the start."""
    rows = [
        {"user_id": user, "item_id": item, "time_ms": START + round(hour * HOUR_MS)}
        for user, pairs in events.items()
        for item, hour in pairs
    ]
    return Dataset.from_events(rows)


def rhythm(users: int = 12, days: int = 6) -> Dataset:
    """Return users who have coffee at 8 and tea at 20, every day."""
    day = [("coffee", 8.5), ("tea", 20.5)]
    return log(
        **{
            f"u{user}": [(item, hour + 24 * number) for number in range(days) for item, hour in day]
            for user in range(users)
        }
    )


def model(**settings) -> BehaveGPT:
    defaults = {
        "width": 16,
        "length": 20,
        "blocks": 1,
        "heads": 1,
        "dropout": 0.05,
        "groups": 2,
        "lr": 0.01,
        "epochs": 2,
        "patience": None,
        "batch_places": 128,
        "reference_epochs": 2,
    }
    return BehaveGPT(**(defaults | settings))


def test_groups_hold_the_same_share_of_the_events():
    counts = np.array([1, 40, 1, 20, 20, 8, 10])  # no middle lies in the second of four shares
    assert _groups_of_equal_share(counts, 4).tolist() == [2, 0, 2, 1, 1, 2, 2]
    # one behaviour has three of four shares: two groups are left, numbered without a gap
    assert _groups_of_equal_share(np.array([5, 90, 5]), 4).tolist() == [1, 0, 1]
    assert _groups_of_equal_share(np.zeros(0, int), 4).tolist() == []


def test_waiting_times_fall_into_the_class_that_begins_before_them():
    hours = np.array([0, 0.99, 1, 23.5, 29.9, 30, 167, 168, 5_000])
    begins = WAITS[_wait_classes((hours * HOUR_MS).astype(np.int64))]
    assert begins.tolist() == [0, 0, 1, 23, 24, 30, 96, 168, 720]


def test_the_weight_of_a_group_grows_by_its_excess_over_the_reference():
    method = model(eta=0.5).fit(rhythm(), RUN)
    net = method._net
    method.groups_ = np.array([0, 1, 2])
    method.reference_losses_ = np.array([1.0, 2.0, 4.0], np.float32)
    shares = np.array([0.5, 0.25, 0.25])
    method.shares_ = shares.astype(np.float32)
    net.register_buffer("group_weights", torch.from_numpy(method.shares_).clone())
    net.register_buffer("group_losses", torch.full((3,), -1.0))
    losses = np.array([3.0, 1.0, 2.5], np.float32)
    first = method._weighted_mean(torch.from_numpy(losses), np.array([0, 0, 1]))
    raised = np.exp(0.5 * np.array([1.0, 0.5, 0.0])) * shares  # means are 2, 2.5 and none
    weights = raised / raised.sum()
    assert net.group_weights.tolist() == pytest.approx(weights)
    factors = (weights / shares)[[0, 0, 1]]
    assert first.item() == pytest.approx((factors * losses).mean())
    second = method._weighted_mean(torch.tensor([1.0, 8.0]), np.array([0, 2]))
    raised = weights * np.exp(0.5 * np.array([0.9, 0.5, 4.0]))  # running: 1.9, 2.5 and 8
    weights = raised / raised.sum()
    assert net.group_weights.tolist() == pytest.approx(weights, rel=1e-5)
    factors = (weights / shares)[[0, 2]]
    assert second.item() == pytest.approx((factors * [1.0, 8.0]).mean(), rel=1e-5)


def test_groups_begin_as_their_shares_so_that_all_events_count_alike():
    method = model(groups=0, eta=0.5).fit(rhythm(), RUN)
    assert method.groups_.tolist() == [0, 1]
    assert method.shares_.sum() == pytest.approx(1)
    fresh = method._make_net()
    assert fresh.group_weights.tolist() == method.shares_.tolist()
    method.reference_losses_ = np.full(2, 99.0, np.float32)  # no group is above it
    method._net = fresh
    loss = method._weighted_mean(torch.tensor([3.0, 1.0, 2.5]), np.array([0, 0, 1]))
    assert loss.item() == pytest.approx(6.5 / 3)


def test_without_eta_all_events_count_alike_and_there_is_no_reference():
    method = model(eta=0.0).fit(rhythm(), RUN)
    loss = method._weighted_mean(torch.tensor([3.0, 1.0, 2.5]), np.array([0, 0, 1]))
    assert loss.item() == pytest.approx(6.5 / 3)
    assert not method.reference_losses_.any()
    assert "reference_seconds" not in method.fit_report_
    assert not model(reference_epochs=0).fit(rhythm(), RUN).reference_losses_.any()


def test_the_reference_is_judged_on_users_that_it_did_not_learn_from(monkeypatch):
    learned, judged = [], []
    train, losses_of = BehaveGPT._train, BehaveGPT._losses_of

    def noting_train(self, training, validation, run):
        learned.append(training.rows)
        return train(self, training, validation, run)

    def noting_losses(self, training):
        judged.append(training.rows)
        return losses_of(self, training)

    monkeypatch.setattr(BehaveGPT, "_train", noting_train)
    monkeypatch.setattr(BehaveGPT, "_losses_of", noting_losses)
    # each user has a behaviour of their own, so that events tell who they are of
    data = log(**{f"u{user}": [(f"b{user}", h) for h in range(4)] for user in range(20)})
    method = model().fit(data, RUN)
    assert len(learned) == 2 and len(judged) == 1  # the method, then its reference
    everybody, of_reference = (set(rows.values.tolist()) for rows in learned)
    others = set(judged[0].values.tolist())
    assert len(everybody) == 20 and of_reference | others == everybody
    assert of_reference and others and not of_reference & others
    assert (method.reference_losses_ > 0).all()


def test_an_estimate_counts_the_passes_of_the_reference():
    rows = rhythm().sequences.rows
    steps = model(eta=0.0, epochs=4)._steps_per_epoch(rows, RUN)
    assert model(epochs=4, reference_epochs=8)._steps_per_epoch(rows, RUN) == 2 * steps


def test_losses_of_a_history_are_those_of_its_targets():
    data = log(ann=[("a", 1), ("b", 5), ("a", 9)], bob=[("b", 2), ("c", 7)])
    method = model(groups=3).fit(data, RUN)
    training = TrainingData(data, data.sequences.rows, data.sequences.times_ms.values, np.arange(3))
    losses, groups = method._losses_of(training)
    expected = {}
    for user, events in {"ann": "aba", "bob": "bc"}.items():
        hours = {"ann": (1, 5, 9), "bob": (2, 7)}[user]
        for stop in range(1, len(events)):
            times_ms = tuple(START + hour * HOUR_MS for hour in hours[:stop])
            history = History(tuple(events[:stop]), times_ms)
            query = Query(history=history, time_ms=START + hours[stop] * HOUR_MS)
            ranking = method.recommend([query], 3)[0]
            score = dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))[events[stop]]
            row = int(method.items_.rows([events[stop]])[0])
            expected[-np.log(score)] = method.groups_[row]
    order = np.argsort(losses)
    assert losses[order].tolist() == pytest.approx(sorted(expected), rel=1e-4)
    assert groups[order].tolist() == [expected[key] for key in sorted(expected)]


def test_users_are_taken_with_their_times():
    data = log(ann=[("a", 1), ("b", 5)], bob=[("c", 2)], eve=[("a", 3), ("c", 4)])
    training = TrainingData(data, data.sequences.rows, data.sequences.times_ms.values, np.arange(3))
    part = _of_users(training, np.array([True, False, True]))
    assert part.rows.lengths.tolist() == data.sequences.rows.lengths[[0, 2]].tolist()
    assert part.times_ms.tolist() == [
        time for i in (0, 2) for time in data.sequences.times_ms[i].tolist()
    ]


def test_own_counts_are_added_with_the_learned_weight():
    method = model().fit(log(ann=[("a", 1), ("b", 5), ("a", 9), ("c", 11)]), RUN)
    rows = method.items_.rows(list("abac")).astype(np.int32)
    batch = Windows(rows, np.array([0]), np.array([4]), START + np.arange(4) * HOUR_MS)
    plain = torch.randn(2, 3)
    added = (method._add_counts(plain, batch, np.array([1, 3])) - plain).detach()
    weight = WEIGHT_SCALE * method._net.copy_weight.item()
    order = method.items_.rows(list("abc"))
    assert added[0][order].tolist() == pytest.approx([weight * np.log(2)] * 2 + [0], abs=1e-5)
    expected = [weight * np.log(3), weight * np.log(2), weight * np.log(2)]
    assert added[1][order].tolist() == pytest.approx(expected, abs=1e-5)
    method.counts = False
    assert torch.equal(method._add_counts(plain, batch, np.array([1, 3])), plain)


def test_the_hour_asked_decides():
    rng = np.random.default_rng(0)  # days with one of the two, so that the order tells nothing
    habits = [("coffee", 8.5), ("tea", 20.5)]
    visits = {
        f"u{user}": [
            (item, hour + 24 * day)
            for day, number in enumerate(rng.integers(2, size=12).tolist())
            for item, hour in habits[number : number + 1]
        ]
        for user in range(12)
    }
    method = model(epochs=25, eta=0.0, counts=False).fit(log(**visits), RUN)
    history = History(("coffee", "tea"), (START + 32 * HOUR_MS, START + 44 * HOUR_MS))

    def first(hour: float) -> str:
        query = Query(history=history, time_ms=START + round((48 + hour) * HOUR_MS))
        return method.recommend([query], 2)[0].ids[0]

    assert (first(8.2), first(20.2)) == ("coffee", "tea")


def test_losses_of_waits_do_not_know_when_the_next_event_is():
    method = model().fit(rhythm(), RUN)
    rows = method.items_.rows(["coffee", "tea"]).astype(np.int32)[[0, 1, 0]]
    states = {}
    method._net.eval()
    plain = method._wait_loss
    for hour in (20, 30):
        times_ms = START + np.array([8, 19, hour]) * HOUR_MS
        batch = Windows(rows, np.array([0]), np.array([2]), times_ms)

        def noting(batch, given, is_hidden, hour=hour):
            states[hour] = given.detach()
            return plain(batch, given, is_hidden)

        method._wait_loss = noting
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tailor.papers.generative.behavegpt.HIDDEN", 1.0)
            method._loss(batch, None, np.random.default_rng(0))
        del method._wait_loss
    assert torch.equal(states[20], states[30])
    asked = {hour: method._layer_inputs(_ask(rows, hour))["slots"] for hour in (20, 30)}
    assert not torch.equal(asked[20], asked[30])  # a window that is told reads it


def _ask(rows: np.ndarray, hour: int) -> Windows:
    times_ms = START + np.array([8, 19, hour]) * HOUR_MS
    return ask_at_next(Windows(rows, np.array([0]), np.array([2]), times_ms))


def test_a_day_is_rolled_out_at_the_hours_of_the_habits():
    method = model(epochs=40, eta=0.0, lr=0.02).fit(rhythm(), RUN)
    history = History(
        ("coffee", "tea") * 3,
        tuple(START + round(h * HOUR_MS) for h in (8.5, 20.5, 32.5, 44.5, 56.5, 68.5)),
    )
    queries = [Query(f"u{number}", history) for number in range(20)]
    days = method.rollout(queries, hours=25)
    begin = history.times_ms[-1]
    assert all(begin <= time < begin + 25 * HOUR_MS for day in days for time in day.times_ms)
    assert all(list(day.times_ms) == sorted(day.times_ms) for day in days)
    first = [day.item_ids[0] for day in days if len(day)]
    assert first.count("coffee") > 15
    assert 1.5 < np.mean([len(day) for day in days]) < 3
    again = method.rollout(queries[3:4], hours=25)[0]
    assert again.item_ids == days[3].item_ids  # alone as among others
    other = method.rollout(queries[3:4], hours=25, run=Run(seed=9))[0]
    assert other.times_ms != days[3].times_ms


def test_a_wait_is_from_the_last_event_and_longer_than_what_has_passed(monkeypatch):
    method = model().fit(rhythm(), RUN)
    net = method._ready()
    chances = np.full(len(WAITS), 1e-9)
    chances[[1, 12]] = 0.9, 0.1  # an hour, else twelve
    logits = torch.from_numpy(np.log(chances)).float()
    monkeypatch.setattr(net.wait, "forward", lambda states: logits.expand(len(states), -1))
    history = History(("coffee",), (START,))

    def first_hours(passed: float) -> np.ndarray:
        now_ms = START + round(passed * HOUR_MS)
        queries = [Query(f"u{n}", history, time_ms=now_ms) for n in range(40)]
        days = method.rollout(queries, hours=24)
        return np.array([(day.times_ms[0] - START) / HOUR_MS for day in days])

    at_once = first_hours(0.0)
    assert ((at_once >= 1) & (at_once < 13)).all() and (at_once < 2).mean() > 0.7
    later = first_hours(5.0)  # not one hour, nor twelve hours from now
    assert ((later >= 12) & (later < 13)).all()
    within = first_hours(12.5)
    assert ((within >= 12.5) & (within < 13)).all()


def test_what_is_left_of_waits_by_hand():
    begins, ends, shares = _waits_after(99.0)
    assert begins[-4:].tolist() == [99, 168, 336, 720] and ends[-4:].tolist() == [
        168,
        336,
        720,
        1440,
    ]
    assert shares[-4:] == pytest.approx([69 / 72, 1, 1, 1]) and not shares[:-4].any()
    begins, ends, shares = _waits_after(0.0)
    assert begins.tolist() == WAITS.tolist() and (shares == 1).all()
    begins, ends, shares = _waits_after(2_000.0)
    assert (begins[-1], ends[-1]) == (2_000, 4_000) and shares[-1] > 0 and not shares[:-1].any()


def test_a_rollout_leaves_out_what_is_excluded_and_strangers():
    method = model().fit(rhythm(), RUN)
    history = History(("coffee",), (START,))
    queries = [
        Query("u1", history, exclude=("tea",)),
        Query("u2", history, exclude=("tea", "coffee")),
        Query("u3"),
        Query("u4", History(("unknown",), (START,))),
    ]
    days = method.rollout(queries, hours=200)
    assert set(days[0].item_ids) == {"coffee"}
    assert [len(day) for day in days[1:]] == [0, 0, 0]


def test_a_rollout_needs_times_and_hours():
    method = model().fit(rhythm(), RUN)
    with pytest.raises(DataError, match="query 0 has events without a time"):
        method.rollout([Query(history=History.of("coffee"))])
    with pytest.raises(DataError, match="hours is 0"):
        method.rollout([], hours=0)


def test_without_times_there_is_no_crash():
    rows = [{"user_id": f"u{user}", "item_id": item} for user in range(4) for item in "abca"]
    method = model().fit(Dataset.from_events(rows), RUN)
    assert len(method.recommend([Query(history=History.of("a", "b"))], 3)[0].ids) == 3


def test_a_state_does_not_know_what_follows():
    data = log(ann=[("a", 8), ("b", 13), ("a", 32), ("b", 37), ("c", 56)])
    method = model().fit(data, RUN)
    windows = whole_windows(data.sequences.rows, 20, data.sequences.times_ms.values)
    losses, _ = method._losses_of(
        TrainingData(data, data.sequences.rows, data.sequences.times_ms.values, np.arange(3))
    )
    assert len(losses) == windows.lengths.sum() == 4
    other = log(ann=[("a", 8), ("b", 13), ("a", 32), ("c", 39), ("a", 77)])
    rows = method.items_.rows(other.catalogue.named(other.sequences.rows.values))
    changed = TrainingData(
        other,
        other.sequences.rows.with_values(rows.astype(np.int32)),
        other.sequences.times_ms.values,
        np.arange(3),
    )
    assert method._losses_of(changed)[0][:2].tolist() == pytest.approx(losses[:2].tolist())


def test_a_net_for_another_log_begins_with_learned_layers():
    first = model(epochs=10, eta=0.0).fit(rhythm(), RUN)
    other = log(**{f"v{user}": [("bus", 8.2), ("bed", 22.2), ("bus", 32.2)] for user in range(4)})
    second = model(begins_with=first, eta=0.0, epochs=1, lr=1e-9).fit(other, RUN)
    assert second.items_.ids.tolist() != first.items_.ids.tolist()
    for name, weights in second.net_weights_.items():
        if name.startswith(("layers.", "positions.", "wait.")):
            assert np.allclose(weights, first.net_weights_[name], atol=1e-6), name
    plain = model(eta=0.0, epochs=1, lr=1e-9).fit(other, RUN)
    name = "layers.0.feed_forward.up_proj.weight"
    assert not np.allclose(plain.net_weights_[name], first.net_weights_[name], atol=1e-3)
    model(begins_with=first, epochs=1, reference_epochs=1).fit(rhythm(), RUN)  # DRO has its own


def test_layers_of_another_form_are_refused():
    first = model(epochs=1).fit(rhythm(), RUN)
    with pytest.raises(DataError, match="those of begins_with"):
        model(begins_with=first, heads=2).fit(rhythm(), RUN)
    with pytest.raises(NotFittedError):
        model(begins_with=model()).fit(rhythm(), RUN)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": 5}, "negatives is 5"),
        ({"groups": -1}, "groups is -1"),
        ({"eta": -0.1}, "eta -0.1"),
        ({"reference_epochs": -1}, "reference_epochs -1"),
        ({"heads": 3}, "heads 3"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        model(**settings)
