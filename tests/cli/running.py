"""Run commands in this process, as a terminal would."""

import contextlib
import io
import signal
import subprocess

import pytest

from tailor.cli.main import run


def run_here(*words, folder=None):
    """Run a command as a process would be, but here: exit code, both outputs, folder.

    A process of its own takes more than a second to import what it needs.
    """
    out, err = io.StringIO(), io.StringIO()
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    code = 0
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(folder or "."),
    ):
        patched.setattr("sys.argv", ["tailor", *map(str, words)])
        try:
            run()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            for kind, handler in handlers.items():
                signal.signal(kind, handler)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def ok(*words, folder=None):
    """What a command prints that ends well."""
    done = run_here(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(*words):
    """The error line of a command that ends with one."""
    done = run_here(*words)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    return done.stderr
