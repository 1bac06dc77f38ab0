"""`tocsin why ADDRESS`: the whole story of an address, from the lines that gave it away to the packets stopped.

`tocsin why sieges` tells that of the classes of requests that were far above their normal.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output
from tocsin.cli.words import count, size, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.config import Config
    from tocsin.ledger.reader import Answer, Ban, Besieged, Past, Step, Why
    from tocsin.model import Finding

SIEGES = "sieges"
SIEGES_SHOWN = 20


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(why))


def why(
    *,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help=f'An address or a prefix; no name. Or "{SIEGES}".')],
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Tell why an address is, or was, banned.

    The rule in words, the log lines that gave it away, until when, what the ban has stopped, what lifted it. Of sieges:
    which class of requests came how many times as often as is normal, and what was done about it.

    \b
    Examples:  tocsin why 192.0.2.7
               tocsin why sieges
    """
    from msgspec.structs import replace  # noqa: PLC0415  see main

    from tocsin.cli.asking import ledger_of, status_of, subject_of, with_fresh_counters  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    loaded = configuration(config)
    out = Output(as_json=as_json)
    now_ts = time.time()
    if address == SIEGES:
        _tell_sieges(loaded, out)
        return
    subject_of(address)
    with ledger_of(loaded) as reader:
        story = reader.why(address, now_ts)
    story = replace(story, bans=with_fresh_counters(loaded, story.bans))
    running, absent = status_of(loaded)
    if as_json:
        out.json(
            {
                "asked": address,
                "running": running is not None,
                "bans": story.bans,
                "past": story.past,
                "rules": _sentences(loaded, story),
            }
        )
        out.flush()
        return
    _show(out, story, _sentences(loaded, story), now_ts)
    if running is None:
        out.note(absent)
        return
    if running["observe"] and story.bans:
        out.note(f"the guard only observes ({running['why_observing']})")
    if running["web"]["denied"]:
        what = _in_words(running["web"]["denied"])
        out.note(
            f"besides, the web server turns away or asks who sends certain requests ({what}); "
            f"`tocsin why {SIEGES}` tells why. To let {address} in whatever it sends: [allow] addresses, then reload"
        )


def _in_words(denied: list[dict[str, Any]]) -> str:
    from msgspec import convert  # noqa: PLC0415  see main

    from tocsin.model import Signature  # noqa: PLC0415  see main

    return "; ".join(dict.fromkeys(convert(each["signature"], Signature).text for each in denied))


def _sentences(config: Config, story: Why) -> dict[str, str]:
    """What the rules concerned say; rules that are gone, or in a broken file, are left out."""
    from tocsin.cli.failure import Failure  # noqa: PLC0415  see main
    from tocsin.cli.rules import watchers  # noqa: PLC0415  see main
    from tocsin.cli.setup import configured_rules  # noqa: PLC0415  see main

    wanted = {past.decision.rule for past in story.past}
    sentences = {each["id"]: each["sentence"] for each in watchers(config)}
    try:
        rules = configured_rules(config) if wanted - {""} else ()
    except Failure:
        rules = ()
    sentences |= {rule.rule.id: rule.sentence for rule in rules}
    return {rule: sentence for rule, sentence in sentences.items() if rule in wanted}


def _show(out: Output, story: Why, sentences: dict[str, str], now_ts: float) -> None:
    if not story.bans and not story.past:
        out.line(f"Nothing is known of {story.asked}: no rule has found it, nobody has banned it.")
        return
    from tocsin.decide.subjects import lies_in  # noqa: PLC0415  see main

    answers = {past.decision.id: past.answers for past in story.past}
    for ban in story.bans:
        _show_ban(out, story.asked, ban, answers.get(ban.decision, ()), now_ts)
        wider = next((other.subject for other in reversed(story.bans) if lies_in(ban.subject, other.subject)), None)
        if wider is not None:
            out.line(f"  folded into the ban of {wider}; if that ends first, this one goes on")
    if not story.bans:
        out.line(f"{story.asked} is not banned now.", style="bold")
    lifted = {past.decision.lifts: past for past in story.past if past.decision.lifts}
    for past in story.past:
        if past.decision.action != "lift":
            out.line()
            _show_past(out, past, lifted.get(past.decision.id), sentences)
        elif past.decision.lifts not in answers:
            out.line()
            out.line(f"{out.when(past.decision.start_ts)}: unbanned. {_sentence(past.decision.note)}")
    out.line()
    if story.bans:
        holders = [ban.subject for ban in story.bans if lies_in(story.asked, ban.subject)]
        too = f" (it ends the ban of {' and '.join(holders)} too)" if holders else ""
        out.line(
            f"To let it in again: tocsin unban {story.asked}{too}. To never ban it: [allow] addresses in the "
            "configuration."
        )
    else:
        out.line(f"To ban it by hand: tocsin ban {story.asked}")


def _show_ban(out: Output, asked: str, ban: Ban, answers: tuple[Answer, ...], now_ts: float) -> None:
    until = "for good" if ban.end_ts is None else f"until {out.when(ban.end_ts)} ({span(ban.end_ts - now_ts)} left)"
    whom = asked if ban.subject == asked else f"{asked} (as part of {ban.subject})"
    who = f"by rule {ban.rule}" if ban.rule else f"by the {ban.origin}"
    closed = f" from {ban.services}" if ban.services else ""
    out.line(f"{whom} is banned{closed} {until}, {who}, since {out.when(ban.start_ts)}.", style="bold")
    out.line(f"  in the kernel: {_in_kernel(out, answers)}")
    out.line(f"  stopped since: {count(ban.packets, 'packet')} ({size(ban.bytes)})")
    if ban.times > 1:
        out.line(f"  this is ban {ban.times} of it that is remembered")


