"""The page Papers: all of them, searched and filtered, from what ships with the package."""

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages.papers import (
    ALL,
    UNBUILT,
    all_papers,
    figure_text,
    is_built,
    matching,
    paper_row,
    verdict_of,
)


def test_all_papers_ship_with_the_package():
    papers = all_papers()
    assert len(papers) == len({paper["slug"] for paper in papers}) == 136
    assert all(paper["claim"] and paper["url"] for paper in papers if is_built(paper))


def test_papers_are_found_by_words_verdict_and_package():
    papers = all_papers()
    assert [p["slug"] for p in matching(papers, "general USER models computer", ALL, ALL)] == [
        "gum"
    ]
    held = matching(papers, "", "held", "profiles")
    assert held and all(p["room"] == "profiles" and p["verdict"] == "held" for p in held)
    unbuilt = matching(papers, "", UNBUILT, ALL)
    assert len(unbuilt) == sum(not is_built(paper) for paper in papers)
    assert matching(papers, "no paper says this", ALL, ALL) == []


def test_a_paper_is_a_row():
    paper = {
        "slug": "a",
        "title": "A",
        "room": "ranking",
        "method": "papers.ranking.a.A",
        "verdict": "held",
        "state": "stale",
        "checks": {"x": True, "y": False},
        "figure": {"name": "lead", "difference": 0.05, "low": -0.01, "high": 0.1},
    }
    row = paper_row(paper)
    assert (row["verdict"], row["checks"]) == ("held, stale", "1 of 2")
    assert row["figure"] == "lead +0.05 [-0.01, +0.1]"
    assert figure_text(None) == "" and verdict_of({"slug": "b"}) == UNBUILT


@pytest.mark.slow
def test_a_paper_is_searched_and_opened_by_the_keyboard(visitor):
    page = visitor.open("/papers", role="read")
    page.get_by_label("Search title, method or claim").fill("general user models")
    page.get_by_text("1 papers").or_(page.get_by_text("1 paper", exact=True)).first.wait_for()
    page.get_by_role("button", name="Creating General User Models").press("Enter")
    page.get_by_text("The claim that was measured").wait_for()
    page.get_by_role("button", name="Close").click()
