"""`tailor memory`: what it prints, and what it refuses."""

import json

import pytest

pytest.importorskip("sqlalchemy")

from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.errors import DataError


@pytest.fixture
def tailor(tmp_path):
    def run(*arguments):
        words = ["memory", *map(str, arguments), "--database", f"{tmp_path}/memory.db"]
        result = CliRunner().invoke(app, words)
        if result.exception is not None:
            raise result.exception
        return result.output

    return run


def values(tailor, *arguments):
    return json.loads(tailor(*arguments, "--json"))


def test_every_verb_on_a_store(tailor, tmp_path):
    assert "2 new" not in tailor("observe", "ann", "I live in Oslo. I really like green tea.")
    assert "likes green tea" in tailor("timeline", "ann")
    assert "lives in Oslo" in tailor("recall", "ann", "Where does she live?")
    assert values(tailor, "recall", "ann", "tea", "--tokens", "0")["items"] == []
    assert "likes green tea" in tailor("profile", "ann")
    assert len(values(tailor, "profile", "ann")["facts"]) == 2
    propositions = {each["predicate"]: each for each in values(tailor, "timeline", "ann")}
    city = propositions["lives in"]["proposition_id"]
    assert "I live in Oslo" in tailor("explain", "ann", city)
    assert values(tailor, "explain", "ann", city)["evidence"][0]["kind"] == "chat"
    assert "confirmed" in tailor("confirm", "ann", city)
    assert "Bergen" in tailor("correct", "ann", city, "Bergen")
    tea = propositions["likes"]["proposition_id"]
    assert "rejected" in tailor("reject", "ann", tea)
    assert "+ " in tailor("diff", "ann", 0)
    assert values(tailor, "diff", "ann", 0)["retracted"] == []
    assert "the same" in tailor("replay", "ann")
    assert "paused" in tailor("pause", "ann") and "paused" in tailor("observe", "ann", "I am.")
    assert "observing" in tailor("resume", "ann") and "ever" in tailor("retain", "ann", 0)
    tailor("export", "ann", tmp_path / "ann.json")
    assert "new" in tailor("import", "bob", tmp_path / "ann.json")
    receipt = json.loads(tailor("forget", "ann", "--query", "green tea"))
    assert receipt["forgotten"]["observations"] == 4  # and what was said of it
    assert receipt["residue"] == 0
    json.loads(tailor("forget", "ann", "--all"))
    assert values(tailor, "timeline", "ann") == [] != values(tailor, "timeline", "bob")


def test_a_file_of_observations_is_read_line_by_line(tailor, tmp_path):
    lines = tmp_path / "chat.jsonl"
    lines.write_text(
        '{"text": "I like tea.", "occurred_ms": 1700000000000, "source": "s"}\n\n'
        '{"text": "Tea with milk?", "speaker": "assistant", "source": "s"}\n',
        encoding="utf-8",
    )
    assert "2 new" in tailor("observe", "ann", "--file", lines)
    assert values(tailor, "observe", "ann", "--file", lines)["repeats"] >= 1
    lines.write_text('{"text": 5}\n', encoding="utf-8")
    for file, problem in ((lines, "line 1"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(DataError, match=problem):
            tailor("observe", "ann", "--file", file)
    with pytest.raises(DataError, match="give a text"):
        tailor("observe", "ann")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        tailor("import", "ann", tmp_path / "none.json")
