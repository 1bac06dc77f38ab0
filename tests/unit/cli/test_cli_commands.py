"""A table of command lines: exit code, and what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import RULE, config_in, founding_log, run

# arguments with {dir} for a folder that holds access.log, mine.toml, tocsin.toml, broken.toml and bad.toml;
# exit code, then what standard output and standard error must hold
CASES: list[tuple[str, int, str, str]] = [
    ("nonsense", 64, "", "No such command 'nonsense'"),
    ("repla", 64, "", "Did you mean 'replay'"),
    ("replay", 64, "", "Missing argument"),
    ("replay --now soon {dir}/access.log", 64, "", "--now"),
    ("replay --tz Mars/Olympus {dir}/access.log", 64, "", 'no time zone "Mars/Olympus"'),
    ("replay --only wordpress-xmlrcp {dir}/access.log", 64, "", 'did you mean "wordpress-xmlrpc"'),
    ("replay --format wrong {dir}/access.log", 64, "", "expected one of"),
    ("replay --trusted-proxy x {dir}/access.log", 64, "", "expected an address or prefix"),
    ("replay --rules {dir}/none.toml {dir}/access.log", 66, "", "there is no such file"),
    ("replay --rules {dir}/broken.toml {dir}/access.log", 78, "", "broken.toml:3: mine.limt"),
    ("replay {dir}/none.log", 66, "", "none.log"),
    ("rules --json", 0, '"wordpress-xmlrpc"', ""),
    ("rules --rules {dir}/mine.toml", 0, "mine  XML-RPC flood", ""),
    ("rules --config {dir}/bad.toml", 78, "", "bad.toml:2"),
    ("rules test nonsense {dir}/access.log", 64, "", 'there is no rule "nonsense"'),
    ("rules test {dir}/none.toml {dir}/access.log", 66, "", "cannot be read"),
    ("rules test {dir}/broken.toml {dir}/access.log", 78, "", "broken.toml:3"),
    ("rules test {dir}/two.toml {dir}/access.log", 64, "", "holds 2 rules (mine, mine2)"),
    ("rules reset mine --config {dir}/tocsin.toml", 69, "", "no guard is running"),
    ("guard --config {dir}/bad.toml", 78, "", "bad.toml:2: guard.obsrve"),
    ("guard --config {dir}/none.toml", 78, "", "cannot be read"),
    ("status --config {dir}/tocsin.toml", 69, "", "no guard is running"),
    ("status --json --config {dir}/tocsin.toml", 69, '"running":false', ""),
    ("bans --config {dir}/tocsin.toml", 66, "", "no guard has run here yet"),
    ("why 192.0.2.7 --config {dir}/tocsin.toml", 66, "", "no guard has run here yet"),
    ("why example.org --config {dir}/tocsin.toml", 64, "", "expected an address or prefix"),
    ("ban example.org --config {dir}/tocsin.toml", 64, "", "expected an address or prefix"),
    ("ban 192.0.2.7 --for ever --config {dir}/tocsin.toml", 64, "", "expected a duration"),
    ("ban 192.0.2.7 --for 10ms --config {dir}/tocsin.toml", 64, "", "expected one second to 36500d"),
    ("ban 192.0.2.7 --for 1h --forever --config {dir}/tocsin.toml", 64, "", "exclude each other"),
    ("ban 192.0.2.7 --config {dir}/tocsin.toml", 69, "", "no guard is running"),
    ("unban --config {dir}/tocsin.toml", 64, "", "or --all"),
    ("unban 192.0.2.7 --all --config {dir}/tocsin.toml", 64, "", "or --all"),
    ("unban 192.0.2.7 --config {dir}/tocsin.toml", 69, "", "no guard is running"),
    ("check --no-firewall --config {dir}/bad.toml", 78, "FAIL  configuration", ""),
    ("check --no-firewall --config {dir}/tocsin.toml", 78, "FAIL  logs: none found", ""),
    ("check --no-firewall --config {dir}/watched.toml", 0, "combined, fits 100% of its last 8 lines", ""),
    ("check --no-firewall --json --config {dir}/watched.toml", 0, '"ok":true', ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log = founding_log(tmp_path)
    config_in(tmp_path)
    (tmp_path / "watched.toml").write_text((tmp_path / "tocsin.toml").read_text() + f'[[log]]\npath = "{log}"\n')
    (tmp_path / "broken.toml").write_text(RULE.replace("on ", "limt = 3\non ", 1))
    (tmp_path / "two.toml").write_text(RULE + RULE.replace("[mine]", "[mine2]"))
    (tmp_path / "bad.toml").write_text("[guard]\nobsrve = true\nuser = 5\n[nothing]\nx = 1\n")
    return tmp_path


@pytest.mark.parametrize(("arguments", "code", "out", "err"), CASES, ids=[case[0] for case in CASES])
def test_a_command_line(arguments: str, code: int, out: str, err: str, folder: Path) -> None:
    ran = run(arguments.format(dir=folder).split())
    assert (ran.code, ran.out, ran.err) == (code, ran.out, ran.err)
    assert out in ran.out
    assert err in ran.err
    if code and not out:
        assert ran.err


def test_every_mistake_of_a_configuration_is_named_at_once(folder: Path) -> None:
    ran = run(["guard", "--config", folder / "bad.toml"])
    assert len(ran.err.splitlines()) == 3
    assert all(f"bad.toml:{line}:" in ran.err for line in (2, 3, 4))


def tocsin(*arguments: str) -> subprocess.Popen[bytes]:
    """The program as a process of its own."""
    command = [sys.executable, "-m", "tocsin.cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("command", ["replay", "rules test wordpress-xmlrpc"])
@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_a_reader_that_leaves_is_left_in_peace(command: str, json_option: list[str], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(
        "".join(
            f'10.{i >> 8}.{i & 255}.1 - - [20/Jun/2016:11:17:34 -0400] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "-"\n'
            * 3
            for i in range(1000)
        )
    )
    with tocsin(*command.split(), *json_option, str(log)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize("command", ["replay", "rules test wordpress-xmlrpc"])
@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_a_full_disk_is_said_and_no_fault_of_ours(command: str, json_option: list[str], tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tocsin.cli.main", *command.split(), *json_option, str(founding_log(tmp_path))]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "No space left on device; make room" in done.stderr
    assert done.returncode == 69


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["replay", "explain --now 1467000000"])
def test_standard_streams_may_be_closed(command: str, closed: str, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tocsin.cli.main", *command.split(), str(founding_log(tmp_path))]
    shell = ["sh", "-c", f'"$@" {closed}', "sh", *program]
    done = subprocess.run(shell, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, "rror" in done.stderr) == (0, False)


@pytest.mark.parametrize("now", ["nan", "inf", "-1", "1e300", "yesterday"])
@pytest.mark.parametrize("command", ["replay", "explain"])
def test_a_now_that_is_no_time_is_refused(command: str, now: str, tmp_path: Path) -> None:
    ran = run([command, f"--now={now}", founding_log(tmp_path)])
    assert (ran.code, ran.out) == (64, "")
    assert "expected Unix seconds" in " ".join(ran.err.split())


def test_a_configuration_that_is_named_and_not_there_ends_explain(tmp_path: Path) -> None:
    assert run(["explain", "--config", tmp_path / "none.toml", founding_log(tmp_path)]).code == 78


def test_an_internal_error_is_one_line(tmp_path: Path) -> None:
    log = founding_log(tmp_path)
    # A broken installation: one of our own modules cannot be imported.
    (tmp_path / "breaking.py").write_text("import sys\nsys.modules['tocsin.replay'] = None\n")
    code = "import breaking, sys; from tocsin.cli.main import main; sys.exit(main())"
    for debug in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code, "replay", str(log)],
            cwd=tmp_path,
            env={**os.environ, "TOCSIN_DEBUG": debug},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 70
        assert "TOCSIN_DEBUG=1" in done.stderr.splitlines()[-1]
        assert ("Traceback" in done.stderr) == bool(debug)


def test_json_of_check(folder: Path) -> None:
    ran = run(["check", "--no-firewall", "--json", "--config", folder / "watched.toml"])
    document = json.loads(ran.out)
    assert {item["state"] for item in document["items"]} <= {"ok", "warning"}
    assert all(item.keys() == {"name", "state", "detail", "remedy", "code"} for item in document["items"])


def test_typer_and_rich_are_not_loaded_for_a_replay_in_a_pipe(tmp_path: Path) -> None:
    log = founding_log(tmp_path)
    code = (
        "import sys; from tocsin.cli.main import main; main(sys.argv[1:]);"
        " print(sorted({'typer', 'rich', 'pydantic', 'sqlite3', 'subprocess'} & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "replay", str(log), "--only", "wordpress-xmlrpc"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
