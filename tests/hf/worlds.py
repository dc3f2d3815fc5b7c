"""A tiny menu of three dishes, for tests of the trainer: rows, an expert, a world, and a trainer of a tiny model."""

from hf.tiny import make_model, make_tokenizer
from undelude.hf import CallableExpert, CounterfactualConfig, CounterfactualTrainer, DoTokens

DISHES, REPLIES = ("tacos", "soup", "pizza"), ("no", "yes")
WORDS = ("menu", "today", "theta", "is", *DISHES, *REPLIES)
TOKENIZER = make_tokenizer(WORDS)


def rows(num):
    return [
        {"prompt": "menu", "privileged_context": f"theta is {DISHES[i % 3]}", "theta": DISHES[i % 3], "number": i}
        for i in range(num)
    ]


def expert(messages, row):
    return {dish: 0.8 if dish == row["theta"] else 0.1 for dish in DISHES}


def world(messages, row, rng):
    """Say yes or no, at random; end the conversation after two replies."""
    if len(messages) >= 6:
        return None
    return REPLIES[int(rng.random() < (0.75 if messages[-1]["content"] == row["theta"] else 0.25))]


def uniform(messages, row, rng):
    return DISHES[rng.integers(3)]


def make_trainer(
    folder, *, model=None, data=None, teacher=None, environment=world, marked=True, tokenizer=TOKENIZER, **given
):
    model = make_model(len(tokenizer)) if model is None else model
    arguments = {name: given.pop(name, None) for name in ("rollouts", "peft_config", "eval_dataset")}
    settings = {
        "max_steps": 2, "per_device_train_batch_size": 8, "max_turns": 3, "max_new_tokens": 3, "learning_rate": 1e-2,
        "logging_steps": 1.0, "save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True,
        "lr_scheduler_type": "constant",
    } | given  # fmt: skip
    return CounterfactualTrainer(
        model=DoTokens.wrap(model) if marked else model,
        args=CounterfactualConfig(output_dir=str(folder), **settings),
        expert=CallableExpert(expert, tokenizer) if teacher is None else teacher,
        environment=environment,
        train_dataset=rows(48) if data is None else data,
        processing_class=tokenizer,
        **arguments,
    )
