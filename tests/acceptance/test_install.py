"""The package as it is installed: a wheel from a clean copy of the tree, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def call(command: Sequence[str | Path], cwd: Path, code: int = 0, **variables: str) -> str:
    done = subprocess.run(
        list(command), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=os.environ | variables,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def copy_of_the_tree(source: Path) -> Path:
    """The tracked files alone: what git doesn't know can't have got in by chance."""
    source.mkdir()
    for name in call(["git", "ls-files", "-z"], ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


def install(wheel: Path, directory: Path) -> Path:
    """A fresh environment with the wheel in it; its dependencies are those of the environment that tests."""
    venv.create(directory, symlinks=True)
    site = next(directory.glob("lib/python*/site-packages"))
    # A path line adds the folder but runs none of its .pth files, so our editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    call(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
            "--ignore-installed", "--disable-pip-version-check", "--root-user-action", "ignore",
            "--target", site, wheel,
        ],
        directory,
    )  # fmt: skip
    return directory


def compiled(wheel: Path) -> list[str]:
    return [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    source = copy_of_the_tree(directory / "source")
    # Without isolation: the build needs setuptools and Cython, which are here, and no network.
    call(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, source], directory
    )
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("environment"))


def in_environment(environment: Path, program: str) -> str:
    return call([environment / "bin" / "python", "-I", "-c", program], environment)


def test_logship_is_the_installed_one(environment: Path) -> None:
    shown = in_environment(environment, "import logship; print(logship.__file__)")
    assert Path(shown.strip()).is_relative_to(environment)


def test_the_command_answers(environment: Path, wheel: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    python = environment / "bin" / "python"
    kernel = "cython" if compiled(wheel) else "python"
    shown = call([python, "-I", "-m", "logship", "--version"], environment)
    assert shown == f"logship {version} (kernel: {kernel})\n"
    assert "Commands:" in call([python, "-I", "-m", "logship", "--help"], environment)
    assert "--help" in call([python, "-I", "-m", "logship", "init", "--help"], environment)


def test_a_wheel_is_bound_to_a_platform_by_what_was_compiled(wheel: Path) -> None:
    assert bool(compiled(wheel)) is not wheel.name.endswith("-py3-none-any.whl")


def test_migrations_and_sql_travel_inside(environment: Path) -> None:
    program = (
        "import json; from importlib.resources import files\n"
        "def walk(folder, at=''):\n"
        "    for entry in folder.iterdir():\n"
        "        if entry.is_dir(): yield from walk(entry, at + entry.name + '/')\n"
        "        else: yield at + entry.name\n"
        "print(json.dumps({n: list(walk(files(n))) for n in ('logship.migrations', 'logship.catalog')}))"
    )
    inside = json.loads(in_environment(environment, program))
    tracked = call(["git", "ls-files", "migrations", "logship/catalog"], ROOT).splitlines()
    for package, folder in (("logship.migrations", "migrations/"), ("logship.catalog", "logship/catalog/")):
        expected = {name.removeprefix(folder) for name in tracked if name.startswith(folder)}
        assert expected
        assert expected <= set(inside[package])


def test_every_package_is_in_the_wheel(wheel: Path) -> None:
    """`packages` in pyproject.toml is a list, and a new room is easily forgotten there."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = call(["git", "ls-files", "logship"], ROOT).splitlines()
    assert {name for name in tracked if not name.endswith((".pyx", ".pxi", ".md"))} <= inside


def test_the_console_script_is_declared(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "logship = logship.cli:main" in archive.read(name).decode()


def test_without_a_compiler_the_package_is_whole(tmp_path: Path) -> None:
    """And asking for what isn't there is an error that says what to do."""
    source = copy_of_the_tree(tmp_path / "source")
    build = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--sdist",
        "--wheel",
        "--outdir",
        tmp_path,
        source,
    ]
    call(build, tmp_path, CC="/bin/false")
    (pure,) = tmp_path.glob("*.whl")
    assert compiled(pure) == []
    assert pure.name.endswith("-py3-none-any.whl")
    assert [name for name in zipfile.ZipFile(pure).namelist() if ".data/" in name] == []
    python = install(pure, tmp_path / "environment") / "bin" / "python"
    assert "(kernel: python)" in call([python, "-I", "-m", "logship", "--version"], tmp_path)
    refused = call([python, "-I", "-m", "logship", "--version"], tmp_path, code=2, LOGSHIP_KERNEL="cython")
    assert "built without it" in refused
    assert "C compiler" in refused

    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = opened.getnames()
    inside = {name.partition("/")[2] for name in names}
    sources = call(["git", "ls-files", "logship/kernel", "setup.py"], ROOT).splitlines()
    assert set(sources) <= inside
