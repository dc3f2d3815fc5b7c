"""The architectures by name: the choices of the command line, and the classes that an agent file may hold."""

from undelude._agents.networks.gru import GRUAgent
from undelude._agents.networks.linear import LinearRecurrentAgent
from undelude._agents.networks.lstm import LSTMAgent
from undelude._agents.networks.markov import MarkovAgent, SequencePredictor
from undelude._agents.networks.network import AbstractLearnedAgent
from undelude._agents.networks.transformer import TransformerAgent

ARCHITECTURES: dict[str, type[AbstractLearnedAgent]] = {
    "lstm": LSTMAgent,
    "gru": GRUAgent,
    "linear": LinearRecurrentAgent,
    "transformer": TransformerAgent,
    "markov": MarkovAgent,
    "predictor": SequencePredictor,
}
