"""Size and fit: reviews from before the request only, what the customer attends to, advice."""

import numpy as np
import polars as pl
import pytest
import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.splits import by_time
from tailor.errors import DataError, ModelError
from tailor.evaluation.predictions import evaluate_predictions
from tailor.nn.fit_outcomes import ReviewAttention, outcome_codes
from tailor.papers.ranking.size_fit import SizeFit
from tailor.text.hashing import HashingEncoder
from tailor.worlds.garments import garments

DAY_MS = 86_400_000
SETTINGS = {"encoder": HashingEncoder(16), "width": 4, "side": 8, "layers": (8,), "epochs": 2}


def purchases() -> Dataset:
    """Three customers, two products in two sizes; reviews a day after each purchase."""
    rows = [
        ("ann", "p1-s", 0, 0.0),
        ("bob", "p1-l", 2, 1.0),
        ("ann", "p1-l", 4, 1.0),
        ("cat", "p2-s", 5, 2.0),
        ("cat", "p1-s", 6, 1.0),
    ]
    events = pl.DataFrame(
        [(user, item, day * DAY_MS, value) for user, item, day, value in rows],
        schema=["user_id", "item_id", "time_ms", "value"],
        orient="row",
    )
    texts = events.select("user_id", "item_id", pl.col("time_ms") + DAY_MS).with_columns(
        text=pl.Series(["too tight", "just right", "bigger fits", "hangs on me", "fine"])
    )
    items = pl.DataFrame(
        {
            "item_id": ["p1-s", "p1-l", "p2-s", "p2-l"],
            "product": ["p1", "p1", "p2", "p2"],
            "size": ["s", "l", "s", "l"],
        }
    )
    return Dataset({"events": events, "texts": texts, "items": items}, "five purchases")


def texts_of(method, attached):
    return [[method.review_texts_[row] for row in rows if row >= 0] for rows in attached]


def test_reviews_are_of_the_product_and_from_before_the_request():
    data = purchases()
    method = SizeFit(quotes=True, reviews=2, **SETTINGS).fit(data, Run(workers=1))
    ids = ["p1-s", "p2-l", "nowhere"]
    for day, expected in (
        (0, [[], [], []]),
        (1, [[], [], []]),  # a review of this very moment is not earlier
        (4, [["just right", "too tight"], [], []]),
        (9, [["fine", "bigger fits"], ["hangs on me"], []]),  # the two latest, latest first
    ):
        batch, items = method._pairs([Query(time_ms=day * DAY_MS)], [ids])
        assert texts_of(method, method._encode(batch, items).attached) == expected


def test_a_customer_does_not_learn_from_own_reviews():
    data = purchases()
    method = SizeFit(quotes=True, **SETTINGS)
    attached = {}
    encode = method._encode_examples

    class Spy(SizeFit):
        def _encode_examples(self, examples):
            encoded = super()._encode_examples(examples)
            for user, time, rows in zip(
                examples.queries.user_ids, examples.queries.now_ms, encoded.attached, strict=True
            ):
                attached[user, time // DAY_MS] = texts_of(self, [rows])[0]
            return encoded

    Spy(quotes=True, **SETTINGS).fit(data, Run(workers=1))
    assert encode is not None
    assert attached["ann", 4] == ["just right"]  # not her own "too tight"
    assert attached["cat", 6] == ["bigger fits", "just right", "too tight"]


def test_attention_has_shares_of_real_reviews_only():
    torch.manual_seed(0)
    attention = ReviewAttention(np.random.default_rng(0).normal(size=(5, 3)).astype("f4"), 4)
    customers = torch.randn(2, 4)
    rows = torch.tensor([[0, 3, -1], [-1, -1, -1]])
    with torch.inference_mode():
        shares = attention(customers, rows)
        pooled = attention.pooled(shares, rows)
    assert shares[0, :2].sum() == pytest.approx(1.0, abs=1e-6) and shares[0, 2] == 0
    assert (shares[1] == 0).all() and (pooled[1] == 0).all()
    scores = [
        attention.key(attention.vectors[row]) @ attention.query(customers[0]) for row in (0, 3)
    ]
    wanted = (torch.stack(scores) / 2).softmax(dim=0)
    assert torch.allclose(shares[0, :2], wanted)


def test_values_are_cut_into_outcomes():
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, torch.nan])
    assert outcome_codes(values, (0.5, 1.5)).tolist() == [0, 0, 1, 1, 2, 3]


