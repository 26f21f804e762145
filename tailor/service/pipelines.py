"""The route that checks the text of a pipeline, and what other routes say of pipelines."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, Field

from tailor.core.methods import Recommender
from tailor.core.pipeline_check import Checked, Part, Problem, check_pipeline, part_tree
from tailor.core.specs import find_class
from tailor.errors import TailorError
from tailor.pipeline.tracing import settings_line
from tailor.service import responses
from tailor.service.problems import ProblemError
from tailor.service.refit import check_refit
from tailor.service.routing import service_router
from tailor.service.schemas import PLAIN, Schema, check_text
from tailor.store.keys import Caller

MOST_TOML = 100_000  # characters of a pipeline
MOST_PROBLEMS = 50  # that an answer names
Toml = Annotated[
    str, Field(max_length=MOST_TOML, json_schema_extra=PLAIN), AfterValidator(check_text)
]


class PipelineText(Schema):
    """The text of a pipeline file."""

    toml: Toml = Field(description="TOML, as `tailor pipeline` prints it.")


class PipelineProblem(responses.Answer):
    """A mistake in the text of a pipeline."""

    line: Annotated[int, Field(ge=1)] | None = Field(
        description="Line of the text, from 1; null: of no line in particular."
    )
    problem: str = Field(description="What is wrong.")
    remedy: str = Field(description="What to do; empty where the problem says it.")


class PipelinePart(responses.Answer):
    """A method of a pipeline with the methods among its settings."""

    name: str = Field(description="Name of the class.")
    class_path: str = Field(description="Its path, as pipeline files name it.")
    setting: str = Field(description="Setting of its owner that holds it; empty: the outermost.")
    summary: str = Field(description="What the class does.")
    settings: str = Field(description="Its plain settings in words.")
    parts: list["PipelinePart"] = Field(description="Its parts.")


class CheckedPipeline(responses.Answer):
    """The result of a check."""

    good: bool = Field(description="Whether it can be fitted.")
    parts: PipelinePart | None = Field(description="The parts as a tree; null with problems.")
    problems: list[PipelineProblem] = Field(description="Problems by line; empty where it is good.")


def routes(admin: Any) -> APIRouter:
    """Return the route; `admin` is a dependency that gives the caller."""
    api = service_router("pipelines")

    @api.post("/v1/pipelines/check", responses=responses.answers(CheckedPipeline))
    def check(body: PipelineText, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Check the text of a pipeline without fitting it.

        Nothing is imported but Tailor's classes and installed plug-ins. Settings that reach
        folders, addresses or keys of the server are refused.
        """
        checked = checked_pipeline(body.toml, who.tenant)
        tree = None if checked.method is None else shown_part(part_tree(checked.method))
        return {
            "good": not checked.problems,
            "parts": tree,
            "problems": [shown_problem(problem) for problem in checked.problems[:MOST_PROBLEMS]],
        }

    return api


def checked_pipeline(text: str, tenant: str) -> Checked:
    """Return the pipeline of a text that a refit can fit, or its problems."""
    checked = check_pipeline(text)
    if checked.method is None:
        return checked
    try:
        check_refit(checked.description, tenant, None)
    except TailorError as error:
        problem, _, remedy = str(error).partition(": ")
        return Checked(checked.description, problems=(Problem(problem, remedy, 1),))
    return checked


def described_pipeline(text: str, tenant: str) -> dict[str, Any]:
    """Return the description in a text. Raises ProblemError with its first problem."""
    checked = checked_pipeline(text, tenant)
    if checked.problems:
        first = checked.problems[0]
        line = "" if first.line is None else f"line {first.line}: "
        raise ProblemError(409, f"toml: {line}{first.problem}; {first.remedy}".rstrip("; "))
    return checked.description


def shown_problem(problem: Problem) -> dict[str, Any]:
    """Return a problem as answers show it."""
    return {"line": problem.line, "problem": problem.problem, "remedy": problem.remedy}


def shown_part(part: Part) -> dict[str, Any]:
    """Return a part as answers show it, with its own parts."""
    return {
        "name": part.name,
        "class_path": part.class_path,
        "setting": part.setting,
        "summary": summary_of(part.class_path),
        "settings": settings_line(part.settings),
        "parts": [shown_part(inner) for inner in part.parts],
    }


def summary_of(class_path: str) -> str:
    """Return the first paragraph of what a class says of itself."""
    text = find_class(class_path).__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())


def recommends(description: Mapping[str, Any]) -> bool:
    """Return whether a description names a class that recommends."""
    try:
        return issubclass(find_class(str(description.get("class"))), Recommender)
    except TailorError:
        return False
