"""Models saved by version 0.1, whose classes and state had other names, still open and answer."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tailor.core.methods import Predictor
from tailor.core.saving import load
from tailor.core.specs import MOVED, build, find_class, identity
from tailor.data.nouns import Query
from tailor.errors import ModelError
from tailor.testing.data import tiny_data

ARCHIVE = Path(__file__).with_name("saved_by_0.1.zip")
with zipfile.ZipFile(ARCHIVE) as archive:
    ANSWERS = json.loads(archive.read("answers.json"))


def queries():
    """The queries that version 0.1 was asked: eight users, some items excluded."""
    return [
        Query(
            query.user_id,
            query.history,
            exclude=("thing-000", *query.history.item_ids[:2]),
            request_id=str(position),
        )
        for position, query in enumerate(tiny_data().queries()[:8])
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("saved")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(target)
    return target


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_model_saved_by_an_earlier_version_answers_as_it_did(name, folder):
    pytest.importorskip("torch")
    method = load(folder / name)
    if isinstance(method, Predictor):
        answers = method.predict(queries(), [ids for ids, _ in ANSWERS[name]])
        for values, (_, expected) in zip(answers, ANSWERS[name], strict=True):
            np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
        return
    for ranking, (ids, scores) in zip(method.recommend(queries(), 7), ANSWERS[name], strict=True):
        assert list(ranking.ids) == ids
        np.testing.assert_allclose(ranking.scores, scores, rtol=1e-5, atol=1e-5)


def test_classes_are_found_by_the_paths_where_they_once_stood():
    pytest.importorskip("torch")
    for before, now in MOVED.items():
        if now.startswith("papers.retrieval"):
            name = build(f"{now}.{_public_class(now)}").name
            assert find_class(f"{before}.{name}") is find_class(f"tailor.{now}.{name}")


def _public_class(module: str) -> str:
    """Return the name of the only method class of a paper's module."""
    from tailor.core.specs import discover

    return next(
        entry.path.rpartition(".")[2]
        for entry in discover()
        if entry.path.rpartition(".")[0] == module
    )


def test_moving_a_file_changes_nothing_that_is_drawn():
    pytest.importorskip("torch")
    assert identity(build("PI2I"))["class"] == "retrieval.pi2i.PI2I"


def test_a_class_that_is_gone_is_named_with_the_version_that_had_it(folder, tmp_path):
    from tailor.core.saving import _digest

    shutil.copytree(folder / "EASE", tmp_path / "gone")
    path = tmp_path / "gone" / "spec.json"
    about = json.loads(path.read_text())
    del about["digest"]
    about["spec"]["class"] = "retrieval.nobody.Nobody"
    path.write_text(json.dumps({**about, "digest": _digest(about)}))
    with pytest.raises(ModelError, match=r"saved by tailor 0\.1.*Nobody"):
        load(tmp_path / "gone")


def test_a_further_setting_that_is_left_alone_changes_nothing_that_is_drawn():
    pytest.importorskip("torch")
    assert "codes" not in identity(build("TIGER"))
    assert identity(build({"class": "TIGER", "codes": "balanced"}))["codes"] == "balanced"
