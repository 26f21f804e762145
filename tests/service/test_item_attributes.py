"""Attributes in `more`: odd ones cost nobody else anything, and they never grow without bound."""

import json
import threading

import pytest

pytest.importorskip("fastapi")

from service.served_shop import SHOP, Client, key
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.data.dataset import Dataset
from tailor.service import answers, catalogue, item_table
from tailor.service.app import make_app
from tailor.service.catalogue import Catalogue
from tailor.service.refit import refit
from tailor.service.state import Service, Settings
from tailor.store.catalogue import upsert_items
from tailor.store.columns import column, is_odd, kind_of
from tailor.store.datasets import stored_dataset
from tailor.store.engine import writing
from tailor.store.loading import load_dataset

USER = SHOP.users.ids[0]
SURROGATE = "\ud800"
ODD = [
    [[1, None], [None, {}]],
    [[1, None], [None, {}], [[1]], ["a", 2.5, True]],
    [2**70, -(2**63), 10**400, 1.5],
    [float("nan"), float("inf"), 3],
    [1, "1", "nan", "1e999", [1], {"a": 1}, True, None],
    [SURROGATE, "a", [SURROGATE, "b"]],
    ["2024-01-01", "2024-13-77", "yesterday", 20240101],
    [[], {}, [[]], [None], [[], [[]]]],
    [[[[[[1]]]]], [["a"]], "a"],
]
NAMES = [
    "",
    "  ",
    "*",
    "^.*$",
    "^odd$",
    "a.b",
    'it\'s "quoted"',
    "price",
    "title",
    "item_id",
    "é",
    "e\u0301",
    "\x07",
    SURROGATE,
    "n" * 10_000,
    "created_ms",
    "created",
    "timestamp",
    "category",
    "lat",
    "name",
    "user_id",
]


def put(client, *rows, status=200):
    items = [{"item_id": item_id, "more": more} for item_id, more in rows]
    return client.ask("/v1/items", status, "PUT", items=items)


def store(service, rows, tenant="shop"):
    """Write items as an earlier version may have taken them in."""
    full = [{"item_id": item_id, "title": "wok", "more": more} for item_id, more in rows.items()]
    with writing(service.engine) as connection:
        upsert_items(connection, tenant, full)


def found(client, condition, text="wok", status=200):
    answer = client.ask("/v1/search", status, text=text, k=100, filter=condition)
    return {item["item_id"] for item in answer["items"]} if status == 200 else answer["detail"]


# odd values


@pytest.mark.parametrize("values", ODD)
def test_a_column_holds_what_fits_and_null_for_the_rest(values):
    held = column("x", values)
    assert len(held) == len(values)
    kind = max(map(kind_of, values), key=len)
    for value in values:
        assert len(column("x", [value])) == 1 and len(column("x", [value], kind)) == 1
        assert column("x", [value], "number").to_list() == [None] or not is_odd(value, "number")


def test_each_list_counts_once_for_the_type_of_a_column():
    lists = [["a"], ["b", "c"], list(range(1_000))]
    assert column("x", lists).to_list()[:2] == [["a"], ["b", "c"]]


def test_whole_numbers_stay_whole_beside_a_text_that_reads_as_one():
    assert column("x", [2**60 + 1, 5, "7"]).to_list() == [2**60 + 1, 5, 7]