def test_ids_are_unknown_in_a_share_of_what_is_learned_from():
    data = purchases()
    method = SizeFit(id_dropout=0.5, least=1, **SETTINGS).fit(data, Run(workers=1))
    encoded = method._encode(*method._pairs([Query()] * 200, [["p1-s"]] * 200))
    batch = encoded.batch(slice(None))
    masked = method._without_ids(batch, np.random.default_rng(0))
    names = [method.features_["names"][number] for number in method._ready_features().field_of]
    is_changed = (masked.codes != batch.codes).numpy()
    assert 60 < is_changed[:, names.index("item_id")].sum() < 140
    assert not is_changed[:, names.index("item:size")].any()


def test_ids_are_left_out_while_learning_and_not_after():
    calls = []

    class Spy(SizeFit):
        def _without_ids(self, batch, rng):
            changed = super()._without_ids(batch, rng)
            calls.append(changed)
            self._net.register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0]))
            return changed

    reached = []
    method = Spy(**{**SETTINGS, "epochs": 1}).fit(purchases(), Run(workers=1))
    assert calls and reached[0] is calls[0], "the net read another batch"
    before = len(calls)
    method.predict([Query()], [["p1-s"]])
    assert len(calls) == before


def test_advice_orders_the_sizes_of_a_product_and_quotes_on_request(tmp_path):
    data = purchases()
    method = SizeFit(quotes=True, **SETTINGS).fit(data, Run(workers=1))
    advice = method.recommend_size(Query(history=History.of("p1-l")), "p1")
    assert {size.item_id for size in advice} == {"p1-s", "p1-l"}
    assert advice[0].fits >= advice[1].fits
    for size in advice:
        assert size.too_small + size.fits + size.too_large == pytest.approx(1.0, abs=1e-5)
        assert len(size.quotes) == 2
    with pytest.raises(DataError, match='no product "p9"'):
        method.recommend_size(Query(), "p9")
    with pytest.raises(ModelError, match="--with-histories"):
        method.save(tmp_path / "model")
    silent = SizeFit(**SETTINGS).fit(data, Run(workers=1))
    assert silent.review_texts_ == [] and silent.recommend_size(Query(), "p1")[0].quotes == ()


def test_past_sizes_and_their_outcomes_count():
    method = SizeFit(**SETTINGS).fit(purchases(), Run(workers=1))
    queries = [
        Query(history=History(("p1-s",), times_ms=(0,), values=(value,))) for value in (0.0, 2.0)
    ]
    small, large = method.predict(Queries.of(queries), [["p1-l"]] * 2)
    assert not np.allclose(small, large)


@pytest.mark.slow
def test_reviews_predict_what_no_table_says():
    world = garments(
        people=800, products=400, events=6_000, outcome_share=0.3, offset=1.5, wrong_share=0.0
    )
    split = by_time(world.data)
    fields = ("item:size", "item:category", "user:chest_cm", "user:waist_cm")
    methods = {
        name: SizeFit(
            encoder=HashingEncoder(128),
            fields=fields,
            reviews=reviews,
            epochs=10,
            lr=5e-3,
            batch=128,
        ).fit(split.train, Run(workers=1), split)
        for name, reviews in (("reviews", 20), ("none", 0))
    }
    judged = evaluate_predictions(methods, split, outcome=Outcome("value", length=10))
    assert judged.differences("none")[0].low > 0


def test_a_product_with_few_examples_has_no_id_of_its_own():
    method = SizeFit(least=3, **SETTINGS).fit(purchases(), Run(workers=1))
    layout = method._ready_features().layout
    names = [method.features_["names"][number] for number in layout.field_of]
    slot = names.index("item:product")
    codes = dict(zip(method.items_.ids, layout.item_codes[:, slot], strict=False))
    assert codes["p2-s"] == codes["p2-l"] == method._ready_features().first_codes[slot]
    assert codes["p1-s"] == codes["p1-l"] != codes["p2-s"]
