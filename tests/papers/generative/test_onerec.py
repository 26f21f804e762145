"""OneRec: visits are lists, lists repeat nothing, and the best of them are preferred."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest
from taught_parts import check_taught_parts

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.data.arrays import Ragged  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.nouns import History, Query, Ranking  # noqa: E402
from tailor.data.queries import Queries  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.generative.speller_policy import Prompts  # noqa: E402
from tailor.nn.blocks import MixtureOfExperts, load_balance  # noqa: E402
from tailor.papers.generative.onerec import ListPolicy, OneRec, Visits  # noqa: E402
from tailor.text.hashing import HashingEncoder  # noqa: E402
from tailor.training.alignment import Alignment  # noqa: E402
from tailor.training.sequences import Windows  # noqa: E402
from tailor.worlds.facet_visits import facet_visits  # noqa: E402

RUN = Run(workers=1, dtype="float32")
HOUR_MS = 3_600_000


def model(**settings):
    defaults = {
        "encoder": HashingEncoder(32),
        "levels": 2,
        "words": 8,
        "width": 16,
        "blocks": 1,
        "length": 8,
        "size": 3,
        "epochs": 6,
        "dropout": 0.0,
        "lr": 0.01,
        "batch_places": 512,
        "patience": None,
        "rounds": 0,
    }
    return OneRec(**(defaults | settings))


@pytest.fixture(scope="module")
def data():
    return facet_visits(40, 4, seed=1, values=(3, 2, 3, 2)).data


@pytest.fixture(scope="module")
def fitted(data):
    return model().fit(data, RUN)


# ---- visits


def visits_of(rows, hours, **settings):
    times = np.concatenate([np.array(row) for row in hours]) * HOUR_MS
    sizes = {"length": 3, "size": 2, "least": 2} | settings
    return Visits.of(Ragged.of(rows), times.astype(np.int64), **sizes)


def test_good_visits_are_lists_with_the_events_before_them():
    #               visit 0   visit 1         visit 2   visit 3
    rows = [[0, 1, 1, 4, 4, 5, 6, 2, 3, 7]]
    hours = [[0, 0.1, 0.2, 9, 9.1, 9.2, 9.3, 20, 20.1, 40]]
    visits = visits_of(rows, hours)
    # the first has no past, the third no item that the user came back to, the fourth one item
    assert visits.lists.tolist() == [[4, 5]]
    assert visits.starts.tolist() == [0] and visits.lengths.tolist() == [3]
    longer = visits_of(rows, hours, size=3, length=2)
    assert longer.lists.tolist() == [[4, 5, 6]]
    assert longer.starts.tolist() == [1] and longer.lengths.tolist() == [2]


def test_where_no_visit_is_good_those_of_several_items_are_lists():
    visits = visits_of([[0, 1, 2, 3]], [[0, 5, 5.1, 9]], least=3)
    assert visits.lists.tolist() == [[1, 2]]
    apart = visits_of([[0, 1, 2, 3, 4]], [[0, 5, 10, 15, 20]])  # one event a visit
    assert apart.lists.tolist() == [[1, 2], [3, 4]]
    untimed = Visits.of(Ragged.of([[0, 1, 1, 3], [5, 6]]), None, 3, 2, 2)
    assert untimed.lists.tolist() == [[1], [3], [6]]
    single = Visits.of(Ragged.of([[0, 1, 1, 3], [5, 6]]), None, 3, 1, 2)
    assert single.lists.tolist() == [[1], [1], [3], [6]]


def test_users_are_never_mixed():
    visits = visits_of([[0, 1, 1, 2], [3, 4, 4, 5, 6, 6]], [[0, 5, 5, 5.2], [0, 5, 5, 5.1, 9, 9]])
    assert visits.lists.tolist() == [[1, 2], [4, 5]]
    assert visits.starts.tolist() == [0, 4] and visits.lengths.tolist() == [1, 1]


# ---- the net


def windows_of(*histories):
    rows = Ragged.of(histories)
    return Windows(rows.values, rows.offsets[:-1], rows.lengths, every_place=False)


def test_a_slot_sees_the_items_before_it_and_not_those_after(fitted):
    windows = windows_of([3, 7, 9], [4])
    lists = np.array([[1, 2], [5, 6]])
    with torch.no_grad():
        states = fitted._slot_states(windows, lists)
        later = fitted._slot_states(windows, np.array([[1, 8], [5, 8]]))
        other = fitted._slot_states(windows, np.array([[0, 2], [0, 6]]))
        alone = fitted._slot_states(windows_of([4]), lists[1:])
    assert states.shape == (2, 3, 16)
    assert torch.allclose(states[:, :2], later[:, :2], atol=1e-6)
    assert not torch.allclose(states[:, 2], later[:, 2], atol=1e-3)
    assert torch.allclose(states[:, 0], other[:, 0], atol=1e-6)
    assert not torch.allclose(states[:, 1], other[:, 1], atol=1e-3)
    assert torch.allclose(states[1], alone[0], atol=1e-5)


def test_the_mark_begins_the_list(fitted):
    windows = windows_of([3, 7, 9], [4])
    none = np.zeros((2, 0), dtype=np.int64)
    with torch.no_grad():
        states = fitted._slot_states(windows, none)
        fitted._net.mark.mul_(-20.0)
        other = fitted._slot_states(windows, none)
        fitted._net.mark.div_(-20.0)
    assert not torch.allclose(states, other, atol=1e-2)


def test_the_loss_is_that_of_every_item_and_of_the_balance(fitted):
    rows = Ragged.of([[3, 7, 1, 2, 5], [4, 6]])
    lists = np.array([[1, 2, 5], [6, -1, -1]])
    visits = Visits(
        rows.values, rows.offsets[:-1], np.array([2, 1]), every_place=False, lists=lists
    )
    with torch.no_grad():
        loss = fitted._loss(visits, None, None).item()
        states = fitted._slot_states(visits, lists[:, :-1])
        balance = load_balance(fitted._net).item()
        of_lists = states[[0, 0, 0, 1], [0, 1, 2, 0]]
        log_probs = fitted._net.item_log_probs(of_lists, torch.tensor([1, 2, 5, 6]))
    assert balance > 0
    assert loss == pytest.approx(-log_probs.mean().item() + 0.01 * balance, abs=1e-4)


def test_blocks_are_mixtures_and_codes_are_balanced(fitted):
    mixtures = [m for m in fitted._net.modules() if isinstance(m, MixtureOfExperts)]
    assert [(len(m.experts), m.active) for m in mixtures] == [(4, 2)]
    assert fitted.codes == "balanced" and "prices" in fitted.codebooks_


# ---- lists


def test_lists_repeat_nothing_and_keep_to_what_is_allowed(fitted, data):
    ids = fitted.items_.ids.tolist()
    queries = [
        Query(history=History.of(*ids[:4])),
        Query(history=History.of(*ids[4:6]), exclude=tuple(ids[:30])),
    ]
    answers = fitted.recommend(queries, 10)
    assert [len(set(answer.ids)) for answer in answers] == [10, 6]
    assert not set(answers[1].ids) & set(ids[:30])
    for answer in answers:
        assert (np.diff(answer.scores) <= 1e-6).all() and np.isfinite(answer.scores).all()
    first = fitted.recommend(queries, 2)
    assert [len(answer) for answer in first] == [2, 2]


def test_lists_hold_candidates_only_and_nothing_blocked(fitted):
    ids = fitted.items_.ids.tolist()
    query = Query(history=History.of(*ids[:4]))
    first = fitted.recommend([query], 6)[0].ids
    candidates = Ranking(tuple(ids[5:15]), np.zeros(10))
    among = fitted.recommend([query], 6, [candidates])[0]
    assert len(among) == 6 and set(among.ids) <= set(ids[5:15]) and set(first) - set(among.ids)
    without = fitted.recommend(Queries.of([query]).without(first[:2]), 6)[0].ids
    assert len(without) == 6 and not set(without) & set(first[:2])


def test_a_wider_search_finds_likelier_lists(fitted, data):
    queries = data.queries().without_history()
    greedy = fitted._with_state()
    greedy.kept_lists = 1
    totals = [
        np.array([answer.scores[-1] for answer in method.recommend(queries, 3)])
        for method in (fitted, greedy)
    ]
    gains = totals[0] - totals[1]
    assert (gains > -1e-4).all() and (gains > 1e-3).any()


def test_a_score_is_the_log_probability_of_the_list_so_far(fitted):
    queries = [Query(history=History.of(*fitted.items_.ids[:4].tolist()))]
    greedy = fitted._with_state()
    greedy.kept_lists = 1
    answer = greedy.recommend(queries, 3)[0]
    rows = fitted.items_.rows(list(answer.ids))
    windows = windows_of(fitted.items_.rows(fitted.items_.ids[:4].tolist()).tolist())
    with torch.no_grad():
        states = fitted._slot_states(windows, rows[None, :2])[0]
        values = fitted._net.item_log_probs(states, torch.from_numpy(rows.astype(np.int64)))
    assert answer.scores == pytest.approx(values.cumsum(0).numpy(), abs=1e-4)
    wide = fitted.recommend(queries, 3)[0]
    assert wide.scores[-1] >= answer.scores[-1] - 1e-6


def test_items_mode_is_the_likeliest_first_items(fitted):
    queries = [Query(history=History.of(*fitted.items_.ids[:4].tolist()))]
    items = fitted._with_state()
    items.mode = "items"
    exact = fitted._with_state()
    exact.mode, exact.exact = "items", True
    first = items.recommend(queries, 5)[0]
    assert first.ids == exact.recommend(queries, 5)[0].ids
    assert first.ids != fitted.recommend(queries, 5)[0].ids or len(set(first.ids)) == 5


# ---- preferences


def test_drawn_lists_repeat_nothing_and_their_probabilities_are_those_of_drawing(fitted, data):
    policy = ListPolicy(fitted, fitted._known_training(data), None, batch=4)
    prompts = policy.prompts(np.random.default_rng(0))
    with torch.no_grad():
        lists = policy.draw(prompts, 6, torch.Generator().manual_seed(0))
        log_probs = policy.log_probs(prompts, lists)
    assert lists.shape == (4, 6, 3) and log_probs.shape == (4, 6)
    assert all(len(set(row)) == 3 for row in lists.flatten(0, 1).tolist())
    assert policy.legality(lists) == 1
    repeated = lists.clone()
    repeated[0, 0] = repeated[0, 0, 0]
    assert policy.legality(repeated) == pytest.approx(23 / 24)
    # by hand, for one list: the probability of each item among those that are left
    items = lists[1, 2].tolist()
    with torch.no_grad():
        states = fitted._slot_states(prompts.windows.take(np.array([1])), lists[1, 2:3, :2].numpy())
        total = 0.0
        for place, item in enumerate(items):
            every = torch.arange(len(fitted.items_))
            values = fitted._net.item_log_probs(states[0, place].expand(len(every), -1), every)
            # a first digit whose items are all taken would change the shares of the others
            values[items[:place]] = -torch.inf
            total += values[item].item()
    assert log_probs[1, 2].item() == pytest.approx(total, abs=1.5)
    assert log_probs[1, 2].item() >= total - 1e-4


def test_preferences_are_taught_by_the_settings():
    settings = {
        "round_batches": 5,
        "steps_per_batch": 2,
        "draws": 7,
        "beta": 0.2,
        "reward_lr": 0.02,
        "keep": 0.4,
    }
    expected = Alignment(
        "dpo",
        rounds=3,
        batches=5,
        updates=2,
        draws=7,
        lr=0.02,
        keep=0.4,
        beta=0.2,
        refreshes=True,
    )
    assert model(rounds=3, **settings)._alignment() == expected


class SumOf:
    """Acts on an item with the number of the history's first item and its own, and has a score."""

    report = {"AUC": {}}

    def probabilities(self, histories, lists):
        first = histories.values[histories.offsets[:-1]]
        clicks = 100 * first[:, None] + lists
        return np.stack([clicks, 2 * lists, np.full(lists.shape, 1e6)], axis=2)


