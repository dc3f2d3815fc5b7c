"""Adapters of PEFT beside the offset of marked words."""

import copy
import re
import warnings
from collections.abc import Sequence
from typing import Any

from undelude.hf._marks.do_embedding import OFFSET
from undelude.hf._marks.do_tokens import DoTokens


def with_adapter(model: Any, peft_config: Any) -> Any:
    """Return the model with a PEFT adapter; the offset of its marks is trained and saved beside it.

    Raises:
        ValueError: the adapter would take the place of the input embedding, which knows the marked words.
    """
    from peft import get_peft_model

    marks = DoTokens.of(model)
    if marks is not None and not marks.is_exported:
        saved = list(peft_config.modules_to_save or ())
        name = _embedding_name(marks.model)
        if _has(saved, name):  # PEFT's copy of the embedding has its own offset; one beside it would not be read.
            saved = [x for x in saved if x != OFFSET]
        else:
            _check_targets(peft_config, name)
            saved = [*saved, *([OFFSET] if OFFSET not in saved else [])]
        peft_config = copy.copy(peft_config)
        peft_config.modules_to_save = saved
    with warnings.catch_warnings():
        # PEFT asks Transformers by an old name.
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
        return get_peft_model(model, peft_config)


def _check_targets(peft_config: Any, name: str) -> None:
    """Raise if an adapter would take the place of the input embedding of that name."""
    embedding = name.rpartition(".")[2]
    targets = getattr(peft_config, "target_modules", None) or ()
    targeted = re.fullmatch(targets, name) if isinstance(targets, str) else _has(targets, name)
    setting = "target_modules" if targeted else "trainable_token_indices"
    if targeted or getattr(peft_config, setting, None):
        raise ValueError(
            f"peft_config: {setting} would put an adapter in the place of the input embedding, {name}, and the adapter "
            f"does not know the marked words do(x) = x + V. Leave it out: the offset of marked words is trained in any "
            f"case. To train the embedding itself too, modules_to_save=[{embedding!r}]."
        )


def _embedding_name(model: Any) -> str:
    embedding = model.get_input_embeddings()
    return next(name for name, x in model.named_modules() if x is embedding)


def _has(names: Sequence[str], module: str) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)
