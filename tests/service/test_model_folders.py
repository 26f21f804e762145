"""Models that cannot be loaded or asked: each is one model that is not there, and no more."""

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from service.served_shop import SHOP, Client, key, until
from typer.testing import CliRunner

from tailor.cli.main import app as command_line
from tailor.core.saving import SavedModel
from tailor.data.nouns import Query, Ranking
from tailor.errors import ModelError
from tailor.papers.retrieval.personalized_pagerank import PersonalizedPageRank
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.service import model_loading, model_registry
from tailor.service.app import make_app
from tailor.service.batcher import Batcher, check_model, saved_digest, saved_kind
from tailor.service.paths import without_paths
from tailor.service.refit import refit
from tailor.service.state import Service
from tailor.store.engine import reading, writing
from tailor.store.models import add_model, list_models, serve_model

USER = str(SHOP.users.ids[0])


class Panic(BaseException):
    """As Polars raises one where it panics."""


def sign(folder: Path, **changes) -> None:
    """Write spec.json anew, so that it fits the files as they are now."""
    spec = json.loads((folder / "spec.json").read_text())
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("spec.json", "card.md")
    }
    described = {name: value for name, value in spec.items() if name != "digest"}
    described |= {"files": files, **changes}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    (folder / "spec.json").write_text(json.dumps({**described, "digest": digest}))


def overwritten(name: str, content: bytes):
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content)
        sign(folder)

    return spoil


def is_a_folder(folder: Path) -> None:
    (folder / "state/arrays.npz").unlink()
    (folder / "state/arrays.npz").mkdir()


def spec_is_a_folder(folder: Path) -> None:
    (folder / "spec.json").unlink()
    (folder / "spec.json").mkdir()


def spec_is_a_pipe(folder: Path) -> None:
    (folder / "spec.json").unlink()
    os.mkfifo(folder / "spec.json")


def array_is_a_pipe(folder: Path) -> None:
    (folder / "state/arrays.npz").unlink()
    os.mkfifo(folder / "state/arrays.npz")


def spec_is(text: str):
    return lambda folder: (folder / "spec.json").write_text(text)


def class_is(name: object):
    return lambda folder: sign(folder, spec={"class": name})


def unlisted_file(folder: Path) -> None:
    shutil.copy(next(folder.glob("state/*.vocabulary")), folder / "state/more_.vocabulary")


def other_state(folder: Path) -> None:
    (folder / "state/inner_").mkdir()
    for name in ("arrays.npz", "values.json"):
        shutil.copy(folder / "state" / name, folder / "state/inner_" / name)
    sign(folder)


SPOILS = {
    "array is a folder": is_a_folder,
    "spec is a folder": spec_is_a_folder,
    "spec is a pipe": spec_is_a_pipe,
    "array is a pipe": array_is_a_pipe,
    "spec is a list": spec_is("[]"),
    "spec is empty": spec_is(""),
    "spec is a number": spec_is("7"),
    "spec is deep": spec_is("[" * 200_000),
    "spec without digest": spec_is('{"format": 1}'),
    "no archive": overwritten("state/arrays.npz", b"no archive"),
    "pickled": overwritten("state/arrays.npz", b"\x80\x04N."),
    "no parquet": overwritten("state/items_.vocabulary", b"PAR1 and no more PAR1"),
    "values are a list": overwritten("state/values.json", b"[1]"),
    "values are bytes": overwritten("state/values.json", b"\xff\xfe"),
    "class is gone": class_is("retrieval.gone.Gone"),
    "class is a number": class_is(7),
    "class is missing": lambda folder: sign(folder, spec={}),
    "spec names nothing": lambda folder: sign(folder, spec=[]),
    "files are a list": lambda folder: sign(folder, files=[]),
    "files lie outside": lambda folder: sign(folder, files={"../../x": "0"}),
    "trained on nothing": overwritten("state/values.json", b'{"trained_on_": 3}'),
    "unlisted file": unlisted_file,
    "state of another method": other_state,
    "half written": lambda folder: shutil.rmtree(folder / "state"),
    "gone": shutil.rmtree,
}


