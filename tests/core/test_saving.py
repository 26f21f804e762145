"""Saved models: what comes back, what is noticed, what is never in them."""

import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Method
from tailor.core.saving import FORMAT, SavedModel, load
from tailor.core.specs import build, spec
from tailor.data.dataset import Dataset
from tailor.data.nouns import same
from tailor.errors import ModelError, NotFittedError
from tailor.pipeline.cascade import Cascade
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.pipeline.fuse import Fuse
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.ease import EASE
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.text_match import TextMatch
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.testing.data import tiny_data

DATA = tiny_data()


def everything() -> Filter:
    """Every composite within another, two parts of one class, lists longer than ten."""
    fused = Fuse(
        [CoVisitation(), TextNeighbours(max_share=1.0), *(EASE(l2=1.0 + i) for i in range(10))],
        weights=tuple(range(1, 13)),
    )
    return Filter(
        Fallback([Cascade(fused, TextMatch()), Popularity()]),
        blocked=["thing-001"],
        never={"categories": ["lamp"]},
    )


@pytest.fixture(scope="module")
def fitted() -> Filter:
    return everything().fit(DATA)


@pytest.fixture
def folder(fitted, tmp_path) -> Path:
    return fitted.save(
        tmp_path / "model",
        histories=DATA.queries(),
        titles=DATA.item_table.select("item_id", "title"),
    )


def test_a_deep_composite_answers_the_same_after_loading(fitted, folder):
    again = load(folder)
    assert spec(again) == spec(fitted) and again.trained_on_ == fitted.trained_on_
    queries = DATA.queries()
    for a, b in zip(fitted.recommend(queries, 9), again.recommend(queries, 9), strict=True):
        assert same(a, b)
    assert same(
        fitted.explain(queries[:5], fitted.recommend(queries[:5], 3)),
        again.explain(queries[:5], again.recommend(queries[:5], 3)),
    )


def test_it_loads_in_a_process_that_never_saw_the_data(folder):
    code = (
        "import sys\nfrom tailor.core.saving import load\nfrom tailor.data.nouns import History,"
        " Query\nprint(load(sys.argv[1]).recommend([Query(history=History.of('thing-004'))],"
        " 5)[0].ids)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    ).stdout
    assert "thing-" in out and "thing-001" not in out


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "card.md")


def test_every_changed_byte_is_noticed(folder):
    for path in files_of(folder):
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(ModelError, match=r"damaged|cannot be loaded|update tailor"):
                load(folder)
        path.write_bytes(whole)
    load(folder)


def test_a_changed_setting_in_spec_json_is_noticed(folder):
    path = folder / "spec.json"
    text = path.read_text()
    assert '"blocked": [\n   "thing-001"\n  ]' in text
    path.write_text(text.replace('"blocked": [\n   "thing-001"\n  ]', '"blocked": []'))
    with pytest.raises(ModelError, match=r"spec\.json is not what was saved"):
        load(folder)


@pytest.mark.parametrize("cut", [0, 1, 0.5, -1])
def test_every_truncated_file_is_noticed(folder, cut):
    for path in files_of(folder):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * cut) if isinstance(cut, float) else cut])
        with pytest.raises(ModelError, match="damaged"):
            load(folder)
        path.write_bytes(whole)


def test_every_missing_file_is_named(folder):
    for path in files_of(folder):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(ModelError, match=re.escape(path.name)):
            load(folder)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", "3", '{"format": "1"}', '{"format": 1}', "\x00"]
)
def test_a_spec_that_is_none_is_damaged(folder, text):
    (folder / "spec.json").write_text(text)
    with pytest.raises(ModelError, match="damaged"):
        load(folder)


def rewritten(folder: Path, **changes: Any) -> None:
    """spec.json with changed entries and a right digest, as another version would have written it."""
    from tailor.core.saving import _digest

    about = {**json.loads((folder / "spec.json").read_text()), **changes}
    about.pop("digest")
    (folder / "spec.json").write_text(json.dumps({**about, "digest": _digest(about)}))


def test_a_newer_format_asks_for_an_update(folder):
    rewritten(folder, format=FORMAT + 1)
    with pytest.raises(ModelError, match="update tailor"):
        load(folder)


