"""`tailor refit`: learn from the store, once or again and again."""

import json
import math
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailor.cli.serving import needs_service, open_store
from tailor.cli.stopping import Stopping
from tailor.core.run import Run
from tailor.errors import StoreError, TailorError

if TYPE_CHECKING:
    from tailor.service.refit import Outcome


@dataclass(frozen=True)
class RefitOptions:
    """Options of `tailor refit` that are the same in every turn."""

    pipeline: Mapping[str, Any]
    """Description of the pipeline."""
    database: str
    """Address of the store."""
    tenant: str
    """Whose events are learned from."""
    out: Path
    """Folder that models are written into."""
    after: int
    """New events that a turn needs."""
    force: bool
    """True: swap without comparing."""
    only: str | None
    """Condition that events must meet to count."""
    json: bool
    """True: print a line of JSON for each turn."""


def refit_command(
    pipeline: str,
    database: str,
    tenant: str,
    out: Path,
    every: float | None,
    after: int,
    force: bool,
    only: str | None,
    seed: int,
    json: bool,
) -> None:
    """Refit once, or again and again (`tailor refit --help`).

    Wrong options end the command. With `every` nothing else does: a turn that fails says so in a
    line, and the next one tries again.
    """
    needs_service()
    from tailor.cli.fitting import described
    from tailor.progress import terminal
    from tailor.service.refit import check_refit

    if every is not None and not 0 < every < math.inf:
        raise StoreError(f"--every {every:g}: minutes, more than 0")
    if after < 0:
        raise StoreError(f"--after {after}: a number of events, at least 0")
    options = RefitOptions(described(pipeline), database, tenant, out, after, force, only, json)
    check_refit(options.pipeline, tenant, only)
    with Stopping(terminal) as stopping:
        run = Run(seed, progress=stopping.progress)
        if every is None:
            _turn(options, run, stopping, 0, is_single=True)
            return
        last_event = 0
        while True:
            try:
                last_event = _turn(options, run, stopping, last_event)
            except Exception as error:  # of any kind: the next turn may go well
                _say_failure(error, options)
            stopping.sleep(every * 60)


def _turn(
    options: RefitOptions, run: Run, stopping: Stopping, last_event: int, is_single: bool = False
) -> int:
    """Refit if enough events have arrived, and return the number of the last event."""
    from tailor.service.refit import Outcome, refit
    from tailor.store.engine import reading
    from tailor.store.events import count_events

    with open_store(options.database) as engine:
        with reading(engine) as connection:
            new_events, latest_event = count_events(connection, options.tenant, last_event)
        if new_events < options.after:
            why = f"{new_events} events, --after {options.after} were asked for"
            if options.json or is_single:
                _say_outcome(Outcome(False, None, why, 0), options)
            return last_event
        outcome = refit(
            engine,
            options.tenant,
            options.pipeline,
            options.out,
            run,
            options.force,
            options.only,
            stopping.together,
        )
    _say_outcome(outcome, options)
    return latest_event


def _say_outcome(outcome: "Outcome", options: RefitOptions) -> None:
    from tailor.cli.showing import say

    if options.json:
        _print_line(asdict(outcome))
        return
    if outcome.swapped:
        say(f"version {outcome.version} answers: {outcome.why}")
    else:
        say(f"nothing changed: {outcome.why}")
    if outcome.left_out:
        say(
            f"{outcome.events:,} events count, {outcome.left_out:,} do not: they speak against"
            " their item, repeat the same all day, or lie in the future"
        )
    for note in outcome.notes:
        say(note)


def _say_failure(error: Exception, options: RefitOptions) -> None:
    """Say in one line that a turn failed: on standard error, or as JSON like any outcome."""
    from tailor.cli.plain import printable
    from tailor.service.refit import Outcome

    cause = " ".join(_cause(error).split())
    why = f"this turn failed, the next one tries again: {cause}"
    if options.json:
        _print_line(asdict(Outcome(False, None, why, 0)) | {"error": cause})
    else:
        sys.stderr.write(f"error: {printable(why)}\n")
        sys.stderr.flush()


def _cause(error: Exception) -> str:
    """Return the cause of a failure; of unexpected errors their kind and place only.

    Their texts may quote users' words.
    """
    if isinstance(error, TailorError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"


def _print_line(value: Mapping[str, Any]) -> None:
    """Print a value as a line of JSON, at once: its reader waits for it."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()
