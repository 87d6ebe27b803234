"""docs/tutorial.md, command by command, on real servers: what a stranger types does what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.acceptance.test_run import streaming
from tests.conftest import Pair
from tests.follow import assert_equal
from tests.servers import Database, Running

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.M | re.S)


class Reader:
    """Does what the tutorial says, in a directory of its own."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        self.pair = pair
        self.directory = directory
        self.running: Running | None = None
        self.lsn = ""
        self.done: list[str] = []
        program = directory / "bin" / "logship"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m logship "$@"\n')
        program.chmod(0o755)
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("PG", "LOGSHIP_"))
        } | {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PRIMARY": pair.primary.conninfo, "SECONDARY": pair.secondary.conninfo,
        }  # fmt: skip

    def do(self, language: str, mark: str, text: str) -> None:
        match language, mark:
            case "sh", "install" | "yours":
                return  # installed already (tests/acceptance/test_install.py), and these are the reader's own
            case "sh", "run":
                self._start(text)
            case "sh", "":
                for line in text.splitlines():
                    self._run(line)
            case "sql", "primary":
                self.pair.primary.execute("insert into orders values (1000, 'written meanwhile')")
                self.lsn = str(self._query(self.pair.primary, text))
            case "sql", "secondary":
                value = self._query(self.pair.secondary, text.replace("0/16B3748", self.lsn))
                assert "wait_for" not in text or value is True
            case _:
                raise AssertionError(f"what is a block of {language} {mark}?\n{text}")

    def _run(self, line: str) -> None:
        if "--stop-at" in line:
            self._stop()
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.directory, env=self.environment, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        self.done.append(line)

    def _query(self, database: Database, text: str) -> object:
        self.done.append(text)
        rows = database.execute(text)
        assert rows
        return rows[0][0]

    def _start(self, text: str) -> None:
        directory = self.directory / "terminal"
        directory.mkdir()
        words = [self.directory / "journal" if word == "journal" else word for word in shlex.split(text)[1:]]
        config = ["--config", str(self.directory / "logship.toml")]
        self.running = streaming(Running([*map(str, words), *config], directory, self.environment))
        self.done.append(text.strip())

    def _stop(self) -> None:
        """Ctrl-C in the second terminal."""
        assert self.running is not None
        ended = self.running.terminate(10)
        assert ended.exit_code == 0, ended.stderr
        assert_equal(*self.pair)

    def close(self) -> None:
        if self.running is not None:
            self.running.kill()


def test_every_command_of_the_tutorial(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute(
        "create table orders (id int primary key, note text); create table lines (id int, quantity numeric);"
        "insert into orders select g, 'order ' || g from generate_series(1, 500) g; insert into lines values (1, 2.5)"
    )
    reader = Reader(pair, tmp_path)
    try:
        for language, mark, text in BLOCK.findall(TUTORIAL.read_text()):
            reader.do(language, mark, text)
    finally:
        reader.close()
    commands = {line.split()[1] for line in reader.done if line.startswith("logship ")}
    assert {"check", "init", "run", "status", "lag", "verify", "config", "drop"} <= commands
    assert not (tmp_path / "journal").exists()
    for side in pair:
        assert side.value("select count(*) from pg_namespace where nspname ~ 'logship'") == 0
    assert pair.secondary.value("select note from orders where id = 1000") == "written meanwhile"