def test_a_class_or_setting_that_is_gone_is_named_with_the_folder(tmp_path):
    folder = Popularity().fit(DATA).save(tmp_path / "model")
    for about, says in (
        ({"class": "retrieval.gone.Gone"}, "retrieval.gone.Gone"),
        ({"class": "Popularity", "half_life": 3}, "half_life"),
    ):
        rewritten(folder, spec=about)
        with pytest.raises(ModelError, match=says) as caught:
            load(folder)
        assert str(folder) in str(caught.value)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_garbage(path: Path) -> None:
    path.write_bytes(b"PAR1 garbage PAR1")
    described = json.loads((path.parents[1] / "spec.json").read_text())
    name = path.relative_to(path.parents[1]).as_posix()
    files = {**described["files"], name: hashlib.sha256(path.read_bytes()).hexdigest()}
    rewritten(path.parents[1], files=files)


@pytest.mark.parametrize("spoil", [as_folder, as_pipe, as_garbage])
@pytest.mark.parametrize("name", ["arrays.npz", "values.json", "items_.vocabulary"])
def test_whatever_a_library_raises_the_model_is_named(tmp_path, spoil, name):
    folder = Popularity().fit(DATA).save(tmp_path / "model")
    spoil(folder / "state" / name)
    with pytest.raises(ModelError, match=re.escape(str(folder))):
        load(folder)


def test_a_file_that_may_not_be_read_is_told_without_the_system_s_path(folder, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ModelError, match=r"Permission denied\): its files must be readable"):
        load(folder)


@pytest.mark.parametrize("changes", [{"spec": []}, {"files": []}, {"files": {"../a": "0"}}])
def test_a_description_of_another_shape_is_damaged(folder, changes):
    rewritten(folder, **changes)
    with pytest.raises(ModelError, match="damaged"):
        load(folder)


def test_state_that_was_not_saved_is_noticed(folder):
    inner = next((folder / "state").rglob("items_.vocabulary"))
    inner.with_name("more_.vocabulary").write_bytes(inner.read_bytes())
    with pytest.raises(ModelError, match=r"more_\.vocabulary is not what was saved"):
        load(folder)


def test_a_spec_that_is_huge_or_deep_is_not_parsed(folder):
    (folder / "spec.json").write_text("[" * 200_000)
    with pytest.raises(ModelError, match="nested too deeply"):
        load(folder)
    os.truncate(folder / "spec.json", 1 << 40)  # a hole: nothing is on the disk
    with pytest.raises(ModelError, match="bytes, more than"):
        load(folder)


def test_a_folder_that_is_no_model_says_what_to_do(tmp_path):
    with pytest.raises(ModelError, match="tailor fit"):
        load(tmp_path)


def test_another_class_is_refused(folder):
    with pytest.raises(ModelError, match="holds a Filter, not a EASE"):
        EASE.load(folder)
    assert isinstance(Method.load(folder), Filter)


def test_an_unfitted_method_cannot_be_saved(tmp_path):
    with pytest.raises(NotFittedError):
        everything().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_nothing_is_overwritten_unless_told(folder, fitted):
    before = {path: path.read_bytes() for path in files_of(folder)}
    with pytest.raises(ModelError, match="overwrite"):
        Popularity().fit(DATA).save(folder)
    assert {path: path.read_bytes() for path in files_of(folder)} == before
    Popularity().fit(DATA).save(folder, overwrite=True)
    assert (
        load(folder).name == "Popularity"
        and SavedModel.open(folder).histories is None
        and SavedModel.open(folder).titles == {}
    )
    assert [path.name for path in folder.parent.iterdir()] == ["model"], (
        "something was left beside the model"
    )


@dataclass(eq=False)
class Odd(Popularity):
    """Learns something that cannot be saved faithfully."""

    odd: Any = field(default_factory=dict)
    odd_: Any = field(init=False, repr=False)

    def _fit(self, data, run, valid):
        super()._fit(data, run, valid)
        self.odd_ = self.odd


