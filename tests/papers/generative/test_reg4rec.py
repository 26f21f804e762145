"""REG4Rec: aspects in any order, free codes and their cut, rewards by hand."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.generative.speller_policy import Prompts
from tailor.nn.unordered_decoder import consistency
from tailor.papers.generative.reg4rec import WEIGHTS, REG4Rec, _first_of_both
from tailor.text.hashing import HashingEncoder
from tailor.training.alignment import Alignment
from tailor.training.sequences import Windows
from tailor.worlds.facets import facets

RUN = Run(workers=1, dtype="float32")


def model(**settings):
    defaults = {
        "encoder": HashingEncoder(64),
        "levels": 3,
        "words": 5,
        "width": 16,
        "length": 8,
        "blocks": 1,
        "epochs": 6,
        "patience": None,
        "dropout": 0.0,
        "lr": 0.01,
        "batch_places": 256,
    }
    return REG4Rec(**(defaults | settings))


@pytest.fixture(scope="module")
def data():
    return facets(120, 8, 0, values=(4, 5, 3), walked=(), wished=()).data


@pytest.fixture(scope="module")
def fitted(data):
    return model().fit(data, RUN)


def queries(data, n=20):
    rows = data.sequences.rows
    return [Query(history=History.of(*data.catalogue.ids[rows[user]])) for user in range(n)]


def test_people_get_the_kind_that_they_keep_to(data, fitted):
    titles = dict(data.item_table.select("item_id", "title").iter_rows())
    shares = []
    for query, ranking in zip(queries(data), fitted.recommend(queries(data), 5), strict=True):
        kinds = [titles[item].split()[0] for item in query.history.item_ids]
        own = max(kinds, key=kinds.count)
        shares.append(np.mean([titles[item].split()[0] == own for item in ranking.ids]))
    assert np.mean(shares) > 0.5  # a quarter by chance


def test_scores_are_shares_of_one_whole(data, fitted):
    for ranking in fitted.recommend(queries(data, 3), len(fitted.items_)):
        assert len(ranking) == len(fitted.items_) == 60
        assert np.exp(ranking.scores).sum() == pytest.approx(1, abs=1e-3)


def test_the_orders_differ(data, fitted):
    fixed = model(order="fixed").fit(data, RUN)
    assert not fixed._ready().shuffled and fitted._ready().shuffled
    same_net = fitted._with_state()
    same_net.order = "fixed"
    confident = fitted.recommend(queries(data), 60)
    in_order = same_net.recommend(queries(data), 60)
    scores = [ranking.scores for ranking in confident]
    others = [ranking.scores for ranking in in_order]
    assert not np.allclose(scores, others, atol=1e-3)


def test_free_codes_are_cut_and_no_list_is_empty(data, fitted):
    answers = fitted.free_codes([*queries(data, 5), Query()], 20)
    assert answers[-1].codes == ()
    for answer in answers[:-1]:
        assert len(answer.codes) == 20 == len(set(answer.codes))
        fits = list(answer.is_consistent)
        assert fits == sorted(fits, reverse=True)
        for item, code in zip(answer.item_ids, answer.codes, strict=True):
            assert item is None or fitted.code_of(item)[:-1] == code
    strict = fitted._with_state(threshold_=np.inf)
    assert not any(strict.free_codes(queries(data, 1), 20)[0].is_consistent)
    strict.closed = False
    for ranking in strict.recommend(queries(data, 5), 10):
        assert len(ranking) == 10  # the others fill the list
        assert (np.diff(ranking.scores) <= 0).all()


def test_consistent_codes_come_first_where_codes_are_free(data, fitted):
    free = fitted._with_state()
    free.closed = False
    query = queries(data, 1)
    best = free.free_codes(query, 120)[0]
    expected = [
        item
        for item, fits in zip(best.item_ids, best.is_consistent, strict=True)
        if item is not None and fits
    ]
    first = free.recommend(query, 5)[0].ids
    assert fitted.code_of(first[0])[:-1] == fitted.code_of(expected[0])[:-1]
    uncut = model(cut=0.0)
    assert uncut._fits(torch.zeros(2, 3, dtype=torch.long)).all()


def test_the_cut_is_a_share_of_the_catalogue(fitted):
    values = consistency(fitted.codes_[:, :-1], fitted.affinities_)
    assert fitted.cut == 0.05 and fitted.codes == "additive"
    assert fitted.threshold_ == pytest.approx(np.quantile(values, 0.05))
    assert (values < fitted.threshold_).mean() <= 0.05 < (values < np.median(values)).mean()


def test_free_lists_begin_with_what_is_consistent_and_leave_out_what_is_excluded(data, fitted):
    values = consistency(fitted.codes_[:, :-1], fitted.affinities_)
    half = fitted._with_state(threshold_=float(np.median(values)))
    half.closed = False
    for query in queries(data, 4):
        codes = half.free_codes([query], 20)[0]
        fits = list(codes.is_consistent)
        assert 0 < sum(fits) < 20 and fits == sorted(fits, reverse=True)
        best = [
            item for item, is_kept in zip(codes.item_ids, fits, strict=True) if item and is_kept
        ]
        ranking = half.recommend([query], 10)[0]
        rows = fitted.items_.rows(list(ranking.ids))
        is_kept = values[rows] >= half.threshold_
        assert is_kept[: len(best)].all()
        asked = replace(query, exclude=(ranking.ids[0],))
        assert ranking.ids[0] not in half.recommend([asked], 10)[0].ids


def test_lists_are_joined_without_repeats_and_scores_never_rise():
    first = (np.array([[3, 1, -1]]), np.array([[-1.0, -4.0, -np.inf]]))
    second = (np.array([[1, 2, 5]]), np.array([[-0.5, -2.0, -6.0]]))
    rows, scores = _first_of_both(first, second, 5)
    assert rows.tolist() == [[3, 1, 2, 5, -1]]
    assert scores.tolist() == [[-1.0, -4.0, -4.0, -6.0, -np.inf]]


def test_rewards_by_hand(fitted):
    method = fitted._with_state(
        codes_=np.array([[0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 0]], dtype=np.int32),
        affinities_=np.zeros((3, 2, 3, 2), dtype=np.float32),
        threshold_=0.0,
        vectors_=np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32),
    )
    method.affinities_[1, 1, 0, 1] = -1.0  # the aspects of the last item do not go together
    rows = Ragged.of([[0, 1, 2, 0], [1, 1]])
    windows = Windows(rows.values, np.array([0]), np.array([1]), every_place=False)
    prompts = Prompts(np.array([0]), windows, np.array([1]))
    parts = method._reward_parts(prompts, np.array([[1, 0, 2, -1]]), rows, gamma=0.5)
    assert parts["hit"].tolist() == [[1, 0, 0, 0]]
    assert parts["aspects"][0] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert parts["meaning"][0] == pytest.approx([1, 0, np.sqrt(0.5), 0], abs=1e-6)
    # then come item 2, at half, and item 0, at a quarter; there is no third
    later = [0.5 * 1 / 3 + 0.25 * 2 / 3, 0.5 * 0 + 0.25 * 1, 0.5 * 1 + 0.25 * 0, 0]
    assert parts["later"][0] == pytest.approx(later)
    assert parts["consistent"].tolist() == [[1, 1, 0, 0]]


def test_the_parts_of_a_reward_are_weighed(data, fitted, monkeypatch):
    rewards = []
    monkeypatch.setattr(
        REG4Rec, "aligned", lambda self, data, reward, settings, run: rewards.append(reward)
    )
    fitted.taught(data, weights={"hit": 2.0})
    fitted.taught(data, weights={"later": 1.0}, gamma=0.2)
    fitted.taught(data)
    rows = fitted._known_training(data).rows
    starts = rows.offsets[:3]
    windows = Windows(rows.values, starts, np.array([2, 3, 2]), every_place=False)
    prompts = Prompts(np.arange(3), windows, rows.values[starts + windows.lengths])
    items = np.stack([prompts.targets, rows.values[starts], rows.values[starts + 4]], axis=1)
    parts = fitted._reward_parts(prompts, items, rows, 0.7)
    soon = fitted._reward_parts(prompts, items, rows, 0.2)
    assert rewards[0](prompts, items) == pytest.approx(2 * parts["hit"])
    assert rewards[1](prompts, items) == pytest.approx(soon["later"])
    assert not np.allclose(soon["later"], parts["later"])
    expected = sum(weight * parts[name] for name, weight in WEIGHTS.items())
    assert rewards[2](prompts, items) == pytest.approx(expected)


def test_teaching_raises_its_reward(data, fitted):
    settings = Alignment(rounds=4, batches=3, draws=8, lr=2e-3, keep=0.1)
    taught = fitted.taught(data, settings, RUN)
    rewards = taught.fit_report_["alignment"]["curves"]["reward"]
    assert rewards[-1] > rewards[0]
    assert len(taught.recommend(queries(data, 2), 10)[0]) == 10


def test_the_report_counts_items_that_share_all_books(data, fitted):
    codes = [fitted.code_of(item)[:-1] for item in fitted.items_.ids.tolist()]
    shared = sum(codes.count(code) > 1 for code in codes)
    assert fitted.fit_report_["items_sharing_all_books"] == shared


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"cut": 1.0}, DataError, "cut is 1.0"),
        ({"order": "random"}, ModelError, "'confident', 'fixed'"),
    ],
)
def test_settings_out_of_range_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        model(**settings)
