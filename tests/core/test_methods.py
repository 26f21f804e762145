"""The verbs, files that describe methods, plug-ins, discovery, the run and the cache."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Method
from tailor.core.run import Run
from tailor.core.specs import build, clone, discover, find_class, spec
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Rankings
from tailor.data.splits import inner_cut, last_out
from tailor.errors import DataError, MissingExtraError, ModelError, NotFittedError
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.pipeline.fuse import Fuse
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.ease import EASE
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

NESTED = """
class = "Filter"
blocked = ["thing-001"]
never = { categories = ["lamp"] }
[inner]
class = "Fuse"
weights = [0.25, 0.75]
parts = [
    { class = "CoVisitation", window = 3 },
    { class = "pipeline.fallback.Fallback", parts = [{ class = "EASE", l2 = 10 }, { class = "Popularity" }] },
]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "method.toml"
    path.write_text(text, encoding="utf-8")
    return path


# --- spec and build
# ------------------------------------------------------------------------------------------------------------


def test_a_nested_pipeline_file_is_built_with_every_setting(tmp_path):
    method = build(written(tmp_path, NESTED))
    assert (
        isinstance(method, Filter)
        and method.blocked == ["thing-001"]
        and method.never == {"categories": ["lamp"]}
    )
    fuse = method.inner
    assert isinstance(fuse, Fuse) and fuse.weights == (0.25, 0.75) and fuse.parts[0].window == 3
    assert isinstance(fuse.parts[1], Fallback) and fuse.parts[1].parts[0].l2 == 10


def test_spec_and_build_are_each_others_inverse(tmp_path):
    method = build(written(tmp_path, NESTED))
    assert spec(build(spec(method))) == spec(method)


def test_a_setting_of_none_survives_the_round_trip(tmp_path):
    """`top_n` is 100 by default: None must not come back as 100, neither through a spec nor through
    TOML.
    """
    import tomli_w

    for method in (
        CoVisitation(top_n=None),
        EASE(top_n=None),
        Popularity(half_life_days=None),
        Fuse([Popularity()], weights=None),
    ):
        assert build(spec(method)).params().keys() == method.params().keys()
        again = build(written(tmp_path, tomli_w.dumps(spec(method))))
        for name, value in method.params().items():
            assert value is not None or getattr(again, name) is None, (
                f"{method.name}.{name}: None became {getattr(again, name)}"
            )


def test_numpy_numbers_in_settings_become_plain():
    import json

    about = spec(CoVisitation(window=np.int64(3), history_decay=np.float32(0.5)))
    assert json.loads(json.dumps(about)) == about and about["window"] == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('class = "EASE"\nl_2 = 3', 'EASE has no setting "l_2". Did you mean "l2"?'),
        ('class = "CoVisitaton"', 'Did you mean "CoVisitation"?'),
        ('class = "retrieval.eese.EASE"', 'Did you mean "retrieval.ease.EASE"?'),
        ('class = "EASE"\nl2 = "much"', "EASE.l2 = 'much': it must be float"),
        ('class = "CoVisitation"\nwindow = 2.5', "CoVisitation.window = 2.5: it must be int"),
        ('class = "CoVisitation"\nwindow = true', "CoVisitation.window = True: it must be int"),
        ('class = "Fuse"\nkind = "scores"\nparts = [{ class = "EASE" }]', "Fuse.kind = 'scores'"),
        (
            'class = "Filter"\nblocked = "thing-001"\ninner = { class = "EASE" }',
            "Filter.blocked = 'thing-001': it must be list",
        ),
        (
            'class = "Filter"\nnever = ["lamp"]\ninner = { class = "EASE" }',
            "Filter.never = ['lamp']: it must be dict",
        ),
        ('class = "Fuse"\nparts = ["EASE", "Popularity"]', "parts"),
        ('class = "Fallback"\nparts = ["EASE", "Popularity"]', "parts"),
        ('class = "Fallback"\nparts = { class = "EASE" }', "Fallback.parts"),
        ("window = 3", 'a method needs a line class = "..."'),
        ("class = EASE", "cannot be read"),
        ('class = "ItemToItem"', "ItemToItem"),
        ('class = "Filter"', "inner"),
        ('class = "EASE"\nl2 = nan', "l2"),
    ],
)
def test_a_mistake_in_a_file_is_quoted_with_the_remedy(tmp_path, text, says):
    with pytest.raises((ModelError, DataError)) as caught:
        build(written(tmp_path, text))
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"there is no pipeline file .*none\.toml"):
        build(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "tailor.data.dataset.Dataset",
        "data.dataset.Dataset",
        "tailor.core.methods.Recommender",
        "antigravity.fly",
        "this.x",
        "evaluation.protocol.Report",
        "tailor.retrieval.ease.os",
        "retrieval.ease.dataclass",
        "..os.system",
        "",
    ],
)
def test_nothing_but_methods_can_be_named(path):
    with pytest.raises(ModelError):
        build({"class": path})


