"""Mistakes that would teach a delusion, or nothing, are refused with what to do."""

import functools

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


from hf.tiny import TEMPLATE, make_model, make_tokenizer
from hf.worlds import DISHES, TOKENIZER, WORDS, expert, make_trainer, rows, uniform, world
from undelude.hf import CallableExpert, DoTokens, MenuDialogue, PromptedExpert


def transcript(author, i=0, dish=None):
    turn = {"role": "assistant", "content": dish or DISHES[i % 3], "author": author}
    messages = [{"role": "user", "content": "menu"}, turn, {"role": "user", "content": "yes"}]
    return rows(i + 1)[i] | {"messages": messages}


def test_the_expert_must_not_execute(tmp_path):
    teacher = CallableExpert(expert, TOKENIZER)
    for rollouts in ("expert", teacher, expert):
        with pytest.raises(ValueError, match="rollouts is the expert"):
            make_trainer(tmp_path, teacher=teacher, rollouts=rollouts)


def test_a_transcript_must_say_who_wrote_it(tmp_path):
    with pytest.raises(ValueError, match="does not say who wrote it"):
        make_trainer(tmp_path, data=[transcript(None)] * 16, rollouts="dataset").train()


def test_an_experts_transcript_marked_as_own_is_noticed(tmp_path):
    """Its first turns fit their own theta better than another's; those of a blind behaviour do not."""
    trainer = make_trainer(
        tmp_path, data=[transcript("self", i) for i in range(64)], rollouts="dataset", per_device_train_batch_size=64
    )
    with pytest.raises(ValueError, match="knows theta"):
        trainer.train()
    blind = [transcript("self", i, dish=DISHES[i // 3 % 3]) for i in range(72)]
    make_trainer(tmp_path, data=blind, rollouts="dataset", per_device_train_batch_size=72, max_steps=1).train()


def test_a_function_that_looks_theta_up_is_noticed(tmp_path):
    trainer = make_trainer(
        tmp_path,
        rollouts=lambda messages, row: DISHES[row["number"] % 3],
        public_columns=["number"],
        per_device_train_batch_size=48,
    )
    with pytest.raises(ValueError, match="knows theta"):
        trainer.train()
    make_trainer(tmp_path, rollouts=uniform, per_device_train_batch_size=48, max_steps=1).train()


@pytest.mark.parametrize(("public", "shown"), [([], {"prompt"}), (["number"], {"prompt", "number"})])
def test_behaviours_are_shown_the_prompt_and_public_columns_alone(tmp_path, public, shown):
    seen = []
    trainer = make_trainer(
        tmp_path, rollouts=lambda messages, row: seen.append(set(row)) or "soup", public_columns=public
    )
    trainer.converse(rows(1), [(0, 0)])
    assert seen
    assert all(columns == shown for columns in seen)


@pytest.mark.parametrize(
    ("public", "message"),
    [
        ("theta_guess, number", "must be a list of names"),
        (["number", "privileged_context"], "privileged_context, which tells theta"),
        (["numbr"], "names 'numbr', and the columns of the data set are prompt, privileged_context, theta, number"),
    ],
)
def test_public_columns_that_tell_theta_or_do_not_exist_are_refused(tmp_path, public, message):
    """A text would also show each column whose name is a part of it, such as theta."""
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, rollouts=uniform, public_columns=public)


@pytest.mark.parametrize("where", ["prompt", "reply", "context"])
def test_words_that_the_model_does_not_have_are_refused(tmp_path, where):
    """With marks, the id of a word that was added to the tokenizer alone would be that of an own word."""
    tokenizer = make_tokenizer((*WORDS, "new"))
    data = [row | {"prompt": "new"} for row in rows(8)] if where == "prompt" else rows(8)
    teacher = None
    if where == "context":
        teacher = PromptedExpert(make_model(len(TOKENIZER)), tokenizer)
        data = [row | {"privileged_context": "theta is new"} for row in rows(8)]
    trainer = make_trainer(
        tmp_path,
        model=make_model(len(TOKENIZER)),
        tokenizer=tokenizer,
        data=data,
        teacher=teacher,
        environment=(lambda messages, row: "new") if where == "reply" else world,
    )
    with pytest.raises(ValueError, match="resize_token_embeddings"):
        trainer.train()


def test_the_privileged_context_must_not_be_in_the_prompt(tmp_path):
    data = [row | {"prompt": f"menu {row['privileged_context']}"} for row in rows(16)]
    with pytest.raises(ValueError, match="word for word"):
        make_trainer(tmp_path, data=data).train()
    with pytest.warns(UserWarning, match="word for word"):
        make_trainer(tmp_path, data=data, privileged_leak="warn", max_steps=1).train()
    quoted = [transcript("self") | {"privileged_context": "tacos"}] * 16
    with pytest.raises(ValueError, match='"expert"'):
        make_trainer(tmp_path, data=quoted, rollouts="dataset").train()


def test_replies_may_tell_theta(tmp_path):
    """And a longer word of the prompt, in which the privileged context is a part, does not tell it."""
    trainer = make_trainer(tmp_path, environment=lambda messages, row: row["theta"] if len(messages) == 2 else None)
    data = [row | {"privileged_context": row["theta"], "prompt": "menu souped"} for row in rows(3)]
    trainer.make_batches(data, [(0, i) for i in range(3)], [3])
    with pytest.raises(ValueError, match="'soup', is word for word in message 0"):
        trainer.make_batches([data[1] | {"prompt": "menu soup"}], [(0, 0)], [1])


def test_a_template_whose_turn_does_not_end_is_refused(tmp_path):
    endless = make_tokenizer(WORDS, TEMPLATE.replace(" <end>{% endg", " .{% endg"))
    with pytest.raises(ValueError, match="does not end the assistant's turn"):
        make_trainer(tmp_path, tokenizer=endless)


def test_a_conversation_that_is_too_long_is_refused(tmp_path):
    """A transcript of the data set, and texts of a function that are longer than a turn may be."""
    stored = make_trainer(tmp_path, data=[transcript("expert")] * 8, rollouts="dataset", max_length=8)
    with pytest.raises(ValueError, match=r"A conversation has 9 tokens, and max_length .* allows 8"):
        stored.train()
    spoken = make_trainer(tmp_path, rollouts=lambda messages, row: "soup " * 9, max_length=12, environment=None)
    with pytest.raises(ValueError, match="A conversation has 14 tokens"):
        spoken.converse(rows(1), [(0, 0)])


def test_vocabularies_must_agree(tmp_path):
    other = make_tokenizer([*reversed(WORDS)])
    with pytest.raises(ValueError, match="vocabularies"):
        make_trainer(tmp_path, teacher=CallableExpert(expert, other))
    with pytest.raises(ValueError, match=r"predicts .* before DoTokens\.wrap"):
        make_trainer(tmp_path, teacher=PromptedExpert(make_model(len(TOKENIZER) + 8), TOKENIZER))


def test_a_conversation_without_the_assistant_is_refused(tmp_path):
    empty = rows(1)[0] | {"messages": [{"role": "user", "content": "menu"}]}
    with pytest.raises(ValueError, match="all zero"):
        make_trainer(tmp_path, data=[empty] * 16, rollouts="dataset").train()


def test_a_model_without_marks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"DoTokens\.wrap"):
        make_trainer(tmp_path, marked=False)
    make_trainer(tmp_path, marked=False, mark="none")


def test_frozen_marks_are_refused(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(DoTokens.wrap(make_model(len(TOKENIZER))), config)
    with pytest.raises(ValueError, match="marks are frozen"):
        make_trainer(tmp_path, model=adapted)
    make_trainer(tmp_path, model=peft.get_peft_model(make_model(len(TOKENIZER)), config))


@pytest.mark.parametrize("name", ["label_smoothing_factor", "train_sampling_strategy"])
def test_settings_that_would_be_ignored_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}.*would be ignored"):
        make_trainer(tmp_path, **{name: {"label_smoothing_factor": 0.1}.get(name, "sequential")})


@pytest.mark.parametrize(
    ("teacher", "settings", "message"),
    [
        (CallableExpert(lambda messages, row: "", TOKENIZER), {}, r"(\d+) turns, \1 are empty and 0 are cut"),
        (
            PromptedExpert(make_model(len(TOKENIZER)), TOKENIZER),
            {"max_new_tokens": 1},
            r"\d+ turns, \d+ are empty and [1-9]\d* are cut",
        ),
    ],
)
def test_an_expert_that_says_nothing_is_mentioned_once(teacher, settings, message, tmp_path):
    with pytest.warns(UserWarning, match=message) as warned:
        make_trainer(tmp_path, teacher=teacher, per_device_train_batch_size=16, max_steps=3, **settings).train()
    assert sum("are empty" in str(x.message) for x in warned) == 1


def test_another_divergence_says_what_it_converges_to(tmp_path):
    with pytest.warns(UserWarning, match="geometric mean"):
        make_trainer(tmp_path, divergence="reverse_kl")
    with pytest.warns(UserWarning, match="neither"):
        make_trainer(tmp_path, divergence="jsd")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "dpo"}, "objective must be one of"),
        ({"granularity": "word"}, "granularity must be one of"),
        ({"remove_unused_columns": True}, "leave it at False"),
        ({"max_turns": 0}, "max_turns"),
        ({"rollouts": "student"}, "rollouts must be"),
        ({"data": [{"prompt": "menu"}] * 16}, "no column 'privileged_context'"),
    ],
)
def test_settings_are_checked(settings, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        make_trainer(tmp_path, **settings)


def test_a_prompt_without_room_for_a_turn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not cut"):
        make_trainer(tmp_path, model=make_model(len(TOKENIZER), length=5)).train()


def wrong(*names):
    """Return a function with arguments of these names."""
    return eval(f"lambda {', '.join(names)}: 'soup'")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (wrong("messages"), r"environment takes \(messages\), but it is called as environment\(messages, row\)"),
        (wrong("messages", "row", "seed"), r"environment takes \(messages, row, seed\)"),
        (wrong("row", "messages"), r"environment takes \(row, messages\).* put its arguments in this order"),
        (wrong("messages", "rng", "row"), "environment takes"),
        (wrong("messages", "row", "*", "key"), r"environment takes \(messages, row, key\)"),
        (MenuDialogue, r"is the class MenuDialogue: pass an object of it, MenuDialogue\(\.\.\.\)"),
        ("soup", "environment is not a function, but 'soup'"),
    ],
)
def test_an_environment_that_cannot_be_called_is_refused_before_training(environment, message, tmp_path):
    with pytest.raises(TypeError, match=rf"{message}.*def environment\(messages, row\): it returns .*None"):
        make_trainer(tmp_path, environment=environment)


