"""The pipeline files and the Python of the guide work as they stand."""

import re
import tomllib
from pathlib import Path

import pytest

import tailor
from tailor.specs import build
from tailor.testing.data import tiny_data

GUIDE = Path(__file__).parents[1] / "docs" / "guide"


def code(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (GUIDE / page).read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("block", code("pipelines.md", "toml"))
def test_a_pipeline_of_the_guide_is_one(block):
    assert build(tomllib.loads(block)).name in block


@pytest.mark.parametrize("block", code("explanations.md", "python"))
def test_explanations_as_the_guide_asks_for_them(block, capsys):
    data = tiny_data()
    given = {
        "model": tailor.default_pipeline().fit(data),
        "query": data.queries()[3],
        "titles": dict(data.item_table.select("item_id", "title").iter_rows()),
    }
    exec(compile(block, "explanations.md", "exec"), given)
    assert capsys.readouterr().out.startswith("Because you looked at ")
    assert given["filled"][0][0].faithfulness == given["fall"].figure
