"""Metrics for TensorBoard, as `on_log` of `ud.teach`; an optional dependency, `undelude[tensorboard]`."""

import os
from types import TracebackType

from undelude.teaching import Row, TeachingState

# Where TensorBoard shows a column: by its group.
TAGS = {
    "action_loss": "loss/action",
    "observation_loss": "loss/observation",
    "action_kl_do": "kl/action_do",
    "action_kl_see": "kl/action_see",
}


class TensorBoard:
    """Writes each row of metrics as scalars, nats at the row's update, into a folder that `tensorboard --logdir` reads.

    Args:
        folder: made where it does not exist.
        start: the update from which a run goes on; what was written of later ones is taken back.

    Raises:
        ModuleNotFoundError: tensorboardX is not installed.

    Use it as `with TensorBoard("runs/board") as board: ud.teach(..., on_log=board)`.
    """

    def __init__(self, folder: str | os.PathLike, *, start: int = 0):
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            message = 'writing for TensorBoard needs tensorboardX: pip install "undelude[tensorboard]".'
            raise ModuleNotFoundError(message) from error
        self._writer = SummaryWriter(
            os.fspath(folder), purge_step=start + 1 if start else None, filename_suffix=f".{start}"
        )

    def __call__(self, state: TeachingState, row: Row) -> None:
        """One row."""
        del state
        for name, value in row.items():
            if name != "update" and value is not None:
                self._writer.add_scalar(TAGS.get(name, name), float(value), int(row["update"]))

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()
