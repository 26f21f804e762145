"""A client of the service. It needs httpx alone and imports nothing else of Tailor."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx

from tailor.errors import ServiceError

ROLES = ("serve", "read", "write", "admin")  # of keys; each may do what those before it may
BATCH = 1_000  # events or items of a request
UNKNOWN, REFUSED, WRONG, BUSY = 401, 409, 422, 429
LINK = re.compile(r"[A-Za-z0-9_-]{1,512}")  # as links of people are written
# answers after which a request may be sent again: events have ids, so that none counts twice
RETRYABLE = (BUSY, 502, 503, 504)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0


class Client:
    """Speaks with one server with one key.

        with Client("http://127.0.0.1:8000", key) as tailor:
            tailor.send_events([{"event_id": "1", "user_id": "ann", "item_id": "tea"}])
            tailor.recommend(user_id="ann", k=5)["items"]

    What the server refuses raises ServiceError with its reason and the field. What it cannot take
    now is sent again for up to `patience_s` seconds.
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
        """Close the connections."""
        self._http.close()

    def caller(self) -> dict[str, Any]:
        """Return the tenant, the name and the role of the key."""
        return self._ask("GET", "/v1/caller")

    def send_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Store events; sent again, none counts twice.

        Returns accepted (a count), duplicates (ids) and rejected (index, field, problem).
        """
        total: dict[str, Any] = {"accepted": 0, "duplicates": [], "rejected": []}
        for start in range(0, len(events), BATCH):
            answer = self._send_batch(events[start : start + BATCH])
            total["accepted"] += answer["accepted"]
            total["duplicates"] += answer["duplicates"]
            total["rejected"] += [
                {**problem, "index": problem["index"] + start} for problem in answer["rejected"]
            ]
        return total

    def _send_batch(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        body = {"events": [dict(event) for event in events]}
        try:
            return self._ask("POST", "/v1/events", body)
        except ServiceError as error:
            names_events = any("index" in problem for problem in error.errors)
            if error.status not in (REFUSED, WRONG) or not names_events:
                raise
            # nothing of this batch was stored; the next may be good
            return {"accepted": 0, "duplicates": [], "rejected": list(error.errors)}

    def put_items(self, items: Sequence[Mapping[str, Any]]) -> int:
        """Write items and return how many."""
        written = 0
        for start in range(0, len(items), BATCH):
            body = {"items": [dict(item) for item in items[start : start + BATCH]]}
            written += int(self._ask("PUT", "/v1/items", body)["written"])
        return written

    def delete_item(self, item_id: str) -> None:
        """Delete an item: no answer has it until it is written again."""
        self._ask("DELETE", f"/v1/items/{_path_part(item_id)}")

    def take_down(self, item_id: str, reason: str = "") -> None:
        """Take an item down: no answer has it, whoever writes it, until `restore`."""
        self._ask("POST", f"/v1/items/{_path_part(item_id)}/takedown", {"reason": reason})

    def restore(self, item_id: str) -> None:
        """Undo a takedown."""
        self._ask("DELETE", f"/v1/items/{_path_part(item_id)}/takedown")

    def items(
        self,
        query: str = "",
        blocked: bool | None = None,
        k: int = 50,
        after: str | None = None,
    ) -> dict[str, Any]:
        """Return stored `items` by the beginning of their id, or by words, and `next`.

        `blocked` asks for those that no answer has (True) or for the others (False).
        """
        is_blocked = None if blocked is None else str(blocked).lower()
        parameters = {"query": query or None, "blocked": is_blocked, "k": k, "after": after}
        return self._ask("GET", _with_query("/v1/items", parameters))

    def item(self, item_id: str) -> dict[str, Any]:
        """Return what is stored of an item, and whether it is blocked and why."""
        return self._ask("GET", f"/v1/items/{_path_part(item_id)}")

    def exposure(self, item_id: str, days: int = 30) -> dict[str, Any]:
        """Return how often an item was shown, chosen and used, by day."""
        path = f"/v1/items/{_path_part(item_id)}/exposure"
        return self._ask("GET", _with_query(path, {"days": days}))

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        k: int = 10,
        **more: Any,
    ) -> dict[str, Any]:
        """Recommend items for a user, a history, or a cold user.

        `more`: exclude, filter, text, context, keep_seen, explain, diversity, request_id, trace,
        version.
        """
        item_ids = None if history is None else list(history)
        body = {"user_id": user_id, "history": item_ids, "k": k, **more}
        return self._ask("POST", "/v1/recommendations", _without_none(body))

    def rerank(self, query: str, documents: Sequence[str], **more: Any) -> dict[str, Any]:
        """Order documents by how well they answer a query.

        `more`: model, top_n, prior_scores, user_id and the other fields of `POST /v2/rerank`.
        """
        return self._ask("POST", "/v2/rerank", {"query": query, "documents": documents, **more})

    def predict(
        self,
        item_ids: Sequence[str],
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        context: Mapping[str, Any] | None = None,
        values: Sequence[float] | None = None,
    ) -> dict[str, Any]:
        """Predict each item's outcome for a user, a history, or a cold user.

        `values` are numbers of the history's items: ratings, or answers as 1 and 0.
        """
        body = {
            "item_ids": list(item_ids),
            "user_id": user_id,
            "history": None if history is None else list(history),
            "context": dict(context or {}),
            "values": None if values is None else list(values),
        }
        return self._ask("POST", "/v1/predict", _without_none(body))

    def similar(self, item_id: str, k: int = 10, **more: Any) -> dict[str, Any]:
        """Return items like one; `more`: exclude, filter, request_id."""
        return self._ask("POST", "/v1/similar", {"item_id": item_id, "k": k, **more})

    def search(self, text: str, k: int = 10, **more: Any) -> dict[str, Any]:
        """Return items that answer a text; `more`: exclude, filter, user_id, request_id."""
        return self._ask("POST", "/v1/search", {"text": text, "k": k, **more})

    def people(self, query: str = "", k: int = 20, after: str | None = None) -> dict[str, Any]:
        """Return people whose id has a part: `people`, `next` (for `after`), and `searched`.

        Without a query they are those of the latest events.
        """
        parameters = {"query": query or None, "k": k, "after": after}
        return self._ask("GET", _with_query("/v1/users", parameters))

    def history(self, user_id: str, k: int = 50, before: str | None = None) -> dict[str, Any]:
        """Return a person's `events`, the latest first, and `next` (for `before`)."""
        path = f"/v1/users/{_path_part(user_id)}/history"
        return self._ask("GET", _with_query(path, {"k": k, "before": before}))

    def looks(
        self, user_id: str | None = None, k: int = 50, before: int | None = None
    ) -> dict[str, Any]:
        """Return which keys looked at people's data, the latest first; `next` is for `before`."""
        parameters = {"user_id": user_id, "k": k, "before": before}
        return self._ask("GET", _with_query("/v1/audit", parameters))

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        """Return a receipt of an erasure or of forgetting, as of now."""
        return self._ask("GET", f"/v1/receipts/{_path_part(receipt_id)}")

    def export(self, user_id: str, timeout_s: float | None = None) -> dict[str, Any]:
        """Return all that is stored of a person; many events may need a longer `timeout_s`."""
        path = f"/v1/users/{_path_part(user_id)}/data"
        return self._ask("GET", path, timeout_s=timeout_s)

    def erase(self, user_id: str, timeout_s: float | None = None) -> dict[str, Any]:
        """Erase a person and return the signed receipt; `timeout_s` is as in `export`."""
        path = f"/v1/users/{_path_part(user_id)}/data"
        return self._ask("DELETE", path, timeout_s=timeout_s)

    def link(self, user_id: str, hours: int = 72) -> dict[str, Any]:
        """Make a link to a person's own page; return it with the page's path and its end."""
        return self._ask("POST", f"/v1/users/{_path_part(user_id)}/links", {"hours": hours})

    def end_links(self, user_id: str) -> None:
        """End all links to a person's own page."""
        self._ask("DELETE", f"/v1/users/{_path_part(user_id)}/links")

    def memory(self, user_id: str) -> "UserMemory":
        """Return the memory of a user, to observe, recall, explain, correct and forget."""
        return UserMemory(self, f"/v1/users/{_path_part(user_id)}/memory")

    def models(self) -> list[dict[str, Any]]:
        """Return all versions, the one that answers first."""
        return list(self._ask("GET", "/v1/models")["models"])

    def model(self, version: int) -> dict[str, Any]:
        """Return a version in full: settings, fit report, card, curves, judgement."""
        return self._ask("GET", f"/v1/models/{version}")

    def register_model(self, folder: str, note: str = "") -> dict[str, Any]:
        """Register a folder within the server's models/TENANT, and let it answer once loaded."""
        return self._ask("POST", "/v1/models", {"folder": folder, "note": note})

    def serve_model(self, version: int) -> dict[str, Any]:
        """Let a version answer, once it is loaded."""
        return self._ask("POST", "/v1/models/switch", {"version": version})

    def roll_back(self, kind: str = "recommends") -> dict[str, Any]:
        """Let the version from before answer; `kind`: "recommends" or "predicts".

        It is never sent twice: the second time would go one version further back.
        """
        return self._ask("POST", f"/v1/models/rollback?kind={quote(kind, safe='')}", once=True)

    def check_pipeline(self, toml: str) -> dict[str, Any]:
        """Check the text of a pipeline: its parts, or its problems with lines."""
        return self._ask("POST", "/v1/pipelines/check", {"toml": toml})

    def start_refit(
        self, toml: str | None = None, version: int | None = None, note: str = ""
    ) -> dict[str, Any]:
        """Learn a pipeline, or the settings of a version, beside the server.

        The model is registered, and answers once `serve_model` says so. It is never sent twice.
        """
        body = _without_none({"toml": toml, "version": version, "note": note})
        return self._ask("POST", "/v1/refits", body, once=True)

    def refits(self) -> list[dict[str, Any]]:
        """Return the latest refits, the last one first."""
        return list(self._ask("GET", "/v1/refits")["refits"])

    def refit(self, refit_id: str) -> dict[str, Any]:
        """Return a refit, how far it is, and its last lines."""
        return self._ask("GET", f"/v1/refits/{_path_part(refit_id)}")

    def cancel_refit(self, refit_id: str) -> dict[str, Any]:
        """Cancel a refit that runs; nothing of it is registered."""
        return self._ask("DELETE", f"/v1/refits/{_path_part(refit_id)}")

    def estimate(
        self, version: int, reward: str | None = None, most: int | None = None
    ) -> dict[str, Any]:
        """Estimate what a version would have earned, from `most` logged lists.

        `reward` is a condition that events must meet to count.
        """
        parameters = {"version": version, "reward": reward, "most": most}
        return self._ask("GET", _with_query("/v1/estimates", parameters))

    def experiments(self) -> list[dict[str, Any]]:
        """Return all experiments, the latest first."""
        return list(self._ask("GET", "/v1/experiments")["experiments"])

    def start_experiment(
        self, name: str, arms: Sequence[Mapping[str, Any]], action: str | None = None
    ) -> dict[str, Any]:
        """Let versions answer shares of the users.

        Arms are [{"version": 3, "share": 0.5}, ...]; the first is what the others are compared
        with.
        """
        body = {"name": name, "arms": [dict(arm) for arm in arms], "action": action}
        return self._ask("POST", "/v1/experiments", body)

    def experiment(self, name: str) -> dict[str, Any]:
        """Return what came of an experiment so far."""
        return self._ask("GET", f"/v1/experiments/{_path_part(name)}")

    def end_experiment(self, name: str) -> dict[str, Any]:
        """End an experiment."""
        return self._ask("DELETE", f"/v1/experiments/{_path_part(name)}")

    def overview(self, days: int = 14) -> dict[str, Any]:
        """Return counts, days, coverage, freshness, models, latency and alerts."""
        return self._ask("GET", f"/v1/overview?days={days:d}")

    def stored_data(self) -> dict[str, Any]:
        """Return the stored tables with rows, times, missing values and repeats."""
        return self._ask("GET", "/v1/data")

    def diagnosis(self) -> dict[str, Any]:
        """Return the state of the latest diagnosis of the stored data, and its result."""
        return self._ask("GET", "/v1/data/diagnosis")

    def begin_diagnosis(self) -> dict[str, Any]:
        """Check and diagnose the stored data; ask `diagnosis` until the run has ended."""
        return self._ask("POST", "/v1/data/diagnosis")

    def cancel_diagnosis(self) -> dict[str, Any]:
        """Cancel the diagnosis that runs."""
        return self._ask("DELETE", "/v1/data/diagnosis")

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Send a request until it is answered; with `once` only while it surely was not done."""
        give_up_s = time.monotonic() + self.patience_s
        options: dict[str, Any] = {} if timeout_s is None else {"timeout": timeout_s}
        wait_s = FIRST_WAIT_S
        while True:
            try:
                answer = self._http.request(method, path, json=body, **options)
            except httpx.TransportError as error:
                problem = ServiceError(
                    f"{self._http.base_url} does not answer ({type(error).__name__}): is the"
                    " server running?"
                )
                next_wait_s = wait_s
                is_retryable = not once or isinstance(error, httpx.ConnectError)
            else:
                if answer.is_success:
                    return dict(answer.json())
                problem = _problem(answer)
                next_wait_s = _retry_after_s(answer.headers.get("retry-after", ""), wait_s)
                is_retryable = answer.status_code in ((BUSY,) if once else RETRYABLE)
            if not is_retryable or time.monotonic() + next_wait_s > give_up_s:
                raise problem
            time.sleep(next_wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class UserMemory:
    """The memory of one user; answers are those of the routes below `/v1/users/ID/memory`."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path

    def observe(self, *texts: str, observations: Sequence[Mapping[str, Any]] = ()) -> Any:
        """Store messages of now, or observations with text, time_ms, source and more."""
        sent = [{"text": text} for text in texts]
        sent += [dict(observation) for observation in observations]
        # without a time it is of now: sent again, it would be another one
        is_untimed = any(observation.get("time_ms") is None for observation in sent)
        return self._ask("POST", "/observations", {"observations": sent}, is_untimed)

    def recall(self, query: str, k: int = 10, **more: Any) -> Any:
        """Return what answers a question.

        `more`: budget_tokens, scope, at_ms, as_of_ms, most_sensitivity.
        """
        return self._ask("POST", "/recall", {"query": query, "k": k, **more})

    def profile(self, **more: int) -> Any:
        """Return what is believed; `more`: at_ms, as_of_ms, tokens, most_sensitivity."""
        return self._ask("GET", _with_query("", more))

    def timeline(self, as_of_ms: int | None = None, most_sensitivity: int | None = None) -> Any:
        """Return all propositions, those that are over or rejected too."""
        parameters = {"as_of_ms": as_of_ms, "most_sensitivity": most_sensitivity}
        return self._ask("GET", _with_query("/timeline", parameters))

    def diff(
        self, since_ms: int, until_ms: int | None = None, most_sensitivity: int | None = None
    ) -> Any:
        """Return what the memory came to believe between two times, and ceased to."""
        parameters = {
            "since_ms": since_ms,
            "until_ms": until_ms,
            "most_sensitivity": most_sensitivity,
        }
        return self._ask("GET", _with_query("/diff", parameters))

    def explain(self, proposition_id: str, most_sensitivity: int | None = None) -> Any:
        """Return what a proposition rests on."""
        path = f"/propositions/{_path_part(proposition_id)}"
        return self._ask("GET", _with_query(path, {"most_sensitivity": most_sensitivity}))

    def confirm(self, proposition_id: str, status: str | None = None) -> Any:
        """Note that the user says a proposition is right.

        `status` is that which was seen; ServiceError is raised where it is another one by now.
        """
        path = f"/propositions/{_path_part(proposition_id)}/confirm"
        return self._ask("POST", _with_query(path, {"status": status}), once=status is not None)

    def reject(self, proposition_id: str, status: str | None = None) -> Any:
        """Note that the user says a proposition is wrong; `status` is as in `confirm`."""
        path = f"/propositions/{_path_part(proposition_id)}/reject"
        return self._ask("POST", _with_query(path, {"status": status}), once=True)

    def correct(self, proposition_id: str, value: str, status: str | None = None) -> Any:
        """Put the user's own value in place of a proposition's object; `status`: see `confirm`."""
        path = f"/propositions/{_path_part(proposition_id)}"
        return self._ask("PUT", _with_query(path, {"status": status}), {"value": value}, once=True)

    def settings(self) -> Any:
        """Return whether the memory is paused, and how long it keeps observations."""
        return self._ask("GET", "/settings")

    def configure(self, **settings: bool | float | None) -> Any:
        """Write `paused` or `retention_days` (None: for ever); what is left out stays."""
        return self._ask("PUT", "/settings", settings)

    def forget(
        self, entry_id: str | None = None, query: str | None = None, everything: bool = False
    ) -> Any:
        """Delete an entry, what has all words of a query, or everything; return the receipt."""
        if (entry_id is not None) + (query is not None) + everything != 1:
            raise ServiceError("forget takes one of entry_id, query and everything")
        if query is not None:
            return self._ask("POST", "/forget", {"query": query})
        path = "" if entry_id is None else f"/entries/{_path_part(entry_id)}"
        return self._ask("DELETE", path)

    def export(self) -> dict[str, Any]:
        """Return all of the memory; `import_` takes it."""
        return dict(self._ask("GET", "/export")["memory"])

    def import_(self, memory: Mapping[str, Any]) -> Any:
        """Add an exported memory."""
        return self._ask("POST", "/import", {"memory": dict(memory)})

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, once: bool = False
    ) -> dict[str, Any]:
        return self._client._ask(method, self._path + path, body, once)


