"""`ud.inspect`: the inspector of a process and of agents, from Python or a notebook."""

from html import escape
from typing import Self

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._inspector.abstract import AbstractInspection
from undelude._inspector.history import History
from undelude._inspector.server import Server
from undelude._inspector.service import Service
from undelude._inspector.start import begin_with, first_actor, inspection_of
from undelude._process.episodes import Episodes, one_of
from undelude._process.host_world import World
from undelude._types import MAX_PORT

# Pixels: the height of the page in a notebook.
HEIGHT = 900


class Inspector:
    """A page in the browser on one episode; a notebook shows it in a frame.

    Its server runs, with the process and the agents in memory, until `stop()` or the end of Python, since the page may
    outlive the object. A `with` block stops it at its end. In a notebook, stop it before you run its cell again, which
    starts another one.

    Attributes:
        inspection: gives the answers.
        url: the link to the page, which holds a token and works on this machine alone.
    """

    def __init__(self, inspection: AbstractInspection, service: Service, *, port: int = 0):
        if not 0 <= port <= MAX_PORT:
            raise ValueError(f"inspect: port must be from 1 to {MAX_PORT}, or 0 for any free one, not {port}.")
        self.inspection = inspection
        self._server = Server(service, port=port, embedded=True)
        self.url = self._server.url
        self._is_stopped = False

    def stop(self) -> None:
        """Stop the server of the page; a second time, do nothing."""
        if not self._is_stopped:
            self._server.stop()
        self._is_stopped = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return "Inspector(stopped)" if self._is_stopped else f"Inspector({self.url})"

    def _repr_html_(self) -> str:
        name = escape(f"undelude inspector of {self.inspection.name}")
        if self._is_stopped:
            return f"<p>The {name} was stopped: call <code>ud.inspect</code> again to start another.</p>"
        look = f"width: 100%; height: {HEIGHT}px; border: 1px solid #d8d8d4"
        return f'<iframe src="{escape(self.url)}" title="{name}" style="{look}" allow="clipboard-write"></iframe>'


def inspect(
    process: World,
    *agents: AbstractAgent | HostAgent,
    episodes: Episodes | None = None,
    episode: int = 0,
    num_rounds: int | None = None,
    seed: int | None = None,
    port: int = 0,
) -> Inspector:
    """Open a page on one episode, in which each past action has a switch between see and do.

    Flipping a switch recomputes all beliefs `P(theta | history)` and predictions: of exact inference that reads each
    action as its switch says, of exact do and exact see, of the expert, and of the agents. The page also plays on,
    edits symbols, and lets a person be Nature, the expert or the agent.

    Args:
        process: of finitely many thetas; actions and observations are symbols, short blocks of them, or at most 12 real
            numbers. Or a `ug.HostWorld` or `ug.FunctionalWorld`, whose episode is recorded: what its simulator showed
            stays as it is.
        agents: they read the same episode. They read an action as marked if they know both marks. A `ud.HostAgent` is
            called again if the history changes, and reads actions in its own way unless it is told the marks.
        episodes: the result of `ud.rollout`; by default the first agent, or else the deluded exact agent, plays one.
        episode: index of the episode in `episodes`.
        num_rounds: most rounds of the episode, up to 20,000; by default those of the process, or of `episodes` if they
            are more.
        seed: of the episode that is played; by default, of 32 episodes it is the one after which reading the actions
            as see, in place of do, lowers the belief in the true theta most.
        port: of the server; any free one by default.

    Returns:
        An `Inspector`: open its `url`, or show it in a notebook. `stop()`, or the end of a `with` block, ends it.

    Raises:
        TypeError: Theta is continuous, the values of a process cannot be shown, or a simulator has neither exact
            answers nor an agent.
        ValueError: an agent was made for another process, the episodes have no theta or symbols that the process does
            not have, there are more than 20,000 rounds, `port` is not a port, or an argument would be ignored: `seed`
            with `episodes`, or `episode` without. Episodes do not say which process they are from: name the right one.

    >>> import undelude as ud
    >>> with ud.inspect(ud.tasks.prize_or_frog()) as inspector:
    ...     inspector.url.startswith("http://127.0.0.1:")
    True
    """
    if episodes is None and episode != 0:
        raise ValueError(f"inspect: episode={episode} is an index into episodes=, which is missing: give episodes=.")
    if episodes is not None and seed is not None:
        raise ValueError(
            f"inspect: seed={seed} is of an episode that is played, and episodes= has one: leave out seed=."
        )
    if episodes is not None:
        num_rounds = max(process.num_rounds, episodes.num_rounds) if num_rounds is None else num_rounds
    inspection = inspection_of(process, agents, num_rounds=num_rounds)
    notes = {}
    if episodes is not None:
        history = history_of(inspection, episodes, episode)
    else:
        history, notes = begin_with(inspection, seed=seed)
    service = Service(inspection, history, actor=first_actor(inspection), notes=notes)
    return Inspector(inspection, service, port=port)


def history_of(inspection: AbstractInspection, episodes: Episodes, episode: int = 0) -> History:
    """Return one episode of a rollout as a history.

    Raises:
        ValueError: the index is out of range, the episodes have no theta, or they do not fit the process.
    """
    return inspection.history_of(one_of(episodes, episode, name=inspection.name, to="inspect"))
