"""Graph heuristic: worked out by hand, and against a slow program that follows the paper's words."""

import dataclasses

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.papers.retrieval.graph_heuristic import GraphHeuristic, _scale_budgets
from tailor.testing.data import tiny_data

# a is followed by b twice and by c once; b by d; d by e; f stands alone
WALKS = ["ab", "ab", "ac", "bd", "de", "f"]
COSINE_TO_A = {"a": 1.0, "b": 0.2, "c": 0.6, "d": 0.3, "e": 0.9, "f": -0.5}


def by_hand(**settings) -> GraphHeuristic:
    """Fitted on the walks, with vectors whose cosine to a's is the one above."""
    events = [
        {"user_id": f"person {at}", "item_id": item}
        for at, walk in enumerate(WALKS)
        for item in walk
    ]
    method = GraphHeuristic(**settings).fit(Dataset.from_events(events))
    cosine = np.array([COSINE_TO_A[one] for one in method.items_.ids])
    method.vectors_ = np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1).astype(np.float32)
    return method


def answer(
    method: GraphHeuristic, history: str, k: int, exclude: str = "", candidates: str | None = None
) -> str:
    lists = (
        None
        if candidates is None
        else [Ranking(tuple(candidates), np.zeros(len(candidates), np.float32))]
    )
    return "".join(
        method.recommend([Query(history=History.of(*history), exclude=tuple(exclude))], k, lists)[
            0
        ].ids
    )


def test_counts_are_of_events_in_a_row():
    method = by_hand()
    rows = dict(zip(method.items_.ids, range(6), strict=True))
    assert method.counts_[rows["a"], rows["b"]] == 2
    assert method.counts_[rows["b"], rows["a"]] == 0
    assert method.fit_report_["edges"] == 4


def test_ring_1_adds_the_count_to_the_cosine():
    # c: .6 + .5 ln 2 / ln 3 = .9155 stands before b: .2 + .5 = .7; without the count's weight the
    # same, with much of it not
    ring = by_hand(last_budget=(2,), previous_budget=())
    scores = ring.recommend([Query(history=History.of("a"))], 2)[0].scores
    assert answer(ring, "a", 2) == "cb"
    assert scores[0] - scores[1] == pytest.approx(0.6 + 0.5 * np.log(2) / np.log(3) - 0.7, abs=1e-5)
    assert answer(by_hand(last_budget=(2,), previous_budget=(), ring_weight=2.0), "a", 2) == "bc"


def test_each_ring_gives_its_places():
    assert answer(by_hand(last_budget=(1, 1, 1), previous_budget=()), "a", 3) == "cde"


def test_an_excluded_item_takes_no_place():
    assert answer(by_hand(last_budget=(1, 1, 1), previous_budget=()), "a", 3, exclude="c") == "bde"


def test_empty_places_take_what_rings_have_left_then_the_most_similar():
    # c from ring 1, d from ring 2 (which has no more), b is left in ring 1; then e and f by
    # similarity, a itself last
    method = by_hand(last_budget=(1, 5), previous_budget=())
    assert answer(method, "a", 6) == "cdbefa"
    assert answer(method, "a", 6, exclude="a") == "cdbef"
    assert answer(method, "a", 6, candidates="fbe") == "bef"


def test_the_item_before_the_last_gives_places_too():
    # history b, a: ring 1 of a gives c; ring 1 of b gives d, ring 2 of b gives e
    assert answer(by_hand(last_budget=(1,), previous_budget=(1, 1)), "ba", 3) == "cde"


def test_an_item_picked_once_is_not_picked_again():
    # history a, a: the first time gives c, the second time b, which is next in the same ring
    assert answer(by_hand(last_budget=(1,), previous_budget=(1,)), "aa", 2) == "cb"


def test_an_unknown_last_item_is_passed_over():
    assert answer(by_hand(last_budget=(1, 1, 1), previous_budget=()), "az", 3) == "cde"


@pytest.mark.parametrize(
    ("k", "expected"),
    [(10, [5, 1, 3, 1]), (20, [10, 2, 6, 2]), (1, [1, 0, 0, 0]), (3, [2, 0, 1, 0])],
)
def test_budgets_are_shares_of_k(k, expected):
    assert _scale_budgets([(5, 1), (3, 1)], k) == expected


@pytest.mark.parametrize("settings", [{"last_budget": (7, 2, 1), "previous_budget": ()}, {}])
@pytest.mark.parametrize("k", [10, 25])
def test_equals_a_slow_program(settings, k):
    data = tiny_data()
    method = GraphHeuristic(**settings).fit(data, Run(workers=1))
    # no two scores are equal
    vectors = np.random.default_rng(1).standard_normal((len(method.items_), 6)).astype(np.float32)
    method.vectors_ = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = [dataclasses.replace(one, exclude=one.history.item_ids[:3]) for one in data.queries()]
    lists = method.recommend(queries, k)
    for query, ranking in zip(queries, lists, strict=True):
        assert list(ranking.ids) == slow(data, method, query, k)
        assert (np.diff(ranking.scores) <= 0).all()


