"""LinkedInFeed: what stands in the prompts, what was passed over, and vectors that go stale."""

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import unchosen_impressions
from tailor.data.nouns import History, Query
from tailor.data.sampling import sample_ragged
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.papers.retrieval.linkedin_feed import CHARACTERS, LinkedInFeed, _latest
from tailor.text.hashing import HashingEncoder
from tailor.worlds.feed import TOPICS, feed

RUN = Run(workers=1, dtype="float32")
WORLD = feed(members=150, posts=60, seed=0)


def model(**settings):
    return LinkedInFeed(
        **{
            "encoder": HashingEncoder(128),
            "numbers": ("views",),
            "profile": ("headline",),
            "width": 32,
            "nested": (8,),
            "epochs": 5,
            "patience": None,
            "batch": 128,
        }
        | settings
    )


@pytest.fixture(scope="module")
def fitted():
    return model().fit(WORLD.data, RUN)


def test_a_post_s_prompt_tells_its_counters_in_words(fitted):
    views = WORLD.data.item_table["views"].to_numpy()
    prompts = fitted.item_prompts(WORLD.data)
    most = int(views.argmax())
    assert (
        prompts[most].startswith("views: highest, percentile 99 of 100. ")
        and WORLD.data.item_texts[most] in prompts[most]
    )  # 60 posts: its span is 98 to 100
    digits = model(wording="digits", epochs=0).fit(WORLD.data)
    assert (
        digits.item_prompts(WORLD.data)[most]
        == f"views: {views[most]}. {WORLD.data.item_texts[most]}"
    )
    assert (
        model(wording="none", epochs=0).fit(WORLD.data).item_prompts(WORLD.data)
        == WORLD.data.item_texts
    )


def test_percentiles_are_those_of_the_fit(fitted):
    more = WORLD.data.tables["items"].with_columns((pl.col("views") + 1) * 1_000_000_000)
    grown = Dataset({"events": WORLD.data.events, "items": more})
    assert all(
        one.startswith("views: highest, percentile 100 of 100")
        for one in fitted.item_prompts(grown)
    )


def test_a_member_s_prompt_ends_with_the_newest_and_is_cut_at_the_oldest(fitted):
    long = Dataset(
        {
            "events": pl.DataFrame(
                {"user_id": ["u"] * 3, "item_id": list("abc"), "time_ms": [1, 2, 3]}
            ),
            "items": pl.DataFrame({"item_id": list("abc"), "text": [mark * 300 for mark in "xyz"]}),
        }
    )
    long = Dataset({**long.tables, "users": pl.DataFrame({"user_id": ["u"], "headline": ["cook"]})})
    made = model(numbers=("events",), epochs=0).fit(long)
    said = made.member_prompts({"headline": ["cook"]}, long.sequences.rows)[0]
    assert (
        said.startswith("cook")
        and said.endswith("z" * 300)
        and "x" not in said
        and len(said) <= CHARACTERS + 20
    )


def test_a_profile_is_told_in_one_order_while_learning_and_serving(monkeypatch):
    users = (
        WORLD.data.tables["users"].select("user_id", "headline").with_columns(town=pl.lit("Oslo"))
    )
    said, prompts = [], LinkedInFeed.member_prompts
    monkeypatch.setattr(
        LinkedInFeed,
        "member_prompts",
        lambda self, *given: said.append(prompts(self, *given)) or said[-1],
    )
    made = model(profile=("town", "headline"), epochs=1).fit(
        Dataset({**WORLD.data.tables, "users": users})
    )
    made.recommend([Query(context={"headline": "law", "town": "Oslo"})], 3)
    assert all(one.startswith("Oslo, ") for lists in said for one in lists) and len(said) > 1
    with pytest.raises(DataError, match="no column of the users"):
        model(profile=("twon",)).fit(WORLD.data)


def test_braces_in_texts_mean_nothing():
    odd = Dataset(
        {
            "events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "time_ms": [1]}),
            "items": pl.DataFrame({"item_id": ["a"], "text": ["{numbers} {x}"]}),
        }
    )
    assert model(numbers=("events",), profile=(), wording="digits", epochs=0).fit(odd).item_prompts(
        odd
    ) == ["events: 1. {numbers} {x}"]


