"""Whether an architecture scores all turns of a conversation in one pass as it scores them one by one."""

from typing import Any

import torch

from undelude.hf._marks.generation import evaluating
from undelude.hf._teaching.losses import Targets
from undelude.hf._teaching.sequences import Scored, collate, predictions

# The root of the mean squared difference of logits, relative to their standard deviation, that counts as rounding. It
# is .03 in bfloat16, and about 1 if branches see one another.
TOLERANCE = 0.1


@torch.no_grad()
def packs(model: torch.nn.Module, V: int, device: torch.device, length: int = 0) -> bool:
    """Return whether the model's predictions along branches are those along whole sequences of up to `length` words.

    It needs an attention that takes a mask of `[B, 1, T, T]` and the positions of the words. Recurrent models and Flash
    Attention do not have it, and a window that is shorter than a sequence is lost, since the mask takes its place.
    """
    if any(window < length for window in _windows(model)):
        return False
    words = [1 + i % (V - 1) for i in range(3, 12)]
    branches = [(3, [words[5], words[6]]), (6, [words[1]])]
    targets = Targets.of_tokens(torch.zeros(3, dtype=torch.long))
    sequence = Scored(words, branches, actions=[([2, 9, 10], targets), ([5, 11], targets[:2])], observations=[(8, 0)])
    try:
        with evaluating(model):
            tree = predictions(model, collate([sequence]), device)[0, [2, 9, 10, 5, 11, 8]].float()
            rows = [
                predictions(model, collate([row]), device)[0].float()
                for row in (Scored(words), Scored(words[:3] + branches[0][1]), Scored(words[:6] + branches[1][1]))
            ]
    except (TypeError, ValueError, IndexError, NotImplementedError):
        # A model that takes no positions, or no mask of words by words, may say so in any of these ways.
        return False
    whole = torch.stack([rows[1][2], rows[1][3], rows[1][4], rows[2][5], rows[2][6], rows[0][8]])
    return bool((tree - whole).square().mean().sqrt() <= TOLERANCE * whole.std().clamp_min(1e-6))


def _windows(model: Any) -> list[int]:
    """Return the numbers of past words that layers of a model see, where they do not see all."""
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return [window for window in found if isinstance(window, int) and window > 0]
