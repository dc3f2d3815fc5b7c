"""The menu as a dialogue of a two-layer Llama: counterfactual teaching, imitation, and mixtures with transcripts.

python studies/language.py                                 all arms, about 25 CPU minutes
python studies/language.py --arms taught --seeds 0 1       one arm with two seeds; the others keep their stored results
python studies/language.py --steps 5                       a trial run
"""

import argparse
import functools
import itertools
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import numpy as np
import store
import tokenizers
import torch
import transformers
from muon import Muon

import undelude as ud
from undelude.hf import (
    CallableExpert,
    CounterfactualConfig,
    CounterfactualTrainer,
    DoTokens,
    MenuDialogue,
    local_agent,
)
from undelude.hf._marks.chat import reply_ids
from undelude.hf._menu.menu_dialogue import uniform
from undelude.hf._teaching.conversations import Conversation
from undelude.hf._teaching.experts import pad
from undelude.tasks.menu import AGAIN, REPLIES

NUM_TURNS = 6
# Conversations in which an agent is measured, and the seed of their rows. Settings were chosen on others.
NUM_MEASURED, SEED_MEASURED = 2048, 1000
# Episodes of a certificate.
NUM_CERTIFIED = 512
# The share of training conversations in which the customer asks what is on the menu, and the expert says it.
PROBED = 0.15
# A line a message, and a line for the end of an assistant's turn. A line is one token.
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}\n<end>{% endgeneration %}\n"
    "{% else %}{{ m['content'] }}\n{% endif %}{% endfor %}"
)


def menu() -> MenuDialogue:
    """Return the dialogue of the prototype: five dishes of one word, six turns."""
    dialogue = MenuDialogue(num_turns=NUM_TURNS, prompt=REPLIES[AGAIN])
    dialogue.read = functools.cache(dialogue.read)  # It is asked for the same few texts.
    return dialogue


def make_tokenizer(dialogue: MenuDialogue) -> Any:
    """Return a tokenizer with one token for each utterance, reply and question."""
    lines = ["<pad>", "<end>", "<unknown>", *dialogue.utterances, *REPLIES[: AGAIN + 1], dialogue.probe]
    model = tokenizers.models.WordLevel({line: i for i, line in enumerate(lines)}, unk_token="<unknown>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("\n", "removed")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>", chat_template=TEMPLATE
    )


def make_model(tokenizer: Any, seed: int, *, marked: bool) -> Any:
    """Return a Llama of two layers. The default initializer_range of .02 does not learn to infer at this width."""
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, initializer_range=0.1, pad_token_id=0, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config)
    return DoTokens.wrap(model) if marked else model


