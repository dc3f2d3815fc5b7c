"""Finite causal models on any graph: any variable seen, done or summed out, and what can be identified (Section 2)."""

from undelude.causal.estimand import Estimand
from undelude.causal.graph import Path
from undelude.causal.identification import Hedge, NotIdentifiable, identify
from undelude.causal.model import CausalModel
from undelude.causal.variable import Variable

__all__ = ["CausalModel", "Estimand", "Hedge", "NotIdentifiable", "Path", "Variable", "identify"]
