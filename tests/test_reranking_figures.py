"""The page of reranking figures is made from the study's record."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_up_to_date():
    from reranking_figures import page

    path = ROOT / "docs" / "guide" / "reranking-figures.md"
    assert path.read_text(encoding="utf-8") == page(), "run python benchmarks/reranking_figures.py"