@pytest.mark.parametrize("values", ODD)
def test_odd_values_of_some_items_change_no_filter_refit_or_export(
    client, service, values, tmp_path
):
    good = {f"w{i}": {"odd": i, "tags": ["a"]} for i in range(30)}
    store(service, good)
    odd = {f"x{i}": {"odd": value, "tags": value} for i, value in enumerate(values)}
    store(service, odd)
    assert {item_id for item_id in found(client, "odd <= 2") if item_id[0] == "w"} == {
        "w0",
        "w1",
        "w2",
    }
    assert {item_id for item_id in found(client, "tags has 'a'") if item_id[0] == "w"} == set(good)
    assert client.ask("/v1/recommendations", user_id=USER, filter="odd is missing")["items"]
    notes: list[str] = []
    data = stored_dataset(service.engine, "shop", notes=notes)
    data.save(tmp_path / "out")
    table = Dataset.open(tmp_path / "out").item_table
    assert table.filter(item_id="w7")["odd"].to_list() == [7]
    assert any("values of items (" in note for note in notes)
    outcome = refit(service.engine, "shop", {"class": "Popularity"}, tmp_path, force=True)
    assert outcome.swapped and outcome.notes == tuple(notes)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_costs_nobody_else_anything(client, service, name, tmp_path):
    store(service, {f"w{i}": {"age": i} for i in range(5)})
    store(service, {"odd": {"age": 1, name: "x"}, "odder": {name: [1, "b"]}})
    assert found(client, "age <= 1") == {"w0", "w1", "odd"}
    assert found(client, "title = 'wok' and price is missing") >= {"w0", "odd", "odder"}
    assert (
        client.ask("/v1/recommendations", user_id=USER, filter="not (age = 1)")["items"] is not None
    )
    notes: list[str] = []
    stored_dataset(service.engine, "shop", notes=notes).save(tmp_path / "out")
    assert Dataset.open(tmp_path / "out").item_table.filter(item_id="w4")["age"].to_list() == [4]
    assert notes


@pytest.mark.parametrize("values", ODD)
def test_an_item_of_odd_values_can_be_looked_at(client, service, values):
    store(service, {"x": {"odd": values, SURROGATE: 1}})
    assert client.get("/v1/items/x").json()["more"].keys() == {"odd", SURROGATE}


def test_numbers_of_a_data_set_that_are_none_reach_no_store(client, service):
    items = {"item_id": ["x", "y"], "age": [float("nan"), 1.0], "price": [float("inf"), 2.0]}
    events = {"user_id": ["eve"], "item_id": ["x"], "time_ms": [10**12]}
    load_dataset(service.engine, "shop", Dataset.from_events(events, items))
    row = client.get("/v1/items/x").json()
    assert row["price"] is None and row["more"] == {"age": None}
    assert found(client, "age = 1", "x") == set()


def test_a_column_whose_name_is_a_pattern_is_that_column_only(client):
    put(client, ("w", {"^a.*$": 1, "ab": 2, "*": 3}))
    assert "no column" in found(client, "`^a.*$` = 1", status=409)
    assert "no column" in found(client, "`*` = 3", status=409)


def test_odd_values_are_named_by_the_answers_and_by_doctor(client, service):
    put(client, *((f"w{i}", {"age": i}) for i in range(5)))
    client.ask("/v1/search", text="wok")
    answer = put(client, ("x", {"age": ["many"], "price": 3}))
    assert "x (age, price)" in answer["notes"][0]
    assert "x (age, price)" in client.get("/v1/items/x").json()["notes"][0]
    assert "notes" not in client.get("/v1/items/w1").json()
    database = str(service.engine.url.render_as_string(hide_password=False))
    done = CliRunner().invoke(app, ["doctor", "--json", "--database", database])
    findings = {finding["what"]: finding for finding in json.loads(done.output)}
    assert "x (age, price)" in findings["items of shop"]["found"]
    assert findings["items of shop"]["good"]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"": 1}, "empty"),
        ({" ": 1}, "empty"),
        ({"n" * 201: 1}, "200 characters"),
        ({"a\x07": 1}, "control"),
        ({"a": 2**63}, "63 bits"),
        ({"a": "x" * 100_001}, "100,000 characters"),
        ({"a": [0] * 6_000}, "5000 values"),
        ({"a": [[[[[[[1]]]]]]]}, "nested"),
        ({f"a{i}": 1 for i in range(300)}, "300 names, at most 200"),
    ],
)
def test_what_no_column_should_hold_is_refused_with_the_index(client, more, problem):
    answer = put(client, ("good", {"a": 1}), ("bad", more), status=422)
    assert answer["errors"][0]["field"].startswith("items.1.more")
    assert problem in answer["errors"][0]["problem"]
    assert client.get("/v1/items/good").status_code == 404


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "9" * 30, "9" * 5_000])
@pytest.mark.parametrize("field", ["price", "more"])
def test_numbers_that_json_lacks_are_refused(client, number, field):
    value = number if field == "price" else f'{{"a": {number}}}'
    body = f'{{"items": [{{"item_id": "w", "{field}": {value}}}]}}'
    headers = {"content-type": "application/json"}
    assert client.put("/v1/items", content=body, headers=headers).status_code in (400, 422)


