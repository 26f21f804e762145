"""The page of the audit."""

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages.audit import GONE, look_rows


def test_looks_are_told_in_words():
    look = {"user_id": "ann", "subject": "d", "time_ms": 0, "key": "desk", "route": "export"}
    rows = look_rows([look, {**look, "user_id": None, "route": "newer route"}])
    assert rows[0] == {
        "id": 0,
        "when": "1970-01-01 00:00",
        "key": "desk",
        "whom": "ann",
        "what": "all that is stored (export)",
    }
    assert (rows[1]["whom"], rows[1]["what"]) == (GONE, "newer route")


@pytest.mark.slow
def test_it_is_shown_who_looked_at_whom(visitor, faults):
    served = visitor.served
    user_id = served.users[2]
    with served.client("read") as client:
        client.history(user_id)
        name = client.caller()["name"]
    page = visitor.open("/people/" + user_id)
    visitor.go(page, "/audit")
    page.get_by_label("Exact id of a person").fill(user_id)
    page.wait_for_timeout(500)  # looks are written four times a second
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("cell", name=name).first.wait_for()
    assert page.get_by_role("cell", name="the history").count() == 2
    assert faults(page) == []
    page.get_by_role("button", name=user_id).first.click()
    page.get_by_role("heading", name="History").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["read", "write"])
def test_only_admins_see_the_audit(visitor, role):
    page = visitor.open("/audit", role=role)
    page.get_by_text('This page needs a key with the role "admin"').wait_for()
    assert page.get_by_role("link", name="Audit").count() == 0
