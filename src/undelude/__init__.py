"""undelude: sequence models that act, without taking their own actions for evidence."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from undelude import tasks
from undelude._agents.base import AbstractAgent, AbstractSequenceAgent, Reading
from undelude._agents.exact import ExactAgent, ThompsonAgent
from undelude._agents.host import HostAgent
from undelude._agents.networks.gru import GRUAgent
from undelude._agents.networks.linear import LinearRecurrentAgent
from undelude._agents.networks.lstm import LSTMAgent
from undelude._agents.networks.markov import MarkovAgent, SequencePredictor
from undelude._agents.networks.normalise import normalise
from undelude._agents.networks.transformer import TransformerAgent
from undelude._agents.planning import PlanningAgent
from undelude._agents.tempered import TemperedAgent
from undelude._certificate.certificate import Certificate, certify, delusion_gap
from undelude._certificate.check_task import TaskReport, check_task
from undelude._certificate.quantity import Quantity
from undelude._certificate.replicates import Interval, Replicates, replicate
from undelude._distributions import (
    AbstractDistribution,
    Autoregressive,
    Categorical,
    Given,
    Joint,
    Mixture,
    Normal,
    Squashed,
)
from undelude._process.episodes import Episodes
from undelude._process.inference import posterior
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._rollout.rollout import rollout
from undelude._runs.agent_files import load, save
from undelude._teaching.loop import NotFinite, Run, teach
from undelude._teaching.losses import log_losses
from undelude._teaching.settings import Blind, Cloning, Counterfactual, DAgger, Factual, Mixed, Teaching
from undelude.causal.estimand import Estimand
from undelude.causal.graph import Path
from undelude.causal.identification import Hedge, NotIdentifiable, identify
from undelude.causal.model import CausalModel
from undelude.causal.variable import Variable

if TYPE_CHECKING:
    __version__: str
    from undelude._drawing.film import Frame, film, side_by_side, write_gif
    from undelude._runs.export import export
    from undelude._runs.tensorboard import TensorBoard

# Imported on first use, so that `import undelude` loads no imaging library.
_LAZY = {
    "export": "undelude._runs.export",
    "Frame": "undelude._drawing.film",
    "TensorBoard": "undelude._runs.tensorboard",
    "film": "undelude._drawing.film",
    "side_by_side": "undelude._drawing.film",
    "write_gif": "undelude._drawing.film",
}

__all__ = [
    "AbstractAgent",
    "AbstractDistribution",
    "AbstractExpert",
    "AbstractSequenceAgent",
    "AbstractTask",
    "Autoregressive",
    "Blind",
    "Categorical",
    "CausalModel",
    "Certificate",
    "Cloning",
    "Counterfactual",
    "DAgger",
    "Episodes",
    "Estimand",
    "ExactAgent",
    "Factual",
    "Frame",
    "GRUAgent",
    "Given",
    "Hedge",
    "HostAgent",
    "InteractionProcess",
    "Interval",
    "Joint",
    "LSTMAgent",
    "LinearRecurrentAgent",
    "MarkovAgent",
    "Mixed",
    "Mixture",
    "Normal",
    "NotFinite",
    "NotIdentifiable",
    "Path",
    "PlanningAgent",
    "Quantity",
    "Reading",
    "Replicates",
    "Run",
    "SequencePredictor",
    "Squashed",
    "TaskReport",
    "Teaching",
    "TemperedAgent",
    "TensorBoard",
    "ThompsonAgent",
    "TransformerAgent",
    "Variable",
    "certify",
    "check_task",
    "delusion_gap",
    "export",
    "film",
    "identify",
    "load",
    "log_losses",
    "normalise",
    "posterior",
    "replicate",
    "rollout",
    "save",
    "side_by_side",
    "tasks",
    "teach",
    "write_gif",
]


def __getattr__(name: str) -> Any:
    """Import a name of `_LAZY` when it is first asked for; look up the version."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name == "__version__":
        return importlib.metadata.version("undelude")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, those that are imported on first use too."""
    return sorted([*__all__, "__version__", "causal", "gym", "tasks"])
