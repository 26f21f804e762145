"""Routes of refits: start one beside the server, follow it, cancel it; none lets a model answer."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from tailor.core.saving import SavedModel
from tailor.service import responses
from tailor.service.batcher import any_error_named
from tailor.service.pipelines import Toml, described_pipeline
from tailor.service.problems import ProblemError
from tailor.service.routing import service_router
from tailor.service.schemas import Id, Schema, Short, VersionNumber
from tailor.service.state import Service
from tailor.store.keys import Caller
from tailor.store.models import list_models


class Refit(Schema):
    """A pipeline to learn from the stored events: its text, or that of a version."""

    toml: Toml | None = Field(None, description="The text of a pipeline file.")
    version: VersionNumber | None = Field(
        None, description="Version whose settings are learned again, in place of `toml`."
    )
    note: Short = Field("", description="Your words, shown in the list of models.")


class RefitState(responses.Answer):
    """A refit and how far it is."""

    id: str = Field(description="Id of the refit.")
    state: Literal["running", "done", "failed", "cancelled"] = Field(description="Its state.")
    note: str = Field(description="Words from its start.")
    started_by: str = Field(description="Name of the key that started it.")
    begun_ms: responses.TimeMs
    ended_ms: responses.TimeMs | None = Field(description="When it ended; null: not known, or yet.")
    stage: str = Field(description="What it does now.")
    step: responses.Count = Field(description="Number of that stage, from 1; 0: not known.")
    steps: responses.Count = Field(description="Number of stages.")
    done: responses.Count = Field(description="Turns of the stage that are done.")
    total: responses.Count = Field(description="Turns of the stage; 0: not known.")
    left_s: float | None = Field(description="About how many seconds are left; null: not known.")
    version: Annotated[int, Field(ge=1)] | None = Field(
        description="The version made, which does not answer until you switch to it."
    )
    why: str = Field(description="How it ended, in words.")


class RefitDetails(RefitState):
    """A refit with its pipeline and its last lines."""

    toml: str = Field(description="The text of its pipeline.")
    lines: list[str] = Field(description="The last lines that it wrote.")


class RefitStates(responses.Answer):
    """The latest refits."""

    refits: list[RefitState] = Field(description="Refits, the latest first.")


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the routes; `admin` is a dependency that gives the caller."""
    api = service_router("pipelines")
    jobs = service.refit_jobs

    @api.post("/v1/refits", responses=responses.answers(RefitDetails, 409))
    def start(body: Refit, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Learn a pipeline from the stored events, in a process beside the server.

        The model is judged beside the one that answers, and registered. It answers once you switch
        to it. One refit runs at a time.
        """
        return jobs.start(who.tenant, _pipeline(service, who.tenant, body), body.note, who.name)

    @api.get("/v1/refits", responses=responses.answers(RefitStates))
    def list_all(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return the latest refits."""
        return {"refits": jobs.jobs(who.tenant)}

    @api.get("/v1/refits/{refit_id:segment}", responses=responses.answers(RefitDetails, 404))
    def show(refit_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return a refit, how far it is and its last lines."""
        return jobs.job(who.tenant, refit_id)

    @api.delete("/v1/refits/{refit_id:segment}", responses=responses.answers(RefitDetails, 404))
    def cancel(refit_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Cancel a refit that runs; nothing of it is registered."""
        return jobs.cancel(who.tenant, refit_id)

    return api


def _pipeline(service: Service, tenant: str, body: Refit) -> dict[str, Any]:
    """Return the description of the pipeline to learn. Raises ProblemError where there is none."""
    if (body.toml is None) == (body.version is None):
        raise ProblemError(409, "toml: give the text of a pipeline, or a version, not both")
    if body.toml is not None:
        return described_pipeline(body.toml, tenant)
    rows = service.read(lambda connection: list_models(connection, tenant))
    row = next((row for row in rows if row["version"] == body.version), None)
    if row is None:
        raise ProblemError(409, f"version: there is no model version {body.version}")
    with any_error_named(row["folder"]):
        return dict(SavedModel.open(row["folder"]).description["spec"])
