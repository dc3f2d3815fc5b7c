"""Check a release: build both files, look into them, install the wheel alone, and run three commands of the README.

    python tools/check_release.py                    everything: about ten minutes on two cores
    python tools/check_release.py --only files       build, and this step alone
    python tools/check_release.py --out dist         keep the files, which are then those that were checked

    build    make the source distribution, and the wheel from it
    files    check their size, contents, metadata and description
    wheels   ask whether every Python of the classifiers has wheels of the lowest versions
    newest   install the wheel alone into an empty environment, with the versions of constraints.txt, and run it
    lowest   do so with the lowest versions that pyproject.toml allows

The last line says "passed" only if every step ran. Needs the dependency group `release`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
# Bytes: the most that each of both files may have.
MAX_BYTES = 3_000_000
# Files that the source distribution must have, other than the package: to build, to test, and to read.
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "Makefile"]
STEPS = ["build", "files", "wheels", "newest", "lowest"]
# The commands of the README's first screen that need no extra, smaller, and what each must print.
SCREEN = [
    (["python", "examples/delusion.py", "--num-episodes", "64", "--num-rounds", "5"], "own actions"),
    (["undelude", "train", "bandit", "--steps", "50", "--out", "runs/bandit"], "runs/bandit/report.html"),
    (["undelude", "paper", "--num-episodes", "500", "--out", "paper.html"], "The paper's own statements: "),
]
PAGES = ["runs/bandit/report.html", "paper.html"]


class CheckError(Exception):
    """A defect of the release, which the message names."""


@dataclass(frozen=True)
class Built:
    """The two files of a release."""

    wheel: Path
    sdist: Path


def lowest(pyproject: str) -> list[str]:
    r"""Return the lowest version that each direct dependency allows, as `name==version`.

    Raises:
        CheckError: a dependency has no lowest version, or one that differs between machines.

    >>> lowest('[project]\ndependencies = ["numpy>=2.1", "scipy>=1.14.1,<2"]')
    ['numpy==2.1', 'scipy==1.14.1']
    """
    found = []
    for text in tomllib.loads(pyproject)["project"]["dependencies"]:
        requirement = Requirement(text)
        bounds = [x.version for x in requirement.specifier if x.operator in (">=", "==", "~=")]
        if len(bounds) != 1 or requirement.marker:
            raise CheckError(f"pyproject.toml: {text!r} must have one lowest version (>=) and no marker.")
        found.append(f"{requirement.name}=={bounds[0]}")
    return found


def unpinned(pyproject: str, constraints: str) -> list[str]:
    """Return the direct dependencies that constraints.txt does not name."""
    named = {canonicalize_name(line.split("==")[0]) for line in constraints.splitlines() if "==" in line}
    wanted = [Requirement(text).name for text in tomllib.loads(pyproject)["project"]["dependencies"]]
    return [name for name in wanted if canonicalize_name(name) not in named]


def pythons(pyproject: str) -> list[str]:
    """Return the versions of Python that the classifiers name, such as `3.11`."""
    classifiers = tomllib.loads(pyproject)["project"]["classifiers"]
    return [x.split(" :: ")[-1] for x in classifiers if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", x)]


def package_files(root: Path) -> set[str]:
    """Return the files of the package in a source tree, as they are named in a wheel."""
    files = (x for x in (root / "src" / "undelude").rglob("*") if x.is_file() and "__pycache__" not in x.parts)
    return {x.relative_to(root / "src").as_posix() for x in files}


def wheel_problems(names: Iterable[str], package: set[str]) -> list[str]:
    """List files of the package, licence and metadata that a wheel lacks, and other files that it has."""
    names = {x for x in names if not x.endswith("/")}
    about = {x for x in names if x.split("/")[0].endswith(".dist-info")}
    problems = [f"the wheel lacks {x}" for x in sorted(package - names)]
    problems += [f"the wheel has {x}, which is not a file of the package" for x in sorted(names - about - package)]
    wanted = ["undelude/py.typed", "/METADATA", "/entry_points.txt", "/licenses/LICENSE"]
    return problems + [f"the wheel has no {x}" for x in wanted if not any(name.endswith(x) for name in names)]


def sdist_problems(names: Iterable[str], package: set[str]) -> list[str]:
    """List files that a source distribution lacks: to build the wheel, to run the tests, and to read."""
    inside = {x.partition("/")[2] for x in names}
    wanted = {f"src/{x}" for x in package} | {*SOURCES, "tests/conftest.py", "docs/index.md", "examples/delusion.py"}
    return [f"the source distribution lacks {x}" for x in sorted(wanted - inside)]


def description_problems(description: str) -> list[str]:
    """List the links and pictures of a description that lead nowhere on an index."""
    targets = re.findall(r"\]\(([^)\s]*)[^)]*\)", description)
    return [f"the description links to {x}, which an index does not have" for x in targets if not x.startswith("http")]


def release_problems(version: str, pages: Mapping[str, str], changelog: str, citation: str) -> list[str]:
    """List the files that deny a release or do not name its version; the citation alone names a development version.

    Args:
        version: of the release.
        pages: the text of each page, by its name.
        changelog: the text of CHANGELOG.md.
        citation: that of CITATION.cff.
    """
    problems = []
    if f"\nversion: {version}\n" not in citation:
        problems.append(f"CITATION.cff does not name the version {version}")
    if Version(version).is_devrelease:
        return problems
    problems += [f"{name} says that there is no release" for name, x in pages.items() if "There is no release" in x]
    if f"\n## {version}" not in changelog:
        problems.append(f"CHANGELOG.md has no section '## {version}'")
    return problems


def build(folder: Path) -> Built:
    """Build the source distribution, and the wheel from it."""
    run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)])
    wheels, sdists = [*folder.glob("undelude-*.whl")], [*folder.glob("undelude-*.tar.gz")]
    if len(wheels) != 1 or len(sdists) != 1:
        counts = f"{len(wheels)} wheels and {len(sdists)} source distributions"
        raise CheckError(f"{folder} has {counts}; remove those of other versions.")
    return Built(wheels[0], sdists[0])


def check_files(built: Built) -> None:
    """Check size, contents, metadata and description of both files."""
    package = package_files(ROOT)
    with zipfile.ZipFile(built.wheel) as wheel, tarfile.open(built.sdist) as sdist:
        names = wheel.namelist()
        problems = wheel_problems(names, package) + sdist_problems(sdist.getnames(), package)
        metadata = message_from_bytes(wheel.read(next(x for x in names if x.endswith(".dist-info/METADATA"))))
    problems += description_problems(str(metadata.get_payload()))
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    pages = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}
    text = [(ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff")]
    problems += release_problems(metadata["Version"], pages, *text)
    for file in (built.wheel, built.sdist):
        size = file.stat().st_size
        print(f"  {file.name}: {size / 1e6:.1f} MB")
        if size > MAX_BYTES:
            problems.append(f"{file.name} has {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:g}")
    if problems:
        raise CheckError("\n".join(problems))
    run([sys.executable, "-m", "twine", "check", "--strict", str(built.wheel), str(built.sdist)])


def check_wheels(built: Built) -> None:
    """Ask for wheels of the lowest versions, for every Python of the classifiers; install none."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        pip = [str(environment(Path(place)) / "python"), "-m", "pip", "install", "--quiet"]
        asked = [*pip, "--dry-run", "--only-binary=:all:", "--target", place]
        for python in pythons(pyproject):
            run([*asked, "--python-version", python, str(built.wheel), *lowest(pyproject)])
            print(f"  Python {python} has wheels of the lowest versions")


