"""AlphaRec: averages along the graph by hand, words that move a person, another shop without
learning.
"""

import numpy as np
import polars as pl
import pytest
from retrieval.kind_shop import shop

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.papers.retrieval.alpharec import AlphaRec
from tailor.text.hashing import HashingEncoder

RUN = Run(workers=1, dtype="float32")


def model(**settings):
    return AlphaRec(
        **{
            "encoder": HashingEncoder(64),
            "width": 16,
            "epochs": 15,
            "patience": None,
            "negatives": 20,
            "lr": 0.01,
        }
        | settings
    )


@pytest.fixture(scope="module")
def fitted():
    return model().fit(shop(), RUN)


def test_averages_are_those_of_two_steps_of_lightgcn():
    rows = [
        ("ann", "a", 1),
        ("ann", "b", 2),
        ("bob", "b", 1),
        ("bob", "c", 2),
        ("eve", "b", 1),
        ("ann", "a", 3),
    ]
    data = Dataset(
        {
            "events": pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row"),
            "items": pl.DataFrame(
                {"item_id": ["a", "b", "c", "d"], "title": ["red", "green", "blue", "grey"]}
            ),
        }
    )
    made = model(epochs=0).fit(data)
    names = made.items_.ids.tolist()
    texts = dict(zip(names, made.texts_, strict=True))
    own = {"ann": ["a", "b"], "bob": ["b", "c"], "eve": ["b"]}
    degree = {"a": 1, "b": 3, "c": 1}
    people = [{who: np.mean([texts[one] for one in some], axis=0) for who, some in own.items()}]
    items = [texts]
    for _ in range(2):
        norm = {
            (who, one): (len(own[who]) * degree[one]) ** -0.5 for who in own for one in own[who]
        }
        people.append(
            {who: sum(norm[who, one] * items[-1].get(one, 0) for one in own[who]) for who in own}
        )
        items.append(
            {
                one: sum(norm[who, one] * people[-2][who] for who in own if one in own[who])
                for one in degree
            }
        )
    for one in degree:
        whole = sum(step[one] for step in items)
        assert made.smooth_[names.index(one)] == pytest.approx(
            whole / np.linalg.norm(whole), abs=1e-6
        )
    assert made.smooth_[names.index("d")] == pytest.approx(texts["d"], abs=1e-6)  # nobody chose it
    rows = data.sequences.rows
    # bob, eve: without repeats
    got = made._user_vectors(rows.with_values(rows.values).take(np.array([1, 2])))
    for who, vector in zip(("bob", "eve"), got, strict=True):
        whole = sum(step[who] for step in people)
        assert vector == pytest.approx(whole / np.linalg.norm(whole), abs=1e-6)


def test_what_nobody_chose_is_found_among_its_kind(fitted):
    history = History.of("garden0", "garden1")
    ids = fitted.recommend([Query(history=history, exclude=frozenset(history.item_ids))], 6)[0].ids
    assert "garden7" in ids


def test_a_wish_in_words_moves_the_list(fitted):
    share = {}
    for weight in (0.0, 0.5, 1.0):
        moved = model(text_share=weight)
        moved.__dict__ |= fitted.state()
        ids = moved.recommend([Query(history=History.of("tea0", "tea1"), text="snow boot")], 8)[
            0
        ].ids
        share[weight] = sum(one.startswith("snow") for one in ids)
    assert share[0.0] < share[0.5] < share[1.0] == 8


def test_a_wish_without_a_history_is_answered_by_the_words(fitted):
    ids = fitted.recommend([Query(text="violin string")], 8)[0].ids
    assert all(one.startswith("violin") for one in ids)


def test_another_shop_is_served_without_learning(fitted):
    there = shop(mark="x-", users=8, seed=1)
    other = fitted.onto(there)
    ids = other.recommend([Query(history=History.of("x-garden0", "x-garden1"))], 8)[0].ids
    assert sum(one.startswith("x-garden") for one in ids) >= 7
    assert all(
        np.array_equal(other.net_weights_[name], fitted.net_weights_[name])
        for name in fitted.net_weights_
    )
    seen = [one.data_hash for one in other.trained_on_.chain()]
    assert seen == [there.provenance.data_hash, fitted.trained_on_.data_hash]  # it has seen both
    assert [
        one
        for one in fitted.recommend([Query(history=History.of("garden0"))], 4)[0].ids
        if one.startswith("x-")
    ] == []


def test_another_encoder_is_refused(fitted):
    other = model(encoder=HashingEncoder(32))
    other.__dict__ |= {name: value for name, value in fitted.state().items()}
    with pytest.raises(ModelError, match="name that encoder"):
        other.onto(shop(mark="x-"))
    with pytest.raises(ModelError, match="name that encoder"):
        other.recommend([Query(text="violin")], 3)


def test_the_target_of_a_pair_is_not_among_what_its_person_is_made_of(monkeypatch):
    asked, people = [], AlphaRec._user_vectors
    monkeypatch.setattr(
        AlphaRec, "_user_vectors", lambda self, rows: asked.append(rows) or people(self, rows)
    )
    model(epochs=1, batch=10_000).fit(shop(users=20))
    # five items each, one of them asked for
    assert set(asked[0].lengths.tolist()) == {4} and len(asked[0]) == 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"negatives": 0},
        {"temperature": 0},
        {"lr": 0},
        {"text_share": 1.5},
        {"map": "deep"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises((DataError, ModelError)):
        AlphaRec(**wrong)
