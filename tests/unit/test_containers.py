"""docker-compose.yml, the image and the systemd units: held to the command line that they start."""

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
SYSTEMD = ROOT / "examples" / "systemd"
UNITS = {"logship@.service": "run", "logship-ship@.service": "ship", "logship-replay@.service": "replay"}
DATABASES = ("primary", "secondary")
LASTING = ("shipper", "replayer")
ONCE = ("init", "capture")
PROGRAMS = (*ONCE, *LASTING)


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
    command = service["command"]
    known = options_of(*command)
    assert set(service["environment"]) <= set(known)
    in_image = re.findall(r"(LOGSHIP_\w+)=", (ROOT / "Dockerfile").read_text())
    required = {variable for variable, option in known.items() if option.required}
    assert required <= {*service["environment"], *in_image}
    ctx = click.Context(click.Command(command[-1]))
    for variable, value in service["environment"].items():
        known[variable].type_cast_value(ctx, value)  # raises on what the command would refuse


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_entrypoint_hands_its_words_on_and_is_replaced_by_the_program(
    compose: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """Run as it stands, with a `logship` that shows what it got, and where SIGTERM would arrive."""
    for role in ("logship", "postgres"):
        (tmp_path / f"{role}_password").write_text("two: words\n")
    shown = tmp_path / "logship"
    shown.write_text('#!/bin/sh\nprintf "%s|" "$PGPASSWORD" "$@" "$$"')
    shown.chmod(0o755)
    service = compose["services"][name]
    command = service["command"]
    shell, flag, script, *rest = service["entrypoint"]
    script = script.replace("$$", "$").replace("/run/secrets", str(tmp_path))
    script = script.replace("/tmp/relay-users", str(tmp_path / "users"))
    script = script.replace("/tmp/pgpass", str(tmp_path / "pgpass"))
    with subprocess.Popen(
        [shell, flag, script, *rest, *command, "a b"], stdout=subprocess.PIPE, text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    ) as process:  # fmt: skip
        out, _ = process.communicate(timeout=20)
    password = "" if name == "capture" else "two: words"
    assert out == "|".join([password, *command, "a b", str(process.pid), ""])
    if name == "capture":
        written = (tmp_path / "pgpass").read_text()
        assert written == "*:*:*:postgres:two\\: words\n*:*:*:logship_init:two\\: words\n"
        assert stat.S_IMODE((tmp_path / "pgpass").stat().st_mode) == 0o600
    if name == "shipper":
        assert (tmp_path / "users").read_text().startswith("|verifier|replayer|")
        assert stat.S_IMODE((tmp_path / "users").stat().st_mode) == 0o600


def test_who_may_log_in_at_the_relay_is_who_does(compose: dict[str, Any]) -> None:
    services = compose["services"]
    made = re.search(r"logship verifier (\w+) .*> (\S+)", services["shipper"]["entrypoint"][2])
    assert made is not None
    assert made[2] == services["shipper"]["environment"]["LOGSHIP_USERS"]
    shipper = services["replayer"]["environment"]["LOGSHIP_SHIPPER"]
    port = services["shipper"]["environment"]["LOGSHIP_LISTEN"].rpartition(":")[2]
    assert shipper == f"host=shipper port={port} user={made[1]}"


def test_the_order_of_the_start(compose: dict[str, Any]) -> None:
    services = compose["services"]
    reached = {"init": DATABASES, "shipper": DATABASES[:1], "replayer": DATABASES[1:]}
    for name, databases in reached.items():
        needs = services[name]["depends_on"]
        assert {other for other in needs if other in DATABASES} == set(databases)
        assert all(needs[database]["condition"] == "service_healthy" for database in databases)
    for name in LASTING:
        assert services[name]["depends_on"]["init"]["condition"] == "service_completed_successfully"
        assert services[name]["restart"] == "unless-stopped"
    for name in ONCE:
        assert services[name]["restart"] == "no", "what is completed must not start again"
    # or `up --wait` would take the end of a container that nobody needs for a failure
    assert services["shipper"]["depends_on"]["capture"]["condition"] == "service_completed_successfully"


def test_each_reaches_what_it_needs_and_nothing_else(compose: dict[str, Any]) -> None:
    reached = {name: set(service["networks"]) for name, service in compose["services"].items()}
    assert set.union(*reached.values()) == set(compose["networks"])
    pairs = {frozenset((a, b)) for a in reached for b in reached if a < b and reached[a] & reached[b]}
    expected = ["init primary", "init secondary", "primary shipper", "shipper replayer", "replayer secondary"]
    expected += ["capture primary", "capture secondary"]
    # on the way to the same server
    beside = ["init shipper", "init replayer", "capture shipper", "capture replayer", "capture init"]
    assert pairs == {frozenset(pair.split()) for pair in expected + beside}


def test_health_is_asked_for_where_it_is_true(compose: dict[str, Any]) -> None:
    """Every service that lasts has a check; logship's asks /ready, at the address that it is told to serve."""
    services = compose["services"]
    assert all("healthcheck" in services[name] for name in (*DATABASES, *LASTING))
    (program,) = {services[name]["healthcheck"]["test"][3] for name in LASTING}
    assert services["shipper"]["healthcheck"]["test"][:3] == ["CMD", "python", "-c"]
    (port,) = {services[name]["environment"]["LOGSHIP_METRICS"].rpartition(":")[2] for name in LASTING}
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
        places = {"LOGSHIP_PRIMARY", "LOGSHIP_SECONDARY", "LOGSHIP_SHIPPER"} & set(
            services[name]["environment"]
        )
        for place in places:
            user = services[name]["environment"][place].partition("user=")[2]
            if (name, place) == ("capture", "LOGSHIP_PRIMARY"):
                assert user == "postgres"  # event triggers are made by superusers only
            else:
                assert user == (
                    "logship_init" if name in ONCE else "replayer" if "SHIPPER" in place else "logship"
                )
    for service in services.values():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_stopping_is_given_the_time_it_takes(compose: dict[str, Any]) -> None:
    """logship ends within 10 s of SIGTERM."""
    for name in LASTING:
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) >= 10
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


