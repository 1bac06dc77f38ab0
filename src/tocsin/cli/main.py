"""`tocsin`: finds the command, runs it, and turns whatever happens into an exit code and a line that says what to do.

Each command lives in a file of its own, which is imported when it is asked for (all are, for `--help`); those files in
turn import what they need when they run. Only `replay`, which scripts call by the thousand, goes past typer (`quick`).
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from tocsin.cli import failure, quick
from tocsin.cli.failure import Failure

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(given)
    except SystemExit as end:
        # typer leaves with 2 for every mistake in the arguments, where sysexits.h has 64; with 0 where there are none
        if not given:
            return failure.USAGE
        return failure.USAGE if end.code == 2 else end.code if isinstance(end.code, int) else 0
    except Failure as ended:
        _say(*ended.lines)
        return ended.code
    except KeyboardInterrupt:
        return failure.INTERRUPTED
    except OSError as error:
        if error.errno not in NO_ROOM:
            return _internal(error)
        _give_up_output()
        _say(f"cannot write: {error.strerror}; make room (df -h shows where there is none), then run this again")
        return failure.UNAVAILABLE
    except Exception as error:  # noqa: BLE001  the last resort: people get a line and what to do, not a traceback
        return _internal(error)
    return 0


def _run(given: list[str]) -> None:
    known = quick.replay_arguments(given[1:]) if given[:1] == ["replay"] else None
    if known is None:
        from tocsin.cli.app import run  # noqa: PLC0415  typer costs 60 ms, and pydantic, which it calls, 100

        run(given)
        return
    from tocsin.cli.output import reader_may_leave  # noqa: PLC0415  as above
    from tocsin.cli.replaying import run as replay  # noqa: PLC0415  as above

    with reader_may_leave():
        replay(**known)


def _give_up_output() -> None:
    """What waits in standard output and finds no room must not fail again, when the next line is said or we end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _internal(error: Exception) -> int:
    if os.environ.get("TOCSIN_DEBUG"):
        import traceback  # noqa: PLC0415  for those who look for the mistake

        traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    _say(
        f"internal error: {text}; this is a mistake in tocsin: run it again with TOCSIN_DEBUG=1 and report what it says"
    )
    return failure.INTERNAL


def _say(*lines: str) -> None:
    from tocsin.cli.output import Output  # noqa: PLC0415  only where something went wrong

    out = Output()
    for line in lines:
        out.note(line)


def _open_standard_streams() -> None:
    """Those that whoever started us has closed: else the next file that is opened would be in their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: PTH123, SIM115  for as long as we live


def program() -> None:
    """`main` as a process of its own, and its end.

    A replay makes no cycles, and what it has held need not be taken apart, object by object: 25 ms of 440.
    """
    _open_standard_streams()
    brief = sys.argv[1:2] == ["replay"]
    if brief:
        gc.disable()
    code = main()
    if brief:
        with suppress(OSError):  # who cannot be told: Python's own end says so
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    program()
