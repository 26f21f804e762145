"""People and who looked at them, over HTTP."""

import pytest
from service.served_shop import Client, key

from tailor.service.app import make_app
from tailor.store.keys import ROLES


@pytest.mark.parametrize("role", ROLES)
def test_every_key_may_ask_who_it_is(service, role):
    with Client(make_app(service), key(service, role)) as asking:
        answer = asking.get("/v1/caller")
    assert answer.json() == {"tenant": "shop", "name": f"{role} of shop", "role": role}