def bad_digest(folder: Path) -> str:
    """Return the digest that the folder would be registered with."""
    try:
        return saved_digest(folder)
    except ModelError:
        return "0" * 64


@pytest.fixture
def extra(models):
    """Make a copy of a model within the folder of the tenant; all copies go in the end."""
    made = []

    def copy(name: str, of: str = "two") -> Path:
        made.append(models["one"].with_name(name))
        return Path(shutil.copytree(models[of], made[-1]))

    yield copy
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


def put(service, folder, digest=None, tenant="shop"):
    """Register a folder and let it answer, without looking at it, as an earlier Tailor did."""
    with writing(service.engine) as connection:
        version = add_model(connection, tenant, str(folder), digest or saved_digest(folder))
        serve_model(connection, tenant, version)
    return version


def told(client) -> dict[int, tuple[bool, bool, bool]]:
    """Whether each version is loaded, answers, and has a failure."""
    rows = client.ask("/v1/models", method="GET")["models"]
    return {
        row["version"]: (row["loaded"], row["answers"], row["failure"] is not None) for row in rows
    }


def asked(client) -> str:
    return client.ask("/v1/recommendations", user_id=USER)["model"]


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_folder_of_one_tenant_stops_no_start_and_nobody_else(service, models, extra, spoil):
    folder = extra("spoilt")
    spoil(folder)
    put(service, folder, bad_digest(folder))
    put(service, models["one"], tenant="rival")
    with Client(make_app(service), key(service, "admin")) as client:
        rival = Client(client.app, key(service, "admin", "rival"))
        assert asked(client) == "CoVisitation@1" and asked(rival) == "CoVisitation@1"
        assert told(client) == {2: (False, False, True), 1: (True, True, False)}
        assert told(rival) == {1: (True, True, False)}
        ready = client.get("/ready").json()
        assert [(row["tenant"], row["what"]) for row in ready["failures"]] == [
            ("shop", "version 2")
        ]
        text = json.dumps(ready) + client.get("/v1/models").text
        assert "shop/spoilt" in text and str(models["one"].parents[2]) not in text


@pytest.mark.parametrize("spoil", [is_a_folder, spec_is("[]"), SPOILS["no parquet"]])
def test_what_cannot_be_loaded_is_not_registered(client, service, models, extra, spoil):
    folder = extra("spoilt")
    spoil(folder)
    problem = client.ask("/v1/models", 409, folder="spoilt")["detail"]
    assert "shop/spoilt" in problem and str(models["one"].parents[1]) not in problem
    with reading(service.engine) as connection:
        rows = list_models(connection, "shop")
    assert [(row["version"], row["folder"]) for row in rows] == [(1, str(models["one"]))]
    # a copy of version 1 that lost its state does not take the place of version 1
    copy = extra("copy", "one")
    shutil.rmtree(copy / "state")
    client.ask("/v1/models", 409, folder="copy")
    with reading(service.engine) as connection:
        assert list_models(connection, "shop") == rows
    assert asked(client) == "CoVisitation@1"


@pytest.mark.parametrize(
    "error", [MemoryError(), Panic("at /root/x"), SystemExit(3), StopIteration(), ValueError("u-7")]
)
def test_a_model_that_raises_when_it_is_first_asked_is_not_there(
    client, service, extra, monkeypatch, error, caplog
):
    Popularity().fit(SHOP).save(extra("raising"), overwrite=True)

    def broken(*_):
        raise error

    monkeypatch.setattr(Popularity, "recommend", broken)
    assert type(error).__name__ in client.ask("/v1/models", 409, folder="raising")["detail"]
    registry = service.model_registry
    put(service, registry.loader.root / "shop/raising")
    registry._look("shop")
    assert registry._watcher.is_alive() and asked(client) == "CoVisitation@1"
    assert told(client)[2] == (False, False, True)
    assert "u-7" not in client.get("/v1/models").text and "/root" not in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(model_registry, "AGAIN_S", 0.0)
    registry._look("shop")
    assert asked(client) == "Popularity@2"
    assert told(client) == {2: (True, True, False), 1: (False, False, False)}
    assert client.get("/ready").json()["failures"] == []


