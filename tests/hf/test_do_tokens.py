"""Marked words: the identity until trained, the same numbers after every way of saving, and refusals."""

import copy
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig

import undelude.hf._marks.exporting as exporting
from hf.tiny import ARCHITECTURES, make_model, make_tokenizer
from undelude.hf import DoTokens, generate_turn
from undelude.hf._marks.do_tokens import num_words
from undelude.hf._marks.generation import inverse_cdf

V, B, T = 23, 3, 9
KINDS = ("shared", "low_rank", "full")
TOKENIZER = make_tokenizer([f"w{i}" for i in range(V - 5)])


@pytest.fixture(params=[(name, tied) for name in ARCHITECTURES for tied in (False, True)], ids=str)
def model(request):
    return make_model(V, request.param[0], tied=request.param[1])


def words(seed=0):
    """Plain words, and which of them are own."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(5, V, (B, T), generator=rng), torch.rand(B, T, generator=rng) < 0.5


def taught(model, kind="shared"):
    """Return a wrapped model whose offset is far from 0, and a marked input."""
    DoTokens.wrap(model, kind, rank=3)
    with torch.no_grad():
        offset = model.get_input_embeddings().do_offset
        offset.rows.copy_(torch.randn(offset.rows.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return model, DoTokens.of(model).mark(*words())


def logits(model, ids, **options):
    with torch.no_grad():
        return model(ids, **options).logits


@pytest.mark.parametrize("kind", KINDS)
def test_wrapping_changes_no_bit(model, kind):
    ids, own = words()
    before = logits(model, ids)
    wrapped = DoTokens.wrap(model, kind)
    assert wrapped is model
    assert torch.equal(logits(model, ids), before)
    assert torch.equal(logits(model, DoTokens.of(model).mark(ids, own)), before)


@pytest.mark.parametrize("kind", KINDS)
def test_offset_is_added_to_marked_words(model, kind):
    """By the embeddings themselves: row x, and row x plus the offset of x."""
    model, marked = taught(model, kind)
    ids, own = words()
    rows = model.get_input_embeddings().weight[ids] + own[..., None] * DoTokens.of(model).offsets()[ids]
    assert_close(model.get_input_embeddings()(marked), rows)
    assert (logits(model, marked) - logits(model, ids)).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_exported_model_has_the_same_logits(model, kind, tmp_path):
    """As `AutoModelForCausalLM` loads it: of plain words equal, of marked words equal up to a number for all."""
    model, marked = taught(model, kind)
    model.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    was_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    is_tied = stock.get_output_embeddings().weight is stock.get_input_embeddings().weight
    assert is_tied == (was_tied and kind == "shared")
    ours, theirs = logits(model, marked), logits(stock, marked)
    assert theirs.shape[-1] == 2 * V
    assert_close(theirs[..., :V], ours, atol=1e-5, rtol=0)
    assert_close(theirs[..., V:].log_softmax(-1), ours.log_softmax(-1), atol=1e-5, rtol=0)
    found = DoTokens.of(stock)
    assert (found.vocab_size, found.kind, found.is_exported) == (V, kind, True)
    again = DoTokens.load(tmp_path)
    assert torch.equal(logits(again, marked), ours)
    assert again.config.vocab_size == V
    assert (again.get_output_embeddings().weight is again.get_input_embeddings().weight) == was_tied


@pytest.mark.parametrize("granularity", ["turn", "token"])
def test_stock_generation_keeps_to_one_half(model, granularity, tmp_path):
    model, marked = taught(model)
    DoTokens.of(model).save(tmp_path, granularity)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    written = stock.generate(marked, attention_mask=torch.ones_like(marked), max_new_tokens=8, do_sample=True)[:, T:]
    plain = written[written != stock.generation_config.pad_token_id]
    assert (plain >= V).all() if granularity == "token" else (plain < V).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_words_are_drawn_with_their_probabilities(dtype):
    """Evenly spread numbers draw each word as often as its probability says; rounding draws none of probability 0."""
    probs = torch.tensor([0.0, 0.25, 0.0, 0.6, 0.15, 0.0], dtype=dtype)
    u = (torch.arange(1000, dtype=dtype)[:, None] + 0.5) / 1000
    drawn = inverse_cdf(probs.expand(1000, -1), u)[:, 0]
    assert_close(torch.bincount(drawn, minlength=6) / 1000, probs.float(), atol=2e-3, rtol=0)
    assert inverse_cdf(probs.expand(2, -1), torch.tensor([[0.0], [1.0]], dtype=dtype)).tolist() == [[1], [4]]


@pytest.mark.parametrize("granularity", ["turn", "token"])
def test_turns_are_sampled_from_the_model(model, granularity):
    """With a cache and left padding, given numbers choose the words that they choose by whole passes without either."""
    model, marked = taught(model)
    uniforms = torch.rand(B, 5, generator=torch.Generator().manual_seed(2))
    padded = torch.cat([torch.zeros(B, 2, dtype=torch.long), marked], 1)
    mask = (torch.arange(T + 2) >= 2).long().expand(B, -1).contiguous()
    options = {
        "eos_token_id": 1,
        "max_new_tokens": 5,
        "granularity": granularity,
        "uniforms": uniforms,
        "pad_token_id": 0,
    }
    batch = generate_turn(model, padded, mask, **options)
    for other in ("turn", "token"):  # The settings that an exported model has for its own `generate()` do not matter.
        assert torch.equal(batch, generate_turn(DoTokens.of(model).export(other), padded, mask, **options))
    for row, us, written in zip(marked, uniforms, batch, strict=True):
        history, turn = row.tolist(), []
        for u in us:
            p = logits(model, torch.tensor([history]))[0, -1].double().softmax(-1)
            x = int((p.cumsum(-1) <= u).sum())
            turn.append(x)
            history.append(x + V if granularity == "token" else x)
            if x == 1:
                break
        assert written.tolist() == turn + [0] * (len(written) - len(turn))


def test_turns_do_not_depend_on_the_models_settings():
    """Settings that a model brings along would make a turn the sample of another distribution."""
    model, marked = taught(make_model(V))
    options = {"eos_token_id": 1, "max_new_tokens": 6}

    def turns():
        torch.manual_seed(0)
        return generate_turn(model, marked, torch.ones_like(marked), **options)

    expected = turns()
    model.generation_config.update(min_p=0.9, no_repeat_ngram_size=1, guidance_scale=3.0, num_beams=2, max_time=0.0)
    settings = model.generation_config.to_dict()
    assert torch.equal(turns(), expected)
    assert model.generation_config.to_dict() == settings


def test_left_padding_changes_nothing(model):
    model, marked = taught(model)
    whole = logits(model, marked)
    padded = torch.cat([torch.zeros(B, 2, dtype=torch.long), marked], 1)
    mask = (torch.arange(T + 2) >= 2).long().expand(B, -1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    assert_close(logits(model, padded, attention_mask=mask, position_ids=positions)[:, 2:], whole, atol=1e-5, rtol=0)


def lora(model, **options):
    return get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], **options))


def wrapped_and_adapted(way, kind):
    """Return a wrapped model with LoRA, and a function that makes another one for the adapter to be loaded into."""
    if way == "wrapped first":
        model = DoTokens.wrap(make_model(V), kind, rank=3)
        base = copy.deepcopy(model)
        return lora(model, modules_to_save=["do_offset"]), lambda folder: PeftModel.from_pretrained(base, folder)
    adapted = DoTokens.wrap(lora(make_model(V)), kind, rank=3)
    return adapted, lambda folder: PeftModel.from_pretrained(DoTokens.wrap(make_model(V), kind, rank=3), folder)


@pytest.mark.parametrize("way", ["wrapped first", "adapted first"])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_train_and_keep_the_offset(kind, way, tmp_path):
    """LoRA with the offset among `modules_to_save`: a step moves both; saved, loaded and merged they are the same."""
    adapted, load = wrapped_and_adapted(way, kind)
    ids, own = words()
    marked = DoTokens.of(adapted).mark(ids, own)
    trained = [x for x in adapted.parameters() if x.requires_grad]
    assert len(trained) == 2 * 2 * 2 + (2 if kind == "low_rank" else 1)
    optimizer = torch.optim.SGD(trained, lr=1.0)
    for _ in range(2):  # The first step moves one factor of LoRA alone, since the other is 0.
        optimizer.zero_grad()
        adapted(marked, labels=ids).loss.backward()
        optimizer.step()
    assert DoTokens.of(adapted).offsets().abs().max() > 1e-4
    adapted.eval()
    ours = logits(adapted, marked)
    with adapted.disable_adapter():  # The model as it was, which knows no difference between x and do(x).
        assert torch.equal(logits(adapted, marked), logits(adapted, ids))
        options = {"eos_token_id": 1, "max_new_tokens": 2, "temperature": 0, "granularity": "token"}
        turn = generate_turn(adapted, marked, torch.ones_like(marked), **options)
        assert torch.equal(turn, generate_turn(make_model(V), ids, torch.ones_like(ids), **options))
    adapted.save_pretrained(tmp_path / "adapter")
    assert_close(logits(load(tmp_path / "adapter").eval(), marked), ours, atol=1e-6, rtol=0)
    DoTokens.of(adapted).save(tmp_path / "merged")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert_close(logits(stock, marked)[..., :V], ours, atol=1e-5, rtol=0)
    assert_close(logits(adapted, marked), ours)
    merged = adapted.merge_and_unload()
    assert_close(logits(merged, marked), ours, atol=1e-5, rtol=0)
    assert_close(DoTokens.of(merged).offsets(), DoTokens.of(stock).offsets(), atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:.*tied:UserWarning")
@pytest.mark.parametrize("tied", [False, True])
def test_embedding_that_an_adapter_trains(tied, tmp_path):
    """PEFT's copy of the embedding holds the offset too; a tied head is then no longer tied."""
    adapted = lora(DoTokens.wrap(make_model(V, tied=tied)), modules_to_save=["embed_tokens"])
    marks = DoTokens.of(adapted)
    ids, own = words()
    marked = marks.mark(ids, own)
    adapted(marked, labels=ids).loss.backward()
    torch.optim.SGD([x for x in adapted.parameters() if x.requires_grad], lr=1.0).step()
    ours = logits(adapted, marked)
    assert marks.offsets().abs().max() > 1e-4
    marks.save(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert_close(logits(stock, marked)[..., :V], ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [Gemma2Config, Gemma3TextConfig])
def test_scaled_embeddings_and_capped_logits(config, tmp_path):
    """Gemma's tables are tied. A number that is added before the cap of Gemma 2 is not one that is added after it."""
    sizes = {"vocab_size": V, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0, "bos_token_id": 2}
    torch.manual_seed(0)
    model, marked = taught(AutoModelForCausalLM.from_config(config(**sizes, **heads, initializer_range=0.2)).eval())
    model.save_pretrained(tmp_path)
    ours, theirs = logits(model, marked), logits(AutoModelForCausalLM.from_pretrained(tmp_path), marked)
    assert_close(theirs[..., :V], ours, atol=1e-5, rtol=0)
    assert_close(theirs[..., V:].log_softmax(-1), ours.log_softmax(-1), atol=1e-5, rtol=0)
    assert torch.equal(logits(DoTokens.load(tmp_path), marked), ours)


@pytest.mark.parametrize(("tied", "kind"), [(True, "shared"), (True, "full"), (False, "shared")])
def test_saving_copies_only_the_tables_of_words(tied, kind, monkeypatch, tmp_path):
    """All other weights are written from where they are."""
    model, _ = taught(make_model(V, tied=tied), kind)
    seen, before = {}, model.config.to_dict()
    monkeypatch.setattr(type(model), "save_pretrained", lambda _, folder, state_dict: seen.update(state_dict))
    model.save_pretrained(tmp_path)
    own = model.state_dict()
    new = {name for name, x in seen.items() if x.data_ptr() != own[name].data_ptr()}
    assert new == {"model.embed_tokens.weight", "lm_head.weight"}
    assert model.config.to_dict() == before
    copied = exporting.copied(model, None, (), torch.device("meta"))  # To another device, without one more copy here.
    assert {x.device.type for x in copied.parameters()} == {"meta"}
    assert all(torch.equal(x, own[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize("tied", [False, True])
def test_gathered_weights_are_saved(tied, tmp_path):
    """Where weights are sharded, the trainer gathers them and hands them on; the model's own are not whole."""
    model, marked = taught(make_model(V, tied=tied))
    gathered = {name: x.clone() for name, x in model.state_dict().items()}
    ours = logits(model, marked)
    with torch.no_grad():
        for x in model.parameters():
            x.zero_()
    model.save_pretrained(tmp_path, state_dict=gathered)
    assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path), marked)[..., :V], ours, atol=1e-5, rtol=0)
    assert torch.equal(logits(DoTokens.load(tmp_path), marked), ours)
    with pytest.raises(ValueError, match=r"lack model\.embed_tokens\.weight and .*FSDP must gather them"):
        model.save_pretrained(tmp_path, state_dict={})


def test_frozen_marks_are_not_saved_silently(tmp_path):
    """PEFT freezes an offset that is not among `modules_to_save`, at 0."""
    adapted = lora(DoTokens.wrap(make_model(V)))
    with pytest.warns(UserWarning, match="marks are frozen and 0"):
        DoTokens.of(adapted).save(tmp_path)


def test_gradient_reaches_the_offset_of_marked_words_alone():
    model = DoTokens.wrap(make_model(V), "full")
    ids, own = words()
    model(DoTokens.of(model).mark(ids, own), labels=ids).loss.backward()
    moved = model.get_input_embeddings().do_offset.rows.grad.abs().sum(-1) > 0
    assert {*moved.nonzero()[:, 0].tolist()} == {*ids[own].tolist()}


def test_gradient_checkpointing_and_bfloat16():
    model, marked = taught(make_model(V))
    assert logits(copy.deepcopy(model).bfloat16(), marked).dtype == torch.bfloat16
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    model(marked, labels=words()[0]).loss.backward()
    assert model.get_input_embeddings().do_offset.rows.grad.abs().max() > 0


def test_refusals(tmp_path):
    model = make_model(V)
    with pytest.raises(ValueError, match="kind must be one of shared, low_rank, full, not 'half'"):
        DoTokens.wrap(model, "half")
    with pytest.raises(ValueError, match=r"is Embedding, which does more .* PEFT's, leave the embedding out of"):
        DoTokens.wrap(get_peft_model(make_model(V), LoraConfig(target_modules=["embed_tokens"])))
    with pytest.raises(ValueError, match=r"reads the ids in place of the model's .* out of target_modules"):
        DoTokens.of(get_peft_model(DoTokens.wrap(make_model(V)), LoraConfig(target_modules=["embed_tokens"])))
    DoTokens.wrap(model)
    with pytest.raises(ValueError, match="has marks of kind 'shared' already, not 'full'"):
        DoTokens.wrap(model, "full")
    with pytest.raises(ValueError, match="has marked words x \\+ 23, and cannot get 30 words in place of 23"):
        model.resize_token_embeddings(30)
    marks = DoTokens.of(model)
    with pytest.raises(ValueError, match="from 0 to 23, and the model's plain words from 0 to 22"):
        marks.mark(torch.tensor([0, V]), torch.tensor([True, False]))
    marks.save(tmp_path / "exported")
    with pytest.raises(ValueError, match=r"load its folder with DoTokens\.load"):
        DoTokens.wrap(AutoModelForCausalLM.from_pretrained(tmp_path / "exported"))
    make_model(V).save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="has no marks"):
        DoTokens.load(tmp_path / "plain")
    for ends in ([], [V], None):
        with pytest.raises(ValueError, match="must name words that end a turn, from 0 to 22"):
            generate_turn(model, words()[0], torch.ones(B, T), eos_token_id=ends, max_new_tokens=1)
    assert DoTokens.of(make_model(V)) is None


