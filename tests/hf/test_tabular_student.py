"""A student with one table row for each history meets the limits that Appendix A names, under any blind behaviour."""

import functools
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from hf.tiny import make_tokenizer
from undelude.hf._marks.chat import encode_chat
from undelude.hf._teaching.config import CounterfactualConfig
from undelude.hf._teaching.experts import CallableExpert
from undelude.hf._teaching.trainer import CounterfactualTrainer

DISHES = ("tacos", "soup", "pizza")
REPLIES = ("no", "yes")
# The expert's probability of the right dish; yes after a wrong dish and after the right one.
ACCURACY, YES = 0.8, (0.25, 0.75)
Q = np.full((3, 3), (1 - ACCURACY) / 2) + np.eye(3) * (ACCURACY - (1 - ACCURACY) / 2)


class Tabular(torch.nn.Module):
    """Logits for each history, all zero at first."""

    def __init__(self, V: int):
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(2000, V))
        self.rows: dict[tuple[int, ...], int] = {}

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> Any:
        at = [
            [self.rows.setdefault(tuple(ids[: t + 1]), len(self.rows)) for t in range(len(ids))]
            for ids in input_ids.tolist()
        ]
        return SimpleNamespace(logits=self.table[torch.tensor(at)])

    def probs(self, ids: list[int], tokens: list[int]) -> np.ndarray:
        with torch.no_grad():
            return self(torch.tensor([ids])).logits[0, -1].softmax(-1)[tokens].numpy()


def expert(messages: Any, row: Any) -> dict[str, float]:
    return dict(zip(DISHES, Q[row["theta"]].tolist(), strict=True))


def world(messages: Any, row: Any) -> str | None:
    """Reply with the frequencies of the process over the rows of one theta and one guess."""
    right = messages[-1]["content"] == DISHES[row["theta"]]
    return REPLIES[int(row["r"] < 4 * YES[right])] if len(messages) == 2 else None


def rows(guesses: Any) -> list[dict[str, Any]]:
    """Return every theta with every guess and every reply, as often as they occur."""
    cases = [(theta, guess, r) for theta in range(3) for guess in guesses(theta) for r in range(4)]
    return [
        {"prompt": "menu", "privileged_context": f"theta {theta}", "theta": theta, "guess": guess, "r": r}
        for theta, guess, r in cases
    ]


def experts_guesses(theta: int) -> list[int]:
    """Return ten guesses, with the frequencies of the expert's."""
    return [dish for dish in range(3) for _ in range(round(10 * Q[theta, dish]))]


def posterior(guess: int, reply: int, *, seen: bool) -> np.ndarray:
    """Return Q(theta | guess, reply), with the guess done or seen."""
    p = np.array([(YES[theta == guess] if reply else 1 - YES[theta == guess]) for theta in range(3)])
    p = p * (Q[:, guess] if seen else 1)
    return p / p.sum()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(["menu", *REPLIES, *DISHES])


@functools.cache
def after(tokenizer: Any, *messages: str) -> list[int]:
    """Return the ids of a conversation, user first, in which the assistant is to speak."""
    roles = itertools.cycle((("user", "other"), ("assistant", "self")))
    chat = [{"role": r, "content": m, "author": a} for m, (r, a) in zip(messages, roles, strict=False)]
    return encode_chat(chat, tokenizer, mark=False, add_generation_prompt=True).input_ids.tolist()


