"""The page of the pipeline: its funnel, the editor, refits, and lists before a switch."""

import socket

import pytest

pytest.importorskip("nicegui")

from tailor.console.funnel import milliseconds, rows_of
from tailor.console.pages.pipeline import (
    MOST_TOML,
    ended_text,
    left_text,
    line_range,
    origin_text,
    problem_text,
    progress_of,
    serving_version,
    stage_text,
    too_long,
)
from tailor.console.side_by_side import changes, people_of, shared_count, version_options

GOOD = 'class = "CoVisitation"\nwindow = 2\n'
BAD = 'class = "Filter"\n[inner]\nclass = "EASE"\nl3 = 1.0\n'
SLOW = 'class = "SASRec"\nepochs = 5000\n'


def stage(name, items_in, items_out, parts=()):
    return {
        "name": name,
        "settings": "",
        "items_in": items_in,
        "items_out": items_out,
        "ms": 1.5,
        "parts": list(parts),
    }


def test_a_funnel_has_a_row_for_each_stage_and_bars_as_wide_as_its_items():
    inner = stage("EASE", 100, 50)
    rows = rows_of([stage("Blocked items", 200, 100), stage("Fuse", None, 0, [inner])])
    assert [(row.name, row.depth, row.width) for row in rows] == [
        ("Blocked items", 0, 50.0),
        ("Fuse", 0, 0.0),
        ("EASE", 1, 25.0),
    ]
    assert rows[0].counts == "200 → 100 items" and rows[1].counts == "0 items"
    assert rows_of([]) == [] and rows_of([stage("Empty", 0, 0)])[0].width == 0.0
    assert (milliseconds(0.013), milliseconds(250.4)) == ("0.01 ms", "250 ms")


def test_what_a_refit_does_is_said_with_the_time_left():
    job = {"step": 2, "steps": 4, "done": 5, "total": 10, "stage": "judging", "left_s": 100}
    assert progress_of(job) == 0.375
    assert stage_text(job) == "Step 2 of 4: judging, about 2 min left"
    assert stage_text({"steps": 0}) == "Starting" and progress_of({"steps": 0}) == 0.0
    assert left_text(0.2) == "1 s"
    done = {"state": "done", "version": 3, "why": ""}
    assert "Version 3" in ended_text(done)
    assert ended_text({"state": "failed", "version": None, "why": "no events"}).endswith(
        "no events"
    )


def test_problems_name_the_remedy_and_their_line_can_be_marked():
    problem = {"line": 2, "problem": "no class", "remedy": 'Did you mean "EASE"?'}
    assert problem_text(problem) == 'no class. Did you mean "EASE"?'
    assert problem_text({**problem, "remedy": ""}) == "no class"
    assert line_range(BAD, 2) == (17, 24) and BAD[17:24] == "[inner]"
    assert line_range("", 7) == (0, 0)
    assert f"{MOST_TOML:,}" in too_long("#" * 200_000)["problem"]
    assert origin_text(None) == "A new pipeline."


def model(version, served_ms=None, answers=False, kind="recommends", note=""):
    return {
        "version": version,
        "served_ms": served_ms,
        "answers": answers,
        "kind": kind,
        "note": note,
        "folder": "counting",
    }


def test_the_serving_version_is_the_one_that_was_put_in_place_last():
    versions = [model(1, 10), model(2, 20, True), model(3), model(4, 30, kind="predicts")]
    assert serving_version(versions) == 2
    assert serving_version([model(3)]) is None
    assert version_options(versions) == {
        1: "1: counting",
        2: "2: counting, answers",
        3: "3: counting",
    }


def test_lists_side_by_side_say_what_changed():
    old = [{"item_id": name} for name in "abc"]
    new = [{"item_id": name} for name in "cad"]
    assert changes(old, new) == {"c": "up 2", "a": "down 1", "d": "new"}
    assert shared_count(old, new) == 2
    assert people_of(" ann, bob\nann,, c ") == ["ann", "bob", "c"] and people_of(" ") == []


# in a browser


@pytest.mark.slow
def test_the_funnel_of_a_real_list_is_drawn(visitor):
    page = visitor.open("/pipeline", role="read")
    page.get_by_label("Person", exact=True).fill(visitor.served.users[0])
    page.get_by_role("button", name="Show the stages").click()
    page.get_by_text("In all").wait_for()
    stages = page.get_by_label("Stages of the list").locator("li")
    names = [text.splitlines()[0] for text in stages.all_inner_texts()]
    assert names[:2] == ["Blocked items", "History and exclusions"]
    assert names[-1] == "Last look at blocked items" and len(names) > 3
    assert page.get_by_role("heading", name="Settings").count() == 0  # the key may only read