def check_installed(built: Built, kind: str) -> None:
    """Install the wheel alone into an empty environment and run the commands of `SCREEN` there."""
    pyproject, constraints = ((ROOT / x).read_text(encoding="utf-8") for x in ("pyproject.toml", "constraints.txt"))
    if missing := unpinned(pyproject, constraints):
        raise CheckError(f"constraints.txt does not name {', '.join(missing)}.")
    versions = ["-c", str(ROOT / "constraints.txt")] if kind == "newest" else lowest(pyproject)
    with tempfile.TemporaryDirectory(prefix="undelude-") as name:
        place = Path(name)
        bin_ = environment(place)
        run([str(bin_ / "python"), "-m", "pip", "install", "--quiet", str(built.wheel), *versions])
        unpack_examples(built.sdist, place)
        where = "import undelude; print(undelude.__file__)"
        installed = Path(run([str(bin_ / "python"), "-c", where], place).strip()).resolve()
        if not installed.is_relative_to((place / "env").resolve()):
            raise CheckError(f"{kind}: {installed} was imported, which is not the installed wheel.")
        run([str(bin_ / "python"), "-m", "pip", "check"], place)
        for command, said in SCREEN:
            out = run([str(bin_ / command[0]), *command[1:]], place)
            if said not in out:
                raise CheckError(f"{kind}: '{' '.join(command)}' did not print {said!r}:\n{out[-2000:]}")
            print(f"  {' '.join(command)}")
        if missing := [x for x in PAGES if not (place / x).stat().st_size]:
            raise CheckError(f"{kind}: {', '.join(missing)} was not written.")


