"""An action's commands, ready to be run: static tags filled in by family, dynamic ones as references. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

from tocsin.fail2ban.actions.shelltext import MAX_TEXT, ShellText, fill_in, prepare
from tocsin.fail2ban.actions.tickets import from_log, is_dynamic
from tocsin.fail2ban.model import ActionSpec
from tocsin.fail2ban.settings.options import parse_span_s

Moment = Literal[
    "actionstart",
    "actionstop",
    "actionflush",
    "actionreload",
    "actioncheck",
    "actionrepair",
    "actionban",
    "actionunban",
    "actionprolong",
    "actionreban",
]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
FAMILIES = ("inet4", "inet6")
TIMEOUT_S = 60.0
TIMEOUT_MAX_S = 3600.0

# Filled in when somebody is banned, whatever an action's file says of the name.
_NEVER_STATIC = frozenset(("bantime", "matches", "ipmatches", "ipjailmatches"))


class Refused(Struct, frozen=True):
    """A command that is not run: another program would read a log's text as its own (`tag` in `program`)."""

    moment: str
    tag: str
    program: str


class Commands(Struct, frozen=True):
    """All of an action. `texts` by family ("" where the families do not differ) and moment; empty ones are left out.

    `on_demand`: it is started with the first ban of a family. `norestored`: not run for bans taken up again.
    """

    action: str
    texts: Mapping[str, Mapping[str, ShellText]]
    timeout_s: float = TIMEOUT_S
    on_demand: bool = False
    norestored: bool = False
    repair_on_unban: bool = False
    refused: tuple[Refused, ...] = ()
    troubles: tuple[str, ...] = ()

    def text(self, moment: Moment, family: str) -> ShellText | None:
        """What to run, None where there is nothing. A family without texts of its own has the common ones."""
        texts = self.texts.get(family)
        if texts is None:
            texts = self.texts.get("") or self.texts.get("inet4") or {}
        return texts.get(moment)

    def families(self) -> tuple[str, ...]:
        """Those to be started one by one; ("",) where they do not differ."""
        return tuple(self.texts) or ("",)


def yes(text: str | None) -> bool:
    """fail2ban's notion of true."""
    return (text or "").strip().lower() in ("1", "true", "yes", "on")


def static_options(action: ActionSpec) -> dict[str, str]:
    """What may be filled in before anybody is banned."""
    return {name: text for name, text in action.options.items() if name.partition("?")[0] not in _NEVER_STATIC}


def text_of(action: ActionSpec, moment: str, family: str = "inet4") -> str:
    """One command, static tags filled in; "" where there is none. ValueError where a tag leads back to itself."""
    options = static_options(action)
    text = options.get(f"{moment}?family={family}", options.get(moment, ""))
    return fill_in(text, options, family).strip()


def conditional(action: ActionSpec) -> bool:
    """Whether an option depends on the family."""
    return any("?family=" in name for name in action.options)


def commands_of(action: ActionSpec) -> Commands:
    """Make an action's commands ready. What cannot be run is in `refused` and `troubles`, and left out."""
    depends = conditional(action)
    texts: dict[str, dict[str, ShellText]] = {}
    refused: dict[Refused, None] = {}
    troubles: list[str] = []
    for family in FAMILIES if depends else ("",):
        texts[family] = {}
        for moment in MOMENTS:
            try:
                text = text_of(action, moment, family)
            except ValueError as error:
                troubles.append(f"{moment}: {error}")
                continue
            if not text:
                continue
            if len(text.encode("utf-8", "replace")) > MAX_TEXT // 2:
                troubles.append(f"{moment}: longer than {MAX_TEXT // 2} bytes; put it into a script and call that")
                continue
            ready = prepare(text, is_dynamic)
            risky = [Refused(moment, tag, program) for tag, program in ready.reparsed if _hostile(tag)]
            if risky:
                refused.update(dict.fromkeys(risky))
            else:
                texts[family][moment] = ready
    given = action.options.get("actionstart_on_demand")
    return Commands(
        action=action.actname,
        texts=texts,
        timeout_s=_timeout_s(action, troubles),
        on_demand=depends if given is None else yes(given),
        norestored=yes(action.options.get("norestored")),
        repair_on_unban=yes(action.options.get("actionrepair_on_unban")),
        refused=tuple(refused),
        troubles=tuple(dict.fromkeys(troubles)),
    )


def _hostile(tag: str) -> bool:
    """`<ip>` and `<fid>` mostly are addresses; where they are not, `tickets.render` refuses."""
    return from_log(tag) and tag not in ("ip", "fid")


def _timeout_s(action: ActionSpec, troubles: list[str]) -> float:
    text = action.options.get("timeout", "").strip()
    if not text:
        return TIMEOUT_S
    try:
        span_s = parse_span_s(text)
    except ValueError as error:
        troubles.append(f"timeout = {text}: {error}; {TIMEOUT_S:.0f} s are used")
        return TIMEOUT_S
    return min(max(span_s, 0.1), TIMEOUT_MAX_S)
