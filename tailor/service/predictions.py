"""The route that predicts: calibrated numbers for given items and a user."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from tailor.data.nouns import History, Query
from tailor.service import responses
from tailor.service.answers import context_of, history_of
from tailor.service.batcher import LoadedPredictor, ordinary_errors
from tailor.service.problems import ProblemError
from tailor.service.routing import service_router
from tailor.service.schemas import Predict
from tailor.service.state import Service
from tailor.store.engine import now_ms
from tailor.store.keys import Caller


def routes(service: Service, reader: Any) -> APIRouter:
    """Return the routes; `reader` is a dependency that gives the caller."""
    api = service_router("answers")

    @api.post("/v1/predict", responses=responses.answers(responses.Predictions, 409))
    def predict(body: Predict, who: Caller = Depends(reader)) -> JSONResponse:
        """Predict the outcome of each item, such as the probability of a choice.

        Each item is predicted by itself, in the order asked, and nothing is logged as shown. An
        item that the model does not know has `"known": false` and a number from what is known of
        the user. One that must not be answered has no value.
        """
        # a response, since the framework takes 5 ms to look through 500 items of a dictionary
        return JSONResponse(_predict(service, who.tenant, body))

    return api


def _predict(service: Service, tenant: str, body: Predict) -> dict[str, Any]:
    if body.user_id is not None and body.history is not None:
        raise ProblemError(422, "history: give user_id or history, not both")
    if body.values is not None and len(body.values) != len(body.history or ()):
        raise ProblemError(422, "values: give one number for each item of history")
    predictor = service.model_registry.predictor(tenant)
    snapshot = service.snapshot(tenant, body.user_id)
    notes: list[str] = []
    history = history_of(snapshot, body.user_id, body.history, notes)
    if body.values is not None:
        history = History(history.item_ids, values=tuple(body.values))
    context = context_of(snapshot, body.context)
    query = Query(body.user_id, history, time_ms=now_ms(), context=context)
    blocked = snapshot.catalogue.blocked
    allowed = [item_id for item_id in dict.fromkeys(body.item_ids) if item_id not in blocked]
    values = dict(zip(allowed, _values(predictor, query, allowed), strict=True))
    # read again: items may have been blocked meanwhile
    blocked = service.catalogue(tenant).blocked
    items = [
        {
            "item_id": item_id,
            "value": None if item_id in blocked else values.get(item_id),
            "known": item_id in predictor.model.items_,
        }
        for item_id in body.item_ids
    ]
    if any(item["value"] is None for item in items):
        notes.append("items without a value must not be answered: they were deleted or taken down")
    if predictor.model.fit_report_.get("calibrated") is False:
        notes.append(
            "this model saw too few of one kind to be calibrated: compare its values, do not"
            " count with them"
        )
    return {"model": predictor.name, "items": items, "notes": notes}


def _values(predictor: LoadedPredictor, query: Query, item_ids: Sequence[str]) -> list[Any]:
    """Return a number for each item, or a list of numbers where the model gives several."""
    with ordinary_errors():
        values = predictor.model.predict([query], [list(item_ids)])[0]
    if not np.isfinite(values).all():
        raise ProblemError(
            500,
            f"{predictor.name} answered what is no number: fit it anew, or put the one before it"
            " back (/v1/models/rollback?kind=predicts)",
        )
    rounded: list[Any] = np.round(values.astype(float), 6).tolist()
    return rounded