def environment(place: Path) -> Path:
    """Create an empty environment in a folder and return the folder of its programs."""
    venv.create(place / "env", with_pip=True)
    return place / "env" / "bin"


def unpack_examples(sdist: Path, place: Path) -> None:
    """Put the examples of a source distribution into a folder, without the package."""
    with tarfile.open(sdist) as file:
        top = file.getnames()[0].split("/")[0]
        file.extractall(place, [x for x in file if x.name.startswith(f"{top}/examples/")], filter="data")
    shutil.move(place / top / "examples", place / "examples")


def run(command: list[str], folder: Path | None = None) -> str:
    """Run a command outside the source tree and return its output."""
    environment = {x: y for x, y in os.environ.items() if not x.startswith("PYTHON")} | {"COLUMNS": "120"}
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(command, cwd=folder or elsewhere, env=environment, capture_output=True, text=True)
    if done.returncode:
        shown = " ".join(command)
        raise CheckError(f"'{shown}' ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def verdict(passed: Iterable[str]) -> tuple[str, int]:
    """Return the last line and the exit status: a step that did not run has not passed.

    >>> verdict(["build", "files"])
    ('Not checked: wheels, newest, lowest. The release is not verified.', 3)
    """
    skipped = [step for step in STEPS if step not in {*passed}]
    if skipped:
        return f"Not checked: {', '.join(skipped)}. The release is not verified.", 3
    return "The release passed every check.", 0


def main() -> int:
    """Run the steps that are asked for, and return the exit status: 0 passed, 1 failed, 3 not all checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STEPS, action="append", help="run this step alone; may be repeated")
    parser.add_argument("--out", type=Path, help="folder for the two files; a temporary one by default")
    asked = parser.parse_args()
    steps = {"files": check_files, "wheels": check_wheels}
    steps |= {kind: lambda built, kind=kind: check_installed(built, kind) for kind in ("newest", "lowest")}
    passed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        step = "build"
        try:
            print(step, flush=True)
            built = build(asked.out.absolute() if asked.out else Path(folder))
            passed.append(step)
            for step, check in steps.items():
                if asked.only is None or step in asked.only:
                    print(step, flush=True)
                    check(built)
                    passed.append(step)
        except CheckError as e:
            print(f"The step '{step}' failed. {e}", file=sys.stderr)
            return 1
    line, status = verdict(passed)
    print(line)
    return status


if __name__ == "__main__":
    sys.exit(main())