@pytest.mark.parametrize("price", [-1, -1e300, 1e300])
def test_a_price_that_is_none_is_refused(client, price):
    items = [{"item_id": "w", "price": 1}, {"item_id": "x", "price": price}]
    assert client.ask("/v1/items", 422, "PUT", items=items)["errors"][0]["field"] == "items.1.price"


def test_an_item_that_is_sent_twice_is_told_and_its_last_form_counts(client):
    items = [{"item_id": "w", "title": "wok"}, {"item_id": "w", "title": "pan"}]
    answer = client.ask("/v1/items", method="PUT", items=items)
    assert answer["written"] == 1 and "more than once" in answer["notes"][0]
    assert client.get("/v1/items/w").json()["title"] == "pan"


# how many names there are


@pytest.fixture
def narrow(service, models):
    """A service with room for six names of a tenant and three of an item."""
    settings = Settings(models["one"].parents[1], item_attributes=3, attributes=6)
    with Client(
        make_app(Service(service.engine, settings)), key(service, "admin", "bare")
    ) as client:
        yield client


def test_names_of_an_item_and_of_a_tenant_have_a_limit(narrow):
    assert "at most 3" in put(narrow, ("w", dict.fromkeys("abcd", 1)), status=422)["detail"]
    put(narrow, ("w", dict.fromkeys("abc", 1)), ("x", dict.fromkeys("def", 1)))
    answer = put(narrow, ("y", {"a": 1, "g": 1}), status=409)
    assert "6 names over all items" in answer["detail"] and "1 new" in answer["detail"]
    put(narrow, ("y", {"a": 1, "f": 1}))
    put(narrow, ("x", {}), ("y", {}))
    put(narrow, ("y", {"g": 1, "h": 2}))


def test_a_store_over_the_limit_goes_on(narrow, service):
    store(service, {"old": {f"a{i}": 1 for i in range(20)}}, "bare")
    assert found(narrow, "a7 = 1") == {"old"}
    assert "20 names" in put(narrow, ("new", {"b": 1}), status=409)["detail"]
    assert put(narrow, ("new", {"a3": 1})) == {"written": 1}


def test_names_written_at_the_same_moment_share_the_room():
    shelf = Catalogue("shop")
    with shelf.room_for({"a", "b"}, 3):
        with pytest.raises(catalogue.DataError, match="at most 3"), shelf.room_for({"c", "d"}, 3):
            pass
        with shelf.room_for({"b", "c"}, 3):
            pass
    with shelf.room_for({"c", "d", "e"}, 3):
        pass


def test_a_filter_builds_the_columns_that_it_names_and_no_other(monkeypatch):
    built: list[list[str]] = []
    item_frame = item_table.item_frame
    monkeypatch.setattr(
        item_table,
        "item_frame",
        lambda rows, kinds, names: built.append(list(names)) or item_frame(rows, kinds, names),
    )
    shelf = Catalogue("shop")
    shelf._take_in([row(f"w{i}", {f"a{i}_{j}": j for j in range(500)}) for i in range(4)])
    assert len(shelf.excluded_by("a1_7 = 7 and price is missing")) == 3
    assert len(shelf.excluded_by("a1_7 = 8 or a2_3 = 3")) == 3
    assert built == [["a1_7", "price"], ["a2_3"]]