def _in_kernel(out: Output, answers: tuple[Answer, ...]) -> str:
    last = next((answer for answer in reversed(answers) if answer.verb == "ban"), None)
    if last is None:
        return "not confirmed: the firewall has not answered (observing, or no guard runs)"
    if not last.ok:
        return f"NO: {last.error} (tried {count(last.times, 'time')}, last {out.when(last.ts)})"
    ended = f", {count(last.sockets_destroyed, 'open connection')} ended" if last.sockets_destroyed else ""
    return f"yes, confirmed {out.when(last.ts)}{ended}"


def _show_past(out: Output, past: Past, lift: Past | None, sentences: dict[str, str]) -> None:
    decision, finding = past.decision, past.finding
    lasts_s = None if decision.end_ts is None else decision.end_ts - decision.start_ts
    length = "for good" if lasts_s is None else f"for {span(lasts_s)}"
    verb = "banned" if decision.held is None else "would have been banned"
    who = f"rule {decision.rule}" if decision.rule else decision.origin
    closed = f" from {decision.services}" if decision.services else ""
    out.line(f"{out.when(decision.start_ts)}: {decision.subject} {verb}{closed} {length} by {who}", style="bold")
    if decision.held is not None:
        out.line(f"  held back: {decision.held}")
    if decision.note:
        out.line(f"  {_sentence(decision.note)}")
    if decision.rule in sentences:
        out.line(f"  the rule: {sentences[decision.rule]}")
    if finding is not None and finding.note and finding.note not in decision.note:
        out.line(f"  {_sentence(finding.note)}")
    if finding is not None:
        out.line(f"  it counted {finding.count} within {span(finding.within_s)}; the last lines:")
        _show_evidence(out, finding)
    if past.packets:
        out.line(f"  stopped {count(past.packets, 'packet')} ({size(past.bytes)})")
    if lift is not None:
        by = "the operator" if lift.decision.origin == "operator" else "the guard"
        out.line(f"  lifted {out.when(lift.decision.start_ts)} by {by}. {_sentence(lift.decision.note)}")


def _show_evidence(out: Output, finding: Finding) -> None:
    for line in finding.evidence:
        out.line(f"    {line.source}:{line.line or '?'}: {line.text}")


# -- sieges ------------------------------------------------------------------------------------------------------------


def _tell_sieges(config: Config, out: Output) -> None:
    from tocsin.cli.asking import ledger_of, status_of  # noqa: PLC0415  see main

    with ledger_of(config) as reader:
        known = reader.sieges(SIEGES_SHOWN)
    running, absent = status_of(config)
    present = {each["finding"]: each for each in running["sieges"]} if running is not None else {}
    if out.as_json:
        sieges = [{**_to_json(each), "now": present.get(each.finding.id)} for each in known]
        out.json({"asked": SIEGES, "running": running is not None, "sieges": sieges})
        out.flush()
        return
    if not known:
        out.line("No siege is known: no class of requests was far above its normal.")
    for each in known:
        _show_siege(out, each, present.get(each.finding.id))
        out.line()
    if running is None:
        out.note(absent)


def _to_json(siege: Besieged) -> dict[str, Any]:
    """As `why sieges --json` tells it: whom a denial spares is there as a number, `spares`."""
    from msgspec import to_builtins  # noqa: PLC0415  see main

    steps = [{**to_builtins(step), "decision": to_builtins(step.decision)} for step in siege.steps]
    for step in steps:
        step["decision"].pop("spare")
    return {"finding": siege.finding, "steps": steps, "senders": siege.senders}


def _show_siege(out: Output, siege: Besieged, present: dict[str, Any] | None) -> None:
    finding, lasts = siege.finding, present is not None and present["left_ts"] is None
    kind = "siege" if siege.steps or siege.senders or present is not None else "alarm"
    out.line(f"{out.when(finding.ts)}: {kind}: {finding.note}", style="bold red" if lasts else "bold")
    out.line("  the last lines:")
    _show_evidence(out, finding)
    for step in siege.steps:
        _show_step(out, step)
    if siege.senders:
        out.line(
            f"  {count(siege.senders, 'address', 'addresses')} sent too many of them; `tocsin why ADDRESS` tells more"
        )
    if present is None:
        return
    if lasts:
        out.line(f"  it lasts: {present['requests_a_minute']:,.0f} in the last minute; {present['done']}", style="red")
    else:
        out.line(f"  it was over {out.when(present['left_ts'])}")


def _show_step(out: Output, step: Step) -> None:
    decision = step.decision
    if decision.action == "lift":
        out.line(
            f"  {out.when(decision.start_ts)}: the web server lets them all through again. {_sentence(decision.note)}"
        )
        return
    what = decision.signature.text if decision.signature is not None else "the class"
    verb = "turned away" if decision.action == "deny-request" else "let through to browsers that keep a cookie"
    verb = verb if decision.held is None else f"would have been {verb}"
    until = "" if step.until_ts is None else f" until {out.when(step.until_ts)}"
    renewed = f"; renewed {count(step.renewed, 'time')}" if step.renewed else ""
    whom = f"spares {count(step.spares, 'address', 'addresses')}{' now' if step.renewed else ''}"
    out.line(f"  {out.when(decision.start_ts)}: {what} {verb}{until} at most{renewed}, {whom}")
    if decision.held is not None:
        out.line(f"    held back: {decision.held}")
    elif last := step.answers[-1:]:
        out.line(f"    in the web server: {'yes' if last[0].ok else f'NO: {last[0].error}'}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