# -- the systemd units -------------------------------------------------------------------------------

units = pytest.mark.parametrize("unit", UNITS)


def settings_of(unit: str) -> dict[str, list[str]]:
    text = (SYSTEMD / unit).read_text()
    lines = [line.partition("=") for line in text.splitlines() if re.match(r"[A-Z]\w*=", line)]
    found: dict[str, list[str]] = {}
    for key, _, value in lines:
        found.setdefault(key, []).append(value)
    return found


@units
def test_a_unit_starts_its_command_with_options_that_it_has(unit: str) -> None:
    found = settings_of(unit)
    (line,) = found["ExecStart"]
    _, name, *words = shlex.split(line)
    assert name == UNITS[unit]
    command = logship.get_command(click.Context(logship), name)  # type: ignore[attr-defined]
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    for line in found["Environment"]:
        assert line.partition("=")[0] in {*options_of(name), "PYTHONUNBUFFERED"}


@units
def test_a_unit_ends_it_as_it_wants_to_be_ended(unit: str) -> None:
    found = settings_of(unit)
    assert found["Type"] == ["exec"]
    assert found["KillSignal"] == ["SIGTERM"]
    assert int(found["TimeoutStopSec"][0].removesuffix("s")) >= 10
    # What a restart can't mend: usage, refused as unsafe, and where there is replay, its error.
    assert found["RestartPreventExitStatus"] == ["2 6" if UNITS[unit] == "ship" else "2 6 7"]


@units
def test_a_unit_has_few_rights(unit: str) -> None:
    found = settings_of(unit)
    assert found["DynamicUser"] == ["yes"]
    for key in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "MemoryDenyWriteExecute"):
        assert found[key] == ["yes"], key
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]


def test_each_unit_keeps_its_journal_in_a_place_of_its_own() -> None:
    places = [settings_of(unit)["StateDirectory"][0] for unit in UNITS]
    assert len(set(places)) == len(places)
    for unit in UNITS:
        found = settings_of(unit)
        assert f"LOGSHIP_JOURNAL=/var/lib/{found['StateDirectory'][0]}" in found["Environment"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@units
def test_systemd_takes_a_unit(tmp_path: Path, unit: str) -> None:
    """With the program's place replaced by one that exists here."""
    copied = tmp_path / unit.replace("@", "@app")
    copied.write_text((SYSTEMD / unit).read_text().replace("/opt/logship/bin/logship", "/bin/true"))
    shown = subprocess.run(["systemd-analyze", "verify", "--man=no", copied], capture_output=True, text=True)
    complaints = [line for line in shown.stderr.splitlines() if "logship" in line]
    assert (shown.returncode, complaints) == (0, []), shown.stderr
