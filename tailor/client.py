"""A client of the service. Needs httpx alone; nothing else of Tailor is imported."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

from tailor.errors import ServiceError

AT_ONCE = 1_000  # events or items of one request
BUSY = 429
# answers after which the same request may be sent again: events have ids, so that none counts twice
AGAIN = (BUSY, 502, 503, 504)


class Client:
    """Speaks with one server with one key.

        with Client("http://127.0.0.1:8000", key) as tailor:
            tailor.send_events([{"event_id": "1", "user_id": "ann", "item_id": "tea"}])
            tailor.recommend(user_id="ann", k=5)["items"]

    What the server refuses raises ServiceError with its reason and the field; what it cannot take
    now is sent again for up to `patience_s`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_s: float = 30.0,
        patience_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.patience_s = patience_s
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Store events; accepted (a count), duplicates (ids) and rejected (index, field, problem)
        over all of them. Sent again, none counts twice.
        """
        out: dict[str, Any] = {"accepted": 0, "duplicates": [], "rejected": []}
        for start in range(0, len(events), AT_ONCE):
            answer = self._batch(events[start : start + AT_ONCE])
            out["accepted"] += answer["accepted"]
            out["duplicates"] += answer["duplicates"]
            out["rejected"] += [
                {**one, "index": one["index"] + start} for one in answer["rejected"]
            ]
        return out

    def _batch(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        try:
            return self._ask("POST", "/v1/events", {"events": [dict(one) for one in events]})
        except ServiceError as error:
            if error.status != 422 or not any("index" in one for one in error.errors):
                raise
            # none of this batch, perhaps some of the next
            return {"accepted": 0, "duplicates": [], "rejected": list(error.errors)}

    def put_items(self, items: Sequence[Mapping[str, Any]]) -> int:
        """Write items; how many."""
        batches = [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]
        return sum(
            int(self._ask("PUT", "/v1/items", {"items": [dict(one) for one in some]})["written"])
            for some in batches
        )

    def delete_item(self, item_id: str) -> None:
        """It is answered no more, until it is written again."""
        self._ask("DELETE", f"/v1/items/{quote(item_id, safe='')}")

    def take_down(self, item_id: str, reason: str = "") -> None:
        """It is answered no more, whoever writes it again, until `restore`."""
        self._ask("POST", f"/v1/items/{quote(item_id, safe='')}/takedown", {"reason": reason})

    def restore(self, item_id: str) -> None:
        self._ask("DELETE", f"/v1/items/{quote(item_id, safe='')}/takedown")

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        k: int = 10,
        **more: Any,
    ) -> dict[str, Any]:
        """Items for a person, a history, or a stranger; `more`: exclude, filter, text, context,
        keep_seen, explain, request_id.
        """
        body = {
            "user_id": user_id,
            "history": None if history is None else list(history),
            "k": k,
            **more,
        }
        return self._ask(
            "POST",
            "/v1/recommendations",
            {name: value for name, value in body.items() if value is not None},
        )

    def predict(
        self,
        item_ids: Sequence[str],
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What the model that predicts says of each item, for a person, a history, or a stranger."""
        body = {
            "item_ids": list(item_ids),
            "user_id": user_id,
            "history": None if history is None else list(history),
            "context": dict(context or {}),
        }
        return self._ask(
            "POST",
            "/v1/predict",
            {name: value for name, value in body.items() if value is not None},
        )

    def similar(self, item_id: str, k: int = 10, **more: Any) -> dict[str, Any]:
        return self._ask("POST", "/v1/similar", {"item_id": item_id, "k": k, **more})

    def search(self, text: str, k: int = 10, **more: Any) -> dict[str, Any]:
        return self._ask("POST", "/v1/search", {"text": text, "k": k, **more})

    def export(self, user_id: str) -> dict[str, Any]:
        """All that is stored of a person."""
        return self._ask("GET", f"/v1/users/{quote(user_id, safe='')}/data")

    def erase(self, user_id: str) -> dict[str, Any]:
        """Erase a person; the signed receipt."""
        return self._ask("DELETE", f"/v1/users/{quote(user_id, safe='')}/data")

    def models(self) -> list[dict[str, Any]]:
        """All versions, the one that answers first."""
        return list(self._ask("GET", "/v1/models")["models"])

    def register_model(self, folder: str, note: str = "") -> dict[str, Any]:
        """Register a folder within the server's models/TENANT, and let it answer once it is loaded."""
        return self._ask("POST", "/v1/models", {"folder": folder, "note": note})

    def serve_model(self, version: int) -> dict[str, Any]:
        return self._ask("POST", "/v1/models/switch", {"version": version})

    def roll_back(self, kind: str = "recommends") -> dict[str, Any]:
        """Let the version answer that did before this one; `kind`: "recommends" or "predicts".
        Never sent twice: the second time would undo the first.
        """
        return self._ask("POST", f"/v1/models/rollback?kind={quote(kind, safe='')}", once=True)

    def start_experiment(
        self, name: str, arms: Sequence[Mapping[str, Any]], action: str | None = None
    ) -> dict[str, Any]:
        """Let versions answer shares of the people: arms are [{"version": 3, "share": 0.5}, ...],
        the first what the others are compared with.
        """
        return self._ask(
            "POST",
            "/v1/experiments",
            {"name": name, "arms": [dict(one) for one in arms], "action": action},
        )

    def experiment(self, name: str) -> dict[str, Any]:
        """What came of it so far."""
        return self._ask("GET", f"/v1/experiments/{quote(name, safe='')}")

    def end_experiment(self, name: str) -> dict[str, Any]:
        return self._ask("DELETE", f"/v1/experiments/{quote(name, safe='')}")

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, once: bool = False
    ) -> dict[str, Any]:
        """`once`: sent again only where it is sure that it was not done."""
        give_up, wait_s = time.monotonic() + self.patience_s, 0.5
        while True:
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                problem, after = (
                    ServiceError(
                        f"{self._http.base_url} does not answer ({type(error).__name__}): is the"
                        " server running?"
                    ),
                    wait_s,
                )
                may_again = not once or isinstance(error, httpx.ConnectError)
            else:
                if answer.is_success:
                    return dict(answer.json())
                problem, after = (
                    _problem(answer),
                    _wait(answer.headers.get("retry-after", ""), wait_s),
                )
                may_again = answer.status_code in AGAIN and (not once or answer.status_code == BUSY)
            if not may_again or time.monotonic() + after > give_up:
                raise problem
            time.sleep(after)
            wait_s = min(2 * wait_s, 10.0)


def _wait(said: str, otherwise: float) -> float:
    """Seconds to wait as a Retry-After says: a number, or the moment, which proxies write."""
    with suppress(ValueError):
        return max(float(said), 0.0)
    with suppress(ValueError):
        return max(parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    return otherwise


def _problem(answer: httpx.Response) -> ServiceError:
    try:
        said = answer.json()
        return ServiceError(said["detail"], answer.status_code, said.get("errors", ()))
    except (ValueError, KeyError, TypeError):
        return ServiceError(f"the server answered {answer.status_code}", answer.status_code)