def test_the_reward_sums_the_towers_of_whole_lists_for_their_history(fitted, data, monkeypatch):
    asked, taught = {}, {}

    def fit(log, actions, vectors, settings, run, key, listwise=False):
        asked.update(actions=actions, listwise=listwise, lists=len(log))
        return SumOf()

    def teach(self, data, reward, settings, run):
        taught.update(reward=reward, settings=settings)
        return self

    monkeypatch.setattr("tailor.papers.generative.onerec.Engagement.fit", fit)
    monkeypatch.setattr(OneRec, "_taught", teach)
    method = fitted._with_state()
    method.outcomes = ("action = 'order'",)
    method.preferred(data, RUN)
    assert asked == {"actions": ("action = 'order'",), "listwise": True, "lists": asked["lists"]}
    assert asked["lists"] > 0 and taught["settings"] == method._alignment()
    method.outcomes = ()
    method.preferred(data, RUN)
    assert asked["actions"] == tuple(data.labels)
    prompts = Prompts(np.array([0, 1]), windows_of([3, 7], [4]), np.array([0, 0]))
    lists = np.array([[[1, 2], [5, 6]], [[1, 2], [8, 4]]])
    expected = 100 * np.array([[3, 3], [4, 4]]) + 3 * lists.mean(axis=2)
    assert taught["reward"](prompts, lists) == pytest.approx(expected)


