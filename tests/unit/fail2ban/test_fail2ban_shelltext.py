"""Hostile values reach programs as data: tried with the shell itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin.fail2ban.actions.shelltext import fill_in, prepare, programs
from tocsin.fail2ban.actions.tickets import Host, Ticket, bound, is_dynamic, render, value_of

HOST = Host("server.example.org", "server")
BOUNDED = settings(max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
HOSTILE = (
    "$(touch x)",
    "`touch x`",
    "'; touch x; '",
    '"; touch x; "',
    "a\ntouch x\n",
    "; touch x #",
    "| touch x",
    "&& touch x",
    "> x",
    '\\"; touch x',
    "\\`touch x\\`",
    "${IFS}$(touch${IFS}x)",
    "* ? [a-z] ~root ~",
    "!touch x",
    "-rf",
    "(){ :;}; touch x",
)  # fmt: skip
TEMPLATES = (
    'put "<matches>"',
    "put '<matches>'",
    "put <matches>",
    "put \"a: <matches> (<F-USER>)\" 'b: <F-USER>'",
    'put "$(printf %s "<matches>")"',
    "put \"`printf %s '<F-USER>'`\"",
    'x=<F-USER>; put "$x"',
    "x='<matches>'; put \"$x\"",
    "if [ \"<F-USER>\" = 'root' ]; then put root; else put '<F-USER>'; fi",
    "( put \"<matches>\"; put '<F-USER>' ) | cat",
    'case "<F-USER>" in (root) put root;; *) put "<F-USER>";; esac',
    "put it\\'s <matches>",
    "cat <<END\n<matches> '<F-USER>'\nEND",
    "cat <<'END' <<-E2\n<matches>\nEND\n\t\"<F-USER>\n\tE2\nput '<F-USER>'",
    'put # it\'s "<matches>\n"<F-USER>"',
)


def run(text: str, variables: dict[str, str], directory: Path) -> str:
    script = 'put() { for one in "$@"; do printf \'%s\\n\' "$one"; done; }\n' + text
    environment = {"PATH": "/usr/bin:/bin", **variables}
    command = ["/bin/sh", "-c", script]
    ran = subprocess.run(command, env=environment, cwd=directory, capture_output=True, check=False, timeout=10)
    assert list(directory.iterdir()) == [], (text, variables, ran)
    return ran.stdout.decode()


def prepared(template: str, value: str) -> tuple[str, dict[str, str]]:
    ticket = Ticket("192.0.2.7", "192.0.2.7", matches=(value,), fields={"user": value})
    return render(prepare(template, is_dynamic), ticket, "jail", HOST)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("template", TEMPLATES)
def test_nothing_in_a_value_is_run(template: str, value: str, tmp_path: Path) -> None:
    text, variables = prepared(template, value)
    assert value not in text
    run(text, variables, tmp_path)


@BOUNDED
@given(
    st.sampled_from(TEMPLATES),
    st.lists(st.sampled_from([*HOSTILE, "a", " ", "\\", "'", '"', "`", "$", "\n"]), max_size=5),
)
def test_nothing_in_any_mixture_is_run(tmp_path: Path, template: str, parts: list[str]) -> None:
    text, variables = prepared(template, "".join(parts))
    run(text, variables, tmp_path)


WORDS = [
    "put ",
    "<matches>",
    "<F-USER>",
    '"',
    "'",
    "`",
    "$(",
    ")",
    "(",
    "; ",
    " | ",
    "\n",
    "\\",
    "# ",
    "x=",
    "if ",
    "then ",
]
WORDS += ["fi ", "case ", " in ", "<<E\n", "\nE\n", "$((", "))", "{ ", "} ", "&& ", "a", " ", "2>&1 ", "${", "}"]


@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(WORDS), max_size=14), st.sampled_from([*HOSTILE, "touch x", "x() { touch x; }; x"]))
def test_not_even_in_a_text_whose_quotes_make_no_sense(tmp_path: Path, words: list[str], value: str) -> None:
    """However the reading of the quotes may err: what is in a variable is not parsed."""
    text = prepare("".join(words), is_dynamic)
    if not text.reparsed:
        run(*render(text, Ticket("k", matches=(value,), fields={"user": value}), "j", HOST), tmp_path)


@pytest.mark.parametrize("value", [one for one in HOSTILE if "\n" not in one])
@pytest.mark.parametrize(
    "template", ['put "<F-USER>"', "put '<F-USER>'", "put <F-USER>", 'x=<F-USER>; put "$x"', "put 'a'\"<F-USER>\" ''"]
)
def test_a_value_arrives_as_it_was(template: str, value: str, tmp_path: Path) -> None:
    text, variables = prepared(template, value)
    assert value in run(text, variables, tmp_path)


def test_a_program_that_reads_backslashes_puts_out_what_was_in_the_log(tmp_path: Path) -> None:
    for template in ('printf %b "<matches>\\n"', 'printf "%b\\n" "<matches>"', 'echo "<matches>"'):
        text, variables = prepared(template, "a\\n~!touch x\\c\\0101")
        assert run(text, variables, tmp_path) == "a\\n~!touch x\\c\\0101\n"


def test_lines_that_a_mail_program_would_obey_are_indented() -> None:
    ticket = Ticket("k", matches=("~!touch x", ".", "a\n~r /etc/passwd", "..", "a ~!b"))
    _, variables = render(prepare('mail "<matches>"', is_dynamic), ticket, "j", HOST)
    assert variables == {"f2bV_matches": " ~!touch x\n .\na\n ~r /etc/passwd\n..\na ~!b"}


def test_control_characters_are_replaced() -> None:
    ticket = Ticket("k", matches=("a\x00b\x1b[2Jc\td\re",), fields={"user": "a\nSubject: x\x00"})
    _, variables = render(prepare("x <matches> <F-USER>", is_dynamic), ticket, "j", HOST)
    assert variables == {"f2bV_matches": "a�b�[2Jc\td�e", "f2bV_F_USER": "a�Subject: x�"}


def test_only_typed_values_stand_in_the_text() -> None:
    template = "x <ip> <family> <time> <bantime> <failures> <ip-rev> <fid> <restored> <F-NOSUCH> <STDIN>"
    ticket = Ticket("2001:db8::1", "2001:db8::1", ts=1124013600.9, failures=5, bantime_s=600.0)
    text, variables = render(prepare(template, is_dynamic), ticket, "j", HOST)
    reverse = "1.0.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2."
    assert text == f'x 2001:db8::1 inet6 1124013600 600 5 {reverse} 2001:db8::1 0 "${{f2bV_F_NOSUCH}}" <STDIN>'
    assert variables == {"f2bV_F_NOSUCH": ""}


@pytest.mark.parametrize(
    "ip", ["192.0.2.7; touch x", "::1%$(touch x)", "host.example.org", "192.0.2.007", "fe80::1%eth0", "1.2.3.4\n"]
)
def test_what_is_no_canonical_address_is_a_value(ip: str) -> None:
    text, variables = render(prepare("x <ip>", is_dynamic), Ticket(ip, ip), "j", HOST)
    assert text == 'x "${f2bV_ip}"'
    assert variables.keys() == {"f2bV_ip"}
    assert bound(Ticket(ip, ip)).ip == ""


def test_an_address_may_go_to_another_interpreter_a_name_may_not() -> None:
    text = prepare('ssh gate "ban <ip>"', is_dynamic)
    assert render(text, Ticket("k", "192.0.2.7"), "j", HOST) == ('ssh gate "ban 192.0.2.7"', {})
    with pytest.raises(ValueError, match="ssh would read it"):
        render(text, Ticket("$(touch x)"), "j", HOST)


def test_a_name_from_dns_is_a_name_or_nothing() -> None:
    ticket = Ticket("k", "192.0.2.7")
    assert value_of("ip-host", ticket, "j", HOST, "a.example.org") == "a.example.org"
    assert value_of("ip-host", ticket, "j", HOST, "$(touch x).example.org") == ""


def test_the_family_decides() -> None:
    options = {
        "cmd": "<prog> -s <ip>",
        "prog": "iptables <lock>",
        "prog?family=inet6": "ip6tables <lock>",
        "lock": "-w",
    }
    assert fill_in("<cmd>", options, "inet4") == "iptables -w -s <ip>"
    assert fill_in("<cmd>", options, "inet6") == "ip6tables -w -s <ip>"
    assert fill_in("<a<n>>", {"n": "1", "a1": "x"}, "") == "x"


@pytest.mark.parametrize("options", [{"a": "<a>"}, {"a": "<b>", "b": "<a>"}, {"a": "x<a><a>"}])
def test_a_tag_that_leads_back_to_itself_is_an_error(options: dict[str, str]) -> None:
    if options == {"a": "<a>"}:
        assert fill_in("<a>", options, "") == "<a>"  # it stays as it is: nothing grows
        return
    with pytest.raises(ValueError, match="leads back to itself"):
        fill_in("<a>", options, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a; b && /usr/bin/c | d", ("a", "b", "c", "d")),
        ('x=1 y="2 3" a b', ("a",)),
        ("for p in $(echo a b); do /sbin/iptables $p; done", ("echo", "iptables")),
        ('echo "$(a) `b c`" 2>&1 >| d', ("a", "b", "echo")),
        ("sudo -n timeout 5 a b", ("a",)),
        ("# a\nb 'c; d' \"e | f\"", ("b",)),
        ("x=`a b`; [ $x -eq 0 ] || ! c", ("a", "c")),
        ("$((1+2)) a", ()),
        ("", ()),
    ],
)
def test_programs_that_a_text_calls(text: str, expected: tuple[str, ...]) -> None:
    assert programs(text) == expected


def test_a_ticket_is_bounded_from_its_oldest_lines() -> None:
    ticket = bound(
        Ticket(
            "k" * 10_000,
            matches=tuple(f"{n} " + "x" * 3000 for n in range(100)),
            fields={f"f{n}": "y" * 9000 for n in range(99)},
        )
    )
    assert len(ticket.fid) == 4096
    assert sum(len(line) for line in ticket.matches) <= 32 << 10
    assert ticket.matches[-1].startswith("99 ")
    assert len(ticket.fields) == 64
    assert all(len(text or "") == 4096 for text in ticket.fields.values())
