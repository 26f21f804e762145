"""Studies measure whatever they are given by name, and return tables."""

import json
from dataclasses import dataclass

import pytest

from tailor.core import specs
from tailor.core.methods import Recommender
from tailor.core.specs import build_study
from tailor.core.studies import ReportTable, Study, TableReport
from tailor.errors import DataError, MissingExtraError, ModelError
from tailor.llm.scripted import ScriptedModel
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data


@dataclass(eq=False)
class Counts(Study[TableReport]):
    """Counts letters of names."""

    def _run(self, data, methods, run):
        rows = tuple((name, len(name), None) for name in methods)
        table = ReportTable("letters", ("method", "letters", "more"), rows)
        return TableReport((table,), {"events": len(data.events)}, ("a note",))


@dataclass(eq=False)
class OfRecommenders(Counts):
    measures = (Recommender,)


def test_a_report_has_tables_plain_values_and_a_text():
    report = Counts().run(tiny_data(), {"ab": Popularity(), "judge": ScriptedModel()})
    assert json.loads(json.dumps(report.to_dict())) == {
        "tables": {
            "letters": [
                {"method": "ab", "letters": 2, "more": None},
                {"method": "judge", "letters": 5, "more": None},
            ]
        },
        "figures": {"events": 480},
        "notes": ["a note"],
    }
    assert [table.title for table in report.tables()] == ["letters", "figures"]
    assert "judge   5        -" in report.text() and report.text().endswith("a note")


def test_bad_arguments_are_refused_with_the_remedy():
    with pytest.raises(DataError, match=r"Dataset.open\(folder\)"):
        Counts().run("folder", {})
    with pytest.raises(DataError, match=r'write \{"name"'):
        Counts().run(tiny_data(), [Popularity()])
    with pytest.raises(DataError, match=r'"x" is .* it must be a Recommender'):
        OfRecommenders().run(tiny_data(), {"x": ScriptedModel()})
    with pytest.raises(DataError, match="1 cells for 2 columns"):
        ReportTable("t", ("a", "b"), ((1,),))


def test_a_study_is_built_by_name_with_checked_settings():
    study = build_study("EvaluationSurvey", {"k": 5})
    assert study.k == 5
    path = "tailor.papers.evaluation.evaluation_survey.EvaluationSurvey"
    assert type(build_study(path, {})) is type(study)
    with pytest.raises(ModelError, match='Did you mean "EvaluationSurvey"'):
        build_study("EvaluationsSurvey", {})
    with pytest.raises(ModelError, match='no setting "kk"'):
        build_study("EvaluationSurvey", {"kk": 5})
    with pytest.raises(ModelError, match="must be int"):
        build_study("EvaluationSurvey", {"k": "five"})


def test_studies_are_found_where_a_package_is_missing(monkeypatch):
    """A paper that needs PyTorch must not hide the studies that do not."""
    import_class = specs._import

    def without_nets(path):
        if path.startswith("papers.evaluation.recbench."):
            raise MissingExtraError("RecBench needs the package torch")
        return import_class(path)

    monkeypatch.setattr(specs, "_import", without_nets)
    names = {entry.path.rpartition(".")[2] for entry in specs.discover_studies()}
    assert "EvaluationSurvey" in names and "RecBench" not in names
    assert specs.build_study("EvaluationSurvey", {}) is not None
    with pytest.raises(MissingExtraError, match="torch"):
        specs.build_study("RecBench", {})
