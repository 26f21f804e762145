"""While the store is away or cannot be written, `/ready` says so and the log stays short."""

import logging

import pytest

pytest.importorskip("fastapi")

import sqlalchemy as sa
from service.served_shop import SHOP, Client, key, take_away, until

from tailor.service.app import make_app
from tailor.service.batcher import saved_digest
from tailor.store.engine import writing
from tailor.store.loading import load_dataset
from tailor.store.models import add_model, serve_model
from tailor.store.schema import items, subjects

USER = SHOP.users.ids[0]
EVENTS = {"events": [{"event_id": "x1", "user_id": USER, "item_id": SHOP.catalogue.ids[0]}]}


def store_lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "tailor.store"]


def test_ready_says_that_nothing_can_be_written_and_when_it_can_again(client, service, caplog):
    def refuse(connection, cursor, statement, *_):
        if statement.startswith(("INSERT", "UPDATE")):
            raise sa.exc.OperationalError("", None, Exception("database or disk is full"))

    caplog.set_level(logging.INFO, logger="tailor")
    assert client.get("/ready").status_code == 200
    sa.event.listen(service.engine, "before_cursor_execute", refuse)
    for _ in range(5):
        assert client.post("/v1/events", json=EVENTS).status_code == 503
    ready = client.get("/ready")
    assert ready.status_code == 503 and "full" in ready.json()["detail"]
    assert client.items(user_id=USER)  # answers go on
    sa.event.remove(service.engine, "before_cursor_execute", refuse)
    until(lambda: client.get("/ready").status_code == 200)  # without any request that writes
    assert store_lines(caplog)[0] == "the store cannot be written"
    assert store_lines(caplog).count("the store cannot be written") == 1


def test_a_hundred_look_ups_of_an_outage_are_one_line(client, service, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="tailor")
    client.items(user_id=USER)  # the key is known from then on
    with monkeypatch.context() as patch:
        take_away(service, patch)
        patch.setattr("tailor.service.state.KEY_S", 0.0)  # each request looks its key up
        for _ in range(50):
            client.items(user_id=USER)
            headers = {"authorization": "Bearer tailor_unknown"}
            assert client.get(f"/v1/users/{USER}/data", headers=headers).status_code == 503
    assert store_lines(caplog).count("the store cannot be read") == 1
    others = [
        record.getMessage()
        for record in caplog.records
        if record.name not in ("tailor.access", "tailor.store")
    ]
    assert len(others) < 5, others


DAMAGES = [
    sa.update(subjects).where(subjects.c.tenant == "else").values(sealed=b"\xff" * 60),
    sa.update(items).where(items.c.tenant == "else").values(more=sa.text("'{bad'")),
]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES, ids=["a person's entry", "an item"])
def test_damaged_rows_of_a_tenant_stop_nobody_else(service, models, damage, caplog):
    load_dataset(service.engine, "else", SHOP)
    with writing(service.engine) as connection:
        folder = str(models["one"])
        serve_model(connection, "else", add_model(connection, "else", folder, saved_digest(folder)))
        connection.execute(damage)
    with Client(make_app(service), key(service, "read")) as client:
        assert client.items(user_id=USER)
        assert "cannot be read" in caplog.text and USER not in caplog.text
        elsewhere = Client(client.app, key(service, "read", "else"))
        assert elsewhere.get("/v1/receipts/key").status_code == 200
        assert client.items(user_id=USER)
