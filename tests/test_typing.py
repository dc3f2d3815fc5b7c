"""The package is typed: it ships its marker, and `make lint` checks a user's program, tests/typing/user_code.py."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import undelude as ud

ROOT = Path(__file__).parent.parent


def test_package_has_type_marker():
    assert (resources.files("undelude") / "py.typed").is_file()


def test_mypy_accepts_user_code():
    """In the settings of pyproject.toml, against the package that is imported here."""
    pytest.importorskip("mypy", reason="mypy is in the dependency group lint")
    source = Path(ud.__file__).parent.parent
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", f"--cache-dir={os.devnull}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"MYPYPATH": str(source)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
