"""Search by words: titles of every kind are found by what users type for them."""

import pytest

pytest.importorskip("fastapi")

from service.served_shop import Client, key
from titles import OTHERS, TYPED

from tailor.errors import DataError
from tailor.service.app import make_app
from tailor.service.catalogue import Catalogue


def put(client, titles, **more):
    items = [{"item_id": f"i{n}", "title": title, **more} for n, title in enumerate(titles)]
    client.ask("/v1/items", method="PUT", items=items)


def test_every_title_is_found_by_its_words_typed_plainly(client):
    put(client, TYPED, text="Made in the valley, and it is what you are up for")
    others = [{"item_id": f"o{n}", "title": f"Tent {n}", "text": OTHERS[n % 3]} for n in range(40)]
    client.ask("/v1/items", method="PUT", items=others)
    for row, (title, queries) in enumerate(TYPED.items()):
        for text in queries:
            found = client.ask("/v1/search", text=text, k=3)["items"]
            assert f"i{row}" in [item["item_id"] for item in found], (title, text)


def test_documents_are_ordered_by_the_same_words(client):
    documents = ["a tent", "ร้านอาหาร", "Café"]
    for query, first in (("อาหาร", 1), ("cafe", 2)):
        ranked = client.ask("/v2/rerank", model="any", query=query, documents=documents)
        assert ranked["results"][0]["index"] == first


def test_the_language_of_the_catalogue_is_a_setting(service, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tailor.toml").write_text('language = "german"\n')
    with Client(make_app(service), key(service, "admin")) as client:
        put(client, ["Die schönen Häuser", "Das Dach"])
        found = client.ask("/v1/search", text="haus", k=3)["items"]
        assert [item["item_id"] for item in found] == ["i0"]
    monkeypatch.setenv("TAILOR_LANGUAGE", "none")
    assert Catalogue("shop")._search.language is None
    monkeypatch.setenv("TAILOR_LANGUAGE", "germam")
    with pytest.raises(DataError, match='Did you mean "german"'):
        Catalogue("shop")