def test_several_versions_that_fail_are_each_told_once_and_not_tried_again_and_again(
    service, extra, monkeypatch, caplog
):
    for name in ("first", "second"):
        folder = extra(name)
        CoVisitation(window=2 + len(name)).fit(SHOP).save(folder, overwrite=True)
        put(service, folder)
        shutil.rmtree(folder)
    tries = []
    load = service.model_registry.loader.load
    monkeypatch.setattr(
        service.model_registry.loader,
        "load",
        lambda tenant, row: (tries.append(row["version"]), load(tenant, row))[1],
    )
    with Client(make_app(service), key(service, "admin")) as client:
        for _ in range(3):
            service.model_registry._look("shop")
        assert asked(client) == "CoVisitation@1" and sorted(tries) == [1, 2, 3]
    messages = [record.message for record in caplog.records]
    assert messages.count("model not in place") == 2


def test_the_watcher_survives_what_the_register_holds(client, service, caplog):
    """A row of a version that is gone, and a row that no version of Tailor writes."""
    client.ask("/v1/models", folder="two")
    client.ask("/v1/experiments", name="x", arms=[{"version": 1}, {"version": 2}])
    with writing(service.engine) as connection:
        connection.exec_driver_sql("DELETE FROM models WHERE version = 2")
    other = Service(service.engine, service.settings)
    with Client(make_app(other), key(service, "admin")) as second:
        assert asked(second) == "CoVisitation@1"
        failures = second.get("/ready").json()["failures"]
        assert [row["what"] for row in failures] == ["experiment x"]
        with writing(service.engine) as connection:
            connection.exec_driver_sql("UPDATE experiments SET name = 'y', arms = '7'")
        other.model_registry.refresh("shop")
        failures = second.get("/ready").json()["failures"]
        assert [row["what"] for row in failures] == ["experiment y"]
        assert asked(second) == "CoVisitation@1" and second.get("/v1/models").is_success


@pytest.mark.parametrize("error", [ValueError("x"), Panic(), SystemExit(1)])
def test_the_watcher_survives_whatever_a_look_raises(client, service, monkeypatch, caplog, error):
    def broken(*_):
        raise error

    registry = service.model_registry
    with monkeypatch.context() as patch:
        patch.setattr(model_registry, "LOOK_S", 0.01)
        patch.setattr(registry, "_refresh", broken)
        for _ in range(3):
            registry._look("shop")
        assert [row["what"] for row in registry.failures()] == [model_registry.REGISTER]
    registry._look("shop")
    assert registry._watcher.is_alive() and registry.failures() == []
    assert sum("models not looked for" in record.message for record in caplog.records) == 1


def test_a_model_that_hangs_while_it_is_loaded_holds_nobody(
    client, service, models, extra, monkeypatch
):
    free = threading.Event()
    folder = Popularity().fit(SHOP).save(extra("hanging"), overwrite=True)
    ask = Popularity.recommend
    monkeypatch.setattr(
        Popularity, "recommend", lambda self, *words: (free.wait(20), ask(self, *words))[1]
    )
    with monkeypatch.context() as patch:
        patch.setattr(model_loading, "LOAD_S", 0.02)
        client.ask("/v1/models", 409, folder="hanging")
        put(service, folder)
        service.model_registry._look("shop")
    assert asked(client) == "CoVisitation@1" and told(client)[2] == (False, False, True)
    put(service, models["one"], tenant="rival")
    assert asked(Client(client.app, key(service, "admin", "rival"))) == "CoVisitation@1"
    free.set()  # what took long is not begun anew
    monkeypatch.setattr(model_loading, "load_model", None)
    monkeypatch.setattr(model_registry, "AGAIN_S", 0.0)
    service.model_registry._look("shop")
    assert asked(client) == "Popularity@2"


