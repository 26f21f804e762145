"""UNICON: vectors of users widen audiences, find planted segments, and mix into lists."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.metrics.agreement import adjusted_rand
from tailor.papers.profiles.unicon import UNICON, _mixed
from tailor.retrieval.sequences import SequenceRecommender
from tailor.training.validation import cut_validation
from tailor.worlds.styles import styles

RUN = Run(workers=1)
WORLD = styles(users=300, items=80, segments=3, events=8, seed=3, taste=3.0)
DATA = WORLD.data
TRUTH = np.array([WORLD.segments[user] for user in DATA.users.ids.tolist()])
SETTINGS = {
    "width": 16,
    "epochs": 8,
    "patience": None,
    "batch_places": 256,
    "lr": 5e-3,
    "segment_counts": (3,),
}
METHOD = UNICON(**SETTINGS, kappa=4.0).fit(DATA, RUN)


def test_planted_segments_are_found():
    segments = METHOD.segments(DATA.queries())
    assert adjusted_rand(TRUTH, segments) > 0.8
    assert METHOD.fit_report_["stability"]["3"] > 0.6 and METHOD.fit_report_["segments"] == 3


def test_an_audience_is_widened_by_those_who_resemble_it():
    ids = DATA.users.ids[TRUTH == 1].tolist()
    known, hidden = ids[::2], set(ids[1::2])
    users = METHOD.expand(DATA.queries(), known, size=len(hidden))
    assert len(users) == len(hidden) and not {user.user_id for user in users} & set(known)
    share = np.mean([user.user_id in hidden for user in users])
    assert share > 0.7 > 2 * len(hidden) / len(TRUTH)
    scores = [user.score for user in users]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(DataError, match="none of the 1 members"):
        METHOD.expand(DATA.queries(), ["nobody"])


def test_cards_say_what_a_segment_likes_and_who_moved():
    cards = METHOD.cards(DATA.queries())
    assert sum(card.users for card in cards) == len(TRUTH)
    names = [tuple(name for name, _ in card.attributes[:2]) for card in cards]
    assert len(set(names)) == 3 and all(": " in name for of_card in names for name in of_card)
    same = METHOD.cards(DATA.queries(), before=METHOD.segments(DATA.queries()))
    assert [card.drift for card in same] == [0.0] * 3


def test_events_are_told_by_attributes_so_that_new_items_are_understood():
    items = DATA.tables["items"]
    by_values = {}
    for item, *values in items.select("item_id", "brand", "colour", "style").iter_rows():
        by_values.setdefault(tuple(values), []).append(item)
    told_only = UNICON(**SETTINGS, own_vectors=False, kappa=0.0).fit(DATA, RUN)
    with_events = set(told_only.items_.ids.tolist())
    twins = [[i for i in same if i in with_events] for same in by_values.values()]
    first, second = next(same[:2] for same in twins if len(same) > 1)
    vectors = told_only.vectors(
        [Query(history=History.of(first)), Query(history=History.of(second))]
    )
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)
    own = METHOD.vectors([Query(history=History.of(first)), Query(history=History.of(second))])
    assert not np.allclose(own[0], own[1], atol=1e-3)


def test_the_time_between_events_is_read():
    items = METHOD.items_.ids[:3].tolist()
    days = [0, 86_400_000, 2 * 86_400_000]
    queries = [Query(history=History(items, times)) for times in (days, [0, 1_000, 2_000], days)]
    vectors = METHOD.vectors(queries)
    assert np.allclose(vectors[0], vectors[2]) and not np.allclose(
        vectors[0], vectors[1], atol=1e-4
    )


def test_lists_mix_person_and_segment_by_the_length_of_the_history():
    personal = np.array([[1.0, 0.0], [1.0, 0.0], [-np.inf, -np.inf]], np.float32)
    of_segment = np.array([[0.0, 1.0]] * 3, np.float32)
    mixed = _mixed(personal, of_segment, np.array([1, 30, 0]), 10.0)
    assert mixed[0] == pytest.approx([1 / 11, 10 / 11])
    assert mixed[1] == pytest.approx([0.75, 0.25])
    assert np.isneginf(mixed[2]).all()


def test_the_weight_of_segments_is_chosen_on_validation_unless_it_is_set():
    assert METHOD.kappa_ == 4.0
    chosen = UNICON(**SETTINGS | {"epochs": 1}).fit(DATA, RUN)
    # a net that has learned next to nothing leaves the choice to the segment
    assert chosen.kappa_ > 0 and chosen.fit_report_["kappa"] == chosen.kappa_


def test_the_net_has_not_seen_what_the_weight_of_segments_is_chosen_on(monkeypatch):
    learned_from = []
    fit_net = SequenceRecommender._fit

    def spy(self, data, run, valid):
        learned_from.append(data.content_hash)
        fit_net(self, data, run, valid)

    monkeypatch.setattr(SequenceRecommender, "_fit", spy)
    validation, learned = cut_validation(DATA, RUN, None, needed=True)
    assert validation.targets.lengths.sum() == len(DATA.events) - len(learned.events) > 0
    UNICON(**SETTINGS | {"epochs": 1}).fit(DATA, RUN)
    UNICON(**SETTINGS | {"epochs": 1}, kappa=4.0).fit(DATA, RUN)
    assert learned_from == [learned.content_hash, DATA.content_hash]


def test_popularity_of_a_segment_is_its_own():
    segments = METHOD.segments(DATA.queries())
    assert METHOD.popularity_.sum(axis=1) == pytest.approx(1, abs=1e-4)
    rows = DATA.queries().reindexed(METHOD.items_).histories
    counts = np.asarray(rows.matrix(len(METHOD.items_))[segments == 0].sum(axis=0)).ravel()
    usual = np.asarray(rows.matrix(len(METHOD.items_)).sum(axis=0)).ravel()
    expected = (counts + 50 * usual / usual.sum()) / (counts.sum() + 50)  # 50 imagined events
    assert METHOD.popularity_[0] == pytest.approx(expected, rel=1e-4)


def test_data_without_attributes_or_times_are_learned_too():
    events = DATA.events.select("user_id", "item_id", pl.int_range(pl.len()).alias("order"))
    bare = Dataset({"events": events})
    method = UNICON(**SETTINGS | {"epochs": 1}, own_vectors=False).fit(bare, RUN)
    assert method.values_ == [] and len(method.recommend(bare.queries()[:2], 3)[0].ids) == 3


def test_wrong_settings_are_named():
    for settings in ({"segment_counts": ()}, {"kappa": -1.0}, {"heads": 3}):
        with pytest.raises(DataError, match=next(iter(settings))):
            UNICON(**settings)
