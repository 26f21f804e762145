"""The pipeline files of the guide can be read."""

import re
import tomllib
from pathlib import Path

import pytest

from tailor.specs import build

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "pipelines.md"


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.S))
def test_a_pipeline_of_the_guide_is_one(block):
    assert build(tomllib.loads(block)).name in block
