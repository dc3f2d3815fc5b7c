"""The study of the menu in words runs, and a few steps of it lead towards the answer."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.slow
def test_the_study_of_the_menu_runs(tmp_path, monkeypatch):
    """In forty steps the dishes are learned, not yet to infer: KL .122 from the exact answer, repeating .2."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "studies"))
    import language

    dialogue = language.menu()
    changes = {"max_steps": 40, "per_device_train_batch_size": 32, "warmup_steps": 5.0}
    trainer = language.teach(language.ARMS["taught"], tmp_path, dialogue, **changes)
    assert trainer.packs
    measured = language.measure(trainer, dialogue, 64)
    assert measured["kl_do"] < 0.2
    assert measured["kl_see"] > 0.3
    assert measured["repeat"] == pytest.approx(0.2, abs=0.1)
    assert 0 <= measured["auto_suggestion"] < 0.05