def test_columns_that_filters_named_are_few(monkeypatch):
    monkeypatch.setattr(item_table, "MOST_COLUMNS", 5)
    shelf = Catalogue("shop")
    shelf._take_in([row(f"w{i}", {f"a{i}_{j}": j for j in range(9)}) for i in range(4)])
    for j in range(9):
        assert len(shelf.excluded_by(f"a0_{j} = {j} and a1_{j} is missing")) == 3
        assert len(shelf._table.frame.columns) <= 5


def row(item_id, more):
    empty = dict.fromkeys(["title", "text", "categories", "price", "blocked"])
    return {**empty, "item_id": item_id, "more": more, "changed": 1}


def test_answers_of_filters_are_kept_up_to_a_number_of_items(monkeypatch):
    monkeypatch.setattr(catalogue, "MOST_FILTERED", 25)
    shelf = Catalogue("shop")
    shelf._take_in([row(f"w{i}", {"a": i}) for i in range(10)])
    for i in range(9):
        assert len(shelf.excluded_by(f"a = {i}")) == 9
        assert sum(map(len, shelf._filters.values())) <= 25
    assert shelf.known_exclusion("a = 8") is not None and shelf.known_exclusion("a = 1") is None


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (" or ".join(["a=1"] * 60), "60 tests, at most 50"),
        ("(" * 60 + "a = 1" + ")" * 60, "brackets"),
        ("`" + "n" * 900 + "` = 1", "no column"),
        ("nothing = 1", 'no column "nothing"'),
        ("a contains '(a+)+$'", "number"),
        ("a = 1" + " " * 1_000, "1000 characters"),
    ],
)
def test_filters_that_cost_too_much_or_fit_nothing_are_refused(client, condition, problem):
    put(client, ("w", {"a": 1}))
    for path, body in (("search", {"text": "wok"}), ("recommendations", {"user_id": USER})):
        status = 422 if len(condition) > 1_000 else 409
        detail = client.ask(f"/v1/{path}", status, filter=condition, **body)["detail"]
        assert problem in detail


# where the work is done


@pytest.fixture
def threads(monkeypatch):
    """The threads in which items are read and filters worked out."""
    seen: dict[str, list[str]] = {"refresh": [], "filter": [], "index": [], "hop": []}

    def note(what, function):
        def noted(*arguments, **options):
            seen[what].append(threading.current_thread().name)
            return function(*arguments, **options)

        return noted

    monkeypatch.setattr(Catalogue, "refresh", note("refresh", Catalogue.refresh))
    monkeypatch.setattr(Catalogue, "_work_out", note("filter", Catalogue._work_out))
    monkeypatch.setattr(Catalogue, "_index", note("index", Catalogue._index))
    monkeypatch.setattr(answers, "in_pool", note("hop", answers.in_pool))
    return seen


def test_nothing_that_a_write_brings_is_worked_through_in_the_model_s_thread(client, threads):
    put(client, *((f"w{i}", {"a": i}) for i in range(5)))
    client.ask("/v1/recommendations", user_id=USER)
    assert len(threads["refresh"]) >= 1 and not threads["index"]
    put(client, ("w9", {"a": 9}))
    client.ask("/v1/recommendations", user_id=USER, filter="a > 3 or a is missing")
    assert len(threads["filter"]) == 1
    assert "tailor-model" not in {*threads["refresh"], *threads["filter"]}
    assert client.ask("/v1/search", text="wok") and len(threads["index"]) == 1


def test_a_request_without_a_filter_waits_for_no_other_thread(client, threads):
    client.ask("/v1/recommendations", user_id=USER)
    threads["hop"].clear()
    client.ask("/v1/recommendations", user_id=USER)
    assert threads["hop"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("recommendations", {"user_id": USER}),
        ("similar", {"item_id": SHOP.catalogue.ids[0]}),
        ("search", {"text": "wok"}),
    ],
)
def test_filters_take_the_threads_of_items_only(client, threads, path, body):
    client.ask(f"/v1/{path}", **body)
    threads["hop"].clear()
    client.ask(f"/v1/{path}", filter="price > 3", **body)
    assert len(threads["hop"]) == len(threads["filter"]) == 1