def test_nothing_outside_tailor_is_imported_by_a_file():
    code = (
        "import sys\nfrom tailor.core.specs import build\nbefore = set(sys.modules)\nfor path in"
        " ('this.s', 'antigravity.x', 'tkinter.Tk', 'turtle.Turtle', 'tailor.cli.main.app'):\n   "
        " try:\n        build({'class': path})\n        raise SystemExit('built ' + path)\n   "
        " except Exception as error:\n        assert type(error).__name__ == 'ModelError',"
        " error\nnew = {name for name in set(sys.modules) - before if name.partition('.')[0] in"
        " ('this', 'antigravity', 'tkinter', 'turtle')}\nassert not new and 'tailor.cli.main' not"
        " in sys.modules, new\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


# --- plug-ins and discovery
# ----------------------------------------------------------------------------------------------------


PLUGIN = """
from dataclasses import dataclass
from tailor.core.methods import Paper
from tailor.retrieval.popularity import Popularity

PAPER = Paper("acme-2026", "Acme", "https://example.org", "none")

@dataclass(eq=False)
class Acme(Popularity):
    strength: int = 3
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Write modules and a dist-info folder that names their classes as entry points."""

    def write(entries: str, **modules: str) -> None:
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
            monkeypatch.delitem(sys.modules, name, raising=False)
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tailor.methods]\n{entries}\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return write


def test_a_plug_in_is_built_by_name_and_by_path_and_saved(plug_in, tmp_path):
    plug_in("acme = acme_plug:Acme", acme_plug=PLUGIN)
    for name in ("acme", "acme_plug.Acme"):
        assert build({"class": name, "strength": 5}).strength == 5
    method = build({"class": "acme"}).fit(tiny_data())
    method.save(tmp_path / "model")
    assert Method.load(tmp_path / "model").name == "Acme"


def test_a_plug_in_that_was_installed_since_is_found(plug_in, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match="no class"):
        build({"class": "acme"})
    monkeypatch.setattr("sys.path", sys.path[1:])
    plug_in("acme = acme_plug:Acme", acme_plug=PLUGIN)
    assert build({"class": "acme", "strength": 5}).strength == 5


def test_a_report_holds_plain_numbers_whatever_was_counted_with():
    """Which NumPy function counts with numbers of its own differs by version."""

    class Counting(Popularity):
        def _fit(self, data, run, valid):
            super()._fit(data, run, valid)
            self.fit_report_ = {"n": np.int64(3), "parts": {"x": [np.float32(0.5), (np.bool_(1),)]}}

    report = Counting().fit(tiny_data()).fit_report_
    assert json.loads(json.dumps(report)) == {"n": 3, "parts": {"x": [0.5, [True]]}}


def test_the_metadata_of_packages_is_read_once(monkeypatch):
    """Reading it takes 7 ms, and parts are built while requests are answered."""
    build({"class": "EASE"})
    monkeypatch.setattr("importlib.metadata.entry_points", None)
    assert build({"class": "EASE"}) and find_class("retrieval.ease.EASE") is EASE


def test_a_plug_in_is_discovered_with_its_paper(plug_in):
    plug_in("acme = acme_plug:Acme", acme_plug=PLUGIN)
    found = {one.path: one for one in discover()}["acme_plug.Acme"]
    assert found.cls is not None and found.paper is not None and found.paper.slug == "acme-2026"


@pytest.mark.parametrize(
    "text", ["import no_such_package_anywhere\n", "1 / 0\n", "def broken(:\n", "x = 1\n"]
)
def test_a_broken_plug_in_is_reported_and_the_rest_still_found(plug_in, text):
    plug_in("acme = acme_broken:Acme", acme_broken=text)
    found = {one.path: one for one in discover()}
    assert found["acme_broken.Acme"].cls is None and found["acme_broken.Acme"].missing
    assert found["retrieval.ease.EASE"].cls is EASE
    with pytest.raises((ModelError, MissingExtraError), match="acme"):
        build({"class": "acme"})


def test_a_plug_in_that_is_no_method_is_refused(plug_in):
    plug_in("shell = os:system")
    with pytest.raises(ModelError, match="not a method"):
        build({"class": "shell"})


def test_a_class_whose_extra_is_missing_is_reported(monkeypatch):
    from tailor.core import specs

    real = specs.importlib.import_module

    def without(name: str, *rest: object):
        if name == "tailor.retrieval.ease":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest)

    monkeypatch.setattr(specs.importlib, "import_module", without)
    found = {one.path: one for one in discover()}
    assert (
        found["retrieval.ease.EASE"].cls is None
        and "pip install" in found["retrieval.ease.EASE"].missing
    )
    assert found["retrieval.covisitation.CoVisitation"].cls is CoVisitation
    with pytest.raises(MissingExtraError, match="torch"):
        find_class("EASE")


