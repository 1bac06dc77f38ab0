"""The kernel's word that a file or directory changed, and whether it would give it on this file system.

Through ctypes rather than the `inotify_simple` package: that one asks `ldconfig` and `gcc` for the C library in a child
process when the first watch is made (44 ms against 2), which a confined guard may not even start. Source of the
constants: linux/inotify.h, linux/magic.h and statfs(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
from struct import Struct as Layout

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000

FILE_MASK = IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF
DIRECTORY_MASK = (
    IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
)

_HEADER = Layout("iIII")
_READ_BYTES = 1 << 16

# File systems on which another machine (or a daemon behind FUSE) writes, unknown to this kernel's inotify.
_SILENT = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x65735546: "fuse",
    0x01021997: "9p",
    0x00C36400: "ceph",
    0x5346414F: "afs",
    0x73757245: "coda",
    0x01161970: "gfs2",
    0x7461636F: "ocfs2",
    0x0BD00BD0: "lustre",
    0x786F4256: "vboxsf",
    0xBACBACBC: "vmhgfs",
    0x47504653: "gpfs",
}

Event = tuple[int, int, bytes]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


class Inotify:
    """One inotify instance. OSError where the kernel gives none (limits: fs.inotify.max_user_instances)."""

    def __init__(self) -> None:
        self._libc = _libc()
        self.fd = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")

    def add(self, path: str, mask: int) -> int:
        """The watch descriptor; the same one again for the same inode. OSError ENOSPC: max_user_watches reached."""
        return _checked(self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask), path)

    def remove(self, wd: int) -> None:
        """Forget a watch; one that is gone already is no error (the kernel drops it with its inode)."""
        if self._libc.inotify_rm_watch(self.fd, wd) < 0 and ctypes.get_errno() != errno.EINVAL:
            raise OSError(ctypes.get_errno(), "inotify_rm_watch")

    def events(self) -> list[Event]:
        """(watch, mask, name) of all that happened, in order, without waiting; name is b"" for the watched inode."""
        events: list[Event] = []
        while True:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return events
            at = 0
            while at < len(data):
                wd, mask, _, size = _HEADER.unpack_from(data, at)
                at += 16 + size
                events.append((wd, mask, data[at - size : at].rstrip(b"\0") if size else b""))
            if len(data) < _READ_BYTES // 2:  # a full buffer: there may be more
                return events

    def close(self) -> None:
        os.close(self.fd)


def silent_file_system(fd: int) -> str | None:
    """The name of the file system of `fd` where it does not report others' changes; None where inotify works."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes on the 64-bit ABIs; f_type is its first word
    if _libc().fstatfs(fd, buffer) < 0:
        return None
    magic = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return _SILENT.get(magic)
