"""A machine's files below any root: absolute paths and symbolic links mean what they would mean after a chroot.

Discovery and the readers of machine facts see the world only through this, so that a test (or an image mounted for
inspection) stands in for a machine, and no link in it leads out of it.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from pathlib import Path

MAX_LINKS = 40  # the kernel's own limit (path_resolution(7)) before it says ELOOP
MAX_MATCHES = 10_000
MAX_FILE_BYTES = 8 << 20
_MAGIC = re.compile(r"[*?\[]")


def has_magic(path: str) -> bool:
    """Whether the text is a glob."""
    return _MAGIC.search(path) is not None


def strerror(error: OSError) -> str:
    """The system's words for the error, without number or path."""
    return error.strerror or str(error)


class RootedTree:
    """Files below `root`, named by the absolute paths that the machine itself uses."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = str(root).rstrip("/") or "/"

    def canonical(self, path: str) -> str:
        """The path with `.`, `..` and symbolic links resolved inside the root; what does not exist stays as named.

        OSError (ELOOP) where links run in a circle, OSError (EINVAL) where the text cannot be a path.
        """
        if "\0" in path:
            raise OSError(errno.EINVAL, "a path cannot contain NUL")
        pending = _parts(path)[::-1]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                del done[-1:]
                continue
            try:
                target = str(Path(self._root, *done, part).readlink())
            except OSError:  # not a link, or not there: either way the name stands
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done.clear()
            pending.extend(reversed(_parts(target)))
        return "/" + "/".join(done)

    def settled(self, path: str) -> str:
        """The path with its directory canonical and its last name kept: two spellings of one log become one."""
        parts = _parts(path)
        plain = next((index for index, part in enumerate(parts) if has_magic(part)), len(parts) - 1)
        directory = self.canonical("/".join(parts[:plain])).rstrip("/")
        return "/".join((directory, *parts[plain:])) or "/"

    def host_path(self, path: str) -> str:
        """Where the machine's path lies on this host. OSError as `canonical`."""
        return f"{self._root.rstrip('/')}{self.canonical(path)}"

    def read(self, path: str, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The bytes of a regular file, at most `limit_bytes` (OSError EFBIG beyond). Never blocks on a pipe."""
        descriptor = os.open(self.host_path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            data = file.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes", path)
        return data

    def may_read(self, path: str) -> None:
        """OSError with the kernel's reason unless a file that stands there may be opened for reading."""
        os.close(os.open(self.host_path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))

    def text(self, path: str) -> str:
        """A file's text; bytes that are not UTF-8 survive as surrogates, so that a path made of them still opens."""
        return self.read(path).decode("utf-8", "surrogateescape")

    def stat(self, path: str) -> os.stat_result:
        """What stat(2) says of the file that the path leads to."""
        return Path(self.host_path(path)).stat()

    def is_dir(self, path: str) -> bool:
        """Whether a directory is there; False also where that cannot be seen."""
        try:
            return stat.S_ISDIR(self.stat(path).st_mode)
        except OSError:
            return False

    def names(self, directory: str) -> list[str]:
        """Names in a directory, sorted. OSError where it cannot be listed."""
        return sorted(entry.name for entry in Path(self.host_path(directory)).iterdir())

    def glob(self, pattern: str) -> tuple[list[str], list[tuple[str, OSError]]]:
        """Existing paths that match as glob(7) has it (a leading dot must be named), sorted; and what is not listed."""
        found = [""]
        failed: list[tuple[str, OSError]] = []
        for part in _parts(pattern):
            if not has_magic(part):
                found = [f"{path}/{part}" for path in found]
                continue
            accepts = re.compile(fnmatch.translate(part)).match
            grown: list[str] = []
            for path in found:
                try:
                    names = self.names(path or "/")
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    failed.append((path or "/", error))
                    continue
                grown += [f"{path}/{name}" for name in names if accepts(name) and (name[0] != "." or part[0] == ".")]
            found = grown[:MAX_MATCHES]
        return sorted(path for path in found if self._exists(path)), failed

    def _exists(self, path: str) -> bool:
        try:
            return os.path.lexists(self.host_path(path))
        except OSError:
            return False


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