def test_the_log_goes_on_teaching_lists(fitted, data):
    policy = ListPolicy(fitted, fitted._known_training(data), None, batch=4)
    with torch.no_grad():
        kept = policy.kept_loss(np.random.default_rng(3)).item()
        visits = policy.prompts(np.random.default_rng(3)).windows
        loss = fitted._loss(visits, policy.training, np.random.default_rng(0)).item()
    assert visits.lists.shape[1] == 3 and kept == pytest.approx(loss) and kept > 0


def test_probabilities_of_all_lists_that_can_be_drawn_are_one(fitted, data):
    policy = ListPolicy(fitted, fitted._known_training(data), None, batch=2)
    prompts = policy.prompts(np.random.default_rng(0))
    pairs = torch.tensor(list(permutations(range(len(fitted.items_)), 2)))
    with torch.no_grad():
        log_probs = policy.log_probs(prompts, pairs.expand(2, -1, -1))
    assert log_probs.exp().sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-4)


def test_users_of_prompts_are_those_of_the_lists(fitted, data):
    training = fitted._known_training(data)
    policy = ListPolicy(fitted, training, None, batch=30)
    prompts = policy.prompts(np.random.default_rng(0))
    for user, target in zip(prompts.users.tolist(), prompts.targets.tolist(), strict=True):
        assert target in training.rows[user]


