"""The package is typed: it ships its marker, and `make lint` checks a user's program, tests/typing/user_code.py."""

from importlib import resources


def test_package_has_type_marker():
    assert (resources.files("undelude") / "py.typed").is_file()
