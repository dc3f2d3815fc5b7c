"""Causal models against pyAgrum and pgmpy, and the questions of the paper that pgmpy refuses or gets wrong."""

import itertools
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import undelude as ud
from causal_oracle import random_model, random_roles

gum = pytest.importorskip("pyagrum")


@pytest.fixture(scope="module")
def pgmpy() -> Iterator[Any]:
    """The parts of pgmpy that the tests use, imported without the warnings of its dependencies."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pgmpy import factors, inference, models

        class Pgmpy:
            Network, CPD = models.DiscreteBayesianNetwork, factors.discrete.TabularCPD
            Elimination, Causal = inference.VariableElimination, inference.CausalInference

        yield Pgmpy
    logging.disable(logging.NOTSET)


def to_pyagrum(model: ud.CausalModel, do: dict[str, int]) -> Any:
    """Return the mutilated model: a done variable has no parents, and all its mass on its value."""
    bn = gum.BayesNet()
    for v in model.variables:
        bn.add(gum.LabelizedVariable(v.name, v.name, len(v.values)))
    for v in model.variables:
        for parent in () if v.name in do else v.parents:
            bn.addArc(parent, v.name)
    for v in model.variables:
        cpt = bn.cpt(v.name)
        if v.name in do:
            cpt.fillWith([float(x == do[v.name]) for x in v.values])
            continue
        for row in itertools.product(*(range(n) for n in v.table.shape[:-1])):
            cpt[dict(zip(v.parents, row, strict=True))] = np.asarray(v.table, float)[row].tolist()
    return bn


def to_pgmpy(pgmpy: Any, model: ud.CausalModel) -> Any:
    network = pgmpy.Network([(parent, v.name) for v in model.variables for parent in v.parents])
    network.add_nodes_from(model.names)
    for v in model.variables:
        rows = np.asarray(v.table, float).reshape(-1, len(v.values))
        columns = (rows / rows.sum(-1, keepdims=True)).T
        parents = {"evidence": v.parents, "evidence_card": v.table.shape[:-1]} if v.parents else {}
        network.add_cpds(pgmpy.CPD(v.name, len(v.values), columns, **parents))
    return network


def test_pyagrum_agrees():
    """Lazy propagation in the mutilated model, on random DAGs of 12 variables."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        model = random_model(rng, 12)
        (asked, *_), see, do = random_roles(rng, model)
        engine = gum.LazyPropagation(to_pyagrum(model, do))
        engine.setEvidence(see)
        engine.addTarget(asked)
        engine.makeInference()
        by_peer = engine.posterior(asked).toarray()
        np.testing.assert_allclose(model.query(asked, see=see, do=do), by_peer, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_pgmpy_agrees(pgmpy: Any):
    """Variable elimination in the model that pgmpy's `do` returns."""
    rng = np.random.default_rng(8)
    for _ in range(5):
        model = random_model(rng, 12)
        (asked, *_), see, do = random_roles(rng, model)
        mutilated = to_pgmpy(pgmpy, model).do(list(do))
        by_peer = pgmpy.Elimination(mutilated).query([asked], evidence={**see, **do}, show_progress=False).values
        np.testing.assert_allclose(model.query(asked, see=see, do=do), by_peer, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_pgmpy_causal_inference(pgmpy: Any):
    """The table in docs/causal-models.md on `CausalInference.query`; if this fails, update the page."""
    frog = ud.tasks.prize_or_frog().causal_model()
    ask = pgmpy.Causal(to_pgmpy(pgmpy, frog)).query
    right = ask(["O_1"], do={"A_1": 0}, show_progress=False).values
    np.testing.assert_allclose(right, frog.query("O_1", do={"A_1": 0}))
    for see in ({}, {"O_1": 0}):
        with pytest.raises(ValueError, match="direct edge from the query variable"):
            ask(["Theta"], do={"A_1": 0}, evidence=see, show_progress=False)
        frog.query("Theta", do={"A_1": 0}, see=see)  # Equation 2.

    bandit = ud.tasks.bandit().causal_model(num_rounds=2)
    ask = pgmpy.Causal(to_pgmpy(pgmpy, bandit)).query
    wrong = ask(["A_2"], do={"A_1": 2}, evidence={"O_1": 1}, show_progress=False).values
    np.testing.assert_allclose(wrong, np.full(5, 1 / 5), atol=1e-6)
    right = bandit.query("A_2", do={"A_1": 2}, see={"O_1": 1})  # Equation 3.
    np.testing.assert_allclose(right, np.where(np.arange(5) == 2, 11, 6) / 35, rtol=1e-6)
