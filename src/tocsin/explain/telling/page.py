"""Report -> one HTML file that needs no network and no script: the verdict, a picture of it, and all that proves it.

Every text is escaped, what is not printable stands as its escape, and the page's own policy forbids it to load or run
anything: the one style sheet is allowed by its hash. Lists are complete; long ones fold.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape

from tocsin import __version__
from tocsin.explain.model import Actor, Coverage, Incident, Link, Remedy, Report, Said, Suspect, Timeline, say
from tocsin.explain.telling import phrases
from tocsin.explain.telling.page_style import STYLE
from tocsin.explain.telling.picture import Layer, layers, numbered, picture
from tocsin.explain.telling.words import Language, shortened

MOST_QUOTE_CHARS = 4000
FEW = 12  # addresses that stand in the open; more fold
POLICY = "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"


def page(report: Report, language: Language) -> str:
    """The page."""
    return "\n".join(Page(report, language).parts()) + "\n"


def _raw(text: str, most: int = MOST_QUOTE_CHARS) -> str:
    """A text from a log, or any that nobody vouches for."""
    return escape(shortened(text, most))


def _swatch(style: str) -> str:
    return f'<svg class="key" viewBox="0 0 12 12"><rect class="{style}" width="12" height="12"/></svg>'


class Page:
    """Writes one report."""

    def __init__(self, report: Report, language: Language) -> None:
        self.report = report
        self.language = language
        self.names = phrases.short_names(report)
        self.incidents = phrases.newest_first(report)
        self.colon = escape(language.sign(":"))

    def tell(self, said: Said) -> str:
        """A sentence, escaped."""
        return escape(self.language.tell(said))

    def parts(self) -> Iterator[str]:
        """The page, piece by piece."""
        yield from self._head()
        if not self.incidents:
            yield from self._nothing()
        if len(self.incidents) > 1:
            yield from self._overview()
        for number, incident in enumerate(self.incidents, 1):
            yield from self._incident(incident, number)
        yield from self._read()
        yield f"<footer>tocsin {escape(__version__)}</footer></main></body></html>"

    def _head(self) -> Iterator[str]:
        title = self.tell(say("Why the server went down"))
        digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
        yield f'<!DOCTYPE html>\n<html lang="{self.language.code}"><head><meta charset="utf-8">'
        yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY.format(style=digest))}">'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">'
        yield f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"

    def _nothing(self) -> Iterator[str]:
        if self.report.quiet:
            said, style = say("Nothing went wrong in the time that these logs tell of."), "well"
        else:
            said = say("No outage can be told from these logs; what they do not show stands below.")
            style = "unproven"
        yield f'<div class="part"><h2 class="{style}">{self.tell(said)}</h2></div>'

    def _overview(self) -> Iterator[str]:
        number_of = self.tell(say("{number} outages, the latest first.", number=len(self.incidents)))
        yield f'<div class="part"><b>{number_of}</b><ol>'
        for number, incident in enumerate(self.incidents, 1):
            when = escape(self.language.period(incident.start, incident.end))
            title = self.tell(phrases.TITLES[incident.cause])
            yield f'<li><a href="#i{number}">{when}</a>{self.colon} {title}</li>'
        yield "</ol></div>"

    # -- one incident ------------------------------------------------------------------------------------------------

    def _incident(self, incident: Incident, number: int) -> Iterator[str]:
        yield f'<article id="i{number}"><p class="soft">{escape(phrases.when(incident, self.language))}</p>'
        style = ' class="unproven"' if incident.cause == "unknown" else ""
        yield f"<h2{style}>{self.tell(phrases.TITLES[incident.cause])}</h2>"
        yield f'<p class="lead">{escape(phrases.sentence(incident.summary, self.language))}</p>'
        share = min(1.0, max(0.0, incident.confidence))
        meter = "" if incident.cause == "unknown" else f'<meter min="0" max="1" value="{share:.2f}"></meter>'
        yield f"<p>{meter}{self.tell(phrases.sure(incident))}</p>"
        yield from self._now(incident)
        if incident.timeline is not None:
            yield from self._figure(incident, incident.timeline)
        yield from self._chain(incident)
        yield from self._suspects(incident)
        yield from self._whom(incident)
        yield from self._then(incident)
        yield from self._notes(incident)
        yield "</article>"

    def _now(self, incident: Incident) -> Iterator[str]:
        for remedy in phrases.first_and_then(incident.remedies)[0]:
            told = escape(phrases.sentence(remedy.text, self.language))
            label = self.tell(phrases.label_of(remedy))
            yield f'<div class="now"><b>{label}</b> {told}{self._apply(remedy)}</div>'

    def _figure(self, incident: Incident, timeline: Timeline) -> Iterator[str]:
        wide = picture(incident, timeline, self.language, 960, 360)
        if not wide:
            return
        narrow = picture(incident, timeline, self.language, 400, 330)
        yield f'<figure><p class="unit">{self.tell(timeline.unit)}</p>'
        yield f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div><figcaption><ul class="legend">'
        for layer in reversed(layers(timeline, self.language)):
            yield self._key(layer)
        if timeline.capacity is not None:
            said = self.tell(say("capacity: {capacity}", capacity=timeline.capacity))
            yield (
                '<li><svg class="key" viewBox="0 0 12 12"><line class="capacity" x1="0" x2="12" y1="6" y2="6"/></svg>'
                f"{said}</li>"
            )
        outage = self.tell(say("the outage"))
        yield f"<li>{_swatch('outage')}{outage}</li>"
        yield "</ul>"
        marks = numbered(timeline)
        if marks:
            yield '<ol class="marks">'
            for number, mark, more in marks:
                also = f" {self.tell(say('and {more} more', more=more))}" if more else ""
                at = escape(self.language.clock(mark.ts, seconds=True))
                yield f'<li><span class="no">{number}</span><time>{at}</time> {self.tell(mark.text)}{also}</li>'
            yield "</ol>"
        yield "</figcaption></figure>"

    def _key(self, layer: Layer) -> str:
        style = ' class="key-suspect"' if layer.style.startswith("sus") else ""
        return f"<li{style}>{_swatch(layer.style)}{escape(layer.name)}</li>"

    def _chain(self, incident: Incident) -> Iterator[str]:
        links = [link for link in incident.chain if not link.missing]
        if links:
            yield f'<h3>{self.tell(say("How it came about"))}</h3><ol class="chain">'
            shown = phrases.clocks(links, self.language)
            yield from (self._link(link, shown) for link in links)
            yield "</ol>"

    def _link(self, link: Link, shown: dict[float, str]) -> str:
        when = "" if link.ts is None else f"<time>{escape(shown[link.ts])}</time>"
        inferred = "" if link.observed else f" {self.tell(say('(inferred)'))}"
        style = "" if link.observed else ' class="inferred"'
        quote = ""
        if link.text is not None:
            place = escape(phrases.place_of(link, self.names))
            title = _raw(link.source or "")
            quote = f'<pre><span class="at" title="{title}">{place}: </span>{_raw(link.text)}</pre>'
        return f'<li{style}>{when}<span class="how">{self.tell(link.link)}{inferred}</span>{quote}</li>'

    def _suspects(self, incident: Incident) -> Iterator[str]:
        if incident.suspects:
            yield f"<h3>{self.tell(say('Suspects'))}</h3>"
        for number, suspect in enumerate(incident.suspects, 1):
            yield from self._suspect(suspect, number)

    def _suspect(self, suspect: Suspect, number: int) -> Iterator[str]:
        first = " first" if number == 1 else ""
        yield f'<div class="suspect{first}"><h4>{number}. {escape(phrases.name_of(suspect, self.language))}</h4>'
        yield '<div class="figures">'
        if suspect.share:
            share = escape(self.language.share(suspect.share))
            yield f"<span><b>{share}</b> {self.tell(say('of the load that came on top'))}</span>"
        if suspect.lift is not None:
            yield f"<span><b>×{escape(self.language.factor(suspect.lift))}</b> {self.tell(say('its normal'))}</span>"
        if suspect.requests:
            requests = escape(self.language.number(suspect.requests))
            yield f"<span><b>{requests}</b> {self.tell(say('requests'))}</span>"
        yield f'</div><dl class="facts"><dt>{self.tell(say("for:"))}</dt><dd>{self.tell(suspect.why)}</dd>'
        if suspect.counter_evidence is not None:
            against = self.tell(suspect.counter_evidence)
            yield f'<dt>{self.tell(say("against:"))}</dt><dd class="against">{against}</dd>'
        yield "</dl>"
        yield from self._actors(suspect.actors)
        yield "</div>"

    def _actors(self, actors: tuple[Actor, ...]) -> Iterator[str]:
        if not actors:
            return
        shown = [f"{_raw(each.subject)} ({escape(self.language.number(each.requests))})" for each in actors]
        label = self.tell(say("by:"))
        if len(shown) <= FEW:
            yield f'<p class="soft">{label} {", ".join(shown)}</p>'
            return
        more = self.tell(say("and {more} more", more=len(shown) - 3))
        yield f'<details class="soft"><summary>{label} {", ".join(shown[:3])} {more}</summary>'
        yield f'<pre class="all">{chr(10).join(shown)}</pre></details>'

    def _whom(self, incident: Incident) -> Iterator[str]:
        if not (incident.deny or incident.ban or incident.spare):
            return
        yield f'<h3>{self.tell(say("Whom to shut out, whom to spare"))}</h3><dl class="facts">'
        for signature in incident.deny:
            refused = escape(phrases.class_of(signature, self.language))
            yield f"<dt>{self.tell(say('refuse'))}</dt><dd><code>{refused}</code></dd>"
        if incident.ban:
            yield f"<dt>{self.tell(say('ban'))}</dt><dd>{self._subjects(incident.ban)}</dd>"
        for spared in incident.spare:
            who = f"<code>{_raw(spared.subject)}</code>"
            yield f"<dt>{self.tell(say('do not ban'))}</dt><dd>{who}{self.colon} {self.tell(spared.why)}</dd>"
        yield "</dl>"

    def _subjects(self, subjects: tuple[str, ...]) -> str:
        every = [_raw(subject) for subject in subjects]
        if len(every) <= FEW:
            return f"<code>{', '.join(every)}</code>"
        counted = self.tell(say("{all} in all", all=len(every)))
        return f'<details><summary>{counted}</summary><pre class="all">{chr(10).join(every)}</pre></details>'

    def _then(self, incident: Incident) -> Iterator[str]:
        remedies = phrases.first_and_then(incident.remedies)[1]
        if remedies:
            yield f"<h3>{self.tell(say('Then'))}</h3><ol>"
            for remedy in remedies:
                told = escape(phrases.sentence(remedy.text, self.language))
                yield f"<li>{told}{self._apply(remedy)}</li>"
            yield "</ol>"

    def _apply(self, remedy: Remedy) -> str:
        """What is to be typed: line by line, since a line break is meant here."""
        if not remedy.apply:
            return ""
        typed = "\n".join(_raw(line, 100_000) for line in remedy.apply.splitlines())
        return f'<pre class="apply">{typed}</pre>'

    def _notes(self, incident: Incident) -> Iterator[str]:
        missing = [
            say("not found: {what}", what=self.language.tell(link.link)) for link in incident.chain if link.missing
        ]
        yield from self._list(say("To know"), [*incident.notes, *missing])

    def _list(self, heading: Said, said: Iterable[Said]) -> Iterator[str]:
        every = [f"<li>{escape(phrases.sentence(each, self.language))}</li>" for each in said]
        if every:
            yield f"<h3>{self.tell(heading)}</h3><ul>{''.join(every)}</ul>"

    # -- what was read -----------------------------------------------------------------------------------------------

    def _read(self) -> Iterator[str]:
        said = self.tell(say("What was read, and what was not seen"))
        yield f'<div class="part"><h3>{said}</h3><p>{escape(phrases.read_in_all(self.report, self.language))}</p>'
        if self.report.notes:
            notes = (f"<li>{escape(phrases.sentence(note, self.language))}</li>" for note in self.report.notes)
            yield f"<ul>{''.join(notes)}</ul>"
        columns = (say("source"), say("kind"), say("from"), say("to"), say("lines"), say("not seen"))
        heads = "".join(f"<th>{self.tell(column)}</th>" for column in columns)
        rows = "".join(map(self._source, self.report.coverage))
        yield f'<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'
        yield "</div>"

    def _source(self, each: Coverage) -> str:
        start = "" if each.start is None else self.language.time(each.start)
        end = "" if each.end is None else self.language.time(each.end)
        holes = escape(phrases.holes(each, self.language, most=20))
        lines = escape(self.language.number(each.lines))
        return (
            f"<tr><td><code>{_raw(each.source)}</code></td><td>{_raw(each.kind)}</td><td>{escape(start)}</td>"
            f'<td>{escape(end)}</td><td class="n">{lines}</td><td>{holes}</td></tr>'
        )
