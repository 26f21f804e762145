"""`tailor segments`: an audience is widened, segments are described, and what is refused."""

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from tailor.cli.main import app
from tailor.core.run import Run
from tailor.errors import DataError, ModelError
from tailor.papers.profiles.unicon import UNICON
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, and a model that finds segments beside one that does not."""
    folder, data = tmp_path_factory.mktemp("segments"), tiny_data()
    data.save(folder / "data")
    UNICON.tiny().fit(data, Run(workers=1)).save(folder / "model")
    Popularity().fit(data).save(folder / "popular")
    members = data.users.ids[:5].tolist()
    (folder / "users.txt").write_text("\n".join([*members, members[0], "", "stranger"]))
    return folder


def tailor(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["segments", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_an_audience_is_widened_by_others_best_first(folder):
    asked = ("expand", folder / "model", folder / "data", "--users", folder / "users.txt")
    users = json.loads(tailor(*asked, "--size", 7, "--json"))
    members = set((folder / "users.txt").read_text().split())
    assert len(users) == 7 and not members & {user["user_id"] for user in users}
    scores = [user["score"] for user in users]
    assert scores == sorted(scores, reverse=True)
    out = tailor(*asked, "--size", 7)
    assert users[0]["user_id"] in out and "1 of 6 users" in out


def test_cards_describe_every_segment(folder):
    cards = json.loads(tailor("cards", folder / "model", folder / "data", "--json"))
    assert sum(card["users"] for card in cards) == len(tiny_data().users)
    assert "segment 0" in tailor("cards", folder / "model", folder / "data")


def test_what_cannot_be_widened_is_refused(folder):
    empty = folder / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(DataError, match="has no ids"):
        tailor("expand", folder / "model", folder / "data", "--users", empty)
    with pytest.raises(DataError, match="cannot be read"):
        tailor("expand", folder / "model", folder / "data", "--users", folder / "none.txt")
    with pytest.raises(ModelError, match="finds no segments"):
        tailor("cards", folder / "popular", folder / "data")
    strangers = folder / "strangers.txt"
    strangers.write_text("nobody\n")
    with pytest.raises(DataError, match="none of the 1 members"):
        tailor("expand", folder / "model", folder / "data", "--users", strangers)
