"""Options that make a query: ids with commas, users with attributes and times, the time of asking."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from cli.running import fails, ok

from tailor.cli.queries import QueryOptions, catalogue_of, moment_ms, query_of, split_ids
from tailor.core.saving import SavedModel
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, same
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.testing.data import tiny_data

SALTS = ("Salt, fine", "Salt, coarse", "Salt", "pepper", "50% off, today", 'Nails 3", long')


def listed(*words):
    found = json.loads(ok("recommend", *words, "--json"))
    return [item["item_id"] for item in found["items"]], found["notes"]


# --- ids


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["Salt, fine"], ["Salt, fine"]),
        (["Salt,pepper"], ["Salt", "pepper"]),
        (["Salt , pepper,"], ["Salt", "pepper"]),
        (["Salt, fine", "pepper"], ["Salt, fine", "pepper"]),
        (['"Salt, fine",pepper'], ["Salt, fine", "pepper"]),
        (['pepper, "Salt, coarse"'], ["pepper", "Salt, coarse"]),
        (['Nails 3", long'], ['Nails 3", long']),
        (['"Nails 3"", long",Salt'], ['Nails 3", long', "Salt"]),
        (["Salt, smoked"], ["Salt", "smoked"]),
        (["Sugar, brown"], ["Sugar, brown"]),
        (['"Sugar, brown"'], ["Sugar, brown"]),
        ([""], []),
        ([" , "], [","]),
        (None, []),
    ],
    ids=str,
)
def test_values_are_split_where_their_parts_are_items(values, ids):
    assert list(split_ids(values, set(SALTS))) == ids


def test_without_a_catalogue_commas_split():
    assert split_ids(["a,b", '"c,d"'], set()) == ("a", "b", "c,d")


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """A data set of items with commas in their ids, without a table of items, and two models."""
    folder = tmp_path_factory.mktemp("kitchen")
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", SALTS[item]) for user in range(30) for item in rng.permutation(6)[:4]]
    Dataset({"events": pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")}).save(
        folder / "data"
    )
    ok("data", "split", folder / "data", "--out", folder / "split")
    ok("fit", "Popularity", "--split", folder / "split", "--out", folder / "model")
    return folder


def test_an_id_with_a_comma_is_excluded(kitchen):
    model = kitchen / "model"
    assert set(listed(model)[0]) == set(SALTS)
    assert set(listed(model, "--exclude", "Salt, fine")[0]) == set(SALTS) - {"Salt, fine"}
    both = listed(model, "--exclude", "Salt, fine", "--exclude", "pepper")[0]
    assert set(both) == set(listed(model, "--exclude", '"Salt, fine",pepper')[0])
    assert set(both) == set(SALTS) - {"Salt, fine", "pepper"}
    assert "Salt, coarse" not in listed(model, "--history", "Salt, coarse")[0]


@pytest.mark.parametrize("option", ["--exclude", "--history"])
def test_unknown_ids_are_told_with_the_nearest(kitchen, option):
    model = kitchen / "model"
    items, notes = listed(model, option, "Salt; fine", option, "pepper")
    assert "pepper" not in items
    assert '"Salt; fine" is not in the catalogue' in notes[0]
    assert 'Did you mean "Salt, fine"?' in notes[0]
    assert '"Salt; fine" is not in the catalogue' in ok("recommend", model, option, "Salt; fine")
    many = [word for number in range(9) for word in (option, f"no{number}")]
    assert "4 more ids" in listed(model, *many)[1][5]


def test_unknown_candidates_are_told(kitchen, tmp_path):
    rows = [f'u{user},"{item}",1' for user in range(30) for item in ("Salt, fine", "gone")]
    (tmp_path / "c.csv").write_text("\n".join(["user_id,item_id,score", *rows, "nobody,Salt,1"]))
    command = ("evaluate", kitchen / "model", "--split", kitchen / "split")
    found = json.loads(ok(*command, "--candidates", tmp_path / "c.csv", "--json"))
    assert [note for note in found["notes"] if '"gone"' in note and "1 of 3 items" in note]
    assert [note for note in found["notes"] if '"nobody"' in note and "1 of 31 users" in note]
    assert '"gone"' in ok(*command, "--candidates", tmp_path / "c.csv")
    assert json.loads(ok(*command, "--json"))["notes"] == []


def test_a_list_is_never_longer_than_the_catalogue(kitchen):
    model = kitchen / "model"
    for k in (6, 7, 10**10, 10**18):
        assert len(listed(model, "-k", k)[0]) == len(SALTS)
        assert len(json.loads(ok("explain", model, "-k", k, "--json"))["items"]) == len(SALTS)
    assert "at least 1" in fails("recommend", model, "-k", 0)
    assert "at least 1" in fails("recommend", model, "-k", -(10**10))


# --- users


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """Users with attributes, events with times; one model by segment, one by time of day."""
    folder = tmp_path_factory.mktemp("town")
    data = tiny_data()
    users = pl.DataFrame(
        {
            "user_id": data.users.ids.tolist(),
            "country": [("FR", "DE", None)[row % 3] for row in range(len(data.users))],
            "age": [20 + row if row % 4 else None for row in range(len(data.users))],
        }
    )
    Dataset({**data.tables, "users": users}).save(folder / "data")
    ok("data", "split", folder / "data", "--out", folder / "split")
    pipelines = {
        "segments": 'class = "RecentPopularity"\nsegment = "country"\nshrink = 1.0\n',
        "hours": 'class = "TimeOfDay"\n',
        "gate": (
            'class = "Gate"\nconditions = ["context.country = \'FR\'"]\n'
            '[[parts]]\nclass = "Popularity"\n[[parts]]\nclass = "CoVisitation"\n'
        ),
    }
    for name, text in pipelines.items():
        (folder / f"{name}.toml").write_text(text)
        ok(
            *("fit", folder / f"{name}.toml", "--split", folder / "split"),
            *("--out", folder / name, "--with-histories"),
        )
    return folder


@pytest.mark.parametrize("name", ["segments", "hours", "gate"])
@pytest.mark.parametrize("user", ["person-000", "person-001", "person-002"])
def test_a_command_hands_a_method_what_python_does(town, name, user):
    split = last_out(Dataset.open(town / "data"))
    saved = SavedModel.open(town / name)
    for data, source in ((split.data, ("--data", town / "data")), (split.train, ())):
        query = data.queries([user])[0]
        options = QueryOptions(user=user, data_folder=source[1] if source else None)
        assert same(query_of(saved, options, catalogue_of(saved)), query)
        query = replace(query, exclude=query.history.item_ids)
        expected = saved.method.recommend([query], 5)[0].ids
        assert tuple(listed(town / name, "--user", user, *source, "-k", 5)[0]) == expected


def test_the_context_is_handed_on_with_its_types(town):
    saved = SavedModel.open(town / "gate")
    pairs = ("country=FR", "age=31", "zip=01234", "score=-1.5", "member=true", 'code="75001"')
    query = query_of(saved, QueryOptions(context=pairs), set())
    assert query.context == {
        "country": "FR",
        "age": 31,
        "zip": "01234",
        "score": -1.5,
        "member": True,
        "code": "75001",
    }
    of_user = query_of(saved, QueryOptions(user="person-001", context=["country=FR"]), set())
    assert of_user.context == {"country": "FR", "age": 21}, "the option overrules the attribute"
    french = listed(town / "gate", "--history", "thing-001", "--context", "country=FR")[0]
    popular = saved.method.parts_[0].recommend([Query(exclude=("thing-001",))], 10)[0].ids
    assert tuple(french) == popular
    assert tuple(listed(town / "gate", "--history", "thing-001")[0]) != popular
    assert "NAME=VALUE" in fails("recommend", town / "gate", "--context", "country")
    evidence = json.loads(
        ok("explain", town / "gate", "--context", "country=FR", "--json", "-k", 1)
    )["items"][0]["evidence"]
    assert evidence[0]["kind"] == "popularity"


@pytest.mark.parametrize(
    "text", ["2020-09-13 08:26:40", "2020-09-13T08:26:40Z", "1599985600", "1599985600000"]
)
def test_the_time_of_asking_is_read_as_the_import_reads_times(town, text):
    assert moment_ms(text) == 1_599_985_600_000
    method = SavedModel.open(town / "hours").method
    expected = method.recommend([Query(time_ms=1_599_985_600_000)], 10)[0].ids
    assert tuple(listed(town / "hours", "--at", text)[0]) == expected


def test_a_time_of_asking_that_is_none_is_refused(town):
    for text in ("noon", "", "1850-01-01", "-1"):
        with pytest.raises(DataError, match="--at"):
            moment_ms(text)
    assert moment_ms("now") > 1_700_000_000_000
    assert "--at" in fails("recommend", town / "hours", "--at", "tomorrow")


def test_events_that_speak_against_an_item_are_left_out_as_in_the_service(tmp_path):
    events = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "ann", "bob", "bob"],
            "item_id": ["tent", "rope", "lamp", "tent", "lamp"],
            "time_ms": [10**12 + n * 10**7 for n in range(5)],
            "action": ["buy", "refund", "buy", "buy", "buy"],
        }
    )
    Dataset.from_events(events).save(tmp_path / "data")
    split = ok("data", "split", tmp_path / "data", "--out", tmp_path / "all")
    assert "--only \"(action not in ('refund'))\"" in split
    ok("data", "split", tmp_path / "data", "--out", tmp_path / "split", "--by", "ratio")
    (tmp_path / "popular.toml").write_text('class = "Popularity"\n')
    model = tmp_path / "model"
    ok(
        "fit",
        tmp_path / "popular.toml",
        "--split",
        tmp_path / "split",
        "--train-on",
        "all",
        "--out",
        model,
    )
    saved = SavedModel.open(model)
    query = query_of(saved, QueryOptions(user="ann", data_folder=tmp_path / "data"), set())
    assert query.history.item_ids == ("tent", "lamp")
    assert query.exclude == ("rope",)
    ids, _ = listed(model, "--user", "ann", "--data", tmp_path / "data", "--keep-seen")
    assert "rope" not in ids and "tent" in ids
