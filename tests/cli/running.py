"""Run commands in this process, as a terminal would."""

import pytest
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.errors import TailorError


def ok(*words):
    """What a command prints that ends well."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def fails(*words):
    """The error that a command ends with."""
    with pytest.raises(TailorError) as error:
        ok(*words)
    return str(error.value)
