"""undelude: sequence models that act, without taking their own actions for evidence."""

from undelude import tasks
from undelude.agent import AbstractAgent, AbstractSequenceAgent
from undelude.agents.exact import ExactAgent, ThompsonAgent
from undelude.agents.lstm import LSTMAgent
from undelude.causal import CausalModel, Variable
from undelude.certificate import Certificate, certify, delusion_gap
from undelude.checkpoint import load, save
from undelude.distributions import AbstractDistribution, Categorical, Given, Joint, Mixture, Normal
from undelude.estimand import Estimand
from undelude.graph import Path
from undelude.identification import Hedge, NotIdentifiable, identify
from undelude.inference import posterior
from undelude.process import AbstractExpert, AbstractTask, InteractionProcess
from undelude.rollout import Episodes, rollout
from undelude.square import Blind, Cloning, Counterfactual, DAgger, Factual, Mixed, Teaching
from undelude.teaching import Run, log_losses, teach

__all__ = [
    "AbstractAgent",
    "AbstractDistribution",
    "AbstractExpert",
    "AbstractSequenceAgent",
    "AbstractTask",
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
    "Given",
    "Hedge",
    "InteractionProcess",
    "Joint",
    "LSTMAgent",
    "Mixed",
    "Mixture",
    "Normal",
    "NotIdentifiable",
    "Path",
    "Run",
    "Teaching",
    "ThompsonAgent",
    "Variable",
    "certify",
    "delusion_gap",
    "identify",
    "load",
    "log_losses",
    "posterior",
    "rollout",
    "save",
    "tasks",
    "teach",
]
