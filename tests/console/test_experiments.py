"""The page of experiments: results, stop, start, and estimates before one."""

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages.experiments import (
    arms_text,
    rate_bars,
    result_rows,
    start_problem,
    value_bars,
    verdict,
)

ARM = {"version": 1, "people": 40, "lists": 90, "chosen": 9, "rate": 0.1, "interval": [0.05, 0.15]}


def result(interval, notes=()):
    against = {"difference": 0.05, "interval": interval, "p": 0.01}
    other = {**ARM, "version": 2, "against_first": against if interval else None}
    return {"results": [{**ARM, "against_first": None}, other], "notes": list(notes)}


def test_a_verdict_says_what_can_be_told():
    assert verdict(result([0.01, 0.09])) == "Version 2 does better than version 1."
    assert verdict(result([-0.09, -0.01])) == "Version 2 does worse than version 1."
    assert "not told apart" in verdict(result([-0.01, 0.09]))
    assert verdict(result(None)) == "Too few people yet to tell."
    uneven = ["the people are not split as the shares say (p < 0.001)"]
    assert verdict(result([0.01, 0.09], uneven)).startswith("Do not believe")


def test_arms_are_rows_and_bars_with_intervals():
    rows = result_rows(result([0.01, 0.09]))
    assert rows[0]["difference"] == "" and rows[1]["difference"] == "+5.0% (+1.0% to +9.0%)"
    assert rows[0]["interval"] == "5.0% to 15.0%"
    assert rate_bars(result(None))[0] == ("Version 1", 0.1, 0.05, 0.15)
    empty = {"results": [{**ARM, "rate": None, "interval": None, "against_first": None}]}
    assert rate_bars(empty) == [("Version 1", 0.0, None, None)]
    assert arms_text([{"version": 1, "share": 3}, {"version": 2, "share": 1}]) == "1 (75%), 2 (25%)"
    value = {"mean": None, "low": None, "high": None}
    assert value_bars({"logged": value, "dr": value, "ips": value})[0][1] == 0.0


def test_what_is_missing_to_start_is_named():
    arms = [{"version": 1, "share": 1}, {"version": 2, "share": 1}]
    assert start_problem(" ", arms) == "Give the experiment a name."
    assert start_problem("a", arms[:1]) == "Choose two versions at least."
    assert "of its own" in start_problem("a", [arms[0], arms[0]])
    assert start_problem("a", arms) == ""


@pytest.mark.slow
def test_an_experiment_is_stopped_its_results_stay_and_another_is_started(visitor):
    page = visitor.open("/experiments")
    with visitor.served.client() as client:
        running = [row["name"] for row in client.experiments() if row["ended_ms"] is None]
    if running:
        page.get_by_role("button", name="Stop it").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
        page.get_by_text("No experiment runs").wait_for()
        page.get_by_role("button", name=running[0], exact=True).click()
        page.get_by_role("heading", name=running[0], exact=True).wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("Give the experiment a name.").wait_for()
    page.get_by_label("Name", exact=True).fill("<i>next</i>")
    page.get_by_label("Action that is a success").fill("buy")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="<i>next</i>", exact=True).wait_for()
    with visitor.served.client() as client:
        assert client.experiment("<i>next</i>")["action"] == "buy"


@pytest.mark.slow
def test_an_estimate_is_shown_with_what_can_be_told(visitor):
    page = visitor.open("/experiments")
    page.get_by_role("button", name="Estimate").click()
    page.get_by_text("Worth places").wait_for()
    page.get_by_role("heading", name="Successes a list").wait_for()
    page.get_by_label("Condition of a success").fill("nonsense")
    page.get_by_role("button", name="Estimate").click()
    page.get_by_role("alert").filter(has_text="nonsense").wait_for()