class PersonClient:
    """Speaks with one server for one person, with the link of that person's own page.

        with PersonClient("http://127.0.0.1:8000", link) as me:
            me.overview()["events"]
            me.erase()

    A link that is wrong or over raises ServiceError with the status 401.
    """

    def __init__(self, url: str, link: str, **options: Any) -> None:
        if not LINK.fullmatch(link):
            raise ServiceError("this is no link to a person's own page", UNKNOWN)
        self._client = Client(url, link, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def overview(self) -> dict[str, Any]:
        """Return what is known in short: counts, attributes, what is paused, when the link ends."""
        return self._client._ask("GET", "/v1/me")

    def history(self, before: str | None = None, k: int = 50) -> dict[str, Any]:
        """Return a page of events, the latest first; `before` is `next` of the page before."""
        return self._client._ask("GET", _with_query("/v1/me/history", {"before": before, "k": k}))

    def delete_event(self, event_id: str) -> dict[str, Any]:
        """Delete one event and return the signed receipt."""
        return self._client._ask("DELETE", f"/v1/me/history/{_path_part(event_id)}", once=True)

    def recommendations(self, k: int = 10) -> dict[str, Any]:
        """Return what would be shown now, and why."""
        return self._client._ask("GET", _with_query("/v1/me/recommendations", {"k": k}))

    def pause(self, memory: bool | None = None, history: bool | None = None) -> dict[str, Any]:
        """Pause the memory or the history, or let them go on; return what is paused."""
        changes = _without_none({"memory": memory, "history": history})
        return self._client._ask("PUT", "/v1/me/pause", changes)

    def memory(self) -> list[dict[str, Any]]:
        """Return all that is believed, what is over or rejected too."""
        return list(self._client._ask("GET", "/v1/me/memory")["propositions"])

    def explain(self, proposition_id: str) -> dict[str, Any]:
        """Return what a proposition rests on."""
        return self._client._ask("GET", _own_proposition(proposition_id))

    def confirm(self, proposition_id: str) -> dict[str, Any]:
        """Say that a proposition is right."""
        return self._client._ask("POST", f"{_own_proposition(proposition_id)}/confirm")

    def reject(self, proposition_id: str) -> dict[str, Any]:
        """Say that a proposition is wrong."""
        return self._client._ask("POST", f"{_own_proposition(proposition_id)}/reject", once=True)

    def correct(self, proposition_id: str, value: str) -> dict[str, Any]:
        """Put the person's own value in place of a proposition's object."""
        return self._client._ask(
            "PUT", _own_proposition(proposition_id), {"value": value}, once=True
        )

    def forget(self, entry_id: str) -> dict[str, Any]:
        """Delete an observation, or a proposition with all that it rests on."""
        return self._client._ask(
            "DELETE", f"/v1/me/memory/entries/{_path_part(entry_id)}", once=True
        )

    def export(self) -> dict[str, Any]:
        """Return all that is stored."""
        return self._client._ask("GET", "/v1/me/data")

    def erase(self) -> dict[str, Any]:
        """Erase the person and return the signed receipt; the link ends with it."""
        return self._client._ask("POST", "/v1/me/erase", {"confirm": "erase"}, once=True)


def _own_proposition(proposition_id: str) -> str:
    return f"/v1/me/memory/propositions/{_path_part(proposition_id)}"


def _with_query(path: str, parameters: Mapping[str, Any]) -> str:
    """Return an address with the parameters that are not None."""
    parts = _without_none(parameters)
    return f"{path}?{urlencode(parts)}" if parts else path


def _path_part(text: str) -> str:
    """Return an id as a part of an address. Raises ServiceError for one that no address holds."""
    if text in ("", ".", ".."):
        raise ServiceError(f'"{text}" is no id: no address can hold it')
    return quote(text, safe="")


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _retry_after_s(header: str, default_s: float) -> float:
    """Return the seconds of a Retry-After: a number, or a moment, as proxies write it."""
    with suppress(ValueError):
        return max(float(header), 0.0)
    with suppress(ValueError):
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    return default_s


def _problem(answer: httpx.Response) -> ServiceError:
    """Return the error of an answer."""
    try:
        body = answer.json()
        return ServiceError(body["detail"], answer.status_code, body.get("errors", ()))
    except (ValueError, KeyError, TypeError):
        return ServiceError(f"the server answered {answer.status_code}", answer.status_code)