def test_who_switches_while_another_model_is_loaded_is_not_kept_for_ever(
    client, service, monkeypatch
):
    monkeypatch.setattr(model_registry, "BUSY_S", 0.01)
    with service.model_registry._loading:
        assert "ask again" in client.ask("/v1/models", 503, folder="two")["detail"]
        client.ask("/v1/models/switch", 503, version=1)
        client.ask("/v1/models/rollback", 503)


def test_a_folder_that_vanishes_or_changes_while_it_answers_answers_on(client, service, extra):
    folder = extra("leaving")
    client.ask("/v1/models", folder="leaving")
    shutil.rmtree(folder / "state")
    assert asked(client) == "CoVisitation@2" and told(client)[2] == (True, True, False)
    shutil.rmtree(folder)
    CoVisitation(window=7).fit(SHOP).save(folder)
    service.model_registry._look("shop")
    assert asked(client) == "CoVisitation@2"
    again = Service(service.engine, service.settings).start()
    assert again.model_registry.model("shop").version == 1
    assert "another model" in again.model_registry.failures()[0]["failure"]
    again.stop()


class Raising:
    """A model that raises for some queries, which are told by their text."""

    errors = (Panic(), StopIteration(), SystemExit(1), ValueError("bad"), KeyError("x"))

    def recommend(self, queries, k):
        for query in queries:
            if query.text:
                raise self.errors[int(query.text)]
        return [Ranking(("a",), [1.0]) for _ in queries]


def test_the_thread_of_a_model_outlives_what_the_model_raises():
    batcher = Batcher(Raising())
    for number, error in enumerate(Raising.errors):
        expected = type(error) if isinstance(error, ValueError | KeyError) else RuntimeError
        with pytest.raises(expected):
            batcher.ask(Query(text=str(number)), 1)
        assert batcher.ask(Query(), 1).ids == ("a",)
    batcher.close()


@pytest.mark.parametrize("lists", [[], None, [1, 2, 3], 7])
def test_a_wrong_number_of_lists_is_an_error_and_ends_no_thread(lists):
    class Odd:
        def recommend(self, queries, k):
            return lists if queries[0].text else [Ranking(("a",), [1.0]) for _ in queries]

    batcher = Batcher(Odd())
    for _ in range(2):
        with pytest.raises((RuntimeError, TypeError)):
            batcher.ask(Query(text="odd"), 1)
    assert batcher.ask(Query(), 1).ids == ("a",)
    batcher.close()


def test_errors_for_the_event_loop_reach_the_caller_of_a_route(client, service, monkeypatch):
    model = service.model_registry.model("shop").model

    def panic(*_):
        raise Panic

    def stop(*_):
        raise StopIteration

    for raising in (panic, stop):
        monkeypatch.setattr(model, "recommend", raising)
        client.ask("/v1/recommendations", 500, user_id=USER)
        client.ask("/v1/similar", 500, item_id=str(SHOP.catalogue.ids[0]))
    monkeypatch.undo()
    assert asked(client) == "CoVisitation@1"


def test_a_model_that_hangs_takes_no_more_callers(monkeypatch):
    free = threading.Event()

    class Stuck:
        def recommend(self, queries, k):
            free.wait(20)
            return [Ranking(("a",), [1.0]) for _ in queries]

    monkeypatch.setattr("tailor.service.batcher.LATE_S", 0.01)
    batcher = Batcher(Stuck())
    with pytest.raises(TimeoutError):
        batcher.ask(Query(), 1)
    until(lambda: batcher._began_s is not None)
    time.sleep(0.02)
    with pytest.raises(TimeoutError, match="does not answer"):
        batcher.ask(Query(), 1)
    assert batcher._queue.empty()
    free.set()
    monkeypatch.undo()
    until(lambda: batcher._began_s is None)
    assert batcher.ask(Query(), 1).ids == ("a",)
    batcher.close()


