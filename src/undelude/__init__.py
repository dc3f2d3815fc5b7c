"""undelude: sequence models that act, without taking their own actions for evidence."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undelude import causal as causal
    from undelude import gym as gym
    from undelude import hf as hf
    from undelude import offline as offline
    from undelude import plot as plot
    from undelude import torch as torch
    from undelude._drawing.film import Film as Film
    from undelude._drawing.film import film as film
    from undelude._drawing.film import side_by_side as side_by_side
    from undelude._drawing.frame import Frame as Frame
    from undelude._drawing.gif import write_gif as write_gif
    from undelude._inspector.inspector import Inspector as Inspector
    from undelude._inspector.inspector import inspect as inspect
    from undelude._public import *  # noqa: F403 - the names are those of its __all__
    from undelude._runs.export import export as export
    from undelude._runs.hub import from_pretrained as from_pretrained
    from undelude._runs.hub import push_to_hub as push_to_hub
    from undelude._runs.tensorboard import TensorBoard as TensorBoard

    __version__: str

# Packages with public names of their own.
_PACKAGES = ("causal", "gym", "hf", "offline", "plot", "tasks", "torch")
# Names that are imported one by one, so that no imaging library and no server is loaded without need.
_LAZY = {
    "export": "undelude._runs.export",
    "Film": "undelude._drawing.film",
    "Frame": "undelude._drawing.frame",
    "Inspector": "undelude._inspector.inspector",
    "TensorBoard": "undelude._runs.tensorboard",
    "film": "undelude._drawing.film",
    "from_pretrained": "undelude._runs.hub",
    "inspect": "undelude._inspector.inspector",
    "push_to_hub": "undelude._runs.hub",
    "side_by_side": "undelude._drawing.film",
    "write_gif": "undelude._drawing.gif",
}


def __getattr__(name: str) -> Any:
    """Import the public names when one of them is first used.

    They need JAX, which takes seconds to load, and the command line answers many a question without it.
    """
    if name in _PACKAGES:
        return importlib.import_module(f"undelude.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name == "__version__":
        # Imported here because it takes a tenth of a second, in which Ctrl-C would end in a traceback.
        from importlib.metadata import version

        return version("undelude")
    if name == "__all__" or not name.startswith("_"):
        public = importlib.import_module("undelude._public")
        if name == "__all__":
            return sorted([*public.__all__, *_LAZY])
        if name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*__getattr__("__all__"), *_PACKAGES, "__version__"})
