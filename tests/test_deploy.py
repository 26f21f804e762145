"""The files of deploy/ are in order: who starts after whom, what a container and a unit may do."""

import configparser
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from tailor.cli.main import app

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
UNITS = ("tailor.service", "tailor-refit.service")


def unit(name):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(ROOT / "deploy" / name)
    return parser


def parse(words):
    """Have the command line read a command, without running it."""
    command, path = get_command(app), []
    while getattr(command, "commands", None):
        name, words = words[0], words[1:]
        command = command.commands[name]
        path.append(name)
    command.make_context(" ".join(path), list(words))
    return path


def test_only_the_server_starts_on_an_empty_database_and_all_others_wait_for_it():
    healthy = {"condition": "service_healthy"}
    assert SERVICES["tailor"]["depends_on"] == {"database": healthy}
    assert SERVICES["load"]["depends_on"] == {"tailor": healthy}
    refit = SERVICES["refit"]["depends_on"]
    assert refit["tailor"] == healthy
    assert refit["load"] == {"condition": "service_completed_successfully", "required": False}
    for name in ("database", "tailor"):
        assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_no_more_than_it_needs(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] and service["pids_limit"]
    assert any(mount.startswith("/tmp") for mount in service["tmpfs"])
    assert ("privileged" not in service and not service.get("cap_add")) or name == "database"


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "database"])
def test_a_container_s_command_is_one_of_ours_and_its_address_holds_no_password(name):
    assert parse(SERVICES[name]["command"])[0] in ("serve", "store", "refit")
    environment = SERVICES[name]["environment"]
    assert "PASSWORD" not in environment["TAILOR_DATABASE"] and environment["PGPASSWORD"]


def test_the_first_key_is_on_the_volume_and_ports_are_this_machine_s():
    words = SERVICES["tailor"]["command"]
    file = words[words.index("--first-key") + 1]
    target = SERVICES["tailor"]["volumes"][0].partition(":")[2]
    assert file.startswith(f"{target}/")
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_hardened_and_starts_a_command_of_ours(name):
    settings = unit(name)["Service"]
    program, *words = shlex.split(settings["ExecStart"])
    assert program == "/opt/tailor/bin/tailor" and parse(words)
    for setting, value in {
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "PrivateTmp": "yes",
        "ProtectHome": "yes",
        "DynamicUser": "yes",
        "CapabilityBoundingSet": "",
        "UMask": "0077",
    }.items():
        assert settings[setting] == value
    assert int(settings["LimitNOFILE"]) >= 4096 and settings["MemoryMax"]


def test_a_server_tries_again_while_its_database_is_away():
    assert "RestartPreventExitStatus" not in unit("tailor.service")["Service"]
    assert unit("tailor-refit.service")["Unit"]["After"].endswith("tailor.service")


def test_the_image_gets_what_it_copies_and_no_secrets():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in dockerfile if line.startswith("COPY ")]
    sources = {word for words in copies for word in words if not word.startswith(("--", "/"))}
    assert sources == allowed
    denied = [rule for rule in rules[1:] if not rule.startswith("!")]
    for path in ("tailor/x.db", "tailor/x.keys.db-wal", "tailor/.env", "tailor/a.first-key"):
        assert any(fnmatch(path, rule) for rule in denied), path