def test_a_model_that_ends_the_process_ends_one_answer(client, service, monkeypatch):
    def leave(*_):
        raise SystemExit(1)

    model = service.model_registry.model("shop").model
    monkeypatch.setattr(model, "explain", leave)
    client.ask("/v1/recommendations", 500, user_id=USER, explain=True)
    data = SHOP.catalogue.ids[:2].tolist()
    predictor = (
        LogisticRegression(epochs=1)
        .fit(SHOP)
        .save(service.settings.models / "shop/predictor", overwrite=True)
    )
    client.ask("/v1/models", folder=predictor.name)
    monkeypatch.setattr(service.model_registry.predictor("shop").model, "predict", leave)
    client.ask("/v1/predict", 500, item_ids=data)
    assert asked(client) == "CoVisitation@1"


def test_an_error_of_a_model_names_no_path_of_the_server(client, service, monkeypatch, tmp_path):
    def lack(*_):
        raise ModelError(f"{tmp_path}/weights is missing: tailor models pull minilm")

    monkeypatch.setattr(service.model_registry.model("shop").model, "recommend", lack)
    detail = client.ask("/v1/recommendations", 409, user_id=USER)["detail"]
    assert detail == "weights is missing: tailor models pull minilm"


def test_who_has_given_up_is_not_asked_for(monkeypatch):
    free, begun, texts = threading.Event(), threading.Event(), []

    class Slow:
        def recommend(self, queries, k):
            begun.set()
            free.wait(20)
            texts.extend(query.text for query in queries)
            return [Ranking(("a",), [1.0]) for _ in queries]

    monkeypatch.setattr("tailor.service.batcher.LATE_S", 0.02)
    batcher = Batcher(Slow())
    for text in ("first", "late"):
        with pytest.raises(TimeoutError):
            batcher.ask(Query(text=text), 1)
        begun.wait(20)
    free.set()
    monkeypatch.undo()
    batcher.ask(Query(text="last"), 1)
    batcher.close()
    assert texts == ["first", "last"]


def test_a_spec_that_is_huge_is_not_read(extra, monkeypatch):
    folder = extra("huge")
    os.truncate(folder / "spec.json", 1 << 40)  # a hole: nothing is on the disk
    for look in (saved_digest, saved_kind, check_model, SavedModel.open):
        with pytest.raises(ModelError, match="bytes, more than"):
            look(folder)


def test_no_path_of_the_server_is_told(tmp_path):
    folder = tmp_path / "models/shop/one"
    text = f"{folder} is damaged: {tmp_path}/other/x is gone; POST /v1/models/switch, or a/b/c"
    assert without_paths(text, folder, tmp_path / "models") == (
        "shop/one is damaged: x is gone; POST /v1/models/switch, or a/b/c"
    )
    assert without_paths(f"{folder}: no", folder, tmp_path / "elsewhere") == "one: no"


@pytest.mark.parametrize("name", ["ä" * 250, "../other", "/etc", "circle"])
def test_a_folder_that_no_path_can_be_is_refused(client, models, name):
    circle = models["one"].with_name("circle")
    circle.unlink(missing_ok=True)
    circle.symlink_to(circle)
    detail = client.ask("/v1/models", 409, folder=name)["detail"]
    assert str(models["one"].parents[1]) not in detail
    circle.unlink()


# models that hold people


def with_histories(folder: Path) -> Path:
    return CoVisitation().fit(SHOP).save(folder, overwrite=True, histories=SHOP.queries())


def test_a_model_with_histories_is_neither_registered_nor_served(client, service, extra):
    folder = with_histories(extra("personal"))
    assert "--with-histories" in client.ask("/v1/models", 409, folder="personal")["detail"]
    put(service, folder)  # by an earlier Tailor
    service.model_registry._look("shop")
    assert asked(client) == "CoVisitation@1"
    rows = client.ask("/v1/models", method="GET")["models"]
    assert "--with-histories" in rows[0]["failure"]
    ranks = PersonalizedPageRank().fit(SHOP)
    ranks.save(folder, overwrite=True, histories=SHOP.queries())
    client.ask("/v1/models", 409, folder="personal")