@pytest.mark.slow
def test_preferences_raise_what_the_reward_counts(fitted, data):
    is_liked = np.arange(len(fitted.items_)) % 4 == 0
    settings = fitted._with_state()
    settings.rounds, settings.reward_lr, settings.round_batches = 2, 0.03, 4

    def reward(prompts, lists):
        return is_liked[lists].mean(axis=2)

    taught = fitted.aligned(data, reward, settings._alignment(), RUN)
    curves = taught.fit_report_["alignment"]["curves"]
    assert curves["legality"] == [1, 1]
    assert curves["reward"][1] > curves["reward"][0] + 0.05
    # the reference is the net of the round before
    assert curves["divergence"] == pytest.approx([0, 0], abs=1e-4)
    assert len(curves["best"]) == len(curves["worst"]) == 2

    def drawn_reward(method):
        policy = ListPolicy(method, training, reward, batch=60)
        prompts = policy.prompts(np.random.default_rng(0))
        lists = policy.draw(prompts, 16, torch.Generator().manual_seed(0))
        return policy.rewards(prompts, lists).mean()

    training = fitted._known_training(data)
    assert drawn_reward(taught) > drawn_reward(fitted) + 0.05


@pytest.mark.slow
def test_fit_learns_a_reward_from_impressions_and_without_them_is_left_as_it_is(data):
    taught = model(epochs=1, rounds=1, round_batches=1, draws=4).fit(data, RUN)
    assert set(taught.fit_report_["reward"]["AUC"]) >= {"click", "cart", "order"}
    assert len(taught.fit_report_["alignment"]["curves"]["reward"]) == 1
    bare = Dataset({"events": data.events.drop("request_id"), "items": data.tables["items"]})
    plain = model(epochs=1, rounds=1).fit(bare, RUN)
    assert "no impressions" in plain.fit_report_["alignment"]["stopped"]


def test_rewards_are_not_learned_from_what_the_fit_validates_on(data, fitted, monkeypatch):
    check_taught_parts(fitted, "_preferred", data, monkeypatch)


def test_what_is_no_catalogue_to_choose_from_is_no_crash():
    events = pl.DataFrame(
        {"user_id": ["u"] * 3, "item_id": ["a"] * 3, "time_ms": [1, 2, 9 * HOUR_MS]}
    )
    alone = model().fit(Dataset({"events": events}), RUN)
    assert list(alone.recommend([Query(history=History.of("a"))], 3)[0].ids) == ["a"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"exact": True}, "exact scores every item"),
        ({"experts": 0}, "experts is 0"),
        ({"draws": 1}, "draws is 1"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(DataError, match=message):
        OneRec(**settings)