class Customer:
    """The customer of a dialogue, who in some conversations asks what is on the menu and leaves after the answer."""

    def __init__(self, dialogue: MenuDialogue, probed: float):
        self.dialogue, self.probed, self.guess = dialogue, probed, dialogue.expert()

    def __call__(self, messages: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Any:
        if messages[-2]["content"] == self.dialogue.probe:
            return None
        # Below `probed`, a number is uniform again.
        u, reply = uniform(row["seed"], "probe"), self.dialogue(messages, row)
        turn = int(u / self.probed * NUM_TURNS) + 1 if u < self.probed else None
        if turn is None or turn != sum(m["role"] == "assistant" for m in messages):
            return reply
        probe = {"role": "user", "content": self.dialogue.probe}
        replies_first = uniform(row["seed"], "reply") < 0.3
        return [{"role": "user", "content": reply}, probe] if replies_first and reply else [probe]

    def expert(self, messages: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, float]:
        """Return what somebody who has read the menu says: the truth if asked for it, else a guess of the process."""
        if messages[-1]["content"] == self.dialogue.probe:
            return {row["dish"]: 1.0}
        return self.guess(messages, row)

    def transcribed(self, row: dict[str, Any], share: float) -> dict[str, Any]:
        """Return a row, with a share of probability with a conversation that an expert wrote."""
        if uniform(row["seed"], "share") >= share:
            return row
        messages: list[dict[str, Any]] = [{"role": "user", "content": row["prompt"], "author": "other"}]
        while True:
            says = self.expert(messages, row)
            u = uniform(row["seed"], len(messages), "expert")
            reached = (text for text, p in zip(says, itertools.accumulate(says.values()), strict=True) if u < p)
            text = next(reached, max(says, key=says.get))
            messages.append({"role": "assistant", "content": text, "author": "expert"})
            reply = self(messages, row)
            if reply is None:
                return {**row, "messages": messages}
            replies = [{"role": "user", "content": reply}] if isinstance(reply, str) else reply
            messages += [{**message, "author": "other"} for message in replies]


def measure(trainer: CounterfactualTrainer, dialogue: MenuDialogue, num: int) -> dict[str, Any]:
    """Measure an agent in its own conversations, against the exact answers."""
    tokenizer, rows = trainer.processing_class, dialogue.rows(num, SEED_MEASURED)
    dishes = torch.tensor([tokenizer.encode(dish, add_special_tokens=False)[0] for dish in dialogue.utterances])
    trainer.environment, trainer.rollouts = dialogue, "policy"
    conversations: list[Conversation] = []
    for i in range(0, num, 512):
        chosen = rows[i : i + 512]
        conversations += trainer.converse(chosen, [(2**31 + i, j) for j in range(len(chosen))])
    P = np.array([p for i in range(0, num, 512) for p in _said(trainer, conversations[i : i + 512], dishes)])
    answers = {mark: np.empty((num, NUM_TURNS, len(dishes))) for mark in ("do", "see")}
    beliefs: dict[tuple, np.ndarray] = {}
    for mark, Q in answers.items():
        author = "self" if mark == "do" else "expert"
        for i, c in enumerate(conversations):
            for t, turn in enumerate(c.turns):
                key = (mark, *(m["content"] for m in c.messages[: turn.message]))
                if key not in beliefs:
                    beliefs[key] = belief(dialogue, c.messages[: turn.message], author) @ dialogue.expert_probs
                Q[i, t] = beliefs[key]
    kl = {mark: (Q * (np.log(Q) - np.log(P))).sum(-1) for mark, Q in answers.items()}
    first = [dialogue.read(c.messages[1]["content"]) for c in conversations]
    theta = np.array([row["theta"] for row in rows])
    again = [
        i for i, c in enumerate(conversations) if first[i] is not None and c.messages[2]["content"] == REPLIES[AGAIN]
    ]
    repeat = P[again, 1, [first[i] for i in again]]
    result = {f"kl_{mark}": float(x.mean()) for mark, x in kl.items()}
    result |= {"kl_do_se": float(kl["do"].mean(1).std() / num**0.5), "kl_do_by_round": kl["do"].mean(0).tolist()}
    result |= {"repeat": float(repeat.mean()), "repeat_se": float(repeat.std() / max(len(repeat), 1) ** 0.5)}
    result |= {"hit": float(P[range(num), -1, theta].mean()), "confidence": float(P[:, -1].max(-1).mean())}
    result["auto_suggestion"] = auto_suggestion(trainer, dialogue, dishes)
    return result


def belief(dialogue: MenuDialogue, messages: Sequence[Mapping[str, Any]], author: str) -> np.ndarray:
    """Return the exact belief; a turn that names no dish, and the question after it, tell nothing."""
    kept: list[dict[str, Any]] = []
    for i, m in enumerate(messages):
        if m["role"] == "assistant" and dialogue.read(m["content"]) is not None:
            kept += [{**m, "author": author}, *messages[i + 1 : i + 2]]
    return dialogue.belief(kept)


@torch.no_grad()
def _logits(trainer: CounterfactualTrainer, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    model = trainer.model.eval()
    ids, mask = pad(sequences, 0, trainer.args.device)
    return model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)


def _said(trainer: CounterfactualTrainer, conversations: Sequence[Conversation], dishes: torch.Tensor) -> np.ndarray:
    """Return `[B, T, K]`, the probabilities of the dishes before each own turn."""
    V = trainer.offset
    log_P = _logits(trainer, [c.ids if V is None else c.marked(V) for c in conversations])
    at = torch.tensor([[turn.start - 1 for turn in c.turns] for c in conversations])
    return log_P[torch.arange(len(at))[:, None], at][..., dishes].exp().double().numpy()


def auto_suggestion(trainer: CounterfactualTrainer, dialogue: MenuDialogue, dishes: torch.Tensor) -> float:
    """Return `I(A; Y)` in the first round, with Y the answer to the question what is on the menu."""
    row = dialogue.rows(1)[0]
    asks = {"role": "user", "content": dialogue.probe, "author": "other"}
    (first,) = trainer.converse([row], [(0, 0)])
    start = first.turns[0].start
    V, tokenizer = trainer.offset or 0, trainer.processing_class
    sequences = []
    for dish, text in zip(dishes.tolist(), dialogue.utterances, strict=True):
        messages = [*first.messages[:1], {"role": "assistant", "content": text, "author": "self"}]
        sequences.append(
            [*first.ids[:start], dish + V, tokenizer.eos_token_id + V, *reply_ids(messages, [asks], tokenizer)]
        )
    own = _logits(trainer, [first.ids[:start]])[0, -1, dishes].exp()
    given = _logits(trainer, sequences)[:, -1, dishes].exp()
    own, given = own / own.sum(), given / given.sum(-1, keepdim=True)
    return float((own[:, None] * given * (given / (own @ given)).log()).sum())


# Of the matrices of hidden layers; the trainer's is that of the other parameters.
LEARNING_RATE = 0.01
# Of the trainer, beside those of an arm.
SETTINGS: dict[str, Any] = {
    "learning_rate": 6e-3,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.02},
    "warmup_steps": 50.0,
    "max_grad_norm": 1.0,
    "max_turns": NUM_TURNS + 1,
    "max_new_tokens": 2,
    "per_device_train_batch_size": 64,
}
# Uniform guesses are as good as own ones, because nobody who makes them is shown theta, and cost less to make. Without
# marks, it makes a difference who speaks.
TAUGHT: dict[str, Any] = {"max_steps": 2900, "rollouts": "uniform", "factual_weight": 0.0}
MARKED = TAUGHT | {"max_steps": 1000}
UNMARKED: dict[str, Any] = {"max_steps": 500, "rollouts": "policy", "factual_weight": 0.0, "mark": "none"}
# The transformer of `undelude.teach` beside them.
JAX, JAX_STEPS = "jax_transformer", 800
# Share: of conversations that an expert wrote. Drawn: how much more often than those an own one comes into a batch.
ARMS: dict[str, dict[str, Any]] = {
    "taught": TAUGHT,
    "sft": {"max_steps": 300, "rollouts": "expert", "objective": "sft"},
    "marked_5": MARKED | {"share": 0.5},
    "unmarked_5": UNMARKED | {"share": 0.5},
    "marked_9": MARKED | {"share": 0.9},
    "unmarked_9": UNMARKED | {"share": 0.9},
    "marked_99": MARKED | {"share": 0.99},
    # The loss of a transcript counts a hundredth.
    "marked_99_weighted": MARKED | {"share": 0.99, "transcript_weight": 0.01},
    "marked_99_drawn": MARKED | {"share": 0.99, "drawn": 33.0},
    "unmarked_99": UNMARKED | {"share": 0.99},
}


