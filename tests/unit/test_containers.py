"""docker-compose.yml, the image and the systemd unit: held to the command line that they start."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from logship.cli import settings
from logship.cli.main import logship

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "examples" / "systemd" / "logship@.service"
DATABASES = ("primary", "secondary")
PROGRAMS = ("init", "logship")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def options_of(*path: str) -> dict[str, click.Option]:
    """The options of a command that exists, by their variable."""
    for known in settings.commands(logship, click.Context(logship)):
        if known.path == path:
            return {o.envvar: o for o in known.options.values() if isinstance(o.envvar, str)}
    raise AssertionError(f"there is no command {' '.join(path)}")


# -- docker-compose.yml ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_service_is_given_what_its_command_needs_and_nothing_it_doesnt_know(
    compose: dict[str, Any], name: str
) -> None:
    service = compose["services"][name]
    (command,) = service["command"]
    known = options_of(command)
    assert set(service["environment"]) <= set(known)
    in_image = re.findall(r"(LOGSHIP_\w+)=", (ROOT / "Dockerfile").read_text())
    required = {variable for variable, option in known.items() if option.required}
    assert required <= {*service["environment"], *in_image}
    ctx = click.Context(click.Command(command))
    for variable, value in service["environment"].items():
        known[variable].type_cast_value(ctx, value)  # raises on what the command would refuse


def test_the_entrypoint_hands_its_words_on_and_is_replaced_by_the_program(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    """Run as it stands, with a `logship` that shows what it got, and where SIGTERM would arrive."""
    (tmp_path / "secret").write_text("two words\n")
    shown = tmp_path / "logship"
    shown.write_text('#!/bin/sh\nprintf "%s|" "$PGPASSWORD" "$@" "$$"')
    shown.chmod(0o755)
    shell, flag, script, *rest = compose["services"]["logship"]["entrypoint"]
    script = script.replace("$$", "$").replace("/run/secrets/logship_password", str(tmp_path / "secret"))
    with subprocess.Popen(
        [shell, flag, script, *rest, "run", "a b"], stdout=subprocess.PIPE, text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    ) as process:  # fmt: skip
        out, _ = process.communicate(timeout=20)
    assert out == f"two words|run|a b|{process.pid}|"


def test_the_order_of_the_start(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in PROGRAMS:
        for database in DATABASES:
            assert services[name]["depends_on"][database]["condition"] == "service_healthy"
    assert services["logship"]["depends_on"]["init"]["condition"] == "service_completed_successfully"
    assert services["init"]["restart"] == "no", "what is completed must not start again"


def test_health_is_asked_for_where_it_is_true(compose: dict[str, Any]) -> None:
    """Every service that lasts has a check; logship's asks /ready, at the address that it is told to serve."""
    services = compose["services"]
    assert all("healthcheck" in services[name] for name in (*DATABASES, "logship"))
    kind, python, flag, program = services["logship"]["healthcheck"]["test"]
    assert (kind, python, flag) == ("CMD", "python", "-c")
    port = services["logship"]["environment"]["LOGSHIP_METRICS"].rpartition(":")[2]
    assert f'"127.0.0.1", {port}' in program
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        free = taken.getsockname()[1]
        asked = subprocess.run(
            [sys.executable, "-c", program.replace(port, str(free))], capture_output=True, text=True
        )
    assert asked.returncode == 1
    assert "ConnectionRefusedError" in asked.stderr


def test_what_must_last_is_in_a_volume_and_no_secret_is_in_the_file(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).is_file(), (name, volume)
        for variable, value in service["environment"].items():
            assert "PASSWORD" not in variable or value.startswith("/run/secrets/"), name
            assert "password" not in str(value) or value.startswith("/run/secrets/"), name
        assert set(service["secrets"]) <= set(compose["secrets"])
    assert {volume for s in compose["services"].values() for volume in _named(s)} == set(compose["volumes"])
    assert "wal_level=logical" in compose["services"]["primary"]["command"]


