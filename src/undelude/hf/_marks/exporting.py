"""The weights and the settings of an exported model, which is an ordinary one with 2V words."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from undelude.hf._marks.do_embedding import OFFSET, embedding_of, offset_of

# Parts of the names of weights, put there by wrappers of Torch.
WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")


@dataclasses.dataclass(frozen=True)
class Doubled:
    """The weights of an exported model.

    Attributes:
        weights: by their names; only those that grow are new, and are on the CPU.
        offset: the weights of the offset, by their names in it.
        was_tied: whether the head was tied to the embedding.
        is_tied: whether it still is.
    """

    weights: dict[str, torch.Tensor]
    offset: dict[str, torch.Tensor]
    was_tied: bool
    is_tied: bool


def doubled(model: PreTrainedModel, state: Mapping[str, torch.Tensor]) -> Doubled:
    """Return the weights of the exported model.

    Args:
        model: wrapped.
        state: its weights; if they are sharded, the whole ones, gathered.

    Raises:
        ValueError: `state` lacks the embedding or its offset.
    """
    embedding, head = embedding_of(model), model.get_output_embeddings()
    table, offset = f"{_name(model, embedding)}.weight", f"{_name(model, embedding)}.{OFFSET}."
    parts = {name.removeprefix(offset): x.detach().cpu() for name, x in state.items() if name.startswith(offset)}
    if missing := [table] * (table not in state) + [f"{offset}rows"] * ("rows" not in parts):
        raise ValueError(
            f"The weights to save lack {' and '.join(missing)}. FSDP must gather them "
            '(fsdp_config={"state_dict_type": "FULL_STATE_DICT"}), and so must DeepSpeed '
            "(stage3_gather_16bit_weights_on_model_save)."
        )
    weight = state[table].detach().cpu()
    rows = parts["left"] @ parts["rows"] if "left" in parts else parts["rows"]
    found = {name: x for name, x in state.items() if not name.startswith(offset)}
    found[table] = torch.cat([weight, weight + rows.to(weight.dtype)])
    was_tied = head is not None and head.weight is embedding.weight
    is_tied = was_tied and offset_of(embedding).kind == "shared" and not _caps_logits(model)
    if head is not None:
        name = _name(model, head)
        logits = weight if was_tied else state[f"{name}.weight"].detach().cpu()
        found[f"{name}.weight"] = found[table] if is_tied else torch.cat([logits, logits])
        if getattr(head, "bias", None) is not None:
            bias = state[f"{name}.bias"].detach().cpu()
            found[f"{name}.bias"] = torch.cat([bias, bias])
    return Doubled(found, {name: x.contiguous() for name, x in parts.items()}, was_tied, is_tied)


def _name(model: nn.Module, part: nn.Module) -> str:
    """Return the name of a part of a model, as in its weights."""
    name = next(name for name, x in model.named_modules() if x is part)
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _caps_logits(model: PreTrainedModel) -> bool:
    """Return whether the logits are capped, so that a number added to all of them changes the probabilities."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None) is not None


def copied(model: PreTrainedModel, adapted: Any, leave_out: tuple[str, ...], device: torch.device | None = None) -> Any:
    """Return a copy of a model, into whose weights PEFT's adapters are merged if it has any.

    Args:
        model: the model of Transformers.
        adapted: PEFT's model around it, or None.
        leave_out: names of attributes of the object that hide those of its class, and refer to the model.
        device: of the copy; by default, that of the model.
    """
    whole = model if adapted is None else adapted
    memo: dict[int, Any] = {}
    for x in [] if device is None else [*whole.parameters(), *whole.buffers()]:
        if x.device != device and type(x) in (nn.Parameter, torch.Tensor):
            moved = x.detach().to(device)
            memo[id(x)] = nn.Parameter(moved, x.requires_grad) if isinstance(x, nn.Parameter) else moved
    kept = {name: model.__dict__.pop(name) for name in leave_out if name in model.__dict__}
    try:
        found: Any = copy.deepcopy(whole, memo)
    finally:
        model.__dict__.update(kept)
    return found if adapted is None else found.merge_and_unload(safe_merge=True)


def generation_by(config: GenerationConfig | None, V: int, granularity: Literal["turn", "token"]) -> Any:
    """Return generation settings of an exported model that restrict `generate()` to one half of the words.

    A model that does not generate has None.
    """
    if config is None:
        return None
    found = plain_generation(config, V)
    first = V if granularity == "token" else 0
    found.eos_token_id = [x + first for x in found.eos_token_id or ()] or None
    other = range(V - first, 2 * V - first)
    found.suppress_tokens = sorted({*other, *(x + first for x in found.suppress_tokens or ())})
    return found


def plain_generation(config: GenerationConfig, V: int) -> Any:
    """Return generation settings for plain words, of a model with marked words or of an exported one."""
    found: Any = copy.deepcopy(config)
    ends = found.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    found.eos_token_id = sorted({x % V for x in ends}) or None
    suppressed = {*(found.suppress_tokens or ())}
    # An exported model suppresses one half.
    if suppressed.issuperset(range(V, 2 * V)):
        suppressed = {x for x in suppressed if x < V}
    elif suppressed.issuperset(range(V)):
        suppressed = {x - V for x in suppressed if x >= V}
    found.suppress_tokens = sorted(suppressed) or None
    return found
