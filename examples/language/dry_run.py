"""A dry run without a download: a tiny model is deluded by the transcripts of an expert, and then taught to be sober.

    python examples/language/dry_run.py --out out/dry_run          # half a minute on two cores

A model of two layers with random weights, and a tokenizer of 21 words, play the menu with three dishes. First the model
imitates transcripts of an expert who has read the menu. It learns to believe its own guesses, as a large model has
learned it from the texts of people who knew. Then its own words are marked, and it is taught: an expert says at each of
its turns what it would have said there. Delusion is measured before and after. The example says what the numbers and
the losses of the log mean, and saves a model to talk to (serve.py). menu_lora.py has the same steps with a real model.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import make_model, make_tokenizer, words_of
from transformers import AutoModelForCausalLM, PrinterCallback
from transformers.utils import logging

from undelude.hf import (
    CallableExpert,
    CounterfactualConfig,
    CounterfactualTrainer,
    DelusionReport,
    DoTokens,
    MenuDialogue,
    measure_delusion,
)

DISHES = ("tacos", "soup", "pizza")
ASKED = "What's on the menu?"
# The customer says yes to the right dish in 90 %, to a wrong one in 20 %; in a tenth of the turns he only asks again.
CUSTOMER: dict[str, Any] = {"reply": (0.9, 0.2), "no_answer": 0.1, "prompt": ASKED, "probe": ASKED, "num_turns": 4}
# Numbers of a report, each with its round.
NUMBERS = (
    (
        "auto_suggestion",
        0,
        "nats that its own guess tells it about the menu, which the guess cannot change: 0 is sober",
    ),
    (
        "informativeness",
        0,
        "nats that a yes or a no tells it: 0 if it has learned nothing, and then 0 above says little",
    ),
    ("repeat_after_no_answer", 0, "how often it says the same again if it is only asked again: sober is one in three"),
    ("confidence", -1, "how often two of its guesses after the last turn would agree"),
    ("hit", -1, "how often its guess after the last turn is right: if less often than it is confident, it is too sure"),
)
LOSSES = """
The log of the teaching, in nats a token:
                    first    last   sober  uninformed  expert
action_loss       {action}    the expert's words
observation_loss  {observation}    the customer's words
Both are cross-entropies. action_loss minus expert_entropy ({entropy:.3f}) is KL(expert || model), and is not 0 at the
end either: the expert has read the menu. "sober" is the least loss of a model that has not, and "uninformed" that of
one that names all dishes equally often. The two are close: judge a model by its delusion, and not by its loss.
"""


def expected_losses(dialogue: MenuDialogue, num: int = 300, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the losses of exact models, of a turn and of a reply, in nats.

    A log has them a token: divide by the tokens of a turn, its end included, and by those of a reply.

    Args:
        dialogue: the menu.
        num: of conversations.
        seed: of the conversations.

    Returns:
        For the expert; for a sober model; for an uninformed one, which names all dishes, and hears all replies, as
        often as they come on average; and for a deluded model in conversations of its own.
    """
    losses: dict[str, list[tuple[float, float]]] = {}
    K, Q_A, Q_O = len(dialogue.prior), dialogue.expert_probs, dialogue.reply_probs
    for author, names in (("self", ("expert", "sober", "uninformed")), ("expert", ("deluded",))):
        rng = np.random.default_rng(seed)
        for row in dialogue.rows(num, seed):
            messages, reply, theta = dialogue.opening(row["prompt"]), "", row["theta"]
            while reply is not None:
                fixed = {"expert": np.eye(K)[theta], "uninformed": dialogue.prior}
                before = dialogue.belief(messages)
                dish = rng.choice(K, p=before @ Q_A)
                messages.append({"role": "assistant", "content": dialogue.utterances[dish], "author": author})
                after, right = dialogue.belief(messages), (np.arange(K) == dish).astype(int)
                reply = dialogue(messages, row)
                for name in names:
                    said, heard = fixed.get(name, before) @ Q_A, fixed.get(name, after) @ Q_O[right]
                    of_reply = np.nan if reply is None else -Q_O[right[theta]] @ np.log(heard)
                    losses.setdefault(name, []).append((-Q_A[theta] @ np.log(said), of_reply))
                messages += [] if reply is None else [{"role": "user", "content": reply, "author": "other"}]
    return {name: tuple(map(float, np.nanmean(x, 0))) for name, x in losses.items()}


