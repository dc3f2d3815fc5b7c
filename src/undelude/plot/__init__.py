"""Figures on matplotlib axes, for papers and notebooks: beliefs, certificates, episodes, graphs, learning curves.

Each function draws on `axes`, or on new ones, and returns them: set titles, sizes and fonts there as you like, and save
the figure with `axes.figure.savefig`. Blue is the interventional answer, orange the deluded one.
"""

from undelude.plot.axes import belief, certificate, episode, graph, learning

__all__ = ["belief", "certificate", "episode", "graph", "learning"]
