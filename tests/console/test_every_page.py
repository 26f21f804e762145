"""Every page of the console: no serious fault of accessibility, no error in the browser."""

import importlib
import pkgutil

import pytest

pytest.importorskip("nicegui")

from tailor.console import frame, pages

for module in pkgutil.iter_modules(pages.__path__):
    importlib.import_module(f"{pages.__name__}.{module.name}")
PATHS = sorted({page.path for page in frame.PAGES if page.icon})
OF_ONE = ("/people/{user}", "/items/{item}", "/models/1")


def test_every_page_of_the_navigation_has_its_own_address_and_title():
    shown = [page for page in frame.PAGES if page.icon]
    assert len(PATHS) == len(shown) == len({page.title for page in shown})
    assert {"Overview", "People", "Items", "Pipeline", "Quality", "Experiments"} <= {
        page.title for page in shown
    }


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_has_a_serious_fault_or_is_wider_than_the_window(visitor, faults, width, dark):
    page = visitor.open("/", width=width, dark=dark)
    served = visitor.served
    found = {}
    for path in (*PATHS, *OF_ONE):
        address = path.format(user=served.users[0], item=served.items[0])
        visitor.go(page, address)
        found[address] = faults(page)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found[address] += ["wider than the window"]
    assert not any(found.values()), {path: one for path, one in found.items() if one}


@pytest.mark.slow
@pytest.mark.parametrize("role", ["read", "write"])
def test_a_key_sees_the_pages_of_its_role_alone(visitor, role):
    page = visitor.open("/papers", role=role)
    shown = page.locator("nav a").all_inner_texts()
    allowed = [entry for entry in frame.PAGES if entry.icon and entry.role != "admin"]
    assert {text.split("\n")[-1] for text in shown} == {entry.title for entry in allowed}
    for entry in frame.PAGES:
        if entry.icon and entry.role == "admin":
            visitor.go(page, entry.path)
            assert page.get_by_text('needs a key with the role "admin"').is_visible()
