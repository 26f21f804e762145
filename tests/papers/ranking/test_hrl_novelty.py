"""Two policies of novelty: their parts by hand, and what they learn from a planted world."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.shown import ShownLists
from tailor.errors import DataError, ModelError
from tailor.metrics.lists import intra_list_diversity
from tailor.nn.options import OptionNet, importance
from tailor.papers.ranking import hrl_novelty
from tailor.papers.ranking.hrl_novelty import (
    HRLNovelty,
    event_novelty,
    moments_of,
    past_keys,
    summaries_of,
    usual_novelty,
)
from tailor.retrieval.ease import EASE
from tailor.worlds.slates import Slates

RUN = Run(workers=1)
SMALL = HRLNovelty(EASE(), width=8, dims=6, epochs=3, depth=30)
HOUR_MS = 3_600_000


def world_with(trait, seed=0):
    world = Slates(people=60, items=60, groups=6, size=5, warm=0 + 1, seed=seed)
    world.novelty = 3.0
    world.trait[:] = trait
    for _ in range(9):
        world.states[-1][:] = 0.0
        world.step(world.random_slates())
    return world


@pytest.fixture(scope="module")
def world():
    return world_with(0.0)


@pytest.fixture(scope="module")
def fitted(world):
    return SMALL.fit(world.log(), RUN)


def test_an_option_lasts_a_session_and_is_drawn_anew_after_it(fitted, world):
    ids = world.catalogue.ids[:4].tolist()
    first = Query("u", History(tuple(ids[:2]), (0, 1)), time_ms=5 * HOUR_MS)
    later = Query("u", History(tuple(ids[:3]), (0, 1, 5 * HOUR_MS + 1)), time_ms=5 * HOUR_MS + 9)
    after = Query("u", History(tuple(ids[:3]), (0, 1, 5 * HOUR_MS + 1)), time_ms=9 * HOUR_MS)
    keys = past_keys(Queries.of([first, later, after]))
    assert keys[0] == keys[1] != keys[2]
    even = np.log(np.full(4, 0.25))
    options = [fitted._option(even, str(key), "r") for key in range(400)]
    assert np.allclose(np.bincount(options, minlength=4) / 400, 0.25, atol=0.08)
    assert len({fitted._option(even, "key", request) for request in "abc"}) == 1
    assert fitted._option(np.log([0.1, 0.2, 0.6, 0.1]), "key", None) == 2


def test_novelty_is_the_distance_from_the_latest_events():
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    histories = Ragged.of([[0, 1, 2, 0], [2]])
    assert np.allclose(event_novelty(histories, vectors), [1, 1, 0.2, 0, 1])
    position = np.array([0, 1, 2, 3, 0])
    usual = usual_novelty(event_novelty(histories, vectors), position)
    assert np.allclose(usual[:5], [2.5 / 3, 1.5 / 2, 0.7 / 2, 0.5 / 2, 0.5])
    summary = summaries_of(histories, np.array([1, 1, 0.2, 0, 1]), usual, vectors)
    excess = (1 - usual[1]) + (0.2 - usual[2]) + (0 - usual[3])
    assert summary[0] == pytest.approx([excess / 4, excess / 4, np.log(5) / 3, 0.65, 0.45])
    assert summary[1] == pytest.approx([0, 0, np.log(2) / 3, 0.6, 0.8])


def test_old_events_make_nothing_familiar(monkeypatch):
    monkeypatch.setattr(hrl_novelty, "RECENT", 2)
    vectors = np.eye(3, dtype=np.float32)
    assert event_novelty(Ragged.of([[0, 1, 2, 0]]), vectors).tolist() == [1, 1, 1, 1]


def test_options_differ_by_what_novelty_is_worth():
    torch.manual_seed(0)
    net = OptionNet(np.eye(3, dtype=np.float32), 5, 4, 8)
    assert (net.levels.diff() > 0).all() and net.levels.mean().abs() < 1e-5
    rows = torch.tensor([[0, 0, -1]])
    novelty = torch.tensor([[0.0, 1.0, 1.0]])
    logits = net.item_logits(torch.zeros(1, 13), rows, torch.zeros(1, 3), novelty)
    gain = logits[0, :, 1] - logits[0, :, 0]
    assert torch.allclose(gain, net.levels + net.appetite.bias, atol=1e-5)
    assert (logits[0, :, 2] == -torch.inf).all()
    with torch.no_grad():
        net.level_steps.fill_(-50.0)
    assert (net.levels.diff() >= 0).all()


def test_features_of_a_past_are_scaled_and_its_vector_weighs_as_one():
    summaries = np.random.default_rng(0).normal(3.0, [[0.1, 2.0, 1.0, 5.0, 5.0]], (500, 5))
    mean, divisor = moments_of(summaries)
    deviations = ((summaries - mean) / divisor).std(axis=0)
    assert deviations == pytest.approx([1, 1, 1, 0.5**0.5, 0.5**0.5], abs=0.02)


def test_weights_are_clipped_ratios_and_one_where_the_log_is_silent():
    now = torch.tensor([0.2, 0.5, 0.3])
    then = torch.tensor([0.4, 0.01, torch.nan])
    assert importance(now, then).tolist() == pytest.approx([0.5, 10.0, 1.0])


def test_logged_lists_are_scored_by_a_base_that_has_not_seen_their_users(world, monkeypatch):
    fits = []

    class Spy(EASE):
        def _fit(self, data, run, valid):
            fits.append(set(data.events["user_id"].to_list()))
            super()._fit(data, run, valid)

        def _recommend(self, queries, k, candidates):
            asked = set(queries.user_ids.tolist())
            assert not asked & fits[-1], "a user's own events scored their lists"
            return super()._recommend(queries, k, candidates)

    method = SMALL._with_state()
    data = world.log()
    method.items_ = data.catalogue
    method.vectors_ = hrl_novelty.item_vectors(data, 6)
    method.base = Spy()
    shown = ShownLists.of(data, 20)
    monkeypatch.setattr(hrl_novelty, "clone", lambda base: Spy())
    candidates = method._logged_candidates(data, shown, RUN)
    assert len(fits) == 2
    assert (candidates.rows[:, :5] == shown.rows).all()
    for rows in candidates.rows[::50]:
        listed = rows[rows >= 0]
        assert len(set(listed.tolist())) == len(listed), "an item stands in a list twice"


def test_the_lower_policy_prefers_places_that_earn_more_by_their_weight():
    lists = hrl_novelty.ListTensors(
        *[torch.zeros(1)] * 7,
        rewards=torch.tensor([[3.0, 1.0], [1.0, 3.0]]),
        propensities=torch.ones(2, 2),
        is_item=torch.ones(2, 2, dtype=torch.bool),
    )
    log_probs = torch.zeros(2, 2, requires_grad=True)
    weights = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    SMALL._low_loss(torch.full((2, 1), 2.0), log_probs, weights, lists).backward()
    assert torch.allclose(log_probs.grad, torch.tensor([[-1.0, 1.0], [2.0, 0.0]]) / 4)


def test_the_upper_policy_prefers_options_whose_sessions_earn_more(world):
    method = SMALL._with_state()
    method._net = OptionNet(np.eye(3, dtype=np.float32), 5, 2, 4)
    log_options = torch.zeros(2, 2, requires_grad=True)
    shares = torch.eye(2)  # the first session had the first option, the second the other
    log_probs = (shares * log_options.log_softmax(dim=-1)).sum(dim=-1)
    returns = torch.tensor([3.0, 1.0])
    loss = method._high_loss(torch.full((2,), 2.0), log_probs, torch.ones(2), returns)
    loss.backward()
    slope = log_options.grad
    assert slope[0, 0] < 0 < slope[0, 1], "the option that earned more becomes no likelier"
    assert slope[1, 1] > 0 > slope[1, 0], "the option that earned less becomes no rarer"


def test_options_share_a_session_by_how_likely_they_explain_it(world, monkeypatch):
    method = replace(SMALL, entropy=0.0)
    method = method.fit(world.log(), RUN)
    with torch.no_grad():
        method._net.high[-1].bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
        method._net.first_level.fill_(-9.0)
        method._net.level_steps.fill_(6.0)
    seen = {}

    def watch(expected, log_probs, weights, returns):
        seen["upper"] = log_probs
        return log_probs.sum() * 0

    monkeypatch.setattr(method, "_high_loss", watch)
    log = ShownLists.of(world.log(), method.length)
    visits = method._visits(log.queries)
    candidates = method._logged_candidates(world.log(), log, RUN)
    rewards = method._rewards(log, candidates)
    logged = hrl_novelty.Logged(visits, candidates, rewards, log.propensities, log.rows >= 0)
    sessions = Ragged.of([[3, 4]])
    method._policy_loss(logged.take(sessions.values), sessions)
    log_options, logits = method._policies(visits, candidates)
    evidence = log_options[3].astype(np.float64)
    for number in (3, 4):
        for option in range(4):
            left = logits[number, option].astype(np.float64)
            for place in range(5):
                evidence[option] += left[place] - np.logaddexp.reduce(left)
                left[place] = -np.inf
    shares = np.exp(evidence - np.logaddexp.reduce(evidence))
    wanted = (shares * log_options[3]).sum()
    assert seen["upper"].item() == pytest.approx(wanted, abs=1e-3)


def test_a_diverse_list_earns_more(world, fitted):
    data = world.log()
    shown = ShownLists.of(data, 20)
    with_bonus = replace(SMALL, diversity=1.0, epochs=1).fit(data, RUN)
    without = replace(SMALL, diversity=0.0, epochs=1).fit(data, RUN)
    variety = np.nan_to_num(intra_list_diversity(shown.rows, with_bonus.vectors_)).mean()
    gained = with_bonus.fit_report_["mean reward"] - without.fit_report_["mean reward"]
    assert gained == pytest.approx(variety, abs=1e-4)


def test_lists_are_drawn_by_request_with_known_probabilities(fitted, world):
    asked = world.ask()
    is_long = fitted.base_.recommend(asked, 30).lengths > 10
    queries = asked.take(np.flatnonzero(is_long)[:3])
    again = fitted.recommend(queries, 5)
    lists = fitted.recommend(queries, 5)
    for i in range(3):
        assert lists[i].ids == again[i].ids
        shares = lists[i].columns["propensity"]
        assert ((shares > 0) & (shares <= 1)).all() and shares[0] < 1
        assert lists[i].details[lists[i].ids[0]]["appetite"] == pytest.approx(
            float(fitted.option_shares(queries)[i] @ [0, 1 / 3, 2 / 3, 1]), abs=1e-3
        )
    plain = Query(history=queries[0].history)
    assert (fitted.recommend([plain], 5)[0].columns["propensity"] == 1).all()


def test_the_probability_of_a_first_place_is_its_share_of_draws(fitted, world):
    query = world.ask()[0]
    asked = [
        Query(query.user_id, query.history, time_ms=query.time_ms, request_id=str(number))
        for number in range(600)
    ]
    lists = fitted.recommend(asked, 2)
    firsts = {}
    for ranking in lists:
        firsts.setdefault(ranking.ids[0], []).append(ranking.columns["propensity"][0])
    shares = max(firsts.values(), key=len)
    assert len(shares) / 600 == pytest.approx(shares[0], abs=0.05)


def test_what_was_chosen_moves_the_appetite_of_the_session(fitted, world):
    query = world.ask()[0]
    vectors = fitted.vectors_
    past = fitted.items_.rows(query.history.item_ids)
    cosines = (vectors @ vectors[past].T).max(axis=1)
    near, far = fitted.items_.named([cosines.argmax(), cosines.argmin()])
    now = query.time_ms + 10 * HOUR_MS
    inferred = []
    for item_id in (near, far):
        history = History(
            (*query.history.item_ids, *[item_id] * 1),
            (*query.history.times_ms, now - 5),
        )
        queries = Queries.of([Query(query.user_id, history, time_ms=now)])
        inferred.append(fitted.appetites(queries).session[0])
    assert inferred[1] > inferred[0]


def test_a_log_without_choices_leaves_the_base_in_charge(world):
    data = world.log()
    tables = {name: table for name, table in data.tables.items() if name != "impressions"}
    method = SMALL.fit(Dataset(tables, "events alone"), RUN)
    assert method.fit_report_["epochs"] == 0


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ModelError, match="must be a recommender"):
        HRLNovelty("EASE")
    with pytest.raises(DataError, match="options is 0"):
        HRLNovelty(EASE(), options=0)
    with pytest.raises(DataError, match="entropy -1"):
        HRLNovelty(EASE(), entropy=-1)


def test_strangers_of_different_requests_share_no_option():
    keys = past_keys(Queries.of([Query(request_id="a"), Query(request_id="b")]))
    assert keys[0] != keys[1]
