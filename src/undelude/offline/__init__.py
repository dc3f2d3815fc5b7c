"""From logs alone: causal models of demonstrators whose knowledge is hidden, or the reason why the data have none.

Each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undelude.offline._acting.agent import agent as agent
    from undelude.offline._acting.cloning import clone as clone
    from undelude.offline._acting.dream import dream as dream
    from undelude.offline._data.columns import Column as Column
    from undelude.offline._data.demos import Demos as Demos
    from undelude.offline._diagnosing.diagnose import Diagnosis as Diagnosis
    from undelude.offline._diagnosing.diagnose import diagnose as diagnose
    from undelude.offline._diagnosing.experiment import Experiment as Experiment
    from undelude.offline._diagnosing.next_experiment import next_experiment as next_experiment
    from undelude.offline._diagnosing.probes import Probe as Probe
    from undelude.offline._fitting.fit import fit as fit
    from undelude.offline._fitting.gradient import Training as Training
    from undelude.offline._fitting.result import Fit as Fit
    from undelude.offline._model.contexts import Last as Last
    from undelude.offline._model.contexts import Round as Round
    from undelude.offline._model.hypotheses import Hypotheses as Hypotheses
    from undelude.offline._model.latent import Episode as Episode
    from undelude.offline._model.latent import Markov as Markov
    from undelude.offline._model.latent import PerStep as PerStep
    from undelude.offline._model.mechanisms import Gaussian as Gaussian
    from undelude.offline._model.mechanisms import Table as Table
    from undelude.offline._model.network import Known as Known
    from undelude.offline._model.network import Network as Network
    from undelude.offline._model.spec import LatentSpec as LatentSpec
    from undelude.offline._saving.diagnosis_file import load_diagnosis as load_diagnosis
    from undelude.offline._saving.fit_files import load as load
    from undelude.offline._saving.fit_files import save as save

# The module of each name.
_NAMES = {
    "Column": "_data.columns",
    "Demos": "_data.demos",
    "Diagnosis": "_diagnosing.diagnose",
    "Episode": "_model.latent",
    "Experiment": "_diagnosing.experiment",
    "Fit": "_fitting.result",
    "Gaussian": "_model.mechanisms",
    "Hypotheses": "_model.hypotheses",
    "Known": "_model.network",
    "Last": "_model.contexts",
    "LatentSpec": "_model.spec",
    "Markov": "_model.latent",
    "Network": "_model.network",
    "PerStep": "_model.latent",
    "Probe": "_diagnosing.probes",
    "Round": "_model.contexts",
    "Table": "_model.mechanisms",
    "Training": "_fitting.gradient",
    "agent": "_acting.agent",
    "clone": "_acting.cloning",
    "diagnose": "_diagnosing.diagnose",
    "dream": "_acting.dream",
    "fit": "_fitting.fit",
    "load": "_saving.fit_files",
    "load_diagnosis": "_saving.diagnosis_file",
    "next_experiment": "_diagnosing.next_experiment",
    "save": "_saving.fit_files",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
