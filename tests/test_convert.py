"""Models from and to pgmpy, pyAgrum and networkx: their engines give the answers of ours, also by way of a file."""

import sys
import warnings
from importlib.resources import files

import jax
import numpy as np
import pyagrum
import pytest

import undelude as ud
from causal_oracle import random_model
from undelude.causal import from_pgmpy, from_pyagrum, sample, to_pgmpy, to_pyagrum

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # pgmpy deprecates parts of itself as it is imported
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader, BIFWriter
    from pgmpy.utils import get_example_model

MODELS = [random_model(np.random.default_rng(seed), 5, density=0.6) for seed in range(3)]
MIXED = ud.CausalModel(
    [
        ud.Variable("Place", ("inside", "yard", "street"), table=[0.5, 0.2, 0.3]),
        ud.Variable("Light", ("on", "off"), ("Place",), table=[[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]),
        ud.Variable("Count", (3, 4), ("Light", "Place"), table=np.full((2, 3, 2), 0.5)),
    ]
)


def parents_in(model):
    return {name: set(parents) for name, parents in model.graph.items()}


def evidence(model):
    """Return an asked variable, and values of two others that are possible together."""
    asked, *seen = sorted(model.names)[:3]
    return asked, model.most_probable(seen)


@pytest.mark.parametrize("model", [*MODELS, MIXED], ids=[0, 1, 2, "mixed"])
def test_pyagrum_answers_as_we_do(model, tmp_path):
    asked, see = evidence(model)
    network = to_pyagrum(model)
    engine = pyagrum.LazyPropagation(network)
    engine.setEvidence({name: model[name].values.index(x) for name, x in see.items()})
    truth = model.query(asked, see=see)
    np.testing.assert_allclose(engine.posterior(asked).toarray(), truth, atol=1e-6)
    back = from_pyagrum(network)
    assert parents_in(back) == parents_in(model)  # pyAgrum orders parents as it likes.
    assert [v.values for v in back.variables] == [v.values for v in model.variables]
    np.testing.assert_allclose(back.query(asked, see=see), truth, atol=1e-6)
    pyagrum.saveBN(network, str(tmp_path / "model.bif"))
    loaded = from_pyagrum(pyagrum.loadBN(str(tmp_path / "model.bif")))
    labels = {name: str(x) for name, x in see.items()}
    np.testing.assert_allclose(loaded.query(asked, see=labels), truth, atol=1e-5)


@pytest.mark.parametrize("model", [MODELS[0], MIXED], ids=[0, "mixed"])
def test_pgmpy_answers_as_we_do(model, tmp_path):
    asked, see = evidence(model)
    network = to_pgmpy(model)
    assert network.check_model()
    truth = model.query(asked, see=see)
    factor = VariableElimination(network).query([asked], evidence=see, show_progress=False)
    assert list(factor.state_names[asked]) == list(model[asked].values)
    np.testing.assert_allclose(factor.values, truth, atol=1e-6)
    back = from_pgmpy(network)
    assert parents_in(back) == parents_in(model)
    np.testing.assert_allclose(back.query(asked, see=see, do={}), truth, atol=1e-6)
    BIFWriter(network).write(str(tmp_path / "model.bif"))
    loaded = from_pgmpy(BIFReader(str(tmp_path / "model.bif")).get_model())
    labels = {name: str(x) for name, x in see.items()}
    np.testing.assert_allclose(loaded.query(asked, see=labels), truth, atol=1e-5)


def test_graph_of_networkx_separates_as_ours():
    graph = MIXED.graph.to_networkx()
    assert {name: tuple(graph.predecessors(name)) for name in graph} == {
        "Place": (), "Light": ("Place",), "Count": ("Light", "Place")
    }  # fmt: skip
    assert str(ud.identify(graph, "Count", do="Light")) == str(MIXED.identify("Count", do="Light"))


def test_latent_nodes_are_mentioned():
    network = to_pgmpy(MIXED.marginal(("Light", "Count")))
    assert network.latents == {"Place"}
    with pytest.warns(UserWarning, match="Place as latent"):
        assert from_pgmpy(network).names == MIXED.names


def test_wrong_objects_are_named():
    with pytest.raises(TypeError, match=r"takes a pgmpy\.models\.DiscreteBayesianNetwork, not BayesNet"):
        from_pgmpy(pyagrum.BayesNet())
    with pytest.raises(TypeError, match=r"takes a pyagrum\.BayesNet, not CausalModel"):
        from_pyagrum(MIXED)
    network = to_pgmpy(MIXED)
    light = network.get_cpds("Light")
    light.state_names["Place"] = light.state_names["Place"][::-1]
    with pytest.raises(ValueError, match=r"table of Light has the values .* for its parent Place"):
        from_pgmpy(network)
    network.remove_cpds("Light")
    with pytest.raises(ValueError, match=r"Light has no table: add one by network\.add_cpds"):
        from_pgmpy(network)
    with pytest.raises(ValueError, match="two of its values have the same label"):
        to_pyagrum(ud.CausalModel([ud.Variable("X", (1, "1"), table=[0.5, 0.5])]))


def test_missing_package_says_how_it_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ModuleNotFoundError, match=r"networkx is not installed: .*\[causal\]"):
        MIXED.graph.to_networkx()
    for name in ("pandas", "xarray"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, convert in (("pandas", "to_frame"), ("xarray", "to_xarray")):
        with pytest.raises(ModuleNotFoundError, match=rf"{name} is not installed: .*\[causal\]"):
            getattr(MIXED.query(MIXED.names[0]), convert)()


NETWORKS = sorted(
    file.name.removesuffix(".bif.gz")
    for file in (files("pgmpy") / "utils" / "example_models").iterdir()
    if file.name.endswith(".bif.gz")
)
QUICK = ("child",)


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x not in QUICK)) for x in NETWORKS])
def test_networks_of_the_bnlearn_repository_return_from_files(name, tmp_path):
    """Through pgmpy, pyAgrum and its files: tables and answers are equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = from_pgmpy(get_example_model(name))
    network = to_pyagrum(model)
    # Labels with a slash or a bracket return from XDSL alone.
    kinds = ["xdsl", *["bifxml", "net", "bif"] * (name in ("asia", "alarm", "sachs"))]
    for kind in kinds:
        pyagrum.saveBN(network, str(tmp_path / f"model.{kind}"))
        loaded = from_pyagrum(pyagrum.loadBN(str(tmp_path / f"model.{kind}")))
        assert parents_in(loaded) == parents_in(model)
        asked, *seen = loaded.names[:3]
        drawn = sample(loaded, jax.random.key(0), 1)
        see = {x: drawn[x].tolist()[0] for x in seen}
        np.testing.assert_allclose(loaded.query(asked, see=see), model.query(asked, see=see), atol=1e-5)
        for v in loaded.variables:
            ours = model[v.name]
            table = np.moveaxis(
                np.asarray(ours.table), range(len(ours.parents)), [v.parents.index(x) for x in ours.parents]
            )
            np.testing.assert_allclose(v.table, table, atol=1e-6)
            assert v.values == ours.values
    again = from_pgmpy(to_pgmpy(model))
    assert again.graph == model.graph
    for v in again.variables:
        np.testing.assert_allclose(v.table, model.table(v.name), atol=1e-12)