@pytest.mark.parametrize(
    "odd",
    [
        {1: "a"},
        [{"a": {2: 3}}],
        {"a": {1, 2}},
        object(),
        np.array([{}, None], dtype=object),
        lambda: 0,
    ],
)
def test_state_that_would_come_back_otherwise_is_refused_and_the_old_model_kept(
    folder, odd, monkeypatch
):
    from tailor.core import saving

    # the class lives in a test and could not be found again
    monkeypatch.setattr(saving, "build", lambda about: None)
    method = Odd().fit(DATA)
    method.odd_ = odd
    with pytest.raises(ModelError, match="learned state is"):
        method.save(folder, overwrite=True)
    monkeypatch.undo()
    assert load(folder).name == "Filter"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_class_that_could_not_be_found_again_is_refused_before_it_is_saved(tmp_path):
    with pytest.raises(ModelError, match="could not be loaded again"):
        Odd().fit(DATA).save(tmp_path / "model")
    with pytest.raises(ModelError, match="could not be loaded again"):
        Fallback([Popularity(), Odd()]).fit(DATA).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_numpy_settings_and_settings_of_none_come_back(tmp_path):
    method = CoVisitation(top_n=None, window=np.int64(2), history_decay=np.float32(0.25)).fit(DATA)
    again = load(method.save(tmp_path / "model"))
    assert again.top_n is None and again.window == 2 and again.history_decay == 0.25


KILLED = """
import os, signal, sys
from pathlib import Path
from tailor.core import saving
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data
method = Popularity().fit(tiny_data())
real, calls = saving.sha256_of, []
def stopping(path):
    calls.append(path)
    print("half way", flush=True)
    signal.pause()
saving.sha256_of = stopping
method.save(sys.argv[1], overwrite=True)
"""


