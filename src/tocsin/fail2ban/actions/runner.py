"""The runner's process: runs what a jail's actions say, and `ignorecommand`, apart from all that finds and bans.

`python -m tocsin.fail2ban.actions.runner --fd N --fail2ban DIR [--actions-user USER] [--state-dir DIR]`, started by the
supervisor. It reads the configuration by itself, so that no watcher, however deceived, can have it run anything else,
and gives up its rights: it becomes an ordinary user without any capability. That user may still start setuid and setgid
programs, for that is how `sendmail` hands over a mail; it is of no use to whom it cannot deceive the shell into running
anything at all. With `--actions-user root` it stays root. Where it may not change its user (a systemd unit with User=)
it stays that user, without capabilities.
"""

from __future__ import annotations

import argparse
import os
import pwd
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tocsin.config_model import ConfigErrors
from tocsin.fail2ban.actions.protocol import ProtocolError
from tocsin.fail2ban.actions.running import Runner
from tocsin.fail2ban.model import Jail
from tocsin.fail2ban.settings.loader import load
from tocsin.privileges import PrivilegeError, capabilities, die_with_parent, drop_to, own_directory, set_oom_score_adj
from tocsin.saying import warn

DEFAULT_USER = "tocsin-actions"
FALLBACK_USER = "nobody"
STATE_DIR = "/var/lib/tocsin-actions"
NICE = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one watcher until it hangs up."""
    parser = argparse.ArgumentParser(prog="python -m tocsin.fail2ban.actions.runner")
    parser.add_argument("--fd", type=int, required=True, help="socket to the watcher")
    parser.add_argument("--fail2ban", type=Path, required=True, help="the directory of the configuration")
    parser.add_argument("--actions-user", default=DEFAULT_USER, help="as whom actions are run")
    parser.add_argument("--state-dir", type=Path, default=Path(STATE_DIR), help="where actions are run")
    options, _ = parser.parse_known_args(arguments)
    _take_signals()
    try:
        return _serve(options.fd, options.fail2ban, options.actions_user, options.state_dir)
    except (PrivilegeError, ProtocolError) as error:
        warn(f"actions: {error}")
        return os.EX_NOPERM if isinstance(error, PrivilegeError) else os.EX_PROTOCOL
    except ConfigErrors as error:
        warn(f"actions: {error}")
        return os.EX_CONFIG
    except SystemExit:
        return 0


def _serve(descriptor: int, fail2ban: Path, user: str, directory: Path) -> int:
    notes: list[str] = []
    _be_humble(notes)

    def read() -> tuple[Jail, ...]:
        return load(fail2ban).jails

    jails = read()
    before = [jails]  # read while we still may; after a reload it is read again as whom we have become

    def read_again() -> tuple[Jail, ...]:
        return before.pop() if before else read()

    home = _give_up_rights(user, directory, notes)
    runner = Runner(socket.socket(fileno=descriptor), read_again, home, pwd.getpwuid(os.getuid()).pw_name, notes)
    die_with_parent(number=signal.SIGTERM)
    try:
        runner.serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0
    finally:
        runner.close()
    return 0


def _take_signals() -> None:
    """Handlers, not SIG_IGN: what is ignored would be ignored by all commands too."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, lambda _number, _frame: None)  # Ctrl-C is the supervisor's to hear
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # the watcher says what a reload means

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)


def _be_humble(notes: list[str]) -> None:
    """Who guards the machine is spared and comes first; a script does not, and is not."""
    try:
        set_oom_score_adj(0)
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    except (PrivilegeError, OSError) as error:
        notes.append(str(error))


def _give_up_rights(user: str, directory: Path, notes: list[str]) -> str:
    """Become the user; returns the directory to work in. `notes` say what stands in place of what was asked for."""
    if user == "root" and os.getuid() == 0:
        notes.append('actions are run as root, as [fail2ban] actions_user = "root" says')
        return _directory(directory, "root", notes)
    if os.getuid() != 0:
        dropped = drop_to(None)
        if dropped.user != user:
            notes.append(f"actions are run as {dropped.user}: only root can change to {user}")
        return _directory(directory, dropped.user, notes)
    account = _account(user, notes)
    home = _directory(directory, account.pw_name, notes)
    try:
        os.setgroups(os.getgrouplist(account.pw_name, account.pw_gid))
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    except OSError as error:
        # A user namespace without that user: there is nobody else to be, and nothing of the machine's to be lost.
        dropped = drop_to(None)
        notes.append(f"cannot become {account.pw_name} ({error.strerror}): actions are run as {dropped.user}")
        return home
    left = capabilities("permitted") | capabilities("ambient")
    if os.getresuid() != (account.pw_uid,) * 3 or left:
        raise PrivilegeError(f"became {account.pw_name}, but kept {', '.join(sorted(left)) or 'another user'}")
    return home


def _account(user: str, notes: list[str]) -> pwd.struct_passwd:
    for name in (user, FALLBACK_USER):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if name != user:
            notes.append(f"there is no user {user}: actions are run as {name} (make it: useradd --system {user})")
        return account
    raise PrivilegeError(f"there is no user {user}, nor {FALLBACK_USER}; make it: useradd --system {user}")


def _directory(wanted: Path, user: str, notes: list[str]) -> str:
    """A directory of the actions' own: never one that others may write in, where file names could be guessed."""
    try:
        notes.extend(own_directory(wanted, user, 0o700))
    except PrivilegeError as error:
        notes.append(f"{error}; actions are run in / and can write nothing there")
        return "/"
    return str(wanted) if os.access(wanted, os.X_OK) else "/"


if __name__ == "__main__":
    sys.exit(main())
