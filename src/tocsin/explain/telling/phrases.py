"""What a terminal and a page both say of a report: the causes' names, how sure, what first, what was not seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from tocsin.explain.model import Cause, Coverage, Incident, Link, Remedy, Report, Said, Suspect, say
from tocsin.explain.telling.words import PLACE, Language, shortened
from tocsin.model import Signature

TITLES: dict[Cause, Said] = {
    "disk-full": say("The disk was full"),
    "local-job": say("A job on the machine itself took everything"),
    "crash": say("A program failed by itself"),
    "slow-connections": say("Connections that hold workers and never finish"),
    "login-bruteforce": say("Passwords were being guessed"),
    "crawler": say("A crawler fetched more than the site bears"),
    "distributed-flood": say("A flood of requests, few from each of many addresses"),
    "request-flood": say("A flood of requests from few addresses"),
    "expensive-requests": say("Few requests, each too expensive"),
    "legitimate-surge": say("More visitors than the machine can hold"),
    "misconfiguration": say("Limits that the machine cannot honour"),
    "unknown": say("The cause is not proven"),
}
SURE = 0.9
LIKELY = 0.7
EVEN = 0.5
TIMES = 5  # beginnings of one habit that are named


def newest_first(report: Report) -> list[Incident]:
    """The outages as people want them: the latest is the one they look for."""
    return sorted(report.incidents, key=lambda incident: -incident.start)


def when(incident: Incident, language: Language) -> str:
    """From when to when, how long, when it began to build up; and how often, where it came again."""
    lasted_s = incident.end - incident.start
    whole = language.period(incident.start, incident.end)
    parts = [f"{whole} ({language.span(lasted_s)})" if lasted_s >= 1 else language.time(incident.start)]
    if incident.onset < incident.start:
        parts.append(
            language.tell(say("it began to build up {span:span} before", span=incident.start - incident.onset))
        )
    if len(incident.times) > 1:
        named = ", ".join(language.time(ts) for ts in incident.times[:TIMES])
        more = f" … +{len(incident.times) - TIMES}" if len(incident.times) > TIMES else ""
        again = language.tell(say("it came {number} times:", number=len(incident.times)))
        parts.append(f"{again} {named}{more}")
    text = f"{language.sign(';')} ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def sure(incident: Incident) -> Said:
    """How far the verdict may be believed, in words beside the number."""
    if incident.cause == "unknown" and incident.suspects and incident.suspects[0].cause == "unknown":
        return say("No verdict: what happened is known, but not who did it.")
    if incident.cause == "unknown" and not not_found(incident):
        return say("No verdict: the evidence does not reach.")
    if incident.cause == "unknown":
        return say("No verdict: the evidence does not reach. What is missing stands below.")
    level = incident.confidence
    if level >= SURE:
        return say("Certainty: {level:share}, as good as proven.", level=level)
    if level >= LIKELY:
        return say("Certainty: {level:share}, likely; look at what speaks against it.", level=level)
    if level >= EVEN:
        return say("Certainty: {level:share}, more likely than not; look at what speaks against it.", level=level)
    return say("Certainty: {level:share}, a guess to be checked.", level=level)


def first_and_then(remedies: Sequence[Remedy]) -> tuple[list[Remedy], list[Remedy]]:
    """What is to be done before anything else (the first remedy, where none is for now), and what after that."""
    first = [remedy for remedy in remedies if remedy.now] or list(remedies[:1])
    return first, [remedy for remedy in remedies if remedy not in first]


def label_of(remedy: Remedy) -> Said:
    """What stands before a remedy that comes first."""
    return say("Do now:") if remedy.now else say("What to do:")


def class_of(signature: Signature, language: Language, most: int = 90) -> str:
    """A class of requests in one line: `POST /xmlrpc.php, agent with "Googlebot"`."""
    named = [shortened(part, most) for part in (signature.method, signature.path) if part is not None]
    parts = [" ".join(named)] if named else []
    if signature.query is not None:
        query = say('query with "{query}"', query=signature.query) if signature.query else say("without a query")
        parts.append(language.tell(query))
    if signature.user_agent is not None:
        agent = say('agent with "{agent}"', agent=signature.user_agent)
        parts.append(language.tell(agent if signature.user_agent else say("without an agent")))
    if signature.vhost is not None:
        parts.append(language.tell(say("site {name}", name=signature.vhost)))
    return ", ".join(parts) or language.tell(say("all requests"))


def name_of(suspect: Suspect, language: Language) -> str:
    """What a suspect is called; where the reasoning gave no name, its class of requests or its process."""
    told = language.tell(suspect.name)
    if told:
        return told
    if suspect.signature is not None:
        return class_of(suspect.signature, language)
    return shortened(suspect.process or "")


def short_names(report: Report) -> dict[str, str]:
    """Each source by as much of its path's end as tells it from the others."""
    quoted = (link.source for incident in report.incidents for link in incident.chain if link.source)
    sources = {*(each.source for each in report.coverage), *quoted}
    parts = {source: PurePath(source).parts or (source,) for source in sources}
    names: dict[str, str] = {}
    for depth in range(1, 5):
        taken: dict[str, list[str]] = {}
        for source in sources - names.keys():
            taken.setdefault("/".join(parts[source][-depth:]), []).append(source)
        names.update({each[0]: shown for shown, each in taken.items() if len(each) == 1})
    return {source: names.get(source, source) for source in sources}


