"""A progress bar for work that takes long: bytes done of bytes in all, on standard error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_S = 0.5  # what is done sooner needs no bar, and no 60 ms to import one


class Bar:
    """Shows itself once the work has lasted for QUIET_S; `close` takes it away again."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._began_s = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def advance_to(self, done_bytes: int) -> None:
        """So many bytes are done."""
        if self._progress is None:
            if time.monotonic() - self._began_s < QUIET_S:
                return
            self._show()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done_bytes)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415  only for work that takes long
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(self._what, total=self._total_bytes)
        self._progress.start()