def test_a_method_that_keeps_people_is_refused_before_it_is_fitted(client, service, tmp_path):
    with pytest.raises(ModelError, match="holds people's events"):
        refit(service.engine, "shop", {"class": "PersonalizedPageRank"}, tmp_path)


# commands


def test_serve_refuses_what_it_cannot_load_and_writes_nothing(service, extra):
    from tailor.cli.serving import _serve_folder

    folder = extra("spoilt")
    overwritten("state/arrays.npz", b"no archive")(folder)
    personal = with_histories(extra("personal"))
    for refused in (folder, personal):
        with pytest.raises(ModelError), writing(service.engine) as connection:
            _serve_folder(connection, "shop", refused, "recommends")
    with reading(service.engine) as connection:
        assert [row["version"] for row in list_models(connection, "shop")] == [1]


def test_serve_and_register_say_that_cold_users_get_nothing(client, service, extra, capsys):
    from tailor.cli.serving import _serve_folder

    with writing(service.engine) as connection:
        _serve_folder(connection, "shop", extra("cold"), "recommends")
    assert "without a history" in " ".join(capsys.readouterr().out.split())
    assert "without a history" in client.ask("/v1/models", folder="two")["notes"][0]
    popular = Popularity().fit(SHOP).save(extra("popular"), overwrite=True)
    assert "notes" not in client.ask("/v1/models", folder="popular")
    with writing(service.engine) as connection:
        _serve_folder(connection, "shop", popular, "recommends")
    assert not capsys.readouterr().out


def test_a_refit_whose_model_cannot_be_loaded_changes_nothing(service, tmp_path, monkeypatch):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr(Popularity, "recommend", broken)
    with pytest.raises(ModelError, match="MemoryError"):
        refit(service.engine, "shop", {"class": "Popularity"}, tmp_path / "out", force=True)
    assert not list((tmp_path / "out/shop").iterdir())
    with reading(service.engine) as connection:
        assert [row["version"] for row in list_models(connection, "shop")] == [1]


def test_a_refit_beside_a_model_that_is_gone_says_what_to_do(service, models, monkeypatch):
    def broken(*_):
        raise PermissionError(13, "Permission denied", "/root/x")

    monkeypatch.setattr("tailor.service.refit.load", broken)
    monkeypatch.setattr("tailor.service.refit.LEAST_USERS", 1)
    with writing(service.engine) as connection:
        connection.exec_driver_sql("UPDATE models SET made_ms = 0")
    with pytest.raises(ModelError, match=r"version 1.*--force"):
        refit(service.engine, "shop", {"class": "Popularity"}, models["one"].parent)


@pytest.mark.parametrize("spoil", [spec_is("[]"), SPOILS["no parquet"], is_a_folder])
def test_the_doctor_tries_to_load_what_should_answer(service, extra, spoil):
    def look():
        words = ("doctor", "--json", "--database", service.engine.url.database)
        done = CliRunner().invoke(command_line, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return {row["what"]: row for row in json.loads(done.output)}["model of shop"]

    if service.engine.dialect.name != "sqlite":
        pytest.skip("the doctor is given a file here")
    assert look()["good"] and "can be loaded" in look()["found"]
    folder = extra("spoilt")
    spoil(folder)
    put(service, folder, bad_digest(folder))
    assert not look()["good"] and "spoilt" in look()["remedy"]


def test_failures_of_models_are_logged_without_paths(service, models, extra, caplog):
    folder = extra("spoilt")
    is_a_folder(folder)
    put(service, folder)
    with caplog.at_level(logging.INFO, "tailor"):
        service.start()
        service.stop()
    record = next(one for one in caplog.records if one.message == "model not in place")
    assert record.subject == "version 2" and "shop/spoilt" in record.error
    assert str(models["one"].parents[1]) not in record.error
