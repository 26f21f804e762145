"""`tailor estimate`: estimate the value of models from the log of another one's lists."""

from pathlib import Path

from tailor.cli.asking import opened
from tailor.cli.showing import print_json, say, table
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.evaluation.off_policy import Estimate, Value, estimate
from tailor.progress import terminal

COLUMNS = [
    "model",
    "would earn a list",
    "without a baseline",
    "normalised",
    "agrees",
    "covered",
    "worth places",
]


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
    data = _read_log(data_folder, database, tenant)
    run = Run(seed, progress=terminal)
    estimates = {
        folder: estimate(data, method, reward, keep_seen, most, run)
        for folder, method in methods.items()
    }
    if json:
        print_json({folder: entry.to_dict() for folder, entry in estimates.items()})
    else:
        _show_estimates(estimates)


def _show_estimates(estimates: dict[str, Estimate]) -> None:
    """Print a line per model, notes and verdicts."""
    first = next(iter(estimates.values()))
    say(
        f"{first.requests:,} lists shown to known people; what was shown earned"
        f" {_value_text(first.logged)} a list"
    )
    rows = [
        (
            folder,
            _value_text(entry.dr),
            _value_text(entry.ips),
            f"{entry.snips:.4f}",
            f"{entry.agreement:.0%}",
            f"{entry.covered:.0%}",
            f"{entry.sample:.0f}",
        )
        for folder, entry in estimates.items()
    ]
    table(COLUMNS, rows)
    for folder, entry in estimates.items():
        say(*(f"note: {folder}: {note}" for note in entry.notes))
    say(*(f"{folder}: {_verdict(entry)}" for folder, entry in estimates.items()))


def _value_text(value: Value) -> str:
    """Return a value with its interval as text."""
    return f"{value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]"


def _verdict(entry: Estimate) -> str:
    """Return in words how a model compares with what was shown."""
    if entry.dr.low > entry.logged.high:
        return "would have earned more than what was shown"
    if entry.dr.high < entry.logged.low:
        return "would have earned less than what was shown"
    return "cannot be told from what was shown"


def _read_log(data_folder: Path | None, database: str | None, tenant: str) -> Dataset:
    """Read the log from a data set or from the database of a service."""
    if data_folder is not None:
        return Dataset.open(data_folder)
    if database is None:
        raise DataError("name the log: --data FOLDER, or --database URL of the service")
    from tailor.cli import serving

    serving.needs_service()
    from tailor.store.datasets import training_dataset

    with serving.open_store(database) as engine:
        return training_dataset(engine, tenant, with_lists=True).data