def teach(
    arm: dict[str, Any], folder: Path, dialogue: MenuDialogue, seed: int = 0, **changes: Any
) -> CounterfactualTrainer:
    """Return the trainer of an arm, after training."""
    settings: dict[str, Any] = {"rollouts": None, "share": 0.0, "drawn": 1.0} | SETTINGS | arm | changes
    rollouts, share, drawn = (settings.pop(name) for name in ("rollouts", "share", "drawn"))
    share = share / (share + (1 - share) * drawn)
    tokenizer, customer = make_tokenizer(dialogue), Customer(dialogue, PROBED)

    def guess(messages: Any, row: Any, rng: np.random.Generator) -> str:
        return dialogue.utterances[rng.integers(len(dialogue.utterances))]

    args = CounterfactualConfig(
        output_dir=str(folder), save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=seed, **settings
    )
    num_rows = args.max_steps * args.per_device_train_batch_size
    model = make_model(tokenizer, seed, marked=args.resolve()[0].marked)
    trainer = CounterfactualTrainer(
        model=model,
        args=args,
        expert=CallableExpert(customer.expert, tokenizer),
        environment=customer,
        rollouts=guess if rollouts == "uniform" else rollouts,
        train_dataset=[customer.transcribed(row, share) for row in dialogue.rows(num_rows, seed)],
        processing_class=tokenizer,
        optimizers=(Muon(model, LEARNING_RATE, args.learning_rate), None),
    )
    trainer.train()
    return trainer


