"""Language models whose own words are interventions: Hugging Face models, and any model behind a server.

Each name is imported when it is first used: measuring a served model needs no PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undelude.hf.chat import EncodedChat as EncodedChat
    from undelude.hf.chat import encode_chat as encode_chat
    from undelude.hf.chat import reply_ids as reply_ids
    from undelude.hf.client import ServerError as ServerError
    from undelude.hf.config import CounterfactualConfig as CounterfactualConfig
    from undelude.hf.delusion_report import DelusionReport as DelusionReport
    from undelude.hf.do_tokens import DoTokens as DoTokens
    from undelude.hf.experts import CallableExpert as CallableExpert
    from undelude.hf.experts import PromptedExpert as PromptedExpert
    from undelude.hf.generation import DoLogitsProcessor as DoLogitsProcessor
    from undelude.hf.generation import generate_turn as generate_turn
    from undelude.hf.host_agents import local_agent as local_agent
    from undelude.hf.host_agents import served_agent as served_agent
    from undelude.hf.measure import measure_delusion as measure_delusion
    from undelude.hf.menu_dialogue import MenuDialogue as MenuDialogue
    from undelude.hf.trainer import CounterfactualTrainer as CounterfactualTrainer

# The module of each name.
_NAMES = {
    "CallableExpert": "experts",
    "CounterfactualConfig": "config",
    "CounterfactualTrainer": "trainer",
    "DelusionReport": "delusion_report",
    "DoLogitsProcessor": "generation",
    "DoTokens": "do_tokens",
    "EncodedChat": "chat",
    "MenuDialogue": "menu_dialogue",
    "PromptedExpert": "experts",
    "ServerError": "client",
    "encode_chat": "chat",
    "generate_turn": "generation",
    "local_agent": "host_agents",
    "measure_delusion": "measure",
    "reply_ids": "chat",
    "served_agent": "host_agents",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name in ("accelerate", "peft", "torch", "transformers"):
            message = f"undelude.hf.{name} needs {error.name}: pip install 'undelude[hf]'."
            raise ModuleNotFoundError(message, name=error.name) from error
        raise


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