def test_a_kill_half_way_keeps_the_old_model_and_the_next_save_clears_up(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline().strip() == "half way"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert load(folder).name == "Filter"
    left = [path.name for path in folder.parent.iterdir() if path != folder]
    assert len(left) == 1 and left[0].startswith("."), "what a killed save leaves is hidden"
    Popularity().fit(DATA).save(folder, overwrite=True)
    assert [path.name for path in folder.parent.iterdir()] == ["model"] and load(
        folder
    ).name == "Popularity"


def test_a_reader_never_meets_half_a_model(tmp_path):
    """While one process overwrites a model again and again, loading it either works or says that it
    is not there.
    """
    folder = Popularity().fit(DATA).save(tmp_path / "model")
    code = (
        "import sys\nfrom pathlib import Path\nfrom tailor.retrieval.popularity import Popularity\n"
        "from tailor.testing.data import tiny_data\nm = Popularity().fit(tiny_data())\n"
        "print('go', flush=True)\n"
        "while not Path(sys.argv[2]).exists(): m.save(sys.argv[1], overwrite=True)"
    )
    stop = tmp_path / "stop"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(stop)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline().strip() == "go"
    loaded, tries = 0, 0
    while process.poll() is None and (loaded < 5 or tries < 60):
        tries += 1
        try:
            load(folder)
            loaded += 1
        except ModelError:
            time.sleep(0.001)
    stop.touch()
    assert process.wait() == 0 and loaded >= 5 and load(folder)


# --- people
# --------------------------------------------------------------------------------------------------------------------


def test_nobodys_events_are_in_it_unless_asked_for(fitted, tmp_path):
    bare = fitted.save(tmp_path / "bare")
    saved = SavedModel.open(bare)
    assert saved.histories is None and saved.titles == {} and saved.item_ids is None
    for path in bare.rglob("*"):
        assert not path.is_file() or not re.search(rb"person-\d", path.read_bytes()), (
            f"{path.name} names a user"
        )
    assert "Holds people's histories: no" in (bare / "card.md").read_text()


def test_histories_come_back_whole_with_their_times_and_stand_apart(folder):
    asked, saved = DATA.queries(), SavedModel.open(folder).histories
    assert saved is not None and len(saved) == len(asked)
    for a, b in zip(asked, saved, strict=True):
        assert same(a, b)
    with_people = {
        path.relative_to(folder).parts[0]
        for path in folder.rglob("*")
        if path.is_file() and b"person-0" in path.read_bytes()
    }
    assert with_people == {"personal"}
    assert "yes, in personal/" in (folder / "card.md").read_text()


def test_damaged_histories_and_titles_are_noticed_by_those_who_read_them(folder):
    for name, part in (
        ("personal/users_.vocabulary", "histories"),
        ("titles.parquet", "titles"),
    ):
        path = folder / name
        whole = path.read_bytes()
        for damaged in (whole[:-8], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
            path.write_bytes(damaged)
            with pytest.raises(ModelError, match="damaged"):
                getattr(SavedModel.open(folder), part)
        path.unlink()
        with pytest.raises(ModelError, match="missing"):
            getattr(SavedModel.open(folder), part)


def test_titles_come_back_without_the_items_that_have_none(fitted, tmp_path):
    titles = pl.DataFrame(
        {"item_id": ["a", "b", "ü 🙂"], "title": ["A", None, "Ü"], "other": [1, 2, 3]}
    )
    saved = SavedModel.open(fitted.save(tmp_path / "model", titles=titles))
    assert saved.titles == {"a": "A", "ü 🙂": "Ü"} and saved.item_ids == {"a", "b", "ü 🙂"}


def test_a_model_is_opened_once_and_each_file_is_hashed_once(folder, monkeypatch):
    from tailor.core import saving

    hashed = []
    real = saving.sha256_of
    monkeypatch.setattr(saving, "sha256_of", lambda path: (hashed.append(path), real(path))[1])
    saved = SavedModel.open(folder)
    assert not hashed, "opening reads nothing but the description"
    for _ in range(2):
        assert saved.method.name == "Filter" and saved.histories and saved.titles
        assert saved.item_ids == set(DATA.catalogue.ids.tolist())
    assert len(hashed) == len(set(hashed)) == len(saved.description["files"])
    assert saved.method is saved.method and saved.histories is saved.histories


@pytest.mark.parametrize("part", ["method", "histories", "titles"])
def test_a_model_replaced_since_it_was_opened_gives_no_part_of_another(folder, fitted, part):
    saved = SavedModel.open(folder)
    saved._check_files(saved.description["files"])  # as if it had just been checked
    titles = DATA.item_table.select("item_id", title="item_id")
    fitted.save(folder, overwrite=True, histories=DATA.queries()[:3], titles=titles)
    with pytest.raises(ModelError, match="was replaced"):
        getattr(saved, part)


def test_users_attributes_come_back_with_their_types(tmp_path):
    users = pl.DataFrame(
        {
            "user_id": ["u", "v", "w"],
            "age": [31, None, 7],
            "country": ["FR", "DE", None],
            "height": [1.5, None, 2.0],
            "member": [True, False, None],
            "nothing": [None, None, None],
        }
    )
    events = pl.DataFrame({"user_id": ["u", "v", "x"], "item_id": ["a", "b", "a"]})
    data = Dataset({"events": events, "users": users})
    folder = Popularity().fit(data).save(tmp_path / "model", histories=data.queries())
    saved = SavedModel.open(folder).histories
    assert saved is not None
    for before, after in zip(data.queries(), saved, strict=True):
        assert same(before, after)
        for name, value in before.context.items():
            assert type(after.context[name]) is type(value)


@pytest.mark.parametrize("values", [[1, "x"], [object(), None]])
def test_attributes_that_cannot_be_saved_are_refused(tmp_path, values):
    contexts = {"odd": np.array(values, dtype=object)}
    queries = dataclasses.replace(DATA.queries()[:2], contexts=contexts)
    with pytest.raises(ModelError, match="attributes cannot be saved"):
        Popularity().fit(DATA).save(tmp_path / "model", histories=queries)


def test_nothing_is_ever_unpickled():
    root = Path(__file__).parents[2] / "tailor"
    allowed = re.compile(
        r"allow_pickle\s*=\s*True|\bimport (pickle|joblib|dill|cloudpickle|shelve|marshal)\b|from"
        r" (pickle|joblib|dill) "
    )
    paths = list(root.rglob("*.py"))
    assert len(paths) > 100
    for path in paths:
        assert not allowed.search(path.read_text(encoding="utf-8")), (
            f"{path} can run code out of a file"
        )


def test_ids_of_any_script_and_with_odd_signs_survive(tmp_path):
    ids = ["a/b", "c:d", "日本", "🙂", " lead", "x" * 300, "null", "1", "1.0", "quote\"'", "tab\t"]
    data = Dataset({"events": pl.DataFrame({"user_id": ["u"] * len(ids), "item_id": ids})})
    method = Fallback([CoVisitation(), Popularity()]).fit(data)
    again = load(method.save(tmp_path / "model"))
    assert set(again.recommend([data.queries()[0]], 20)[0].ids) == set(ids)


def test_a_method_that_holds_people_s_events_is_saved_with_histories_or_not_at_all(tmp_path):
    method = Filter(
        Fallback([build({"class": "PersonalizedPageRank", "walks": 10}), Popularity()])
    ).fit(DATA)
    with pytest.raises(ModelError, match="--with-histories"):
        method.save(tmp_path / "model")
    method.save(tmp_path / "model", histories=DATA.queries())
    assert "yes, in personal/" in (tmp_path / "model" / "card.md").read_text()
