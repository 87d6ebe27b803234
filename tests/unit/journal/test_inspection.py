"""A journal read from outside: beside its writer, and by the commands."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from logship.cli.journal import journal as commands
from logship.cli.main import run_command
from logship.errors import JournalError, JournalTooOld
from logship.journal import Journal, RecordKind
from logship.journal.inspection import inspect
from logship.kernel import frame
from logship.lsn import Lsn
from tests.unit.journal.journals import SMALL, SOURCE, changes, filled, insert, relation

SECRET = b"a value that nobody may see"
ROW = b"N\0\1t" + len(SECRET).to_bytes(4) + SECRET


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two segments: twenty transactions of one insert each; the first describes the table."""
    records = [
        changes(end, xid=end, run=frame([insert(7, ROW), insert(7, bytes(260))]))
        for end in range(200, 2100, 100)
    ]
    filled(tmp_path, [[changes(100, run=frame([relation(7, "orders")]))], records])
    return tmp_path


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_ls_has_a_row_per_segment(directory: Path) -> None:
    rows = json.loads(run("ls", directory, "--json"))
    assert [row["segment"] for row in rows] == sorted(path.name for path in directory.glob("*.seg"))
    assert [row["sealed"] for row in rows] == [True] * (len(rows) - 1) + [False]
    assert sum(row["transactions"] for row in rows) == 20
    assert rows[0]["first_lsn"] == "0/0"
    assert rows[-1]["last_lsn"] == "0/7D0"
    assert rows[0]["relations"] == ["public.orders"]
    assert rows[0]["bytes"] == rows[0]["used_bytes"] < SMALL < rows[-1]["bytes"] + 1
    assert rows[0]["first_commit"].startswith("2000-01-01")
    assert "public.orders" in run("ls", directory)


def test_dump_never_shows_values_unless_asked(directory: Path) -> None:
    text = run("dump", directory)
    assert SECRET.decode() not in text
    assert "I insert   public.orders" in text
    assert SECRET.decode() not in run("dump", directory, "--json")


def test_dump_shows_values_when_asked(tmp_path: Path) -> None:
    filled(tmp_path, [[changes(100, run=frame([insert(7, ROW)]))]])
    assert SECRET.decode() in run("dump", tmp_path, "--values")
    (line,) = [line for line in run("dump", tmp_path, "--values", "--json").splitlines() if "insert" in line]
    assert json.loads(line)["messages"][0]["new"] == [SECRET.decode()]


def test_dump_of_a_range(directory: Path) -> None:
    lines = run("dump", directory, "--from", "0/1F4", "--to", "0/320", "--json").splitlines()
    assert [json.loads(line)["end_lsn"] for line in lines] == ["0/258", "0/2BC", "0/320"]
    assert len(run("dump", directory, "--limit", "3", "--json").splitlines()) == 3


def test_verify_says_what_is_there(directory: Path) -> None:
    found = json.loads(run("verify", directory, "--json"))
    assert (found["whole"], found["transactions"], found["torn_tail"]) == (True, 20, None)
    assert "transactions" in run("verify", directory)


def test_verify_of_a_damaged_journal_ends_with_5(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = min(directory.glob("*.seg"))
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\xff")
    assert run_command(commands, ["verify", str(directory), "--json"]) == 5
    error = json.loads(capsys.readouterr().err)
    assert error["fields"]["file"] == str(path)
    assert 4096 < error["fields"]["offset"] <= 5000
    assert error["hint"]


@pytest.mark.parametrize("command", ["ls", "dump", "verify"])
def test_a_directory_without_a_journal_is_said(tmp_path: Path, command: str) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(JournalError, match="there is no"):
            run(command, path)


def test_an_lsn_that_is_none_is_refused(directory: Path) -> None:
    assert run_command(commands, ["dump", str(directory), "--from", "12"]) == 2


def test_a_range_that_is_no_longer_kept_is_said(directory: Path) -> None:
    min(directory.glob("*.seg")).unlink()
    with pytest.raises(JournalTooOld):
        list(inspect(directory).records(start=Lsn(0)))


def test_it_reads_beside_a_writer(tmp_path: Path) -> None:
    """Whatever the writer is doing, what is seen is whole and a prefix of what is written."""
    done = threading.Event()
    with Journal.open(tmp_path, SOURCE, segment_bytes=SMALL) as journal:

        def fill() -> None:
            for end in range(100, 60_000, 100):
                journal.append(changes(end, xid=end, run=frame([insert(7, bytes(end % 1700))])))
                journal.write()
            done.set()

        writer = threading.Thread(target=fill)
        writer.start()
        looks = 0
        while not done.is_set():
            records = [located.record for located in inspect(tmp_path).records()]
            ends = [record.end_lsn for record in records if record.kind is RecordKind.CHANGES]
            assert ends == list(range(100, 100 * len(ends) + 1, 100))
            inspect(tmp_path).segments()
            inspect(tmp_path).verify()
            looks += 1
        writer.join()
    assert looks
    assert inspect(tmp_path).verify().transactions == 599
