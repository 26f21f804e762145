"""The pages of models: switch, rollback, one version in full, and folders that cannot be read."""

import shutil

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages.models import flat_values, state_text, value_text


def test_the_state_of_a_version_is_said_in_a_word():
    state = {"answers": False, "loaded": False, "failure": None}
    assert state_text({**state, "answers": True}) == "answers"
    assert state_text({**state, "failure": "gone"}) == "cannot be loaded"
    assert state_text({**state, "loaded": True}) == "loaded"
    assert state_text(state) == "at rest"


def test_a_report_is_shown_as_rows():
    report = {"parts": {"EASE": {"items": 1200, "ok": True}}, "loss": list(range(20)), "no": None}
    assert flat_values(report) == [
        ("parts / EASE / items", "1,200"),
        ("parts / EASE / ok", "yes"),
        ("loss", "0 ... 19 (20 values)"),
    ]
    assert value_text([1, "a"]) == '[1, "a"]'


@pytest.mark.slow
def test_a_version_is_switched_to_and_rolled_back_once_that_is_confirmed(visitor):
    page = visitor.open("/models")
    with visitor.served.client() as client:
        before = next(row["version"] for row in client.models() if row["answers"])
        other = next(v for v in (1, 2) if v != before)

        def answering():
            return next(row["version"] for row in client.models() if row["answers"])

        page.get_by_label("Version", exact=True).click()
        page.get_by_role("option").filter(has_text=f"{other}: ").click()
        page.get_by_role("button", name="Let it answer").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").wait_for(state="hidden")
        assert answering() == before
        page.get_by_role("button", name="Let it answer").click()
        page.get_by_role("dialog").get_by_role("button", name="Let it answer").click()
        page.get_by_text(f"@{other} answers now.").wait_for()
        assert answering() == other
        page.get_by_role("button", name="Roll back").click()
        page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
        page.get_by_text(f"@{before} answers now.").wait_for()
        assert answering() == before
    page.get_by_role("button", name=str(other), exact=True).click()
    page.wait_for_url(f"**/models/{other}")
    page.get_by_role("heading", name="Fit report").wait_for()


@pytest.mark.slow
def test_a_folder_that_another_person_removed_is_named_and_the_page_goes_on(visitor):
    models = visitor.served.folder / "models" / "default"
    shutil.copytree(models / "popular", models / "goes")
    try:
        # the digest of a copy is the same: other words make it another model
        from tailor.retrieval.popularity import Popularity
        from tailor.worlds.shop import shop

        shutil.rmtree(models / "goes")
        Popularity().fit(shop(users=30, items=20, seed=9).data).save(models / "goes")
        with visitor.served.client() as client:
            before = next(row["version"] for row in client.models() if row["answers"])
            version = client.register_model("goes")["version"]
            client.serve_model(before)
            page = visitor.open("/models")
            page.get_by_label("Version", exact=True).click()
            page.get_by_role("option").filter(has_text=f"{version}: ").click()
            shutil.rmtree(models / "goes")
            page.get_by_role("button", name="Let it answer").click()
            page.get_by_role("dialog").get_by_role("button", name="Let it answer").click()
            page.get_by_text("holds no saved model").first.wait_for()
            page.get_by_role("cell", name="cannot be loaded", exact=True).wait_for()
            assert next(row["version"] for row in client.models() if row["answers"]) == before
        visitor.go(page, f"/models/{version}")
        page.get_by_text("The rest cannot be read").wait_for()
        visitor.go(page, "/models")
        page.get_by_text(f"Version {version} cannot be loaded").wait_for()
    finally:
        shutil.rmtree(models / "goes", ignore_errors=True)


@pytest.mark.slow
def test_a_key_without_the_role_is_told_so_and_sees_no_such_page(visitor):
    for path in ("/models", "/quality", "/experiments"):
        page = visitor.open(path, role="write")
        page.get_by_text('needs a key with the role "admin"').wait_for()
        assert page.get_by_role("navigation").get_by_text("Experiments").count() == 0
