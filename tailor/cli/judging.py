"""`tailor estimate`: models judge by the log of what another one showed."""

from pathlib import Path

from tailor.cli.asking import opened
from tailor.cli.showing import print_json, say, table
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.evaluation.off_policy import Estimate, Value, estimate
from tailor.progress import terminal


def estimate_command(
    models: list[Path],
    data_folder: Path | None,
    database: str | None,
    tenant: str,
    reward: str | None,
    keep_seen: bool,
    most: int,
    seed: int,
    json: bool,
) -> None:
    """See `tailor estimate --help`."""
    if most < 1:
        raise DataError(f"--most {most}: at least 1")
    methods = {str(folder): opened(folder) for folder in models}
    data, run = _log(data_folder, database, tenant), Run(seed, progress=terminal)
    found = {
        folder: estimate(data, method, reward, keep_seen, most, run)
        for folder, method in methods.items()
    }
    if json:
        print_json({folder: one.to_dict() for folder, one in found.items()})
        return
    first = next(iter(found.values()))
    say(
        f"{first.requests:,} lists shown to known people; what was shown earned"
        f" {_shown(first.logged)} a list"
    )
    rows = [
        (
            folder,
            _shown(one.dr),
            _shown(one.ips),
            f"{one.snips:.4f}",
            f"{one.agreement:.0%}",
            f"{one.covered:.0%}",
            f"{one.sample:.0f}",
        )
        for folder, one in found.items()
    ]
    table(
        [
            "model",
            "would earn a list",
            "without a baseline",
            "normalised",
            "agrees",
            "covered",
            "worth places",
        ],
        rows,
    )
    for folder, one in found.items():
        say(*(f"note: {folder}: {note}" for note in one.notes))
    say(*_verdicts(found))


def _shown(value: Value) -> str:
    return f"{value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]"


def _verdicts(found: dict[str, Estimate]) -> list[str]:
    out = []
    for folder, one in found.items():
        better, worse = one.dr.low > one.logged.high, one.dr.high < one.logged.low
        what = (
            "would have earned more than what was shown"
            if better
            else (
                "would have earned less than what was shown"
                if worse
                else "cannot be told from what was shown"
            )
        )
        out.append(f"{folder}: {what}")
    return out


def _log(data_folder: Path | None, database: str | None, tenant: str) -> Dataset:
    if data_folder is not None:
        return Dataset.open(data_folder)
    if database is None:
        raise DataError("name the log: --data FOLDER, or --database URL of the service")
    from tailor.cli import serving

    serving.needs_service()
    from tailor.store.datasets import training_dataset

    with serving.open_store(database) as engine:
        return training_dataset(engine, tenant, with_lists=True).data
