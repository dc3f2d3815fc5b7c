"""Language models whose own words are interventions: Hugging Face models, and any model behind a server.

Each name is imported when it is first used: measuring a served model needs no PyTorch.
"""

from typing import TYPE_CHECKING, Any

from undelude._versions import installing, load

if TYPE_CHECKING:
    from undelude.hf._marks.chat import EncodedChat as EncodedChat
    from undelude.hf._marks.chat import encode_chat as encode_chat
    from undelude.hf._marks.chat import reply_ids as reply_ids
    from undelude.hf._marks.do_tokens import DoTokens as DoTokens
    from undelude.hf._marks.generation import DoLogitsProcessor as DoLogitsProcessor
    from undelude.hf._marks.generation import generate_turn as generate_turn
    from undelude.hf._measuring.client import ServerError as ServerError
    from undelude.hf._measuring.delusion_report import DelusionReport as DelusionReport
    from undelude.hf._measuring.host_agents import local_agent as local_agent
    from undelude.hf._measuring.host_agents import served_agent as served_agent
    from undelude.hf._measuring.local import answer_log_probs as answer_log_probs
    from undelude.hf._measuring.measure import measure_delusion as measure_delusion
    from undelude.hf._menu.menu_dialogue import MenuDialogue as MenuDialogue
    from undelude.hf._teaching.config import CounterfactualConfig as CounterfactualConfig
    from undelude.hf._teaching.endpoint_expert import EndpointExpert as EndpointExpert
    from undelude.hf._teaching.experts import CallableExpert as CallableExpert
    from undelude.hf._teaching.experts import PromptedExpert as PromptedExpert
    from undelude.hf._teaching.trainer import CounterfactualTrainer as CounterfactualTrainer

# The module of each name.
_NAMES = {
    "CallableExpert": "_teaching.experts",
    "CounterfactualConfig": "_teaching.config",
    "CounterfactualTrainer": "_teaching.trainer",
    "DelusionReport": "_measuring.delusion_report",
    "DoLogitsProcessor": "_marks.generation",
    "DoTokens": "_marks.do_tokens",
    "EncodedChat": "_marks.chat",
    "EndpointExpert": "_teaching.endpoint_expert",
    "MenuDialogue": "_menu.menu_dialogue",
    "PromptedExpert": "_teaching.experts",
    "ServerError": "_measuring.client",
    "answer_log_probs": "_measuring.local",
    "encode_chat": "_marks.chat",
    "generate_turn": "_marks.generation",
    "local_agent": "_measuring.host_agents",
    "measure_delusion": "_measuring.measure",
    "reply_ids": "_marks.chat",
    "served_agent": "_measuring.host_agents",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    libraries = ("accelerate", "peft", "torch", "transformers")
    return load(__name__, _NAMES, name, dict.fromkeys(libraries, installing("hf")))


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
