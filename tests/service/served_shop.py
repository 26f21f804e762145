"""A small shop that is served."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from store.databases import engine, postgres, url  # noqa: F401

from tailor.data.splits import last_out
from tailor.retrieval.covisitation import CoVisitation
from tailor.service.app import make_app
from tailor.service.batcher import saved_digest
from tailor.service.state import Service, Settings
from tailor.store import keys
from tailor.store.engine import connect, writing
from tailor.store.loading import load_dataset
from tailor.store.migrating import migrate
from tailor.store.models import add_model, serve_model
from tailor.worlds.shop import shop

SHOP = shop(users=60, items=40, seed=1).data


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two saved models of the shop."""
    folder = tmp_path_factory.mktemp("models") / "shop"
    train = last_out(SHOP).train
    return {
        name: CoVisitation(window=window).fit(train).save(folder / name)
        for name, window in (("one", 1), ("two", 3))
    }


class Client(TestClient):
    """Speaks with a key."""

    def __init__(self, app, key: str) -> None:
        super().__init__(app, raise_server_exceptions=False)
        self.headers["authorization"] = f"Bearer {key}"

    def ask(self, path: str, status: int = 200, method: str = "POST", **body):
        """The answer's JSON; its status must be the one expected."""
        answer = self.request(
            method, path, json=body or None if method in ("GET", "DELETE") else body
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    def items(self, **body) -> list[str]:
        return [one["item_id"] for one in self.ask("/v1/recommendations", **body)["items"]]


@pytest.fixture
def service(url: str, models: dict[str, Path]) -> Iterator[Service]:  # noqa: F811
    """One worker on a store that holds the shop and answers by its first model."""
    made = connect(url)
    migrate(made)
    load_dataset(made, "shop", SHOP)
    with writing(made) as connection:
        serve_model(
            connection,
            "shop",
            add_model(connection, "shop", str(models["one"]), saved_digest(models["one"])),
        )
    yield Service(made, Settings(models["one"].parents[1], body_bytes=200_000))
    made.dispose()


def take_away(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the database cannot be reached."""

    def away(*_: object) -> None:
        raise sa.exc.OperationalError("SELECT", None, Exception("connection refused"))

    def gone() -> None:
        raise service.engine.dialect.loaded_dbapi.OperationalError("connection refused")

    monkeypatch.setattr(service.engine, "connect", away, raising=False)
    monkeypatch.setattr(service.engine, "raw_connection", gone, raising=False)


def until(holds: Callable[[], bool], wait_s: float = 60.0) -> None:
    end = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def key(service: Service, role: str, tenant: str = "shop") -> str:
    with writing(service.engine) as connection:
        return keys.make_key(connection, tenant, role, f"{role} of {tenant}")


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """May do everything in the shop."""
    with Client(make_app(service), key(service, "admin")) as made:
        yield made
