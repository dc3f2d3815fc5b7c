"""The pages about language models are true: their code runs, and the reference has the signatures."""

import operator

import pytest

pytest.importorskip("torch")

import undelude as ud
from pages import check_entry, reference

ENTRIES = {name: entry for name, entry in reference().items() if name.startswith("hf.")}


@pytest.mark.parametrize("name", ENTRIES)
def test_reference_has_the_signature_and_the_docstring(name):
    check_entry(ENTRIES[name], operator.attrgetter(name)(ud))