# --- run
# -----------------------------------------------------------------------------------------------------------------------


def test_random_numbers_are_keyed_and_stable_over_versions():
    assert Run(seed=7).rng("sample", "request-1").integers(0, 2**31, 3).tolist() == [
        794479751,
        1742470905,
        375413527,
    ]
    same = [Run(seed=7).rng("a", 1).random() for _ in range(2)]
    assert same[0] == same[1]
    others = [
        Run(seed=7).rng("a", 2),
        Run(seed=8).rng("a", 1),
        Run(seed=7).rng("a", "1"),
        Run(seed=7).rng("a1"),
        Run(seed=7).rng(),
    ]
    assert len({one.random() for one in others} | {same[0]}) == 6


# --- fit and recommend
# ---------------------------------------------------------------------------------------------------------


def test_fit_refuses_data_that_holds_the_validation_targets():
    split = last_out(tiny_data())
    for data in (
        split.data,
        split.train_valid,
        split.learn_from("all"),
        last_out(split.train).train,
        tiny_data(),
    ):
        if data.provenance.data_hash == split.data.content_hash:
            with pytest.raises(DataError, match="validation targets"):
                Popularity().fit(data, valid=split)
    assert Popularity().fit(split.train, valid=split).is_fitted


def test_fit_refuses_the_very_data_that_a_later_cut_was_made_of():
    """inner_cut(split.train) holds targets that split.train holds: the hashes differ, the leak is
    the same.
    """
    split = last_out(tiny_data())
    cut = inner_cut(split.train)
    with pytest.raises(DataError, match="validation targets"):
        Popularity().fit(split.train, valid=cut)
    assert Popularity().fit(cut.train, valid=cut).is_fitted


@dataclass(eq=False)
class Stops(Method):
    """Learns something, then is interrupted, if it is told so."""

    fails: list = field(default_factory=list)
    learned_: int = field(init=False, repr=False)

    def _fit(self, data, run, valid):
        self.learned_ = run.seed
        self.half_ = True
        if self.fails:
            raise self.fails[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, DataError])
def test_an_interrupted_fit_leaves_the_method_as_it_was(error):
    method = Stops()
    method.fit(tiny_data(), Run(seed=1))
    method.fails.append(error("now"))
    with pytest.raises(error):
        method.fit(tiny_data(), Run(seed=2))
    assert method.learned_ == 1 and method.is_fitted
    fresh = Stops([error("now")])
    with pytest.raises(error):
        fresh.fit(tiny_data())
    assert not fresh.is_fitted and not hasattr(fresh, "half_")


def test_a_refit_forgets_what_it_had_learned():
    method = Stops()
    method.fit(tiny_data())
    method.old_ = 1
    assert not hasattr(method.fit(tiny_data()), "old_")


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "10", None])
def test_a_k_that_is_no_count_is_refused(k):
    with pytest.raises(DataError, match="ask for at least 1"):
        Popularity().fit(tiny_data()).recommend([Query()], k)


def test_an_unfitted_method_says_so():
    with pytest.raises(NotFittedError, match="EASE is not fitted"):
        EASE().recommend([Query()])
    with pytest.raises(NotFittedError):
        EASE().explain([Query()], [])


def test_candidates_must_be_one_list_a_query():
    method = Popularity().fit(tiny_data())
    with pytest.raises(DataError, match="1 candidate lists for 2 queries"):
        method.recommend([Query(), Query()], 3, method.recommend([Query()], 3))


def test_what_is_no_query_is_quoted():
    with pytest.raises(DataError, match="thing-001"):
        Popularity().fit(tiny_data()).recommend(["thing-001"])


def test_a_nan_score_is_an_error_and_no_ranking():
    method = Popularity().fit(tiny_data())
    method.counts_ = method.counts_.copy()
    method.counts_[3] = np.nan
    lists = Rankings.of([method.recommend([Query()], 1)[0]])
    with pytest.raises(ModelError, match="NaN"):
        method.recommend([Query()], 3, lists)


def test_cloning_shares_no_part_and_learns_nothing():
    method = Fallback([CoVisitation(), Popularity()]).fit(tiny_data())
    copied = clone(method)
    assert spec(copied) == spec(method) and not copied.is_fitted
    assert all(a is not b for a, b in zip(copied.parts, method.parts, strict=True))


def test_fitting_a_composite_does_not_fit_its_settings():
    parts = [CoVisitation(), Popularity()]
    Fallback(parts).fit(tiny_data())
    assert not any(part.is_fitted for part in parts)


def test_data_without_events_or_with_one_event_can_be_fitted_or_is_refused_with_words():
    one = Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})})
    for method in (
        CoVisitation(),
        EASE(),
        Popularity(),
        Fuse([CoVisitation(), Popularity()]),
        Fallback([CoVisitation(), Popularity()]),
    ):
        assert len(method.fit(one).recommend([Query(history=History.of("a"))], 3)) == 1
