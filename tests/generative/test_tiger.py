"""TIGER spells what was planted, exactly what its codes allow, and says so where it cannot."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))

from genre_world import GENRES, genre_world  # noqa: E402

from tailor.core.run import Run  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.nouns import History, Query, Ranking  # noqa: E402
from tailor.data.splits import last_out  # noqa: E402
from tailor.errors import DataError, ModelError  # noqa: E402
from tailor.evaluation.protocol import evaluate  # noqa: E402
from tailor.generative.tiger import TIGER  # noqa: E402
from tailor.retrieval.covisitation import CoVisitation  # noqa: E402
from tailor.retrieval.popularity import Popularity  # noqa: E402
from tailor.text.hashing import HashingEncoder  # noqa: E402


def model(**settings):
    return TIGER(
        **{
            "encoder": HashingEncoder(64),
            "width": 32,
            "length": 10,
            "epochs": 20,
            "dropout": 0.1,
            "lr": 0.005,
            "batch_places": 512,
            "patience": None,
        }
        | settings
    )


@pytest.fixture(scope="module")
def split():
    return last_out(genre_world())


@pytest.fixture(scope="module")
def fitted(split):
    return model().fit(split.train, Run(workers=1), split)


def queries(split, n=40):
    return split.queries("test")[0][:n]


def test_planted_genres_are_spelled(split, fitted):
    rivals = {"popularity": Popularity(), "co-visitation": CoVisitation()}
    report = evaluate(
        {"TIGER": fitted} | {name: one.fit(split.train) for name, one in rivals.items()}, split
    )
    own = report.mean("TIGER", "HR@10", "kept")
    assert own >= 3 * report.mean("popularity", "HR@10", "kept")
    assert own >= 0.9 * report.mean("co-visitation", "HR@10", "kept")
    assert own >= 0.6  # .8 follow the plan, and its five items fit among ten


def test_codes_begin_with_the_genre(split, fitted):
    titles = dict(split.train.item_table.select("item_id", "title").iter_rows())
    first = {}
    for item_id, title in titles.items():
        first.setdefault(fitted.code_of(item_id)[0], []).append(title.split()[0])
    pure = sum(max(genres.count(one) for one in GENRES) for genres in first.values())
    assert pure / len(titles) > 0.8  # a quarter by chance


def test_no_two_items_share_a_code(split, fitted):
    codes = {fitted.code_of(item_id) for item_id in split.train.catalogue.ids.tolist()}
    assert len(codes) == len(split.train.catalogue) == 200


def test_the_beam_finds_what_scoring_every_item_finds(split, fitted, tmp_path):
    fitted.save(tmp_path / "m")
    every = TIGER.load(tmp_path / "m")
    every.exact = True
    for asked in (queries(split), queries(split).without_history()):
        for narrow, whole in zip(
            fitted.recommend(asked, 10), every.recommend(asked, 10), strict=True
        ):
            shared = [one for one in whole.ids if one in narrow.ids]
            assert len(shared) >= 9  # of ten
            at = dict(zip(narrow.ids, narrow.scores, strict=True))
            assert [at[one] for one in shared] == pytest.approx(
                [whole.scores[whole.ids.index(one)] for one in shared], abs=1e-4
            )


def test_scores_are_logarithms_of_shares_of_one_whole(split, fitted):
    ranking = fitted.recommend(queries(split, 1), k=500)[0]
    assert len(ranking) == 200
    assert ranking.score_kind == "log-probability"
    assert np.exp(ranking.scores).sum() == pytest.approx(1, abs=1e-3)


def test_what_is_excluded_leaves_no_gap(split, fitted):
    query = queries(split, 1)[0]
    best = fitted.recommend([query], 100)[0].ids
    left = fitted.recommend([Query(history=query.history, exclude=best[:80])], 20)[0]
    assert list(left.ids) == list(best[80:])


def test_candidates_are_ordered_and_nothing_else_is(split, fitted):
    query = queries(split, 1)[0]
    all_ids = fitted.recommend([query], 200)[0].ids
    few = Ranking(("nobody's", *all_ids[150:155]), np.zeros(6))
    assert list(fitted.recommend([query], 10, [few])[0].ids) == list(all_ids[150:155])


def test_strangers_get_a_note_and_no_list(fitted):
    nobody, somebody = fitted.recommend(
        [Query(history=History.of("unknown")), Query(history=History.of("b001"))], 5
    )
    assert len(nobody) == 0 and "no known item in the history" in nobody.notes[0]
    assert len(somebody) == 5


def test_without_texts_codes_come_from_behaviour(split):
    bare = genre_world(titled=False)
    own = last_out(bare)
    method = model().fit(own.train, Run(workers=1), own)
    report = evaluate({"TIGER": method, "popularity": Popularity().fit(own.train)}, own)
    assert report.mean("TIGER", "HR@10", "kept") >= 3 * report.mean("popularity", "HR@10", "kept")


def test_an_item_without_words_is_placed_by_company():
    events = genre_world().tables["events"]
    items = genre_world().tables["items"]
    silent = items["item_id"][0]
    genre = items["title"][0].split()[0]
    table = items.with_columns(
        title=pl.when(pl.col("item_id") == silent).then(pl.lit("")).otherwise("title")
    )
    method = model(epochs=1).fit(Dataset({"events": events, "items": table}))
    titles = dict(items.iter_rows())
    near = [
        titles[one].split()[0]
        for one in titles
        if one != silent and method.code_of(one)[0] == method.code_of(silent)[0]
    ]
    assert near and near.count(genre) / len(near) > 0.5


def test_items_nobody_chose_are_answered_too():
    world = genre_world()
    items = pl.concat(
        [
            world.tables["items"],
            pl.DataFrame({"item_id": ["new"], "title": ["space winter long 9"]}),
        ]
    )
    method = model(epochs=2).fit(Dataset({"events": world.tables["events"], "items": items}))
    assert "new" in method.recommend([Query(history=History.of("b001"))], 201)[0].ids
    assert (
        "new"
        not in model(epochs=1, ids_from="behaviour")
        .fit(Dataset({"events": world.tables["events"], "items": items}))
        .items_.ids
    )


def test_new_items_join_by_their_text(split, fitted, tmp_path):
    fitted.save(tmp_path / "m")
    arrived = Dataset.from_events(
        {"user_id": ["-"], "item_id": ["new"], "time_ms": [0]},
        items={"item_id": ["new"], "title": ["space winter long 9"]},
    )
    more = TIGER.load(tmp_path / "m").with_items(arrived)
    titles = dict(split.train.item_table.select("item_id", "title").iter_rows())
    same = [one for one in titles if more.code_of(one)[0] == more.code_of("new")[0]]
    assert sum(titles[one].startswith("space") for one in same) / len(same) > 0.8
    assert all(more.code_of(one) == fitted.code_of(one) for one in titles)
    assert len({more.code_of(one) for one in [*titles, "new"]}) == 201
    last = next(one for one in titles if titles[one].startswith("space harbour long"))
    own = more.recommend([Query(history=History.of(last))], 201)[0]
    assert len(own) == 201 and own.ids.index("new") < 100  # among what follows, of half the shop
    assert "left_out" not in fitted.fit_report_ and more.fit_report_["left_out"] == 0


def test_more_new_items_of_one_code_than_there_are_digits_are_left_out(split, fitted):
    titles = dict(split.train.item_table.select("item_id", "title").iter_rows())
    ids = [f"new{at}" for at in range(40)]
    arrived = Dataset.from_events(
        {"user_id": ["-"] * 40, "item_id": ids, "time_ms": [0] * 40},
        items={"item_id": ids, "title": [next(iter(titles.values()))] * 40},
    )
    more = fitted.with_items(arrived)
    assert more.fit_report_["left_out"] == 240 - len(more.items_) > 0
    assert len({more.code_of(one) for one in more.items_.ids.tolist()}) == len(more.items_)
    assert len(more.recommend([Query(history=History.of("b001"))], 240)[0]) == len(more.items_)


def test_codes_of_behaviour_know_no_new_items(split):
    with pytest.raises(DataError, match="codes were made from behaviour"):
        model(epochs=1, ids_from="behaviour").fit(split.train).with_items(genre_world())


@pytest.mark.parametrize(
    "settings",
    [
        {"closed": False},
        {"reads_vectors": False},
        {"ids_from": "both"},
        {"levels": 1},
        {"codes": "balanced"},
        {"codes": "autoencoder"},
        {"codes": "product"},
        {"codes": "additive"},
    ],
)
def test_every_form_learns_and_is_loaded_as_it_was(split, settings, tmp_path):
    method = model(epochs=8, **settings).fit(split.train, Run(workers=1), split)
    report = evaluate({"TIGER": method, "popularity": Popularity().fit(split.train)}, split)
    assert report.mean("TIGER", "HR@10", "kept") >= 2 * report.mean("popularity", "HR@10", "kept")
    method.save(tmp_path / "m")
    again = TIGER.load(tmp_path / "m")
    for one, two in zip(
        method.recommend(queries(split), 5), again.recommend(queries(split), 5), strict=True
    ):
        assert one.ids == two.ids


def test_one_item_and_one_user_are_enough():
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "a"], "time_ms": [1, 2]})
    for events in (frame, frame[:1]):
        method = model(epochs=1, patience=6).fit(Dataset({"events": events}))
        ranking = method.recommend([Query(history=History.of("a"))], 5)[0]
        assert ranking.ids == ("a",) and ranking.scores[0] == pytest.approx(0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"words": 1}, "words is 1"),
        ({"beams": 0}, "beams is 0"),
        ({"heads": 3}, "heads must divide"),
        ({"ids_from": "stars"}, "'text', 'behaviour', 'both'"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises((DataError, ModelError), match=words):
        model(**settings)


def test_an_unknown_item_has_no_code(fitted):
    with pytest.raises(DataError, match="'nobody' has no code"):
        fitted.code_of("nobody")
