"""What several tests need."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODELS = Path(
    os.environ.get(
        "TAILOR_MODELS",
        Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")) / "tailor" / "models",
    )
).expanduser()
sys.path[:0] = [
    str(ROOT / "benchmarks"),
    str(ROOT / "tests"),
    str(ROOT / "tests" / "llm"),
    str(ROOT / "tests" / "text"),
]


@pytest.fixture(scope="session")
def real():
    """`real("beauty")` is a shared data set; the test is skipped where the folder is not there."""
    from shared_data import data_folder
    from shared_data import real as read

    if not data_folder().exists():
        pytest.skip(
            f"{data_folder()} is not there: set TAILOR_DATA to the folder of the shared data"
        )
    return read


@pytest.fixture
def pulled():
    """`pulled("minilm")` is the folder of a model; the test is skipped where it was not pulled."""
    from tailor.errors import ModelError
    from tailor.ports.weights import pulled_folder

    def folder(name):
        try:
            return pulled_folder(name)
        except ModelError as error:
            pytest.skip(str(error))

    return folder


@pytest.fixture(autouse=True)
def _no_plain_home(monkeypatch, tmp_path):
    """Tests neither read nor write the caller's configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    os.environ.setdefault("TAILOR_DATA", str(ROOT.parent / "shared" / "data"))
    os.environ.setdefault("TAILOR_MODELS", str(MODELS))


@pytest.fixture(autouse=True, scope="session")
def _one_number_format():
    """Nets compute in float32 in all tests: which format is faster is measured, and varies."""
    try:
        from tailor.nn import devices
    except ImportError:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_gain_of_bfloat16", lambda device: 1.0)
        yield