def clocks(links: Iterable[Link], language: Language) -> dict[float, str]:
    """Each time of a chain as it is shown: the time of day where all are of one day."""
    times = {link.ts for link in links if link.ts is not None}
    one_day = len({at.date() for ts in times if (at := language.moment(ts))}) <= 1
    return {ts: language.clock(ts, seconds=True) if one_day else language.time(ts) for ts in times}


def place_of(link: Link, names: dict[str, str]) -> str:
    """Where the line stands that proves a link: `error.log:12`; empty where none does."""
    if link.source is None:
        return ""
    source = shortened(names.get(link.source, link.source), 60)
    return f"{source}:{link.line}" if link.line else source


def sentence(said: Said, language: Language) -> str:
    """The sentence with a capital at its beginning, unless a name stands there, and a stop at its end."""
    text = language.tell(said)
    first = text[:1] if _begins_with_a_name(said) else text[:1].upper()
    return f"{first}{text[1:]}{'' if text.endswith(tuple('.!?…')) else '.'}" if text else ""


def _begins_with_a_name(said: Said) -> bool:
    place = PLACE.match(said.text)
    within = said.args.get(place[1]) if place else None
    return _begins_with_a_name(within) if isinstance(within, Said) else place is not None


def not_found(incident: Incident) -> list[Said]:
    """What was looked for in vain."""
    return [say("not found: {what}", what=link.link) for link in incident.chain if link.missing]


def read_in_all(report: Report, language: Language) -> str:
    """What was read, and in which zone times are given."""
    lines = sum(each.lines for each in report.coverage)
    starts = [each.start for each in report.coverage if each.start is not None]
    ends = [each.end for each in report.coverage if each.end is not None]
    read = say("Read: {lines} lines of {sources} sources.", sources=len(report.coverage), lines=lines)
    if not starts or not ends:
        return language.tell(read)
    at = report.incidents[0].start if report.incidents else max(ends)
    zone = language.tell(say("Times are {zone}.", zone=language.zone_name(at)))
    return f"{language.tell(read)} {language.span_between(min(starts), max(ends))}. {zone}"


def is_used(each: Coverage) -> bool:
    """Whether a source had anything to say that was understood."""
    return each.lines > each.unparsed


def holes(each: Coverage, language: Language, most: int = 2) -> str:
    """What one source cannot tell: it names no times, lines that fit no format, silences; and its own notes."""
    lacks = f"{language.sign(';')} ".join(_holes(each, language, most))
    return " ".join([*([f"{lacks}."] if lacks else []), *(sentence(note, language) for note in each.notes)])


def _holes(each: Coverage, language: Language, most: int) -> Iterator[str]:
    if each.notes and not is_used(each):
        return
    if each.lines == 0:
        yield language.tell(say("empty"))
        return
    if each.start is None:
        yield language.tell(say("names no times that could be placed"))
    if each.unparsed:
        unparsed = say("{unparsed} of {lines} lines could not be read", unparsed=each.unparsed, lines=each.lines)
        yield language.tell(unparsed)
    longest = sorted(each.gaps, key=lambda gap: gap.start - gap.end)[:most]
    for gap in sorted(longest, key=lambda gap: gap.start):
        yield f"{language.tell(say('silent'))} {language.span_between(gap.start, gap.end)}"
    if len(each.gaps) > most:
        yield language.tell(say("silent {more} more times, not as long", more=len(each.gaps) - most))
