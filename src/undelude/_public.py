"""The public names of undelude; `undelude` loads this module when one of them is first used."""

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
from undelude._agents.policy import Policy
from undelude._agents.tempered import TemperedAgent
from undelude._cache import keep_programs
from undelude._certificate.certificate import Certificate, certify, delusion_gap
from undelude._certificate.check_task import check_task
from undelude._certificate.quantity import Quantity
from undelude._certificate.replicates import Interval, Replicates, replicate
from undelude._certificate.suggestion import auto_suggestion
from undelude._certificate.task_report import TaskReport
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
from undelude._rollout.next_round import NextRound, predict
from undelude._rollout.rollout import rollout
from undelude._runs.agent_files import load, save
from undelude._teaching.loop import NotFinite, Run, teach
from undelude._teaching.losses import log_losses
from undelude._teaching.settings import Blind, Cloning, Counterfactual, DAgger, Factual, Interventional, Mixed, Teaching
from undelude.causal._graphs.path import Path
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.hedge import Hedge, NotIdentifiable
from undelude.causal._identifying.identification import identify
from undelude.causal._mixed.graph import Graph
from undelude.causal._model.counterfactual import Causation
from undelude.causal._model.model import CausalModel
from undelude.causal._variables.equation import Equation
from undelude.causal._variables.variable import Variable

keep_programs(announce=True)

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
    "Causation",
    "Certificate",
    "Cloning",
    "Counterfactual",
    "DAgger",
    "Episodes",
    "Equation",
    "Estimand",
    "ExactAgent",
    "Factual",
    "GRUAgent",
    "Given",
    "Graph",
    "Hedge",
    "HostAgent",
    "InteractionProcess",
    "Interval",
    "Interventional",
    "Joint",
    "LSTMAgent",
    "LinearRecurrentAgent",
    "MarkovAgent",
    "Mixed",
    "Mixture",
    "NextRound",
    "Normal",
    "NotFinite",
    "NotIdentifiable",
    "Path",
    "PlanningAgent",
    "Policy",
    "Quantity",
    "Reading",
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
    "auto_suggestion",
    "certify",
    "check_task",
    "delusion_gap",
    "identify",
    "load",
    "log_losses",
    "normalise",
    "posterior",
    "predict",
    "replicate",
    "rollout",
    "save",
    "tasks",
    "teach",
]
