"""The page: whole by itself, well formed, nothing of a name's text is markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tailor.data.splits import last_out
from tailor.evaluation.diagnosis import diagnose
from tailor.evaluation.pages import page, plot
from tailor.evaluation.protocol import compare, evaluate
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

SPLIT = last_out(tiny_data())
HOSTILE = '<script>alert("x")</script>'


class Tags(HTMLParser):
    """Raises where a tag is closed that was not opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text() -> str:
    methods = {
        HOSTILE: Popularity().fit(SPLIT.train),
        "visits & more": CoVisitation().fit(SPLIT.train),
    }
    report = evaluate(methods, SPLIT)
    return page(report, compare(report, HOSTILE), diagnose(SPLIT), title="A <page>")


def test_the_page_is_well_formed_and_needs_nothing_else(text):
    tags = Tags()
    tags.feed(text)
    assert (
        not tags.open
        and {"svg", "table", "style"} <= tags.seen
        and "script" not in tags.seen
        and "img" not in tags.seen
        and "link" not in tags.seen
    )
    assert not re.search(r"https?://|url\(|@import|src=", text)


def test_names_are_text_and_never_markup(text):
    assert (
        HOSTILE not in text
        and "&lt;script&gt;" in text
        and "visits &amp; more" in text
        and "A &lt;page&gt;" in text
    )


def test_every_figure_of_the_report_stands_there(text):
    assert (
        text.count("<svg") == 4
        and "Paired differences" in text
        and "history 6-20" in text
        and "Floors" in text
    )


def test_a_plot_puts_marks_in_proportion():
    drawn = plot([("a", 0.5, 0.25, 1.0), ("undefined", float("nan"), float("nan"), float("nan"))])
    (left, right), (mark,) = (
        re.findall(r'class="bar" x1="([\d.]+)" x2="([\d.]+)"', drawn)[0],
        re.findall(r'circle class="dot" cx="([\d.]+)"', drawn),
    )
    zero = float(re.findall(r'class="rule" x1="([\d.]+)"', drawn)[0])
    assert (float(left) - zero) / (float(right) - zero) == pytest.approx(0.25) and (
        float(mark) - zero
    ) / (float(right) - zero) == pytest.approx(0.5)
    assert drawn.count("<circle") == 1 and "undefined" in drawn
    assert plot([("loss", -0.1, -0.2, 0.05)], zero=True).count("<circle") == 1 and plot(
        [("zero", 0.0, 0.0, 0.0)]
    )


def test_what_is_not_defined_says_so():
    report = evaluate(Popularity().fit(SPLIT.train), SPLIT)
    empty = {
        key: replace(
            one,
            per_user={name: np.full_like(values, np.nan) for name, values in one.per_user.items()},
        )
        for key, one in report.results.items()
    }
    assert "not defined" in page(replace(report, results=empty, strata={}))
