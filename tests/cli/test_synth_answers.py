"""`tailor data synth-answers`: the answers it writes, and what it refuses."""

import polars as pl
import pytest
from running import fails, ok

from tailor.data.dataset import Dataset
from tailor.reranking.synthetic_answers import answers_in
from tailor.worlds.community import community


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set of questions, and a scripted model named by the environment."""
    (tmp_path / "model.toml").write_text(
        'class = "llm.scripted.ScriptedModel"\nreply = "Glue and patience."\n'
    )
    monkeypatch.setenv("TAILOR_LANGUAGE_MODEL", str(tmp_path / "model.toml"))
    community(questions=12, circles=2).data.save(tmp_path / "data")
    return tmp_path


def test_answers_are_written_in_the_styles_asked_for(folder):
    out = folder / "out"
    told = ok(
        "data", "synth-answers", folder / "data", "--out", out, "--style", "basic", "--most", 5
    )
    assert "5 answers" in told
    data = Dataset.open(out)
    first = data.tables["requests"]["request_id"].head(5).to_list()
    assert list(answers_in(data)) == [(key, "Glue and patience.") for key in first]
    assert data.tables["texts"]["prompt_style"].unique().to_list() == ["basic"]
    ok("data", "synth-answers", folder / "data", "--out", out, "--overwrite")
    counts = Dataset.open(out).tables["texts"].group_by("prompt_style").len()
    assert dict(counts.iter_rows()) == dict.fromkeys(("basic", "contextual", "personalised"), 12)


def test_unknown_styles_and_data_without_questions_are_refused(folder):
    out = folder / "out"
    assert "rude" in fails(
        "data", "synth-answers", folder / "data", "--out", out, "--style", "rude"
    )
    events = {"events": pl.DataFrame({"user_id": ["u"], "item_id": ["i"]})}
    Dataset(events).save(folder / "events")
    assert "requests" in fails("data", "synth-answers", folder / "events", "--out", out)
    assert not out.exists()
