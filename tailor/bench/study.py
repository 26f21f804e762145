"""A search for settings on disk: a file of lines, one a trial, that a killed process leaves whole
up to its last trial.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from tailor.errors import ModelError

FORMAT = 1  # of study files
FILE = "study.jsonl"


@dataclass(frozen=True)
class Trial:
    """One setting tried. A pruned trial was given up before its end, a failed one was refused by
    its class or its data.
    """

    number: int
    """0 is the pipeline as it was written."""
    state: Literal["complete", "pruned", "failed"]
    settings: dict[str, Any]
    """By the names of the dimensions."""
    seconds: float
    value: float | None = None
    """On validation."""
    low: float | None = None
    """95 % interval over users."""
    high: float | None = None
    screened: float | None = None
    """The figure on a share of the users."""
    watched: tuple[tuple[int, float], ...] = ()
    """(step, figure) that the method told of while it was fitted."""
    reason: str = ""
    """Why it failed."""

    @property
    def figure(self) -> str:
        """Value and interval as shown, of a complete trial."""
        return f"{self.value:.4f} [{self.low:.4f} {self.high:.4f}]"

    @property
    def best_seen(self) -> float | None:
        return max((figure for _, figure in self.watched), default=self.screened)


@dataclass
class Study:
    """What is searched, and every trial so far."""

    about: dict[str, Any]
    """Pipeline, space, split, metric, seen, seed, screen; the same for every run that goes on with
    it.
    """
    trials: list[Trial] = field(default_factory=list)

    def of_state(self, state: str) -> list[Trial]:
        return [one for one in self.trials if one.state == state]

    @property
    def best(self) -> Trial:
        """The first of the best complete trials. Raises ModelError where none is complete."""
        complete = self.of_state("complete")
        if not complete:
            raise ModelError("no trial is complete yet: give the study more trials or minutes")
        return max(complete, key=lambda one: one.value or 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": FORMAT,
            **self.about,
            "best": asdict(self.best),
            "trials": [asdict(one) for one in self.trials],
        }


class StudyFile:
    """An open study that one process at a time may add to."""

    def __init__(self, path: Path, file: IO[bytes], study: Study) -> None:
        self.path, self.study, self._file = path, study, file

    def add(self, trial: Trial) -> None:
        """Keep a trial; once this returns, it is on the disk."""
        _write_line(self._file, asdict(trial))
        self.study.trials.append(trial)


@contextmanager
def open_study(folder: Path, about: Mapping[str, Any]) -> Iterator[StudyFile]:
    """The study of this folder, begun or gone on with.

    Raises ModelError where the folder holds another study or other things, a line is damaged, or
    another process has it open.
    """
    path = folder / FILE
    if folder.exists() and not path.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is there already and holds no study: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps({"format": FORMAT, **about}, allow_nan=False))
    with path.open("a+b") as file:
        _lock(file, path)
        lines = _whole_lines(file, path)
        if not lines:
            _write_line(file, wanted)
            lines = [wanted]
        _refuse_other(lines[0], wanted, folder)
        try:
            trials = [_trial(line) for line in lines[1:]]
        except (TypeError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}): remove it to begin anew") from None
        yield StudyFile(path, file, Study(dict(about), trials))


def _trial(line: Mapping[str, Any]) -> Trial:
    return Trial(
        **{**line, "watched": tuple((int(step), float(figure)) for step, figure in line["watched"])}
    )


def _lock(file: IO[bytes], path: Path) -> None:
    import fcntl  # POSIX only

    try:
        # the kernel lets go of it however the process ends
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ModelError(
            f"another process works on {path}: wait for it, or choose another --out"
        ) from None


def _whole_lines(file: IO[bytes], path: Path) -> list[dict[str, Any]]:
    """All lines; a last one without its end was being written when the process died, and is taken
    away.
    """
    file.seek(0)
    raw = file.read()
    end = raw.rfind(b"\n") + 1
    if end < len(raw):
        file.truncate(end)
    out = []
    for number, line in enumerate(raw[:end].splitlines(), 1):
        try:
            found = json.loads(line)
        except ValueError as error:  # also of bytes that are no UTF-8
            raise ModelError(
                f"{path}:{number} is damaged ({error}): remove the file to begin anew"
            ) from None
        if not isinstance(found, dict):
            raise ModelError(
                f"{path}:{number} is damaged ({line[:40]!r}): remove the file to begin anew"
            )
        out.append(found)
    return out


def _refuse_other(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    if found.get("format") != FORMAT:
        raise ModelError(
            f"{folder}/{FILE} has format {found.get('format')!r}, this version reads {FORMAT}:"
            " choose another --out"
        )
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise ModelError(
            f"{folder} holds a study with another {' and another '.join(differing)}: go on with"
            " those settings, or choose another --out"
        )


def _write_line(file: IO[bytes], value: Any) -> None:
    file.write(json.dumps(value, allow_nan=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
