"""SESA: concepts keep their names, explanations are the score, and nothing is read twice."""

import numpy as np
import polars as pl
import pytest
from retrieval.kind_shop import shop as kinds

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.papers.retrieval.sesa import NAMED, SESA
from tailor.text.hashing import HashingEncoder

RUN = Run(workers=1, dtype="float32")


def shop(hidden=()):
    """The shop of four kinds with an item's kind and "goods" as its categories, but for those
    hidden.
    """
    data = kinds(users=160)
    items = data.tables["items"]
    told = [
        [] if item_id in hidden else [title.split()[1], "goods"]
        for item_id, title in items.iter_rows()
    ]
    return Dataset(
        {
            **data.tables,
            "items": items.with_columns(categories=pl.Series(told, dtype=pl.List(pl.String))),
        }
    )


def model(**settings):
    return SESA(
        **{
            "encoder": HashingEncoder(64),
            "negatives": 16,
            "epochs": 25,
            "patience": None,
            "lr": 0.02,
            "batch": 128,
            "named": 1.0,
        }
        | settings
    )


@pytest.fixture(scope="module")
def fitted():
    return model().fit(shop(hidden=("tea7", "snow7")), RUN)


def test_a_category_of_too_many_or_too_few_is_no_concept(fitted):
    assert fitted.concepts_ == ["boot", "hose", "kettle", "string"]
    with pytest.raises(DataError, match="no category stands at 9 items"):
        model(least=9).fit(shop())


def test_names_of_hidden_items_are_read_off_their_titles(fitted):
    rows = fitted.items_.rows(["tea7", "snow7"])
    said = fitted.logits(fitted.vectors_[rows])
    assert [[fitted.concepts_[at] for at in np.flatnonzero(row > 0)] for row in said] == [
        ["kettle"],
        ["boot"],
    ]


def test_an_explanation_names_what_the_item_shares_with_the_history(fitted):
    query = Query(history=History.of("garden0", "garden1"))
    ranking = fitted.recommend([query], 3)[0]
    for reason in fitted.explain([query], [ranking])[0]:
        assert (
            reason.item_id.startswith("garden")
            and reason.evidence[0].id == "hose"
            and reason.evidence[0].kind == "concept"
        )
        assert sum(one.share for one in reason.evidence) == pytest.approx(1)


def test_named_shares_are_the_parts_of_the_score(fitted):
    # all are named here, so that shares of the named are shares of the whole
    assert len(fitted.concepts_) <= NAMED
    query = Query(history=History.of("garden0"))
    ranking = fitted.recommend([query], 1)[0]
    amounts = fitted.amounts()
    own, theirs = (amounts[fitted.items_.rows([one])[0]] for one in ("garden0", ranking.ids[0]))
    assert ranking.scores[0] == pytest.approx(float(own @ theirs), rel=1e-5)
    shares = {one.id: one.share for one in fitted.explain([query], [ranking])[0][0].evidence}
    assert shares == pytest.approx(
        dict(zip(fitted.concepts_, own * theirs / (own @ theirs), strict=True)), rel=1e-4
    )


def test_a_text_is_answered(fitted):
    ids = fitted.recommend([Query(text="violin string")], 8)[0].ids
    assert all(one.startswith("violin") for one in ids)


def test_an_item_s_own_categories_are_not_among_the_words_it_is_read_by():
    data = shop()
    other = data.tables["items"].with_columns(pl.col("categories").list.eval(pl.element() + " qqq"))
    first, second = (
        model(epochs=1, named=0.0).fit(Dataset({"events": data.events, "items": items}))
        for items in (data.tables["items"], other)
    )
    assert np.array_equal(first.vectors_, second.vectors_)


def test_a_space_without_names_may_be_below_zero():
    assert (model(free=True, epochs=2).fit(shop()).amounts() < 0).any()
    assert (model(epochs=2).fit(shop()).amounts() >= 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"least": 0},
        {"most_share": 0.0},
        {"named": -1},
        {"history_decay": 0.0},
        {"lr": 0},
        {"negatives": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises((DataError, ModelError)):
        SESA(**wrong)
