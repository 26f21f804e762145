"""`tailor ids`: look at the semantic ids of a fitted generative model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailor.errors import ModelError

if TYPE_CHECKING:
    from tailor.generative.id_report import Drift, IdReport
    from tailor.generative.speller import Speller

ids_app = typer.Typer(no_args_is_help=True)


@ids_app.callback()
def ids() -> None:
    """Look at the semantic ids of a fitted generative model."""


@ids_app.command("report")
def report(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted model that generates ids.")],
    items: Annotated[
        Path | None,
        typer.Option("--items", help="A data set with further items: how well they fit."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random state of the samples.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how the ids use their codebooks, how many items collide, and whether neighbours share
    digits.
    """
    from tailor.cli.showing import print_json
    from tailor.core.run import Run
    from tailor.data.dataset import Dataset
    from tailor.generative.id_report import report_ids

    further = None if items is None else Dataset.open(items)
    health = report_ids(_opened(model), further, Run(seed=seed))
    if json:
        print_json(health.plain())
        return
    _show(health)


def _opened(model: Path) -> "Speller":
    """Return a saved model that generates ids. Raises ModelError for another one."""
    from tailor.core.saving import SavedModel
    from tailor.generative.speller import Speller

    method = SavedModel.open(model).method
    if not isinstance(method, Speller):
        raise ModelError(
            f"{model} holds the method {method.name}, which generates no ids: fit TIGER"
        )
    return method


def _show(health: "IdReport") -> None:
    """Print a report."""
    from tailor.cli.showing import say, table

    say(
        f"{health.items:,} items, {health.distinct_codes:,} distinct codes before the last digit;"
        f" {health.colliding:,} items share theirs, at most {health.largest_group:,} one code."
        f" The net can generate {health.last_digits:,} last digits."
    )
    rows: list[list[Any]] = [
        [
            f"{number}",
            level.words,
            f"{level.used:.1%}",
            f"{level.bits:.2f} of {level.even_bits:.2f}",
            "-" if level.purity is None else f"{level.purity:.1%}",
            f"{level.chance:.1%}",
        ]
        for number, level in enumerate(health.levels, start=1)
    ]
    table(["level", "words", "used", "bits", "neighbours alike", "by chance"], rows)
    if health.levels[0].purity is None:
        say("The model holds no vectors of items, so their neighbours are not known.")
    if health.drift is not None:
        _show_drift(health.drift)


def _show_drift(drift: "Drift") -> None:
    """Print how further items fit."""
    from tailor.cli.showing import say, table

    if drift.use_bits is None or drift.chance_bits is None or drift.in_known_codes is None:
        say(f"{drift.items:,} new items with a text, {drift.left_out:,} without a free last digit.")
        return
    say(
        f"{drift.items:,} new items with a text, {drift.left_out:,} of them without a free last"
        f" digit; {drift.in_known_codes:.1%} of the others have the code of an old item but for"
        " the last digit."
    )
    bits = zip(drift.use_bits, drift.chance_bits, strict=True)
    rows = [[f"{i}", f"{new:.3f}", f"{chance:.3f}"] for i, (new, chance) in enumerate(bits, 1)]
    table(["level", "drift of its use in bits", "by chance"], rows)
    if drift.cosine is not None and drift.old_cosine is not None:
        say(
            f"Cosine with the old items of the same first digit: new {drift.cosine:.3f}, old"
            f" {drift.old_cosine:.3f}."
        )
