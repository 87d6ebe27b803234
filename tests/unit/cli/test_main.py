"""The frame: commands found lazily, errors in one form, exit codes by whose fault it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import click
import pytest

import logship
from logship import kernel
from logship.cli import options, output
from logship.cli.main import COMMANDS, Commands, Entry, run_command
from logship.cli.settings import config_option
from logship.errors import LogshipError, SlotMissing
from logship.lsn import Lsn

Outcome = tuple[int, str, str]


@click.command()
@options.primary
@options.as_json
@click.option("--fail", type=click.Choice(["slot", "defect", "interrupt", "code"]))
def sample(primary: str, as_json: bool, fail: str | None) -> int | None:
    match fail:
        case "slot":
            raise SlotMissing("s1")
        case "defect":
            raise ValueError("row value 4711")
        case "interrupt":
            raise KeyboardInterrupt
        case "code":
            return 1
    output.record({"primary": primary, "lsn": Lsn(0x16B3748)}, as_json=as_json)
    return None


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    for name in [name for name in os.environ if name.startswith("LOGSHIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("sample_commands")
    module.sample = sample  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sample_commands", module)
    return Commands(
        name="logship",
        params=[config_option(from_directory=True)],
        entries={
            "sample": Entry("sample_commands", "sample", "A sample."),
            "absent": Entry("no_such_module", "absent", "Never imported."),
        },
    )


@pytest.fixture
def run(group: Commands, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Outcome:
        code = run_command(group, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_command_prints_and_exits_with_0(run: Any) -> None:
    assert run("sample", "--primary", "p") == (0, "primary  p\nlsn      0/16B3748\n", "")


def test_json_has_an_lsn_as_text(run: Any) -> None:
    code, out, _ = run("sample", "--primary", "p", "--json")
    assert (code, json.loads(out)) == (0, {"primary": "p", "lsn": "0/16B3748"})


def test_help_imports_no_command(run: Any) -> None:
    code, out, err = run("--help")
    assert code == 0
    assert "Never imported." in out
    assert err == ""


def test_without_arguments_help_goes_to_stderr(run: Any) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "Commands:" in err


def test_an_error_is_a_sentence_and_a_hint(run: Any) -> None:
    code, out, err = run("sample", "--primary", "p", "--fail", "slot")
    assert (code, out) == (3, "")
    assert err.startswith('logship: error: replication slot "s1" does not exist on the primary\nhint: ')


def test_an_error_is_an_object_with_json(run: Any) -> None:
    code, out, err = run("sample", "--primary", "p", "--fail", "slot", "--json")
    shown = json.loads(err)
    assert (code, out) == (3, "")
    assert (shown["kind"], shown["exit_code"], shown["fields"]) == ("SlotMissing", 3, {"slot": "s1"})
    assert shown["hint"]


def test_a_usage_error_is_an_object_too(run: Any) -> None:
    code, _, err = run("sample", "--json", "--primry", "p")
    assert code == 2
    assert json.loads(err)["hint"] == "did you mean --primary?"


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["smple"], "there is no command 'smple'", "did you mean sample?"),
        (["sample", "--primry", "p"], "there is no option --primry", "did you mean --primary?"),
        (["sample"], "--primary is missing", "give --primary, LOGSHIP_PRIMARY or primary in logship.toml"),
        (["sample", "--primary", "p", "--fail", "x"], "--fail: 'x' is not one of", "`logship sample --help`"),
        (["sample", "--primary", "p", "more"], "got unexpected extra argument", "`logship sample --help`"),
    ],
)
def test_usage_errors(run: Any, arguments: list[str], sentence: str, hint: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(f"logship: error: {sentence}")
    assert second.startswith(f"hint: {hint}")


def test_a_defect_shows_its_place_and_not_its_text(run: Any) -> None:
    code, _, err = run("sample", "--primary", "p", "--fail", "defect")
    assert code == 70
    assert "unexpected ValueError" in err
    assert "4711" not in err
    assert "Traceback" not in err


def test_a_defect_shows_its_traceback_on_request(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSHIP_DEBUG", "1")
    assert "Traceback" in run("sample", "--primary", "p", "--fail", "defect")[2]


def test_interrupted_is_130(run: Any) -> None:
    code, out, err = run("sample", "--primary", "p", "--fail", "interrupt")
    assert (code, out, err.split("\n")[1]) == (130, "", "logship: interrupted")
    code, _, err = run("sample", "--primary", "p", "--fail", "interrupt", "--json")
    assert (code, json.loads(err)["exit_code"]) == (130, 130)


def test_what_lasts_may_be_stopped_before_it_has_begun(
    group: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in (("run", 0), ("replay", 0), ("ship", 0), ("init", 130)):
        monkeypatch.setitem(group.entries, name, group.entries["sample"])
        assert run_command(group, [name, "--primary", "p", "--fail", "interrupt"]) == code


def test_a_command_may_return_its_exit_code(run: Any) -> None:
    assert run("sample", "--primary", "p", "--fail", "code")[0] == 1


def test_flag_before_variable_before_file(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.joinpath("logship.toml").write_text("primary = 'file'")
    # The second entry has no module, and reading the file needs to know every command.
    monkeypatch.setitem(sys.modules, "no_such_module", types.SimpleNamespace(absent=sample))  # type: ignore[arg-type]
    assert run("sample")[1].startswith("primary  file")
    monkeypatch.setenv("LOGSHIP_PRIMARY", "variable")
    assert run("sample")[1].startswith("primary  variable")
    assert run("sample", "--primary", "flag")[1].startswith("primary  flag")


def test_every_command_exists_and_is_summed_up_as_its_help_says() -> None:
    commands = Commands(name="logship", entries=COMMANDS)
    ctx = click.Context(commands)
    for name, entry in COMMANDS.items():
        command = commands.get_command(ctx, name)
        assert command is not None
        assert command.help
        assert entry.summary.endswith(".")


def test_version() -> None:
    shown = subprocess.run([sys.executable, "-m", "logship", "--version"], capture_output=True, text=True)
    expected = f"logship {logship.__version__} (kernel: {kernel.IN_USE})\n"
    assert (shown.returncode, shown.stdout) == (0, expected)


@pytest.mark.parametrize("wish", ["rust", "Cython"])
def test_a_kernel_that_there_is_not(wish: str) -> None:
    """Before any command does anything; --help works."""
    environment = os.environ | {"LOGSHIP_KERNEL": wish}
    command = [sys.executable, "-m", "logship", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert shown.returncode == 2
    assert f"LOGSHIP_KERNEL is '{wish}'" in shown.stderr
    assert "hint: it is python or cython" in shown.stderr


def test_sigterm_ends_every_with_block(tmp_path: Path) -> None:
    program = (
        "import sys, types, threading, click\n"
        "from logship.cli import main as _\n"
        "m = sys.modules['logship.cli.main']\n"
        "def wait():\n"
        "    try:\n"
        "        print('waiting', flush=True); threading.Event().wait()\n"
        "    finally:\n"
        "        print('ended', flush=True)\n"
        "sys.modules['w'] = types.SimpleNamespace(w=click.Command('w', callback=wait))\n"
        "m.logship.entries = {'w': m.Entry('w', 'w', '')}\n"
        "m.main(['w'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "ended\n"
        assert process.wait(20) == 130


def test_a_reader_that_goes_away_is_no_defect(tmp_path: Path) -> None:
    shown = subprocess.run(
        f"{sys.executable} -m logship --help | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "Traceback" not in shown.stderr
    assert shown.returncode in {0, 1}


def test_every_error_class_has_its_exit_code() -> None:
    assert {error.exit_code for error in LogshipError.__subclasses__()} >= {2, 3, 4, 5, 6, 7}
