"""HLLM: items nobody chose are found by their texts, twins are no negatives, and items join without
a refit.
"""

import numpy as np
import pytest
from retrieval.kind_shop import shop

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.papers.retrieval.hllm import HLLM, _number_same_texts
from tailor.text.hashing import HashingEncoder


def model(**settings):
    return HLLM(
        **{
            "encoder": HashingEncoder(64),
            "width": 16,
            "length": 10,
            "epochs": 20,
            "patience": None,
            "negatives": 20,
            "lr": 0.005,
            "batch_places": 256,
        }
        | settings
    )


@pytest.fixture(scope="module")
def fitted():
    return model().fit(shop(), Run(workers=1, dtype="float32"))


def asked(fitted, *history, k=8):
    return list(
        fitted.recommend([Query(history=History.of(*history), exclude=frozenset(history))], k)[
            0
        ].ids
    )


def test_an_item_that_nobody_chose_is_found_among_its_kind(fitted):
    assert "garden7" in asked(fitted, "garden0", "garden1")
    assert fitted.fit_report_["items_with_events"] == 28


def test_a_history_of_items_that_nobody_chose_is_read(fitted):
    assert sum(one.startswith("snow") for one in asked(fitted, "snow7")) >= 5


def test_an_item_joins_by_its_text_and_nothing_else_changes(fitted):
    more = fitted.with_items(shop(extra=[("new", "violin string model 99"), ("blank", " ")]))
    assert "new" in asked(more, "violin0", "violin1", k=9)
    assert set(asked(more, "tea0", k=36)) - set(asked(fitted, "tea0", k=36)) == {"new"}
    assert "new" not in asked(fitted, "violin0", k=40)  # a copy was made
    some = Query(history=History.of("tea0"))
    before, after = (one.recommend([some], 10)[0] for one in (fitted, more))
    scores = dict(zip(after.ids, after.scores, strict=True))
    ratios = [
        scores[one] / score
        for one, score in zip(before.ids, before.scores, strict=True)
        if one in scores
    ]
    assert np.ptp(ratios) < 1e-3  # shares of a softmax over one item more


def test_items_of_another_encoder_are_refused(fitted):
    other = fitted.with_items(shop())
    other.encoder = HashingEncoder(128)
    with pytest.raises(ModelError, match="name that encoder"):
        other.with_items(shop())


def test_twins_are_not_told_from_each_other():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 2, 1]]
    assert _number_same_texts(vectors).tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("negatives", [10, 100, None])
def test_new_items_are_no_negatives(negatives, monkeypatch):
    drawn, draw = [], HLLM._draw_negatives
    monkeypatch.setattr(
        HLLM,
        "_draw_negatives",
        lambda self, rows, rng: drawn.append(draw(self, rows, rng)) or drawn[-1],
    )
    fitted = model(epochs=2, negatives=negatives).fit(shop())
    named = set(fitted.items_.named(np.concatenate(drawn)))
    assert named and not named & {"tea7", "garden7", "violin7", "snow7"}


def test_without_projection_the_width_is_the_encoders():
    with pytest.raises(DataError, match="must be 64"):
        model(projection="none").fit(shop())
    assert model(projection="none", width=64, epochs=1).fit(shop()).is_fitted


def test_saved_and_loaded_it_still_takes_new_items(fitted, tmp_path):
    fitted.save(tmp_path / "m")
    more = HLLM.load(tmp_path / "m").with_items(shop(extra=[("new", "violin string model 99")]))
    assert "new" in asked(more, "violin0", "violin1", k=9)
