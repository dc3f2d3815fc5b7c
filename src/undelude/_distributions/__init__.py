"""Distributions over actions and observations, distances between them, and the sets of values they range over."""

from undelude._distributions.base import AbstractDistribution, check_is_distribution, is_distribution
from undelude._distributions.compound import Given, Joint, Mixture, mixture
from undelude._distributions.continuous import Normal, Squashed
from undelude._distributions.discrete import AbstractConditionals, Autoregressive, Categorical, as_categorical
from undelude._distributions.divergence import cross_entropy, divergences, estimate_entropy, excess_mass
from undelude._distributions.spec import Block, GivenArray, Parts, Reals, Spec, Symbols, num_symbols, spec_of

__all__ = [
    "AbstractConditionals",
    "AbstractDistribution",
    "Autoregressive",
    "Block",
    "Categorical",
    "Given",
    "GivenArray",
    "Joint",
    "Mixture",
    "Normal",
    "Parts",
    "Reals",
    "Spec",
    "Squashed",
    "Symbols",
    "as_categorical",
    "check_is_distribution",
    "cross_entropy",
    "divergences",
    "estimate_entropy",
    "excess_mass",
    "is_distribution",
    "mixture",
    "num_symbols",
    "spec_of",
]
