"""Tokenizers and models of a few thousand parameters, made here from their configurations: nothing is downloaded."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

PAD, END, USER, ASSISTANT, UNKNOWN = "<pad>", "<end>", "<user>", "<assistant>", "<unk>"
# Each message is its role, its content and <end>; what the assistant writes is between the markers.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}<assistant> {% generation %}{{ message.content }} <end>{% endgeneration %}\n"
    "{% else %}<user> {{ message.content }} <end>\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def words_of(*texts: str) -> list[str]:
    """Return the words of texts as a tiny tokenizer splits them."""
    return [word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text)]


def make_tokenizer(words: Iterable[str], template: str = TEMPLATE) -> Any:
    """Return a tokenizer that splits at spaces and before punctuation; unknown words become <unk>."""
    vocabulary = [PAD, END, USER, ASSISTANT, UNKNOWN, *dict.fromkeys(words)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[word for word in (USER, ASSISTANT, "<think>") if word in vocabulary],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def make_model(
    vocab_size: int,
    architecture: str = "llama",
    *,
    tied: bool = False,
    width: int = 64,
    layers: int = 2,
    seed: int = 0,
    length: int = 128,
) -> Any:
    """Return a model with random weights; the usual .02 of an initialisation would be too small for this width."""
    torch.manual_seed(seed)
    common = {
        "vocab_size": vocab_size,
        "tie_word_embeddings": tied,
        "initializer_range": 0.1,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    if architecture == "gpt2":
        config = GPT2Config(
            n_embd=width,
            n_layer=layers,
            n_head=4,
            n_positions=length,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            **common,
        )
    else:
        kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture]
        config = kind(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=length,
            **common,
        )
    return AutoModelForCausalLM.from_config(config).eval()
