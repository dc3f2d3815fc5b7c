"""undelude: sequence models that act, without taking their own actions for evidence."""

from undelude import tasks
from undelude.agent import AbstractAgent, AbstractSequenceAgent
from undelude.agents.exact import ExactAgent, ThompsonAgent
from undelude.agents.gru import GRUAgent
from undelude.agents.linear_recurrent import LinearRecurrentAgent
from undelude.agents.lstm import LSTMAgent
from undelude.agents.markov import MarkovAgent, SequencePredictor
from undelude.agents.normalise import normalise
from undelude.agents.planning import PlanningAgent
from undelude.agents.tempered import TemperedAgent
from undelude.agents.transformer import TransformerAgent
from undelude.causal import CausalModel
from undelude.certificate import Certificate, certify, delusion_gap
from undelude.checkpoint import load, save
from undelude.distributions import (
    AbstractDistribution,
    Autoregressive,
    Categorical,
    Given,
    Joint,
    Mixture,
    Normal,
    Squashed,
)
from undelude.episodes import Episodes
from undelude.estimand import Estimand
from undelude.export import export
from undelude.film import film, side_by_side, write_gif
from undelude.graph import Path
from undelude.host import HostAgent
from undelude.identification import Hedge, NotIdentifiable, identify
from undelude.inference import posterior
from undelude.losses import log_losses
from undelude.process import AbstractExpert, AbstractTask, InteractionProcess
from undelude.replicates import Interval, Replicates, replicate
from undelude.rollout import rollout
from undelude.square import Blind, Cloning, Counterfactual, DAgger, Factual, Mixed, Teaching
from undelude.task_check import TaskReport, check_task
from undelude.teaching import NotFinite, Run, teach
from undelude.variable import Variable

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
    "Replicates",
    "Run",
    "SequencePredictor",
    "Squashed",
    "TaskReport",
    "Teaching",
    "TemperedAgent",
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