def test_other_functions_that_cannot_be_called_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"rollouts takes \(messages\).*def rollouts\(messages, row\)"):
        make_trainer(tmp_path, rollouts=wrong("messages"))
    with pytest.raises(TypeError, match=r"utterances takes \(row\).*def utterances\(messages, row\)"):
        CallableExpert(wrong("row"), TOKENIZER)
    with pytest.raises(TypeError, match=r"next_token takes \(messages, row\).*def next_token\(messages, row, ids\)"):
        CallableExpert(next_token=wrong("messages", "row"), tokenizer=TOKENIZER)
    for what, way_out in ((expert, "CallableExpert"), (make_model(len(TOKENIZER)), "PromptedExpert")):
        with pytest.raises(TypeError, match=rf"expert cannot be asked .*: pass {way_out}\(expert, tokenizer\)"):
            make_trainer(tmp_path, teacher=what)


@pytest.mark.parametrize(
    "environment",
    [wrong("messages", "row", "*", "rng"), wrong("*args"), wrong("m", "r", "x=1"), functools.partial(world, rng=None)],
)
def test_environments_that_can_be_called_are_taken(environment, tmp_path):
    make_trainer(tmp_path, environment=environment)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "target_modules would put an adapter in the place"),
        ({"target_modules": ".*(q_proj|embed_tokens)"}, "target_modules would put an adapter in the place"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [1]}, "trainable_token_indices would put"),
    ],
)
def test_an_adapter_in_place_of_the_embedding_is_refused(settings, message, tmp_path):
    peft = pytest.importorskip("peft")
    with pytest.raises(ValueError, match=rf"{message}.*Leave it out.*modules_to_save=\['embed_tokens'\]"):
        make_trainer(tmp_path, peft_config=peft.LoraConfig(**settings))


@pytest.mark.filterwarnings("ignore:.*tied:UserWarning")
@pytest.mark.parametrize("tied", [False, True])
def test_marks_are_trained_beside_an_embedding_that_is(tied, tmp_path):
    """PEFT's copy of the embedding has an offset of its own; one that is trained beside it would not be read."""
    peft = pytest.importorskip("peft")
    model = make_model(len(TOKENIZER), tied=tied)
    config = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    trainer = make_trainer(tmp_path, model=model, peft_config=config)
    trainer.train()
    assert DoTokens.of(trainer.model).offsets().abs().max() > 1e-3
    both = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens", "do_offset"])
    adapted = peft.get_peft_model(DoTokens.wrap(make_model(len(TOKENIZER), tied=tied)), both)
    with pytest.raises(ValueError, match=r"marks are frozen.* leave 'do_offset' out"):
        make_trainer(tmp_path, model=adapted)