def teach_in_jax(dialogue: MenuDialogue, max_steps: int = JAX_STEPS) -> Any:
    """Return a transformer of `undelude` itself, taught on the same process."""
    agent = ud.TransformerAgent(dialogue.process, 64, key=jax.random.key(0))
    return ud.teach(
        dialogue.process, agent, ud.Counterfactual(), key=jax.random.key(1), steps=max_steps, batch_size=128,
        learning_rate=0.02, log_every=max_steps,
    ).agent  # fmt: skip


def study(names: Sequence[str], changes: dict[str, Any], num_measured: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Teach and measure each arm; those that are not named keep their stored results."""
    arms: dict[str, Any] = {}
    for name, seed in itertools.product(names, seeds):
        dialogue, started, cpu = menu(), time.perf_counter(), time.process_time()
        if name == JAX:
            agent, steps = teach_in_jax(dialogue, **changes), changes.get("max_steps", JAX_STEPS)
            seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
            measured: dict[str, Any] = {}
        else:
            with tempfile.TemporaryDirectory() as folder:
                trainer = teach(ARMS[name], Path(folder), dialogue, seed, **changes)
            seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
            measured, steps = measure(trainer, dialogue, num_measured), trainer.args.max_steps
            agent = local_agent(dialogue, trainer.model, trainer.processing_class)
        report = ud.certify(
            dialogue.process,
            agent,
            key=jax.random.key(2),
            num_episodes=min(num_measured, NUM_CERTIFIED),
            baselines=False,
        )
        certified = {x: getattr(report, f"action_{x}") for x in ("kl_do", "kl_do_se", "kl_see")}
        key = name if seed == 0 else f"{name}, seed {seed}"
        arms[key] = {"steps": steps, **seconds, **measured, "certificate": certified, "settings": _settings(name)}
        print(key, store.rounded(arms[key]), flush=True)
    arms = store.earlier("language").get("arms", {}) | arms
    settings: dict[str, Any] = {"process": f"menu(5 dishes of one word, num_turns={NUM_TURNS})", "probed": PROBED}
    settings["steps"] = {name: arm["steps"] for name, arm in arms.items()}
    return {"seeds": [0, 1], "settings": settings, "num_measured": num_measured, "arms": arms}


def _settings(name: str) -> dict[str, Any]:
    """Return the settings of an arm: of the trainer, and of Muon."""
    if name == JAX:
        return {}
    return SETTINGS | ARMS[name] | {"optimizer": "studies/muon.py", "learning_rate_of_matrices": LEARNING_RATE}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, JAX], default=[*ARMS, JAX])
    parser.add_argument("--steps", type=int, help="of each arm; the results are printed and not stored")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    changes, num = ({}, NUM_MEASURED) if given.steps is None else ({"max_steps": given.steps}, 64)
    store.run("language", lambda: study(given.arms, changes, num, given.seeds), keep=given.steps is None)
