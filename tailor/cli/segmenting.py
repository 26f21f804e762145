"""`tailor segments`: widen an audience, and describe the segments of a fitted model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailor.errors import DataError, ModelError

if TYPE_CHECKING:
    from tailor.data.dataset import Dataset
    from tailor.profiles.segments import Segmenter

segments_app = typer.Typer(no_args_is_help=True)
Model = Annotated[Path, typer.Argument(help="Folder of a fitted model that finds segments.")]
Data = Annotated[Path, typer.Argument(help="Data set with the users to choose from.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@segments_app.command("expand")
def expand(
    model: Model,
    data: Data,
    users: Annotated[
        Path, typer.Option("--users", help="File with the ids of the audience, one a line.")
    ],
    size: Annotated[int, typer.Option("--size", min=1, help="Users wanted.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Random state.")] = 0,
    json: Json = False,
) -> None:
    """Print the users who resemble an audience most, and are not in it."""
    from tailor.cli.showing import print_json, say, table
    from tailor.core.run import Run

    segmenter, dataset = _opened(model, data)
    members = _ids(users)
    unknown = set(members) - set(dataset.users.ids.tolist())
    similar = segmenter.expand(dataset.queries(), members, size, Run(seed=seed))
    if json:
        print_json([{"user_id": user.user_id, "score": round(user.score, 4)} for user in similar])
        return
    if unknown:
        say(f"{len(unknown)} of {len(members)} users of the audience are not in {data}")
    table(["user", "log-odds"], [[str(user.user_id), f"{user.score:.3f}"] for user in similar])


@segments_app.command("cards")
def cards(model: Model, data: Data, json: Json = False) -> None:
    """Print a card a segment: its size, and what its users choose more than others."""
    from tailor.cli.showing import print_json, say

    segmenter, dataset = _opened(model, data)
    described = segmenter.cards(dataset.queries())
    if json:
        print_json([card.plain() for card in described])
        return
    say(*(card.text for card in described))


def _opened(model: Path, data: Path) -> "tuple[Segmenter, Dataset]":
    """Return a saved model that finds segments, and a data set."""
    from tailor.core.saving import SavedModel
    from tailor.data.dataset import Dataset
    from tailor.profiles.segments import Segmenter

    method = SavedModel.open(model).method
    if not isinstance(method, Segmenter):
        raise ModelError(
            f"{model} holds the method {method.name}, which finds no segments: fit UNICON"
        )
    return method, Dataset.open(data)


def _ids(file: Path) -> list[str]:
    """Return the ids of a file, one a line. Raises DataError where there are none."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        raise DataError(f"{file} has no ids: write one a line")
    return ids