def test_a_filter_holds_for_items_that_change_while_the_model_answers(client, service, monkeypatch):
    liked = client.items(user_id=USER, k=3)
    put(client, *((item_id, {"ok": True}) for item_id in liked))
    model = service.model_registry.loaded("shop", None).model
    recommend = model.recommend

    def change(*arguments, **options):
        store(service, {liked[0]: {"ok": False}})
        service.catalogue("shop")
        return recommend(*arguments, **options)

    monkeypatch.setattr(model, "recommend", change, raising=False)
    assert client.items(user_id=USER, k=3, filter="ok") == liked[1:]


def test_texts_beyond_a_length_are_kept_but_not_searched(client, monkeypatch):
    monkeypatch.setattr(catalogue, "MOST_CHARACTERS", 100)
    text = "early " + "x" * 100 + " late"
    client.ask("/v1/items", method="PUT", items=[{"item_id": "w", "text": text}])
    assert client.ask("/v1/search", text="early")["items"][0]["item_id"] == "w"
    assert client.ask("/v1/search", text="late")["items"] == []
    assert client.get("/v1/items/w").json()["text"] == text


# events


def test_events_of_unknown_items_are_told_and_kept(client, service):
    known = SHOP.catalogue.ids[0]
    events = [
        {"event_id": f"e{i}", "user_id": "eve", "item_id": item_id}
        for i, item_id in enumerate([known, "x0", "x0", *(f"x{j}" for j in range(1, 8))])
    ]
    answer = client.ask("/v1/events", events=events)
    assert answer["accepted"] == 10
    assert "9 (x0, x1, x2, x3, x4 and 3 more)" in answer["notes"][0]
    assert len(client.get("/v1/users/eve/data").json()["stores"]["events"]) == 10
    assert "notes" not in client.ask("/v1/events", events=[{**events[0], "event_id": "z"}])


def test_an_item_that_was_just_written_is_not_called_unknown(client):
    client.ask("/v1/search", text="wok")
    put(client, ("fresh", {}))
    event = {"event_id": "e", "user_id": "eve", "item_id": "fresh"}
    assert "notes" not in client.ask("/v1/events", events=[event])


def test_a_shop_without_items_hears_of_none(service, client):
    bare = Client(client.app, key(service, "admin", "bare"))
    event = {"event_id": "e", "user_id": "eve", "item_id": "x"}
    assert "notes" not in bare.ask("/v1/events", events=[event])


# users and questions


@pytest.mark.parametrize("field", ["more", "context"])
@pytest.mark.parametrize(
    "bad", [{f"a{i}": 1 for i in range(201)}, {"": 1}, {"a": 2**64}, {"a": ["x" * 100_001]}]
)
def test_attributes_and_context_have_the_limits_of_items(client, field, bad):
    if field == "more":
        answer = client.ask(f"/v1/users/{USER}", 422, "PUT", more=bad)
    else:
        answer = client.ask("/v1/recommendations", 422, user_id=USER, context=bad)
    assert answer["errors"][0]["field"] == field


def test_stored_attributes_beyond_the_limit_cost_no_answer(client, service):
    from tailor.store import users

    with writing(service.engine) as connection:
        users.upsert_user(connection, "shop", USER, {f"a{i}": i for i in range(5_000)})
    service.note_attributes("shop")
    contexts = []
    model = service.model_registry.loaded("shop", None).model
    recommend = model.recommend
    model.recommend = lambda queries, k: (
        contexts.append(dict(queries.contexts)) or recommend(queries, k)
    )
    try:
        assert client.items(user_id=USER, context={"mine": 1})
    finally:
        del model.recommend
    assert len(contexts[0]) == answers.MOST_ATTRIBUTES and "mine" in contexts[0]
