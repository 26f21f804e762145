"""Calibrated numbers for given items: how likely this person is to choose, like or finish each of
them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends

from tailor.data.nouns import Query
from tailor.service.answers import history_of
from tailor.service.batcher import LoadedPredictor
from tailor.service.problems import ProblemError
from tailor.service.schemas import Predict
from tailor.service.state import Service
from tailor.store.engine import now_ms
from tailor.store.keys import Caller


def routes(service: Service, reader: Any) -> APIRouter:
    """`reader` is a dependency that gives the caller."""
    api = APIRouter(tags=["answers"])

    @api.post("/v1/predict")
    def predict(body: Predict, who: Caller = Depends(reader)) -> dict[str, Any]:
        """What the model that predicts says of each item, in the order asked: each by itself,
        whatever stands beside it. Nothing of it is logged as shown.

        Items that the model does not know are answered by what is known of the person (`"known":
        false`); those that must not be answered get no value.
        """
        if body.user_id is not None and body.history is not None:
            raise ProblemError(422, "history: give user_id or history, not both")
        model, notes = service.model_registry.predictor(who.tenant), list[str]()
        shelf, events, now = service.known(who.tenant, body.user_id)
        history = history_of(shelf, body.user_id, body.history, events, now, notes)
        query = Query(body.user_id, history, time_ms=now_ms(), context=body.context)
        may = [one for one in dict.fromkeys(body.item_ids) if one not in shelf.blocked]
        said = dict(zip(may, _values(model, query, may), strict=True))
        # as it is now: what was blocked meanwhile goes too
        blocked = service.shelf(who.tenant).blocked
        items = [
            {
                "item_id": one,
                "value": None if one in blocked else said.get(one),
                "known": one in model.model.items_,
            }
            for one in body.item_ids
        ]
        if any(one["value"] is None for one in items):
            notes.append(
                "items without a value must not be answered: they were deleted or taken down"
            )
        if model.model.fit_report_.get("calibrated") is False:
            notes.append(
                "this model saw too few of one kind to be calibrated: compare its values, do not"
                " count with them"
            )
        return {"model": model.name, "items": items, "notes": notes}

    return api


def _values(model: LoadedPredictor, query: Query, item_ids: Sequence[str]) -> list[Any]:
    """A number an item, or a list of them where the model says several."""
    values = model.model.predict([query], [list(item_ids)])[0]
    if not np.isfinite(values).all():
        raise ProblemError(
            500,
            f"{model.name} answered what is no number: fit it anew, or put the one before it back"
            " (/v1/models/rollback?kind=predicts)",
        )
    return [np.round(one, 6).tolist() for one in values.astype(float)]