def slow(data: Dataset, method: GraphHeuristic, query: Query, k: int) -> list[str]:
    counts: dict[str, dict[str, int]] = {}
    for one in data.queries():
        for before, after in zip(one.history.item_ids, one.history.item_ids[1:], strict=False):
            if before != after:
                counts.setdefault(before, {})[after] = counts.get(before, {}).get(after, 0) + 1
    vector = dict(zip(method.items_.ids, method.vectors_, strict=True))

    def rings(anchor: str, hops: int) -> list[list[str]]:
        distance, edge, out = {anchor: 0}, [anchor], []
        most = max(counts.get(anchor, {"": 1}).values())
        for hop in range(1, hops + 1):
            edge = list(
                dict.fromkeys(
                    after for one in edge for after in counts.get(one, {}) if after not in distance
                )
            )
            distance |= dict.fromkeys(edge, hop)
            scores = {one: float(vector[anchor] @ vector[one]) for one in edge}
            if hop == 1:
                scores = {
                    one: score + 0.5 * np.log1p(counts[anchor][one]) / np.log1p(most)
                    for one, score in scores.items()
                }
            out.append(sorted(edge, key=lambda one: -scores[one]))
        return out

    last, previous = query.history.item_ids[-1], query.history.item_ids[-2]
    turns = rings(last, len(method.last_budget)) + rings(previous, len(method.previous_budget))
    budgets = [*method.last_budget, *method.previous_budget]
    chosen: list[str] = []
    total = 0
    for ring, places in zip(turns, budgets, strict=True):
        start, total = total, total + places
        quota = int(np.ceil(total * k / 10) - np.ceil(start * k / 10))
        chosen += [one for one in ring if one not in query.exclude and one not in chosen][:quota]
    for ring in [
        *turns,
        sorted(vector, key=lambda one: (one == last, -float(vector[last] @ vector[one]))),
    ]:
        chosen += [one for one in ring if one not in query.exclude and one not in chosen][
            : k - len(chosen)
        ]
    return chosen


def test_vectors_are_of_the_scaled_matrix():
    data = tiny_data()
    method = GraphHeuristic(dims=5).fit(data)
    seen = np.zeros((len(data.catalogue), len(data.users)))
    for user, one in enumerate(data.queries()):
        seen[data.catalogue.rows(one.history.item_ids), user] = 1
    scaled = seen / np.sqrt(seen.sum(axis=0)) / np.sqrt(seen.sum(axis=1, keepdims=True))
    left, values, _ = np.linalg.svd(scaled)
    expected = left[:, :5] * values[:5]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(method.vectors_ @ method.vectors_.T, expected @ expected.T, atol=1e-5)


def test_text_vectors_bring_items_that_nobody_chose():
    events = [{"user_id": user, "item_id": one} for user in ("u", "w") for one in "ab"]
    items = [
        {"item_id": one, "title": title}
        for one, title in zip("abxy", ("tent", "lamp brass", "tent canvas", "brass"), strict=True)
    ]
    data = Dataset.from_events(events, items)
    assert answer(GraphHeuristic(vectors="texts", dims=3).fit(data), "a", 2) == "bx"
    assert set(answer(GraphHeuristic().fit(data), "a", 4)) == {
        "a",
        "b",
    }, "without texts nothing is known of x and y"


def test_nothing_to_go_on_is_said():
    method = by_hand()
    stranger, short = method.recommend([Query(), Query(history=History.of("a"))], 7)
    assert not stranger.ids and stranger.notes == ("GraphHeuristic: no known item in the history",)
    assert short.notes == ("GraphHeuristic: k is more than all items together",)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "edges"), [("beauty", 114_582), ("sports", 180_610)])
def test_edges_of_real_data(real, name, edges):
    assert GraphHeuristic(dims=1).fit(last_out(real(name)).train).fit_report_["edges"] == edges


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"last_budget": ()}, "()"),
        ({"last_budget": (-1,)}, "(-1,)"),
        ({"dims": 0}, "dims 0"),
        ({"ring_weight": -1.0}, "-1.0"),
        ({"vectors": "images"}, "images"),
    ],
)
def test_bad_settings_are_quoted(settings, said):
    with pytest.raises(DataError) as error:
        GraphHeuristic(**settings)
    assert said in str(error.value)
