"""Curves become lines of one picture."""

from xml.etree import ElementTree

from tailor.training.alignment_plot import curves_svg


def test_each_figure_has_a_panel_and_each_alignment_a_line():
    curves = {"reward": [0.1, 0.5, 0.9], "legality": [1.0, 1.0, 1.0], "best": [1.0, 2.0, 3.0]}
    picture = ElementTree.fromstring(curves_svg({"grpo": curves, "<dpo>": {"reward": [0.1, 0.2]}}))
    tags = [part.tag.rpartition("}")[2] for part in picture]
    assert tags.count("polyline") == 2 + 4  # the legend, and two panels of two
    words = " ".join(part.text or "" for part in picture)
    assert "mean reward" in words and "round 3" in words and "<dpo>" in words
    lines = [part for part in picture if part.tag.endswith("polyline")]
    heights = [float(pair.split(",")[1]) for pair in lines[2].get("points").split()]
    assert heights == sorted(heights, reverse=True)  # a rising curve goes up the page
