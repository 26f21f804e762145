"""What several tests need."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]


@pytest.fixture(scope="session")
def real():
    """`real("beauty")` is a shared data set; the test is skipped where the folder is not there."""
    from shared_data import data_folder
    from shared_data import real as read

    if not data_folder().exists():
        pytest.skip(f"{data_folder()} is not there: set TAILOR_DATA to the folder of the shared data")
    return read


@pytest.fixture(autouse=True)
def _no_plain_home(monkeypatch, tmp_path):
    """Tests neither read nor write the caller's configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    os.environ.setdefault("TAILOR_DATA", str(ROOT.parent / "shared" / "data"))
