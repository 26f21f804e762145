"""A running service as tools of an agent: its answers, its errors, and one user alone."""

import asyncio
import json
import os
import sys

import pytest

pytest.importorskip("mcp")
pytest.importorskip("fastapi")

from mcp import Client as Agent
from service.served_shop import SHOP, client, engine, key, models, postgres, service, url  # noqa: F401
from typer.testing import CliRunner

from tailor.cli.agent_tools import make_server, read_key
from tailor.cli.main import app
from tailor.client import Client
from tailor.errors import StoreError

USER = SHOP.users.ids[0]
ITEM = SHOP.catalogue.ids[0]


@pytest.fixture
def speaking(client):  # noqa: F811
    """The client of the service, over the test's transport."""
    made = Client("http://test", "no key")
    made._http = client
    return made


def called(server, name, **arguments):
    """Return the tool's answer, and whether it is an error."""

    async def ask():
        async with Agent(server) as agent:
            result = await agent.call_tool(name, arguments)
            return result.content[0].text, bool(result.is_error)

    text, is_error = asyncio.run(ask())
    return (text, True) if is_error else (json.loads(text), False)


def tools(server):
    async def ask():
        async with Agent(server) as agent:
            return {tool.name: tool for tool in (await agent.list_tools()).tools}

    return asyncio.run(ask())


def test_tools_answer_as_the_service_does(speaking, client):  # noqa: F811
    server = make_server(speaking)
    answer, failed = called(server, "recommend_items", user_id=USER, k=3)
    expected = client.ask("/v1/recommendations", user_id=USER, k=3)["items"]
    assert not failed and answer["items"] == expected
    answer, _ = called(server, "recommend_items", liked_item_ids=[ITEM])
    assert answer["items"]
    answer, _ = called(server, "similar_items", item_id=ITEM, k=2)
    assert len(answer["items"]) == 2
    title = SHOP.texts_of("title")[0]
    answer, _ = called(server, "search_items", text=title, k=1)
    assert len(answer["items"]) == 1
    answer, _ = called(server, "rerank_texts", query="tea", documents=["coffee", "tea"])
    assert [row["index"] for row in answer["results"]] == [1, 0]
    answer, _ = called(server, "recommend_items", k=10**9)
    assert len(answer["items"]) <= 50


def test_an_agent_remembers_recalls_and_forgets(speaking):
    server = make_server(speaking, USER)
    answer, failed = called(server, "remember", text="I moved to Lisbon.")
    assert not failed, answer
    answer, _ = called(server, "recall_memory", question="Where do I live?")
    assert any("Lisbon" in item["text"] for item in answer["items"])
    answer, _ = called(server, "read_profile")
    assert "Lisbon" in json.dumps(answer)
    answer, failed = called(server, "forget_memory", words="Lisbon")
    assert not failed, answer
    answer, _ = called(server, "recall_memory", question="Where do I live?")
    assert "Lisbon" not in json.dumps(answer)
    answer, failed = called(make_server(speaking), "read_profile", user_id=str(SHOP.users.ids[1]))
    assert not failed and "Lisbon" not in json.dumps(answer)


def test_no_tool_shows_what_is_sensitive(speaking):
    server = make_server(speaking, user_id="ann")
    called(server, "remember", text="I am diabetic.")
    called(server, "remember", text="I like tea.")
    for name, arguments in (
        ("recall_memory", {"question": "diabetic tea?"}),
        ("read_profile", {}),
    ):
        answer, failed = called(server, name, **arguments)
        shown = json.dumps(answer)
        assert not failed and "tea" in shown and "diabet" not in shown


def test_bound_to_one_user_no_tool_takes_another(speaking, client):  # noqa: F811
    server = make_server(speaking, USER)
    described = tools(server)
    assert set(described) == set(tools(make_server(speaking)))
    for tool in described.values():
        assert "user_id" not in tool.input_schema["properties"] and tool.description
    answer, _ = called(server, "recommend_items", k=3)
    assert answer["items"] == client.ask("/v1/recommendations", user_id=USER, k=3)["items"]
    _, failed = called(server, "recommend_items", user_id=str(SHOP.users.ids[1]))
    assert failed or answer["items"] == called(server, "recommend_items", k=3)[0]["items"]


def test_errors_of_the_service_reach_the_agent_in_words(speaking):
    server = make_server(speaking)
    text, failed = called(server, "search_items", text="tea", condition="no_such <= 1")
    assert failed and "no_such" in text
    text, failed = called(server, "recommend_items", user_id="a\0b")
    assert failed and "Traceback" not in text


def test_keys_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("TAILOR_KEY", raising=False)
    with pytest.raises(StoreError, match="--key-file"):
        read_key(None)
    monkeypatch.setenv("TAILOR_KEY", " secret\n")
    assert read_key(None) == "secret"
    (tmp_path / "key").write_text("other\n")
    assert read_key(tmp_path / "key") == "other"
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(StoreError, match="holds no key"):
        read_key(tmp_path / "empty")
    with pytest.raises(StoreError, match="FileNotFoundError"):
        read_key(tmp_path / "absent")
    result = CliRunner().invoke(app, ["mcp", "--key-file", str(tmp_path / "absent")])
    assert result.exit_code == 1


@pytest.mark.slow
def test_the_command_speaks_over_standard_input_and_output(tmp_path):
    from mcp import StdioServerParameters

    command = ["-m", "tailor", "mcp", "--url", "http://127.0.0.1:9"]
    parameters = StdioServerParameters(
        command=sys.executable, args=command, env={**os.environ, "TAILOR_KEY": "secret"}
    )

    async def ask():
        async with Agent(parameters) as agent:
            return [tool.name for tool in (await agent.list_tools()).tools]

    assert "recommend_items" in asyncio.run(ask())
