"""Keep a search for settings on disk: one line per trial, whole up to the last complete trial."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from tailor.errors import ModelError

FORMAT = 1  # version of study files
FILE = "study.jsonl"


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    A pruned trial was stopped early; a failed one was refused by its class or its data.
    """

    number: int
    """0 is the pipeline of the file."""
    state: Literal["complete", "pruned", "failed"]
    settings: dict[str, Any]
    """Values by dimension name."""
    seconds: float
    value: float | None = None
    """Figure on validation."""
    low: float | None = None
    """Lower end of its 95 % interval over users."""
    high: float | None = None
    """Upper end of the interval."""
    screened: float | None = None
    """Figure on a share of the users."""
    watched: tuple[tuple[int, float], ...] = ()
    """(step, figure) that the method reported while it was fitted."""
    reason: str = ""
    """Reason of a failure."""

    @property
    def figure(self) -> str:
        """Value and interval of a complete trial as text."""
        return f"{self.value:.4f} [{self.low:.4f} {self.high:.4f}]"

    @property
    def best_seen(self) -> float | None:
        """Highest figure reported during the fit, or the screening figure."""
        return max((figure for _, figure in self.watched), default=self.screened)


@dataclass
class Study:
    """A search for settings with all trials so far."""

    about: dict[str, Any]
    """Pipeline, space, split, metric, seen, seed, screen; the same for every run that continues it.
    """
    trials: list[Trial] = field(default_factory=list)
    """All trials so far, by number."""

    def of_state(self, state: str) -> list[Trial]:
        """Return the trials of a state."""
        return [trial for trial in self.trials if trial.state == state]

    @property
    def best(self) -> Trial:
        """First of the best complete trials; ModelError where none is complete."""
        complete = self.of_state("complete")
        if not complete:
            raise ModelError("no trial is complete yet: give the study more trials or minutes")
        return max(complete, key=lambda trial: trial.value or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "schema": FORMAT,
            **self.about,
            "best": asdict(self.best),
            "trials": [asdict(trial) for trial in self.trials],
        }


class StudyFile:
    """An open study that one process at a time may add to."""

    def __init__(self, path: Path, file: IO[bytes], study: Study) -> None:
        self.path = path
        self.study = study
        self._file = file

    def add(self, trial: Trial) -> None:
        """Add a trial; once this returns, it is on the disk."""
        _write_line(self._file, asdict(trial))
        self.study.trials.append(trial)


@contextmanager
def open_study(folder: Path, about: Mapping[str, Any]) -> Iterator[StudyFile]:
    """Begin or continue the study of a folder.

    Raises ModelError where the folder holds another study or other files, a line is damaged, or
    another process has it open.
    """
    path = folder / FILE
    if folder.exists() and not path.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is there already and holds no study: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    header = json.loads(json.dumps({"format": FORMAT, **about}, allow_nan=False))
    with path.open("a+b") as file:
        _lock(file, path)
        lines = _whole_lines(file, path)
        if not lines:
            _write_line(file, header)
            lines = [header]
        _refuse_other(lines[0], header, folder)
        try:
            trials = [_trial(line) for line in lines[1:]]
        except (TypeError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}): remove it to begin anew") from None
        yield StudyFile(path, file, Study(dict(about), trials))


def _trial(line: Mapping[str, Any]) -> Trial:
    """Return a trial from its line."""
    watched = tuple((int(step), float(figure)) for step, figure in line["watched"])
    return Trial(**{**line, "watched": watched})


def _lock(file: IO[bytes], path: Path) -> None:
    """Lock a file for this process; ModelError where another one has it."""
    import fcntl  # POSIX only

    try:
        # the kernel releases it however the process ends
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ModelError(
            f"another process works on {path}: wait for it, or choose another --out"
        ) from None


def _whole_lines(file: IO[bytes], path: Path) -> list[dict[str, Any]]:
    """Read all lines; an incomplete last one, of a process that died, is removed."""
    file.seek(0)
    raw = file.read()
    end = raw.rfind(b"\n") + 1
    if end < len(raw):
        file.truncate(end)
    values = []
    for number, line in enumerate(raw[:end].splitlines(), 1):
        try:
            value = json.loads(line)
        except ValueError as error:  # also for bytes that are no UTF-8
            raise ModelError(
                f"{path}:{number} is damaged ({error}): remove the file to begin anew"
            ) from None
        if not isinstance(value, dict):
            raise ModelError(
                f"{path}:{number} is damaged ({line[:40]!r}): remove the file to begin anew"
            )
        values.append(value)
    return values


def _refuse_other(header: Mapping[str, Any], expected: Mapping[str, Any], folder: Path) -> None:
    """Raise ModelError where a file's header is not the expected one."""
    if header.get("format") != FORMAT:
        raise ModelError(
            f"{folder}/{FILE} has format {header.get('format')!r}, this version reads {FORMAT}:"
            " choose another --out"
        )
    differing = [name for name in expected if header.get(name) != expected[name]]
    if differing:
        raise ModelError(
            f"{folder} holds a study with another {' and another '.join(differing)}: go on with"
            " those settings, or choose another --out"
        )


def _write_line(file: IO[bytes], value: Any) -> None:
    """Append a value as a line of JSON and force it to the disk."""
    file.write(json.dumps(value, allow_nan=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