def test_a_folder_that_does_not_exist_is_named(tmp_path, monkeypatch):
    """A path with a typing error is not looked for on the Hub; a name that may be there is, and the folder is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "model").mkdir(parents=True)
    for folder in ("out/modle", "./modle", "../x", "out/a/b", "~/model", tmp_path / "out" / "modle", Path("modle")):
        with pytest.raises(FileNotFoundError, match=r"DoTokens\.load: there is no folder"):
            DoTokens.load(folder)
    with pytest.raises(FileNotFoundError, match=r"'out/modle', since .*/out has no 'modle'\. Did you mean 'model'\?"):
        DoTokens.load("out/modle")
    with pytest.raises(FileNotFoundError, match=r"no folder 'nobody/nothing' in .*, and the Hub gave no model"):
        DoTokens.load("nobody/nothing", local_files_only=True)


def test_granularity_is_saved_with_the_marks(tmp_path):
    """A model that was taught by token is exported for generation by token, and says so when it is loaded."""
    model = DoTokens.wrap(make_model(V))
    assert DoTokens.of(model).granularity is None
    DoTokens.of(model).granularity = "token"
    model.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert DoTokens.of(stock).granularity == DoTokens.of(DoTokens.load(tmp_path)).granularity == "token"
    assert stock.generation_config.suppress_tokens == list(range(V))


@pytest.mark.parametrize("suppressed", [None, [7, 9]])
@pytest.mark.parametrize("granularity", ["turn", "token"])
def test_generation_keeps_the_ends_and_the_suppressed_words(granularity, suppressed, tmp_path):
    """Exported by turn, exported again by the other granularity, and loaded as it was."""
    model = DoTokens.wrap(make_model(V))
    model.generation_config.eos_token_id, model.generation_config.suppress_tokens = [1, 4], suppressed
    DoTokens.of(model).granularity = granularity
    model.save_pretrained(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    for by in ("turn", "token", "turn"):
        settings, first = DoTokens.of(stock).export(by).generation_config, V * (by == "token")
        assert settings.eos_token_id == [1 + first, 4 + first]
        written = {*range(2 * V)} - {*settings.suppress_tokens}
        assert written == {x + first for x in range(V)} - {x + first for x in suppressed or ()}
    settings = DoTokens.load(tmp_path).generation_config
    assert (settings.eos_token_id, settings.suppress_tokens) == ([1, 4], suppressed)


@pytest.mark.parametrize("marked", [False, True])
def test_the_words_of_a_model_whose_table_is_elsewhere_are_counted(marked):
    """DeepSpeed leaves an empty weight where it keeps no part of it."""
    model = DoTokens.wrap(make_model(V)) if marked else make_model(V)
    model.get_input_embeddings().weight.data = torch.empty(0)
    assert num_words(model) == V


def test_offset_is_in_float32():
    """A step of 1e-4 at 1 would be lost in bfloat16."""
    model = DoTokens.wrap(make_model(V).bfloat16())
    assert model.get_input_embeddings().do_offset.rows.dtype == torch.float32
    assert logits(model, DoTokens.of(model).mark(*words())).dtype == torch.bfloat16
