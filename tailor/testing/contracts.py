"""The contract of every method: `for check in contracts(MyMethod): check(MyMethod)` is a new
method's whole test.

Each check takes the class, fits its `tiny()` setting on small data and raises AssertionError where
a promise is broken.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import tomli_w

from tailor.core.costs import estimate
from tailor.core.methods import Method, Predictor, Recommender, ScoringRecommender
from tailor.core.run import Run
from tailor.core.saving import load
from tailor.core.specs import build, clone, spec
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking, same
from tailor.data.queries import Queries
from tailor.errors import DataError, NotFittedError
from tailor.testing.data import tiny_data

K = 7


def contracts(cls: type[Method]) -> list[Callable[[type[Method]], None]]:
    """The checks that apply to this class."""
    checks: list[Callable[[type[Method]], None]] = [
        fit_returns_self_and_keeps_settings,
        refuses_before_fit,
        same_seed_same_state,
        survives_toml,
        survives_saving,
        does_not_change_the_data,
        a_failed_fit_changes_nothing,
        clones_unfitted,
        an_estimate_changes_nothing,
    ]
    if issubclass(cls, Recommender):
        checks += [
            lists_are_lists,
            only_from_candidates,
            one_by_one_equals_batch,
            strangers_are_served,
            k_beyond_the_catalogue,
            everything_excluded,
            no_queries,
            bundle_names_nobody,
            a_bad_k_is_refused,
        ]
        if cls.explains():
            checks.append(explanations_add_up)
        if cls.needs_candidates:
            checks.append(says_that_it_only_orders)
    if issubclass(cls, ScoringRecommender):
        checks.append(ties_stand_in_hash_order)
    if issubclass(cls, Predictor):
        checks += [
            numbers_for_every_pair,
            pairs_stand_alone,
            strangers_and_unknown_items_are_answered,
            pairs_must_match,
            predictions_are_saved_and_repeat,
            bundle_names_nobody,
        ]
    return checks


def _fitted(cls: type[Method], seed: int = 0) -> Recommender:
    return cast(Recommender, cls.tiny().fit(tiny_data(), Run(seed=seed)))


def _saved(method: Method, folder: str) -> None:
    """With people's histories only where the method holds people's events itself."""
    method.save(Path(folder) / "model", histories=Queries.of([]) if method.keeps_people() else None)


def _queries() -> list[Query]:
    """Eight known people; some items are excluded."""
    queries = tiny_data().queries()[:8]
    return [
        Query(
            q.user_id, q.history, exclude=("thing-000", *q.history.item_ids[:2]), request_id=str(i)
        )
        for i, q in enumerate(queries)
    ]


def _asked(method: Recommender, queries: Sequence[Query], k: int = K) -> Sequence[Ranking]:
    """What it recommends; a method that only orders gets the whole catalogue to order."""
    ids = tuple(tiny_data().catalogue.ids.tolist())
    everything = Ranking(ids, np.arange(len(ids), 0, -1).astype(np.float32))
    return method.recommend(
        queries, k, [everything] * len(queries) if method.needs_candidates else None
    )


def _equal_lists(a: Ranking, b: Ranking) -> bool:
    """Same ids in the same order, except that neighbours in score may swap; scores to 1e-5."""
    if len(a) != len(b) or not np.allclose(a.scores, b.scores, atol=1e-5, rtol=1e-5):
        return False
    return all(
        x == y or abs(a.scores[i] - b.scores[b.ids.index(x)]) < 1e-5
        for i, (x, y) in enumerate(zip(a.ids, b.ids))
        if x in b.ids
    )


def fit_returns_self_and_keeps_settings(cls: type[Method]) -> None:
    method = cls.tiny()
    before = spec(method)
    assert method.fit(tiny_data(), Run()) is method
    assert spec(method) == before, "fit changed a setting"
    assert method.trained_on_.data_hash == tiny_data().content_hash


def says_that_it_only_orders(cls: type[Method]) -> None:
    try:
        _fitted(cls).recommend([Query()], K)
    except DataError:
        return
    raise AssertionError("a method that only orders answered without a list")


def refuses_before_fit(cls: type[Method]) -> None:
    if not issubclass(cls, Recommender):
        return
    try:
        cls.tiny().recommend([Query()])
    except NotFittedError:
        return
    raise AssertionError("an unfitted method answered")


def same_seed_same_state(cls: type[Method]) -> None:
    if issubclass(cls, Recommender):
        a, b = (_asked(_fitted(cls, seed=3), _queries()) for _ in range(2))
        assert all(same(x, y) for x, y in zip(a, b, strict=True)), "two fits with one seed differ"


def survives_toml(cls: type[Method]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "method.toml"
        path.write_text(tomli_w.dumps(spec(cls.tiny())), encoding="utf-8")
        assert spec(build(path)) == spec(cls.tiny()), "settings changed on the way through TOML"


def survives_saving(cls: type[Method]) -> None:
    method = _fitted(cls)
    with tempfile.TemporaryDirectory() as folder:
        _saved(method, folder)
        again = load(Path(folder) / "model")
        assert spec(again) == spec(method) and again.trained_on_ == method.trained_on_
        if isinstance(method, Recommender):
            old, new = _asked(method, _queries()), _asked(cast(Recommender, again), _queries())
            assert all(same(x, y) for x, y in zip(old, new, strict=True)), (
                "a loaded method answers differently"
            )


def does_not_change_the_data(cls: type[Method]) -> None:
    data = tiny_data()
    cls.tiny().fit(data, Run())
    assert data.content_hash == tiny_data().content_hash
    fresh, used = tiny_data().sequences, data.sequences
    assert same(fresh.rows.values, used.rows.values) and same(
        fresh.rows.offsets, used.rows.offsets
    ), "fit changed the sequences"


def a_failed_fit_changes_nothing(cls: type[Method]) -> None:
    method = _fitted(cls)
    learned = dict(method.__dict__)

    class Broken:  # data that fails at the first look
        provenance = method.trained_on_

        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        method.fit(cast(Dataset, Broken()), Run())
    assert method.__dict__ == learned, "an interrupted fit left the method half learned"


def an_estimate_changes_nothing(cls: type[Method]) -> None:
    data, method = tiny_data(), cls.tiny()
    before = spec(method)
    cost = estimate(method, data)
    assert (
        np.isfinite([cost.seconds, cost.kept_bytes, cost.peak_bytes]).all() and cost.seconds > 0
    ), f"says it takes {cost}"
    assert spec(method) == before and not method.is_fitted, "an estimate changed the method"


def clones_unfitted(cls: type[Method]) -> None:
    method = _fitted(cls)
    copied = clone(method)
    assert spec(copied) == spec(method) and not copied.is_fitted


def lists_are_lists(cls: type[Method]) -> None:
    known = set(tiny_data().catalogue.ids)
    for query, ranking in zip(_queries(), _asked(_fitted(cls), _queries()), strict=True):
        assert len(ranking) <= K and len(set(ranking.ids)) == len(ranking) == len(ranking.scores)
        assert set(ranking.ids) <= known and not set(ranking.ids) & set(query.exclude), (
            "an excluded or unknown item"
        )
        assert np.isfinite(ranking.scores).all()
        assert len(ranking) == K or ranking.notes, "a short list says why"
        assert all(len(column) == len(ranking) for column in ranking.columns.values())


def only_from_candidates(cls: type[Method]) -> None:
    ids = [f"thing-{at:03d}" for at in (3, 5, 7, 9, 11, 0)] + ["nobody knows this"]
    lists = [Ranking(tuple(ids), np.arange(len(ids), 0, -1).astype(np.float32)) for _ in _queries()]
    for query, ranking in zip(
        _queries(), _fitted(cls).recommend(_queries(), K, lists), strict=True
    ):
        assert set(ranking.ids) <= set(ids) - {"nobody knows this"} - set(query.exclude)


def one_by_one_equals_batch(cls: type[Method]) -> None:
    method = _fitted(cls)
    batch = _asked(method, _queries())
    for i, query in enumerate(_queries()):
        alone = _asked(method, [query])[0]
        assert _equal_lists(batch[i], alone), f"query {i} is answered differently alone"
        assert alone.notes == batch[i].notes


def strangers_are_served(cls: type[Method]) -> None:
    method = _fitted(cls)
    strangers = [
        Query(),
        Query("never seen", History.of("thing-001")),
        Query(history=History.of("no such item")),
        Query(text="copper kettle"),
    ]
    answers = _asked(method, strangers)
    assert len(answers) == 4 and all(len(set(ranking.ids)) == len(ranking) for ranking in answers)


def k_beyond_the_catalogue(cls: type[Method]) -> None:
    n = len(tiny_data().catalogue)
    for ranking in _asked(_fitted(cls), _queries(), n + 50):
        assert len(set(ranking.ids)) == len(ranking) <= n


def everything_excluded(cls: type[Method]) -> None:
    ranking = _asked(
        _fitted(cls),
        [Query(history=History.of("thing-001"), exclude=tuple(tiny_data().catalogue.ids))],
    )[0]
    assert len(ranking) == 0 and ranking.notes, "an empty list says why"


def no_queries(cls: type[Method]) -> None:
    assert len(_asked(_fitted(cls), [])) == 0


def a_bad_k_is_refused(cls: type[Method]) -> None:
    for k in (0, -1):
        try:
            _fitted(cls).recommend([Query()], k)
        except DataError:
            continue
        raise AssertionError(f"k = {k} was taken")


def bundle_names_nobody(cls: type[Method]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _saved(_fitted(cls), folder)
        for path in (Path(folder) / "model").rglob("*"):
            assert not path.is_file() or b"person-0" not in path.read_bytes(), (
                f"{path.name} names a user"
            )


def explanations_add_up(cls: type[Method]) -> None:
    method = _fitted(cls)
    queries = _queries()
    rankings = _asked(method, queries)
    explained = method.explain(queries, rankings)
    for query, ranking, reasons in zip(queries, rankings, explained, strict=True):
        assert [one.item_id for one in reasons] == list(ranking.ids)
        for one in reasons:
            shares = [evidence.share for evidence in one.evidence]
            assert not shares or abs(sum(shares) - 1) < 1e-3, f"shares add up to {sum(shares)}"
            assert shares == sorted(shares, reverse=True)
            named = {evidence.id for evidence in one.evidence if evidence.kind == "item"}
            assert named <= set(query.history.item_ids), "evidence that is not in the history"


def ties_stand_in_hash_order(cls: type[Method]) -> None:
    method = cast(ScoringRecommender, _fitted(cls))
    for ranking in method.recommend(Queries.of(_queries()), K):
        rows = method.items_.rows(ranking.ids)
        ties = ranking.scores[1:] == ranking.scores[:-1]
        assert (rows[1:][ties] > rows[:-1][ties]).all(), "equal scores out of their hash order"


# ---- predictors


def _predictor(cls: type[Method], seed: int = 0) -> Predictor:
    return cast(Predictor, cls.tiny().fit(tiny_data(), Run(seed=seed)))


PAIRS = [
    ("thing-003", "thing-001", "nobody knows this"),
    (),
    ("thing-001",),
    *[("thing-005", "thing-007")] * 5,
]


def numbers_for_every_pair(cls: type[Method]) -> None:
    values = _predictor(cls).predict(_queries(), PAIRS)
    assert [len(one) for one in values] == [len(ids) for ids in PAIRS], "not one answer an item"
    assert all(np.isfinite(one).all() for one in values)


def pairs_stand_alone(cls: type[Method]) -> None:
    method = _predictor(cls)
    batch = method.predict(_queries(), PAIRS)
    for query, ids, values in zip(_queries(), PAIRS, batch, strict=True):
        assert np.allclose(method.predict([query], [ids])[0], values, atol=1e-5), (
            "a query is answered differently alone"
        )
        assert np.allclose(method.predict([query], [ids[::-1]])[0], values[::-1], atol=1e-5), (
            "the order of the items changes their numbers"
        )
    assert method.predict([], []) == []


def strangers_and_unknown_items_are_answered(cls: type[Method]) -> None:
    strangers = [
        Query(),
        Query("never seen", History.of("thing-001")),
        Query(history=History.of("no such item"), context={"age": "odd"}),
    ]
    values = _predictor(cls).predict(strangers, [["thing-001", "no such item"]] * 3)
    assert all(one.shape[0] == 2 and np.isfinite(one).all() for one in values)


def pairs_must_match(cls: type[Method]) -> None:
    for queries, item_ids in (
        ([Query()], [["thing-001"], ["thing-002"]]),
        ([Query()], ["thing-001"]),
        ([Query()], "thing-001"),
    ):
        try:
            _predictor(cls).predict(queries, item_ids)
        except DataError:
            continue
        raise AssertionError(f"{item_ids!r} was taken for {len(queries)} query")
    try:
        cls.tiny().predict([Query()], [["thing-001"]])  # type: ignore[attr-defined]
    except NotFittedError:
        return
    raise AssertionError("an unfitted method answered")


def predictions_are_saved_and_repeat(cls: type[Method]) -> None:
    first, second = _predictor(cls, 3), _predictor(cls, 3)
    values = first.predict(_queries(), PAIRS)
    assert all(
        same(a, b) for a, b in zip(values, second.predict(_queries(), PAIRS), strict=True)
    ), "two fits with one seed differ"
    with tempfile.TemporaryDirectory() as folder:
        _saved(first, folder)
        again = cast(Predictor, load(Path(folder) / "model"))
        assert all(
            np.allclose(a, b, atol=1e-6)
            for a, b in zip(values, again.predict(_queries(), PAIRS), strict=True)
        ), "a loaded method answers differently"