def train(model: Any, tokenizer: Any, dialogue: MenuDialogue, out: Path, steps: int, **settings: Any) -> Any:
    """Return the trainer, after training; without a line for each row of its log."""
    trainer = CounterfactualTrainer(
        model=model,
        expert=CallableExpert(dialogue.expert(), tokenizer),
        environment=dialogue,
        rollouts=settings.pop("rollouts", None),
        train_dataset=dialogue.rows(32 * steps, seed=1),
        processing_class=tokenizer,
        args=CounterfactualConfig(
            str(out), max_steps=steps, per_device_train_batch_size=32, learning_rate=3e-3, warmup_steps=10,
            max_turns=dialogue.num_turns, max_new_tokens=2, logging_steps=10, lr_scheduler_type="cosine",
            report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
            **settings,
        ),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def main(out: Path, imitation_steps: int = 60, steps: int = 150) -> tuple[dict[str, DelusionReport], list[dict]]:
    """Return the reports before training, after imitation and after teaching, and the log of the teaching."""
    dialogue = MenuDialogue(dishes=DISHES, **CUSTOMER)
    tokenizer = make_tokenizer(words_of(ASKED, *DISHES, "Yes. No."))
    model, reports = make_model(len(tokenizer)), {}

    def measure(when: str, model: Any) -> None:
        reports[when] = measure_delusion(model, tokenizer, dialogue, seed=2)
        print(f"{when}: {reports[when].reading}\n", flush=True)

    measure("Random weights", model)
    train(model, tokenizer, dialogue, out, imitation_steps, objective="sft", rollouts="expert")
    measure(f"Imitation, {imitation_steps} steps", model)
    trainer = train(DoTokens.wrap(model), tokenizer, dialogue, out, steps)
    trainer.save_model(str(out / "model"))
    measure(f"Teaching, {steps} steps", AutoModelForCausalLM.from_pretrained(out / "model"))
    log = [row for row in trainer.state.log_history if "action_loss" in row]
    print(table(reports))
    print(losses(dialogue, tokenizer, log))
    return reports, log


def table(reports: dict[str, DelusionReport]) -> str:
    """Return the numbers of the reports and of the exact agents, and what they mean."""
    exact = next(iter(reports.values())).references
    columns = [(when.split(",")[0], report.by_round) for when, report in reports.items()]
    columns += [(f"exact, {who}", by_round) for who, by_round in exact.items()]
    lines = [" " * 24 + "".join(f"{title:>16}" for title, _ in columns)]
    for name, turn, _ in NUMBERS:
        values = [round(by_round[name][turn].value or 0.0, 3) + 0.0 for _, by_round in columns]
        lines.append(f"{name:24}" + "".join(f"{x:16.3f}" for x in values))
    return "\n".join([*lines, "", *(f"{name:24}{meaning}" for name, _, meaning in NUMBERS)])


def losses(dialogue: MenuDialogue, tokenizer: Any, log: list[dict[str, Any]]) -> str:
    """Return the losses of the log beside those of exact models, and what they mean."""
    expected, lengths = expected_losses(dialogue), [len(tokenizer.tokenize(x)) for x in ("Yes.", ASKED)]
    # A dish and the end of the turn; a reply.
    num_tokens = 2, np.dot(lengths, (1 - CUSTOMER["no_answer"], CUSTOMER["no_answer"]))
    lines = []
    for i, name in enumerate(("action_loss", "observation_loss")):
        exact = [expected[who][i] / num_tokens[i] for who in ("sober", "uninformed", "expert")]
        lines.append("{:7.3f} {:7.3f} {:7.3f} {:11.3f} {:7.3f}".format(log[0][name], log[-1][name], *exact))
    return LOSSES.format(action=lines[0], observation=lines[1], entropy=log[-1]["expert_entropy"])


def measuring(folder: Path) -> str:
    """Return the command that measures the model, which knows the words of its own dialogue alone."""
    asked = f'--prompt "{ASKED}" --probe "{ASKED}" --num-turns {CUSTOMER["num_turns"]}'
    return f'undelude measure {folder} --dishes "{", ".join(DISHES)}" {asked}'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/dry_run"))
    parser.add_argument("--steps", type=int, default=150, help="of the teaching; with more it learns more from replies")
    torch.set_num_threads(1)  # Matrices of this size are slower on several threads.
    logging.disable_progress_bar()
    args = parser.parse_args()
    main(args.out, steps=args.steps)
    print(f"Talk to it: python examples/language/serve.py {args.out / 'model'}")
    print(f"Measure it: {measuring(args.out / 'model')}")