def taught(tokenizer: Any, folder: Path, guesses: Any, behaviour: Any = None, **settings: Any) -> Any:
    """Return the student."""
    data, model = rows(guesses), Tabular(len(tokenizer))
    tokens = [tokenizer.encode(dish, add_special_tokens=False)[0] for dish in DISHES]

    def rollouts(messages: Any, row: Any) -> str:
        """Say what the row has, or what the present table would."""
        if behaviour is None:
            return DISHES[row["guess"]]
        P = model.probs(after(tokenizer, *(m["content"] for m in messages)), tokens).cumsum()
        return DISHES[min(int((P[-1] * (row["guess"] + 0.5) / 8 > P).sum()), 2)]

    args = CounterfactualConfig(
        output_dir=str(folder), mark="none", max_turns=2, max_new_tokens=4, learning_rate=0.3, max_steps=240,
        per_device_train_batch_size=len(data), report_to=[], save_strategy="no", logging_strategy="no",
        disable_tqdm=True, use_cpu=True, max_grad_norm=0.0, public_columns=["guess"],
        **{"steps_per_generation": 240, "factual_weight": 0.0} | settings,
    )  # fmt: skip
    trainer = CounterfactualTrainer(
        model=model, args=args, expert=CallableExpert(expert, tokenizer), environment=world, train_dataset=data,
        processing_class=tokenizer, rollouts=rollouts,
    )  # fmt: skip
    trainer._blindness = None  # One arm is theta-aware on purpose.
    trainer.train()
    return model


def second_round(model: Any, tokenizer: Any) -> np.ndarray:
    """Return `[guess, reply, dish]`, what the student says in the second round."""
    tokens = [tokenizer.encode(dish, add_special_tokens=False)[0] for dish in DISHES]
    said = [[model.probs(after(tokenizer, "menu", dish, reply), tokens) for reply in REPLIES] for dish in DISHES]
    return np.array(said)


def answers(*, seen: bool = False) -> np.ndarray:
    """Return the mean of the expert's distributions under the posterior of each history."""
    return np.array([[posterior(a, o, seen=seen) @ Q for o in range(2)] for a in range(3)])


BEHAVIOURS = {
    "uniform": (lambda theta: range(3), None),
    "stale": (lambda theta: [0, 0, 0, 1, 1, 2], None),
    "own": (lambda theta: range(8), "own"),
}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_forward_kl_meets_the_interventional_answer_under_any_blind_behaviour(
    name: str, tokenizer: Any, tmp_path: Path
) -> None:
    guesses, behaviour = BEHAVIOURS[name]
    reuse = {"steps_per_generation": 60} if behaviour else {}
    model = taught(tokenizer, tmp_path, guesses, behaviour, **reuse)
    np.testing.assert_allclose(second_round(model, tokenizer), answers(), atol=1e-3)


def test_theta_aware_rollouts_meet_the_conditional_answer(tokenizer: Any, tmp_path: Path) -> None:
    """The expert's own guesses, ten rows with the frequencies of its distribution, marked as the model's."""
    aware = second_round(taught(tokenizer, tmp_path, experts_guesses), tokenizer)
    np.testing.assert_allclose(aware, answers(seen=True), atol=1e-3)
    assert np.abs(aware - answers()).max() > 0.2


def test_reverse_kl_meets_the_geometric_mean(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="geometric mean"):
        model = taught(tokenizer, tmp_path, lambda theta: range(3), divergence="reverse_kl", expert_floor=1e-6)
    reverse = second_round(model, tokenizer)
    geometric = np.exp([[posterior(a, o, seen=False) @ np.log(Q) for o in range(2)] for a in range(3)])
    geometric /= geometric.sum(-1, keepdims=True)
    np.testing.assert_allclose(reverse, geometric, atol=1e-3)
    assert np.abs(geometric - answers()).max() > 0.01


def test_isft_is_right_on_blind_transcripts_and_deluded_on_an_experts(tokenizer: Any, tmp_path: Path) -> None:
    """Leaving own words out of the loss does not make interventions of what somebody who knew has written."""
    (yes,) = tokenizer.encode("yes", add_special_tokens=False)
    for guesses, right in ((lambda theta: range(3), 1 / 3), (experts_guesses, ACCURACY)):
        model = taught(tokenizer, tmp_path, guesses, objective="isft", factual_weight=1.0)
        # The first message of the user after a guess, up to its content.
        ids = after(tokenizer, "menu", "soup", "yes")
        said = model.probs(ids[: len(ids) - 1 - ids[::-1].index(yes)], [yes])
        assert said[0] == pytest.approx(right * YES[1] + (1 - right) * YES[0], abs=1e-3)
