"""Without the extra `serve` the commands say what is missing."""

import pytest
from typer.testing import CliRunner

from tailor.cli import serving
from tailor.cli.main import app
from tailor.errors import MissingExtraError


@pytest.mark.parametrize(
    "words", [["serve"], ["refit"], ["keys", "list"], ["keys", "make", "x"], ["store", "migrate"], ["store", "erase", "x"]]
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serving, "NEEDED", ("nothing_of_this_name",))
    done = CliRunner().invoke(app, words)
    assert (
        isinstance(done.exception, MissingExtraError)
        and "nothing_of_this_name" in str(done.exception)
        and "tailor-engine[serve]" in str(done.exception)
    )
    assert not list(tmp_path.iterdir())
