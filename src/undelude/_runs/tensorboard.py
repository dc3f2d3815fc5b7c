"""Metrics for TensorBoard, as `on_log` of `ud.teach`; an optional dependency, of the extra `[tensorboard]`."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from undelude._teaching.loop import Row
from undelude._teaching.updates import TeachingState
from undelude._versions import installing

# TensorBoard's tag, group/name, for each column.
TAGS = {
    "action_loss": "loss/action",
    "observation_loss": "loss/observation",
    "action_kl_do": "kl/action_do",
    "action_kl_see": "kl/action_see",
}


class TensorBoard:
    """A writer of metrics for TensorBoard: each row as scalars at its update, losses and KL in nats.

    Args:
        folder: for `tensorboard --logdir`; created if it does not exist.
        start: the update from which a run is resumed; TensorBoard discards later rows.

    Raises:
        ModuleNotFoundError: tensorboardX is not installed.

    Use it as `with TensorBoard("runs/board") as board: ud.teach(..., on_log=board)`.
    """

    def __init__(self, folder: str | os.PathLike[str], *, start: int = 0):
        try:
            from tensorboardX import event_file_writer, summary

            # The names are generated at import, so that pyright does not find them.
            from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        except ModuleNotFoundError as error:
            message = f"writing for TensorBoard needs tensorboardX: {installing('tensorboard')}."
            raise ModuleNotFoundError(message) from error
        # Not SummaryWriter: its thread holds rows back for minutes, and on a full disk it dies and blocks the caller.
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._writer = event_file_writer.EventsWriter(os.path.join(folder, "events"), f".{start}")
        self._event, self._scalar = Event, summary.scalar
        if start:
            self._write(start + 1, session_log=SessionLog(status=SessionLog.START))

    def __call__(self, state: TeachingState, row: Row) -> None:
        """Write one row and flush it."""
        del state
        for name, value in row.items():
            if name != "update" and value is not None:
                self._write(int(row["update"]), summary=self._scalar(TAGS.get(name, name), float(value)))
        self._writer.flush()

    def _write(self, step: int, **what: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), step=step, **what))

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()
