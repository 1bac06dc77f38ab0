"""Real web servers in a namespace, an enforcer that has them deny requests, and clients; for these tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from enforcing import Running
from guarding import TOCSIN
from netns import Namespace, socket_pair, wait_until

from tocsin.enforce.protocol import Denied
from tocsin.model import Action, Decision, Receipt, Signature

PORT = 8081
MODULES = Path("/usr/lib/apache2/modules")

_ASKER = """
import http.client, json, socket, sys
def ask(source, host, method, target, headers):
    connection = http.client.HTTPConnection(host, int(sys.argv[1]), timeout=20, source_address=(source, 0))
    try:
        connection.putrequest(method, target.encode("utf-8", "surrogateescape").decode("latin-1"),
            skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.encode("utf-8"))
        connection.endheaders()
        answer = connection.getresponse()
        return [answer.status, dict(answer.getheaders()), answer.read().decode("latin-1")]
    except (OSError, http.client.HTTPException) as error:
        return [f"{type(error).__name__}: {error}", {}, ""]
    finally:
        connection.close()
http.client.HTTPConnection._validate_path = lambda self, url: None
http.client.HTTPConnection._encode_request = lambda self, request: request.encode("latin-1")
for line in sys.stdin:
    print(json.dumps(ask(*json.loads(line))), flush=True)
"""


def need(*programs: str) -> None:
    """Skip where a server is not installed (fail in CI), or we may not run it as it runs."""
    absent = [program for program in programs if shutil.which(program, path="/usr/sbin:/usr/bin") is None]
    reason = f"not installed: {', '.join(absent)} (make lab-setup)" if absent else ""
    if not reason and os.geteuid() != 0:
        reason = "needs root: web servers change their user"
    if reason:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Asker:
    """Asks a web server from inside a namespace, from any of its addresses; answers are statuses."""

    def __init__(self, namespace: Namespace, host: str) -> None:
        self._process = namespace.python(_ASKER, str(PORT))
        self._host = host

    def ask(self, source: str, target: str, method: str = "GET", host: str = "", **headers: str) -> Any:
        """The status of the answer; a text where there is none. Headers are named as in `User_Agent`."""
        return self.answer(source, target, method, host, **headers)[0]

    def answer(self, source: str, target: str, method: str = "GET", host: str = "", **headers: str) -> Any:
        """The status, the headers and the body of the answer."""
        assert self._process.stdin
        assert self._process.stdout
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = (source, host or self._host, method, target, named)
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Web:
    """A web server with a folder of its own, and the enforcer that tells it what to deny."""

    def __init__(self, namespace: Namespace, folder: Path, server: str) -> None:
        self.namespace = namespace
        self.folder = folder
        self.server = server
        self.config = folder / "tocsin.toml"
        self.directory = folder / "run" / "web"
        self.directory.parent.mkdir()
        self.config.write_text(
            f'[guard]\nuser = "nobody"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
            f'[web]\ndir = "{self.directory}"\n[allow]\naddresses = ["2001:db8:a:2::/63", "10.66.0.128/29"]\n'
        )
        self.site = folder / "htdocs"
        self.site.mkdir()
        for name in ("index.html", "xmlrpc.php", "page.html"):
            (self.site / name).write_text("hello\n")
        self._server: subprocess.Popen[str] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    # -- the server --------------------------------------------------------------------------------------------------

    def start(self, *command: str) -> None:
        """Start the server and wait until it answers."""
        child = subprocess.Popen(self.namespace.command(*command), text=True, start_new_session=True, cwd="/")
        self._server = child
        listening = ["ss", "-Hltn", f"sport = :{PORT}"]
        wait_until(lambda: bool(self.namespace.run(*listening)) or child.poll() is not None, f"{self.server} listening")
        assert child.poll() is None, f"{self.server} ended: see {self.folder}"

    def setup(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run `tocsin setup` for this server, with its private configuration."""
        command = [str(TOCSIN), "setup", self.server, "--config", str(self.config), "--json"]
        command += ["--into", str(self.folder / "tocsin.conf"), "--main", str(self.folder / "main.conf"), *words]
        done = subprocess.run(self.namespace.command(*command), capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == code, done.stdout + done.stderr
        return {"said": done.stderr, **(json.loads(done.stdout) if done.stdout else {})}

    def helper(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start another process of ours inside."""
        command = self.namespace.command(sys.executable, "-m", module, *arguments)
        self._others.append(subprocess.Popen(command, cwd="/"))
        return self._others[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._others:
            end(each)
        if self._server is not None and self._server.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()


def end(process: subprocess.Popen[Any]) -> None:
    """End a process, in peace where it goes."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Denier(Running):
    """An enforcer that has the server deny requests."""

    def deny(
        self,
        number: str,
        signature: Signature,
        spare: Sequence[str] = (),
        end_s: float = 600.0,
        action: Action = "deny-request",
    ) -> Receipt:
        """Deny a class, or ask its senders (`limit`); what came of it."""
        now_ts = time.time()
        decision = Decision(
            number,
            action,
            "",
            now_ts,
            now_ts + end_s,
            "contrast",
            None,
            signature=signature,
            spare=tuple(spare),
        )
        return self._answer(self.enforcer.deny(decision))

    def allow(self, number: str) -> Receipt:
        """Lift a denial; what came of it."""
        return self._answer(self.enforcer.allow(number))

    def _answer(self, request: int | None) -> Receipt:
        (*_, message) = self.hear(lambda one: isinstance(one, Denied) and one.id == request)
        assert isinstance(message, Denied)
        return message.receipt


@contextlib.contextmanager
def denier(web: Web) -> Iterator[Denier]:
    """The enforcer's process, as the supervisor starts it."""
    with socket_pair() as (ours, theirs):
        words = [sys.executable, "-m", "tocsin.enforce", "--fd", str(theirs.fileno()), "--config", str(web.config)]
        process = web.namespace.start(*words, pass_fds=[theirs.fileno()])
        theirs.close()
        one = Denier(ours, process)
        number = one.enforcer.ping()
        one.hear(lambda message: getattr(message, "id", None) == number)
        try:
            yield one
        finally:
            if process.poll() is None:
                one.enforcer.close()
                process.wait(20)