def _named(service: dict[str, Any]) -> set[str]:
    return {v.split(":")[0] for v in service.get("volumes", []) if not v.startswith(".")}


def test_rights_are_few(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in PROGRAMS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        for side in ("LOGSHIP_PRIMARY", "LOGSHIP_SECONDARY"):
            user = services[name]["environment"][side].partition("user=")[2]
            assert user in {"logship", "logship_init"}, "no superuser"
    for service in services.values():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_stopping_is_given_the_time_it_takes(compose: dict[str, Any]) -> None:
    """logship ends within 10 s of SIGTERM."""
    assert int(compose["services"]["logship"]["stop_grace_period"].removesuffix("s")) >= 10
    assert "STOPSIGNAL SIGTERM" in (ROOT / "Dockerfile").read_text()


def test_make_up_makes_each_secret_and_keeps_it(compose: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    files = [secret["file"].removeprefix("./") for secret in compose["secrets"].values()]
    before = []
    for _ in range(2):
        done = subprocess.run(
            ["make", "--no-print-directory", *files], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        before.append([(tmp_path / file).read_text() for file in files])
    assert before[0] == before[1]
    assert all(len(text) >= 24 and text.isalnum() for text in before[0])
    assert stat.S_IMODE((tmp_path / files[0]).parent.stat().st_mode) == 0o700
    assert all(stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o444 for file in files)
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/var/" in ignored
    assert all(file.startswith("var/") for file in files)


# -- the image ---------------------------------------------------------------------------------------


def test_images_are_pinned_and_logship_is_not_root(compose: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    images = re.findall(r"^FROM (\S+)", dockerfile, re.M)
    images += [compose["services"][name]["image"] for name in DATABASES]
    assert all(re.search(r":\d+\.\d+", image) for image in images), images
    assert re.findall(r"^USER (\S+)", dockerfile, re.M) == ["logship"]


def test_what_the_image_copies_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for line in re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.M):
        for source in line.split():
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored


# -- the systemd unit --------------------------------------------------------------------------------


def unit() -> dict[str, list[str]]:
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w*=", line)]
    found: dict[str, list[str]] = {}
    for key, _, value in lines:
        found.setdefault(key, []).append(value)
    return found


def test_the_unit_starts_a_command_with_options_that_it_has() -> None:
    for key in ("ExecStart", "ExecStartPre"):
        for line in unit().get(key, []):
            _, *words = shlex.split(line)
            ctx = click.Context(logship)
            command = logship.get_command(ctx, words[0])  # type: ignore[attr-defined]
            assert command is not None, line
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known
    for line in unit()["Environment"]:
        assert line.partition("=")[0] in {*options_of("run"), "PYTHONUNBUFFERED"}


def test_the_unit_ends_it_as_it_wants_to_be_ended() -> None:
    found = unit()
    assert found["Type"] == ["exec"]
    assert found["KillSignal"] == ["SIGTERM"]
    assert int(found["TimeoutStopSec"][0].removesuffix("s")) >= 10
    # What a restart can't mend: usage, refused as unsafe, a replay error.
    assert found["RestartPreventExitStatus"] == ["2 6 7"]


def test_the_unit_has_few_rights() -> None:
    found = unit()
    assert found["DynamicUser"] == ["yes"]
    for key in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "MemoryDenyWriteExecute"):
        assert found[key] == ["yes"], key
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With the program's place replaced by one that exists here."""
    copied = tmp_path / "logship@app.service"
    copied.write_text(UNIT.read_text().replace("/opt/logship/bin/logship", "/bin/true"))
    shown = subprocess.run(["systemd-analyze", "verify", "--man=no", copied], capture_output=True, text=True)
    complaints = [line for line in shown.stderr.splitlines() if "logship@" in line]
    assert (shown.returncode, complaints) == (0, []), shown.stderr
