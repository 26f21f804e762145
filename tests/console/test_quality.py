"""The page of quality: verdicts, bars of groups, and two versions for one person."""

import time

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages.quality import (
    comparison_rows,
    edge_text,
    list_rows,
    mean_bars,
    strata_bars,
    verdict,
)


def comparison(low, high):
    return {
        "metric": "NDCG@10",
        "seen": "removed",
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "p_holm": 0.01,
        "wins": 12,
        "losses": 3,
    }


def row(method, stratum=None, mean=0.2):
    return {
        "method": method,
        "seen": "removed",
        "metric": "NDCG@10",
        "mean": mean,
        "low": 0.1,
        "high": 0.3,
        "users": 40,
        **({"stratum": stratum} if stratum else {}),
    }


def test_a_verdict_says_whether_a_version_is_better():
    judged = {"against": 2, "comparisons": [comparison(0.01, 0.03)]}
    assert verdict(judged).startswith("Better than version 2: NDCG@10 +0.0200")
    assert verdict({**judged, "comparisons": [comparison(-0.03, -0.01)]}).startswith("Worse")
    assert verdict({**judged, "comparisons": [comparison(-0.03, 0.01)]}).startswith(
        "Not told apart"
    )
    assert "by itself" in verdict({"against": None, "comparisons": []})
    assert comparison_rows(judged["comparisons"])[0]["people"] == "12 / 3"


def test_bars_stand_by_group_with_both_versions_together():
    strata = [
        row("serving", "history 0"),
        row("serving", "target head"),
        row("new", "history 0", 0.4),
        row("new", "target head", None),
    ]
    report = {"metrics": [row("serving"), row("new")], "strata": strata, "lists": []}
    bars = strata_bars(report)
    assert [bar[0] for bar in bars["NDCG@10 by length of history"]] == [
        "history 0, serving (40)",
        "history 0, this version (40)",
    ]
    assert len(bars["NDCG@10 by item"]) == 1
    assert mean_bars(report)[1] == ("this version", 0.2, 0.1, 0.3)
    assert list_rows(report) == [] and (edge_text(0.0), edge_text(-0.5)) == ("0", "-0.5")


@pytest.mark.slow
def test_a_judged_version_is_shown_with_its_groups_and_compared_for_a_person(visitor):
    with visitor.served.client() as client:
        job = client.start_refit(toml='class = "EASE"', note="judged")
        while job["state"] == "running":
            time.sleep(0.3)
            job = client.refit(job["id"])
    assert job["state"] == "done", job
    page = visitor.open(f"/quality?version={job['version']}")
    page.get_by_text("version 2").first.wait_for()
    for heading in ("Judgement", "Who is better off", "Groups of people and items"):
        page.get_by_role("heading", name=heading, exact=True).wait_for()
    page.get_by_text("NDCG@10 by length of history: the numbers").click()
    page.get_by_role("cell", name="this version").first.wait_for()
    page.get_by_label("People", exact=True).fill(visitor.served.users[1])
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("are in both lists").wait_for()
    page.get_by_label("Version", exact=True).first.click()
    page.get_by_role("option").filter(has_text="1: given to serve").click()
    page.get_by_text("This version was not judged").wait_for()