def test_what_was_passed_over_was_shown_and_never_chosen():
    over = unchosen_impressions(WORLD.data)
    shown = WORLD.data.tables["impressions"].join(WORLD.data.tables["requests"], on="request_id")
    pairs = set(shown.select("user_id", "item_id").iter_rows()) - set(
        WORLD.data.events.select("user_id", "item_id").iter_rows()
    )
    got = {
        (WORLD.data.users.ids[user], WORLD.data.catalogue.ids[row])
        for user, row in zip(over.row_ids, over.values, strict=True)
    }
    assert got == {pair for pair in pairs if pair[0] in WORLD.data.users}
    assert len(unchosen_impressions(Dataset({"events": WORLD.data.events})).values) == 0


def test_negatives_are_the_member_s_own(fitted):
    over = unchosen_impressions(WORLD.data)
    drawn = sample_ragged(over, 3, np.random.default_rng(0))
    for user in range(len(over)):
        assert set(drawn[user].tolist()) <= (set(over[user].tolist()) or {-1})


def test_examples_have_something_before_them():
    rows = WORLD.data.sequences.rows
    at = _latest(rows, 2)
    first = set(rows.offsets[:-1].tolist())
    assert (
        not first & set(at.tolist())
        and len(at) == np.minimum(np.maximum(rows.lengths - 1, 0), 2).sum()
    )


def test_topics_are_learned_and_a_profile_alone_is_answered():
    split = last_out(WORLD.data)
    fitted = model(epochs=30, examples=10, wording="none").fit(split.train, RUN, split)
    assert (
        fitted.fit_report_["loss"][-1] < fitted.fit_report_["loss"][0]
        and fitted.fit_report_["passed_over"] > 0
    )
    texts = dict(zip(WORLD.data.catalogue.ids, WORLD.data.item_texts, strict=True))
    found = {}
    for topic in ("farming", "law"):
        ids = fitted.recommend([Query(context={"headline": f"{topic} and {topic}"})], 10)[0].ids
        found[topic] = {
            about: sum(any(word in texts[one] for word in TOPICS[about].split()) for one in ids)
            for about in ("farming", "law")
        }
    assert (
        found["farming"]["farming"] > found["law"]["farming"]
        and found["law"]["law"] > found["farming"]["law"]
    )
    assert fitted.recommend([Query()], 5)[0].ids == ()


def test_refreshed_counters_move_posts_without_learning(fitted):
    other = WORLD.data.tables["items"].with_columns(views=pl.col("views").reverse())
    fresh = fitted.refreshed(Dataset({**WORLD.data.tables, "items": other}))
    assert all(
        np.array_equal(fresh.net_weights_[name], fitted.net_weights_[name])
        for name in fitted.net_weights_
    )
    assert not np.array_equal(fresh.vectors_, fitted.vectors_)
    again = fresh.refreshed(WORLD.data)
    asked = [Query(history=History.of(*WORLD.data.catalogue.ids[:2].tolist()))]
    assert again.recommend(asked, 10)[0].ids == fitted.recommend(asked, 10)[0].ids


def test_vectors_of_another_encoder_are_refused(fitted):
    other = model(encoder=HashingEncoder(64))
    other.__dict__ |= fitted.state()
    with pytest.raises(ModelError, match="name that encoder"):
        other.refreshed(WORLD.data)


def test_the_first_numbers_of_a_vector_do_alone(fitted):
    short = model(dims=8)
    short.__dict__ |= fitted.state()
    asked = WORLD.data.queries()[:40]
    whole, part = (
        set((i, one) for i, lists in enumerate(m.recommend(asked, 10)) for one in lists.ids)
        for m in (fitted, short)
    )
    assert len(whole & part) > 0.4 * len(whole)


@pytest.mark.parametrize("wrong", [{"numbers": ("clicks",)}, {"numbers": ("text",)}])
def test_counters_that_are_not_there_are_named(wrong):
    with pytest.raises(DataError, match="numeric column"):
        model(**wrong).fit(WORLD.data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nested": (99,)},
        {"dims": 0},
        {"item_prompt": "{title}"},
        {"hard": -1},
        {"examples": 0},
        {"wording": "roman"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises((DataError, ModelError)):
        model(**wrong)
