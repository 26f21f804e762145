"""Search by meaning in the service: beside words, without waiting, and never past what is blocked."""

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from service.served_shop import SHOP, Client, key

from tailor.ports.base import Encoder
from tailor.service.app import make_app
from tailor.service.catalogue import Catalogue
from tailor.service.semantic_search import SemanticSearch
from tailor.service.state import Service, Settings

MEANT = {"teapot": 0, "brewing vessel": 0, "cuppa": 0, "hose": 1, "garden": 1}
GATE = threading.Event()


@dataclass(frozen=True)
class Meant(Encoder):
    """Texts that name a thing of one group point one way; waits until it may go on."""

    slow: bool = False

    @property
    def space(self) -> str:
        return "meant"

    def encode(self, texts):
        if self.slow and any("number nine" in text for text in texts):
            GATE.wait(60)
        out = np.zeros((len(texts), 3), dtype=np.float32)
        for i, text in enumerate(texts):
            out[i, next((way for name, way in MEANT.items() if name in text.lower()), 2)] = 1
        return out


@pytest.fixture
def meaning(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILOR_CACHE", str(tmp_path / "cache"))
    made = SemanticSearch(Meant())
    yield made
    made.close()


@pytest.fixture
def asked(service, meaning):
    service.semantic_search = meaning
    with Client(make_app(service), key(service, "admin")) as made:
        made.ask(
            "/v1/items",
            method="PUT",
            items=[
                {"item_id": "pot", "title": "brewing vessel of clay"},
                {"item_id": "hose", "title": "hose, 20 m"},
                {"item_id": "zanzibar", "title": "zanzibar rug"},
            ],
        )
        made.ask("/v1/search", text="rug")
        read(service, "shop")
        yield made


def read(service: Service, tenant: str) -> None:
    """Wait until all is read."""
    until = time.monotonic() + 60
    while service.catalogue(tenant).unread and time.monotonic() < until:
        time.sleep(0.01)
    assert not service.catalogue(tenant).unread


def test_what_means_the_same_is_found_without_a_word_in_common(asked):
    assert asked.ask("/v1/search", text="cuppa", k=1)["items"][0]["item_id"] == "pot"


def test_words_still_find_names(asked):
    assert asked.ask("/v1/search", text="zanzibar", k=1)["items"][0]["item_id"] == "zanzibar"


def test_a_changed_text_is_found_by_its_new_meaning_only(asked, service):
    asked.ask("/v1/items", method="PUT", items=[{"item_id": "pot", "title": "garden dwarf"}])
    asked.ask("/v1/search", text="dwarf")
    read(service, "shop")
    assert {one["item_id"] for one in asked.ask("/v1/search", text="hose", k=2)["items"]} == {
        "hose",
        "pot",
    }
    found = asked.ask("/v1/search", text="cuppa", k=50)["items"]
    assert [one["item_id"] for one in found].count("pot") == 1 and found[0]["score"] < 3


def test_blocked_and_filtered_items_stay_away(asked):
    asked.ask("/v1/items/pot", method="DELETE")
    assert "pot" not in {
        one["item_id"] for one in asked.ask("/v1/search", text="cuppa", k=50)["items"]
    }
    assert "hose" not in {
        one["item_id"]
        for one in asked.ask("/v1/search", text="garden", k=50, exclude=["hose"])["items"]
    }


def test_another_tenant_s_items_are_not_among_the_answers(asked, service):
    other = Client(asked.app, key(service, "admin", "rival"))
    other.ask("/v1/items", method="PUT", items=[{"item_id": "theirs", "title": "teapot"}])
    other.ask("/v1/search", text="teapot")
    read(service, "rival")
    assert [one["item_id"] for one in other.ask("/v1/search", text="cuppa", k=50)["items"]] == [
        "theirs"
    ]
    assert "theirs" not in {
        one["item_id"] for one in asked.ask("/v1/search", text="cuppa", k=50)["items"]
    }


def test_nobody_waits_for_what_is_not_read_yet(service, tmp_path, monkeypatch):
    monkeypatch.setenv("TAILOR_CACHE", str(tmp_path / "cache"))
    GATE.clear()
    service.semantic_search = SemanticSearch(Meant(slow=True))
    with Client(make_app(service), key(service, "admin")) as client:
        client.ask(
            "/v1/items", method="PUT", items=[{"item_id": "k", "title": "kettle number nine"}]
        )
        answer = client.ask("/v1/search", text="kettle", k=1)
        assert answer["items"][0]["item_id"] == "k"
        assert any("not read for meaning yet" in note for note in answer["notes"])
        GATE.set()
        read(service, "shop")
        assert client.ask("/v1/search", text="kettle", k=1)["notes"] == []


def test_what_was_being_read_while_texts_were_forgotten_lands_on_its_own_item(meaning, monkeypatch):
    made, late = Catalogue("shop", meaning), []
    monkeypatch.setattr(
        meaning, "encode_items", lambda texts, arrived, _: late.append((texts, arrived))
    )

    def write(*items):
        rows = [
            {"item_id": one, "title": title, "categories": None, "text": None, "blocked": None}
            for one, title in items
        ]
        made._index(rows)

    write(*((f"i{n}", "teapot") for n in range(4)), ("h", "hose"))
    for turn in range(3):
        write(*((f"i{n}", f"rug {turn}") for n in range(4)))
    for texts, arrived in reversed(late):
        arrived(0, Meant().encode(texts))
    assert len(made._texts) < 10 and made.unread == 0
    assert [one for one, score in made.search("garden", 5, ()) if score > 0] == ["h"]
    assert {one for one, _ in made.search("tapestry", 4, ())} == {"i0", "i1", "i2", "i3"}


def test_an_encoder_that_fails_leaves_the_words(meaning, monkeypatch, caplog):
    shelf = Catalogue("shop", meaning)
    monkeypatch.setattr(
        Meant,
        "encode",
        lambda self, texts: (_ for _ in ()).throw(RuntimeError("no weights for kettle")),
    )
    shelf._index(
        [{"item_id": "a", "title": "kettle", "categories": None, "text": None, "blocked": None}]
    )
    meaning._pool.submit(lambda: None).result()
    assert shelf.search("kettle", 5, ())[0][0] == "a" and shelf.unread == 0
    assert "RuntimeError" in caplog.text and "kettle" not in caplog.text


@pytest.mark.parametrize("bad", ["raises", "nan", "too few"])
def test_a_text_that_cannot_be_encoded_costs_no_other_text(meaning, monkeypatch, bad):
    encode = Meant.encode

    def odd(self, texts):
        vectors = encode(self, texts)
        is_bad = ["kettle" in text for text in texts]
        if bad == "raises" and any(is_bad):
            raise RuntimeError("no weights")
        if bad == "nan":
            vectors[is_bad] = np.nan
        return vectors[: sum(map(bool, texts)) - any(is_bad)] if bad == "too few" else vectors

    monkeypatch.setattr(Meant, "encode", odd)
    shelf = Catalogue("shop", meaning)
    titles = {"a": "kettle", "b": "brewing vessel", "c": "hose"}
    shelf._index(
        [
            {"item_id": item_id, "title": title, "categories": None, "text": None, "blocked": None}
            for item_id, title in titles.items()
        ]
    )
    meaning._pool.submit(lambda: None).result()
    assert shelf.unread == 0
    assert shelf.search("cuppa", 1, ())[0][0] == "b"
    assert shelf.search("kettle", 5, ())[0][0] == "a"


def test_a_server_started_without_it_never_loads_an_encoder(service):
    assert service.semantic_search is None and not Settings().meaning and len(SHOP.catalogue)