@pytest.mark.slow
def test_a_pipeline_is_checked_fitted_and_compared_before_it_answers(visitor):
    page = visitor.open("/pipeline")
    text = page.get_by_label("Pipeline (TOML)")
    text.fill(BAD)
    page.get_by_text('EASE has no setting "l3"').wait_for()
    page.get_by_role("button", name="Line 4").click()
    page.wait_for_function(
        "() => { const area = document.activeElement; return area.value?.slice("
        "area.selectionStart, area.selectionEnd) === 'l3 = 1.0'; }"
    )
    page.get_by_role("button", name="Fit it").click()
    page.get_by_text("Mend the text first.").wait_for()
    text.fill(GOOD)
    page.get_by_text("It can be fitted.").wait_for()
    page.get_by_label("Note", exact=True).fill("<b>wider</b>")
    page.get_by_role("button", name="Fit it").click()
    page.get_by_text("It answers once you switch to it.").wait_for(timeout=90_000)
    page.get_by_role("cell", name="<b>wider</b>", exact=True).wait_for()
    page.get_by_label("People", exact=True).fill(visitor.served.users[0])
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("are in both lists").wait_for()
    with visitor.served.client() as client:
        latest = max(row["version"] for row in client.models())
        assert not client.model(latest)["answers"]
    page.get_by_text(f"Version {latest} CoVisitation@{latest}").wait_for()


@pytest.mark.slow
def test_a_refit_shows_how_far_it_is_and_can_be_cancelled(visitor):
    pytest.importorskip("torch")
    page = visitor.open("/pipeline")
    page.get_by_label("Pipeline (TOML)").fill(SLOW)
    page.get_by_text("It can be fitted.").wait_for()
    page.get_by_role("button", name="Fit it").click()
    page.get_by_text("left", exact=False).filter(has_text="Step 2 of 4").wait_for(timeout=90_000)
    page.reload()
    page.get_by_text("Step 2 of 4").wait_for()
    page.get_by_role("button", name="Cancel the refit").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the refit").click()
    page.get_by_role("cell", name="cancelled", exact=True).first.wait_for(timeout=30_000)


@pytest.mark.slow
def test_who_edits_is_told_that_another_version_answers_and_loses_nothing(visitor):
    page = visitor.open("/pipeline")
    page.get_by_label("Pipeline (TOML)").fill(GOOD)
    with visitor.served.client() as client:
        before = next(row["version"] for row in client.models() if row["answers"])
        other = next(v for v in (1, 2) if v != before)
        client.serve_model(other)
        try:
            page.get_by_text(f"Version {other} answers now.").wait_for()
            assert page.get_by_label("Pipeline (TOML)").input_value() == GOOD
            page.get_by_role("button", name="Begin from it").click()
            page.get_by_role("button", name="Replace").click()
            page.get_by_text(f"These are the settings of version {other}.").wait_for()
        finally:
            client.serve_model(before)


@pytest.fixture
def own_shop(tmp_path, monkeypatch):
    """Serve a shop of its own, which a test may stop: its folder, port, process and console."""
    from tailor.cli import demo_service
    from tailor.cli.consoling import console_beside

    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # NiceGUI would wait for its fixtures
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    demo_service._make_shop(tmp_path, 40, 30, 0)
    servers = [demo_service._start_server(tmp_path, ports[0])]
    try:
        key = demo_service._first_key(servers[0], tmp_path)
        with console_beside(f"http://127.0.0.1:{ports[0]}", ports[1]) as console:
            yield servers, lambda: demo_service._start_server(tmp_path, ports[0]), key, console
    finally:
        servers[-1].terminate()
        servers[-1].wait(60)


@pytest.mark.slow
def test_an_edit_survives_a_service_that_is_away(own_shop, browser):
    servers, start, key, console = own_shop
    page = browser.new_page()
    page.goto(f"{console}/login?next=/pipeline")
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Log in").click()
    text = page.get_by_label("Pipeline (TOML)")
    text.wait_for()
    servers[0].terminate()
    servers[0].wait(60)
    text.fill(BAD)
    page.get_by_text("The service does not answer. What you typed stays here").wait_for()
    assert text.input_value() == BAD
    servers.append(start())
    page.get_by_text("The service answers again.").wait_for(timeout=90_000)
    assert text.input_value() == BAD
    text.fill(BAD + "# more")
    page.get_by_text('EASE has no setting "l3"').wait_for()
    page.close()


@pytest.mark.slow
def test_a_text_of_a_megabyte_is_refused_in_words(visitor):
    page = visitor.open("/pipeline")
    page.get_by_label("Pipeline (TOML)").fill("#" * 1_000_000)
    page.get_by_text("characters, at most 100,000 are possible").wait_for()
    page.get_by_label("Pipeline (TOML)").fill("l2 = = 3")
    page.get_by_text("it is no TOML").wait_for()
