"""KNNEmbed: shares worked out by hand, one query by independent products, neighbours, a base."""

import numpy as np
import pytest
import scipy.sparse as sp

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.errors import DataError
from tailor.papers.retrieval.knn_embed import KNNEmbed
from tailor.retrieval.popularity import Popularity
from tailor.worlds.interests import interests

SONGS = [f"song-{number}" for number in range(8)]
FILMS = [f"film-{number}" for number in range(8)]
OWN = {"neighbour_weight": 0.0, "centre_weight": 0.0}
ONE_QUERY = {"clusters": 1, "top": 1, **OWN}


def shelves(**settings) -> KNNEmbed:
    """Return a method fitted on users of songs and users of films, which are two groups."""
    events = [
        {"user_id": f"{kind}-{user}", "item_id": item}
        for kind, items in (("songs", SONGS), ("films", FILMS))
        for user in range(6)
        for item in np.random.default_rng(user).permutation(items)[:6].tolist()
    ]
    return KNNEmbed(**{"clusters": 2, "dims": 2, "top": 2, **OWN, **settings}).fit(
        Dataset.from_events(events)
    )


def answer(method: KNNEmbed, items: list[str], k: int, **more) -> Ranking:
    query = Query(history=History(tuple(items)), exclude=tuple(items))
    return method.recommend([query], k, **more)[0]


def test_places_are_dealt_in_proportion_to_the_shares():
    # .8 / (1/2, 3/2, 5/2, 7/2) = 1.6, .53, .32, .23 and .2 / (1/2) = .4
    ranking = answer(shelves(), [*SONGS[:4], FILMS[0]], 5)
    kinds = [item_id[:4] for item_id in ranking.ids]
    assert kinds == ["song", "song", "film", "song", "song"]
    share = (4 + 1e-3) / (5 + 2e-3)
    rest = 1 - share
    expected = [share / 0.5, share / 1.5, rest / 0.5, share / 2.5, share / 3.5]
    assert ranking.scores.tolist() == pytest.approx(expected)


def test_details_name_the_interest_and_its_share():
    ranking = answer(shelves(), [*SONGS[:3], FILMS[0]], 8)
    shares = {item_id[:4]: ranking.details[item_id]["share"] for item_id in ranking.ids}
    groups = {item_id[:4]: ranking.details[item_id]["interest"] for item_id in ranking.ids}
    assert shares == {"song": pytest.approx(0.75, abs=1e-3), "film": pytest.approx(0.25, abs=1e-3)}
    assert groups["song"] != groups["film"]


def test_a_short_list_begins_a_long_one():
    method = KNNEmbed(dims=8, clusters=6, top=4).fit(interests(people=100, items=80).data)
    queries = method.recommend([Query(history=History(tuple(method.items_.ids[:6])))], 40)
    short = method.recommend([Query(history=History(tuple(method.items_.ids[:6])))], 7)
    assert len(set(queries[0].ids)) == 40  # no item twice, and no place left empty
    assert short[0].ids == queries[0].ids[:7]


def test_one_group_without_smoothing_is_one_query_over_the_vectors():
    data = interests(people=80, items=60, seed=2).data
    method = KNNEmbed(dims=8, **ONE_QUERY).fit(data)
    history = [str(item_id) for item_id in method.items_.ids[:5]]
    ranking = answer(method, history, 10)
    user = sum(method.vectors_[method.items_.rows([item_id])[0]] for item_id in history)
    products = {
        item_id: round(float(user @ vector / np.linalg.norm(user)), 6)
        for item_id, vector in zip(method.items_.ids, method.vectors_, strict=True)
        if item_id not in history
    }
    best = sorted(products.values(), reverse=True)[:10]
    assert [products[item_id] for item_id in ranking.ids] == pytest.approx(best, abs=2e-6)


def test_interests_raise_what_one_query_puts_between_them():
    # one mean of songs and films points between both; the largest takes all of its places
    ranking = answer(shelves(**ONE_QUERY), [*SONGS[:5], FILMS[0]], 3)
    assert all(item_id.startswith("song") for item_id in ranking.ids)
    mixed = answer(shelves(neighbour_weight=0.5), [*SONGS[:2], *FILMS[:2]], 4)
    assert {item_id[:4] for item_id in mixed.ids} == {"song", "film"}


def test_neighbours_add_an_interest_that_the_user_has_not():
    alone = answer(shelves(), SONGS[:3], 5)
    assert all(alone.details[item_id]["share"] > 0.99 for item_id in alone.ids)
    method = shelves(neighbour_weight=0.5, neighbours=1)
    neighbour = np.zeros((1, len(method.items_)), np.float32)
    neighbour[0, method.items_.rows([*SONGS[:3], FILMS[0]])] = 1
    method.choices_ = sp.csr_matrix(neighbour)
    method.user_vectors_ = neighbour @ method.vectors_
    helped = answer(method, SONGS[:3], 5)
    shares = {item_id[:4]: helped.details[item_id]["share"] for item_id in helped.ids}
    # 3 own songs and half of the neighbour's 3; half of the neighbour's one film
    assert shares == {"song": pytest.approx(0.9, abs=1e-3), "film": pytest.approx(0.1, abs=1e-3)}


def test_items_without_a_vector_count_in_no_group():
    events = [
        {"user_id": f"{kind}-{user}", "item_id": item}
        for kind, items in (("songs", SONGS), ("films", FILMS))
        for user in range(6)
        for item in np.random.default_rng(user).permutation(items)[:6].tolist()
    ]
    data = Dataset.from_events(events, [{"item_id": "cold"}])
    method = KNNEmbed(clusters=2, dims=2, top=2, **OWN).fit(data)
    ranking = answer(method, ["cold"], 3)
    assert not ranking.ids and ranking.notes
    for kind in (SONGS, FILMS):  # whichever is the first group
        mixed = answer(method, ["cold", kind[0]], 6)
        assert mixed.details[mixed.ids[0]]["share"] > 0.99
        assert all(item_id[:4] == kind[0][:4] for item_id in mixed.ids)


def test_candidates_and_excluded_items_use_up_no_places():
    method = shelves()
    lists = [Ranking(tuple([*FILMS[:3], *SONGS[5:7]]), np.zeros(5, np.float32))]
    ranking = answer(method, [*SONGS[:5], FILMS[0]], 5, candidates=lists)
    assert set(ranking.ids) == {*FILMS[1:3], *SONGS[5:7]} and len(ranking.ids) == 4


def test_a_net_s_item_vectors_can_be_used():
    pytest.importorskip("torch")
    from tailor.retrieval.two_tower import TwoTower

    data = interests(people=60, items=40).data
    run = Run(seed=3)
    net = TwoTower.tiny().fit(data, run)
    method = KNNEmbed(base=TwoTower.tiny(), clusters=4).fit(data, run)
    assert method.items_.ids.tolist() == net.items_.ids.tolist()
    vectors = net.item_vectors()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.allclose(method.vectors_, vectors / lengths, atol=1e-5)


def test_a_user_without_a_known_item_gets_a_note():
    ranking = answer(shelves(), [], 3)
    assert not ranking.ids and "no known item" in ranking.notes[0]


@pytest.mark.parametrize(
    "wrong",
    [{"clusters": 0}, {"top": 0}, {"neighbour_weight": -1.0}, {"base": Popularity()}],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        KNNEmbed(**wrong)
