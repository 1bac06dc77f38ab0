"""Builds the files of a machine below a directory, for the tests of discovery and of machine facts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

NOW_TS = 1_700_000_000.0


def plant(root: Path, files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None) -> Path:
    """Write each file (its mtime one hour before NOW_TS) and each symbolic link; returns `root`."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(path, (NOW_TS - 3600, NOW_TS - 3600))
    for name, target in (links or {}).items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return root
