"""`tailor data regen-like`: the file that it writes, and what it refuses."""

import json

import pytest
from running import fails, ok

from tailor.worlds.facets import facets


@pytest.fixture
def folder(tmp_path):
    facets(8, 4).data.save(tmp_path / "data")
    return tmp_path


def test_every_user_is_a_line(folder):
    out = folder / "regen.jsonl"
    told = ok("data", "regen-like", folder / "data", "--out", out)
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(records) == 8
    assert {len(record["steps"]) for record in records} == {4}
    assert "32 steps with a narrative" in " ".join(told.split())
    assert {"item_id", "title", "rating", "review", "critique", "narrative", "origin"} <= set(
        records[0]["steps"][0]
    )


def test_a_file_that_is_there_is_kept(folder):
    out = folder / "regen.jsonl"
    out.write_text("mine")
    assert "--overwrite" in fails("data", "regen-like", folder / "data", "--out", out)
    assert out.read_text() == "mine"
    ok("data", "regen-like", folder / "data", "--out", out, "--overwrite")
    assert out.read_text() != "mine"
