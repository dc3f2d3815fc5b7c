"""The study of the menu in words runs, a few steps of it lead towards the answer, and its optimiser is Muon."""

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


def test_the_optimiser_is_muon_for_matrices_and_adam_for_the_rest(monkeypatch):
    """A step along matrices is orthogonal, up to the tolerance of the iteration; the others' is PyTorch's Adam."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "studies"))
    import muon
    import torch

    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(8, 16, bias=False)])})
    model["head"], model["norm"] = torch.nn.Linear(8, 5), torch.nn.LayerNorm(8)
    model = torch.nn.ModuleDict({"body": model})
    others = {name: x for name, x in model.named_parameters() if ".layers." not in name}
    copies = {name: torch.nn.Parameter(x.detach().clone()) for name, x in others.items()}
    optimisers = (
        muon.Muon(model, 0.1, 0.01),
        torch.optim.Adam(copies.values(), 0.01, betas=(0.9, 0.99)),
    )
    (matrix,) = (x for name, x in model.named_parameters() if ".layers." in name)
    for _ in range(3):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        for name, p in copies.items():
            p.grad = others[name].grad
        before = matrix.detach().clone()
        for optimiser in optimisers:
            optimiser.step()
    for name, p in copies.items():
        torch.testing.assert_close(others[name], p)
    sizes = torch.linalg.svdvals((matrix - before).detach()) / (0.1 * 2**0.5)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
