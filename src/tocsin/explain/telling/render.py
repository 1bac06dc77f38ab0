"""Report -> lines for a terminal or a pipe: the paragraph that a tired person needs first, then what proves it.

The lines hold printable text alone. An incident fits a page (some 50 lines): lists are shown as far as they help, with
the number of the rest; JSON and the page have them whole.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tocsin.explain.model import Actor, Coverage, Incident, Link, Remedy, Report, Said, Suspect, say
from tocsin.explain.telling import phrases
from tocsin.explain.telling.words import HARD_SPACE, Language, shortened

LISTED = 12  # incidents that are named
IN_FULL = 3  # incidents that are told whole; of those after them, one line each
LINKS, SUSPECTS, TOLD, SPARED, NOTES, HOLES, UNUSED = 8, 4, 2, 3, 5, 4, 2
TOLD_SHARE = 0.1  # a second suspect that carries less is named, no more
APPLY_LINES = 12
QUOTE_ROWS, FEW_LINKS = 2, 5


class Row(NamedTuple):
    """One line, and how it is shown where there is colour (a style of rich's)."""

    text: str
    style: str = ""


def render(report: Report, language: Language, width: int = 100, *, whole_quotes: bool = False) -> Iterator[Row]:
    """The lines, `width` columns at most, but for what is to be typed and, with `whole_quotes`, quoted lines."""
    for row in Teller(report, language, width, whole_quotes=whole_quotes).rows():
        yield Row(row.text.replace(HARD_SPACE, " ").rstrip(), row.style)


class Teller:
    """Tells one report."""

    def __init__(self, report: Report, language: Language, width: int, *, whole_quotes: bool) -> None:
        self.report = report
        self.tell = language.tell
        self.language = language
        self.width = max(40, width)
        self.whole_quotes = whole_quotes
        self.names = phrases.short_names(report)
        self.incidents = phrases.newest_first(report)

    def rows(self) -> Iterator[Row]:
        """Everything, in order."""
        if not self.incidents:
            yield from self._nothing()
        if len(self.incidents) > 1:
            yield from self._overview()
        for number, incident in enumerate(self.incidents[:IN_FULL], 1):
            if number > 1:
                yield Row("")
                yield Row("─" * self.width, "dim")
            yield from self._incident(incident, number)
        yield from self._not_seen()

    def _nothing(self) -> Iterator[Row]:
        if self.report.quiet:
            yield from self._wrapped(say("Nothing went wrong in the time that these logs tell of."), style="bold green")
        else:
            yield from self._wrapped(
                say("No outage can be told from these logs; what they do not show stands below."), style="bold yellow"
            )

    def _overview(self) -> Iterator[Row]:
        number_of = say("{number} outages, the latest first.", number=len(self.incidents))
        yield from self._wrapped(number_of, style="bold")
        for number, incident in enumerate(self.incidents[:LISTED], 1):
            when = self.language.period(incident.start, incident.end)
            title = self.tell(phrases.TITLES[incident.cause])
            share = "" if incident.cause == "unknown" else f" ({self.language.share(incident.confidence)})"
            yield from self._labelled(f"{number:>3}. ", when, f"{title}{share}")
        if len(self.incidents) > LISTED:
            yield from self._more(len(self.incidents) - LISTED)
        if len(self.incidents) > IN_FULL:
            yield from self._wrapped(
                say("The first {number} follow; --html FILE or --json tell all.", number=IN_FULL), style="dim"
            )
        yield Row("")

    # -- one incident ------------------------------------------------------------------------------------------------

    def _incident(self, incident: Incident, number: int) -> Iterator[Row]:
        title = self.tell(phrases.TITLES[incident.cause])
        several = f"{number}. " if len(self.incidents) > 1 else ""
        yield from self._hanging(several, title, "bold yellow" if incident.cause == "unknown" else "bold red")
        yield from self._plain(phrases.when(incident, self.language), style="dim")
        yield Row("")
        yield from self._plain(self._paragraph(incident), style="bold")
        yield from self._now(incident)
        yield from self._chain(incident)
        yield from self._suspects(incident)
        yield from self._whom(incident)
        yield from self._remedies(incident)
        yield from self._notes(incident)

    def _paragraph(self, incident: Incident) -> str:
        return f"{phrases.sentence(incident.summary, self.language)} {self.tell(phrases.sure(incident))}"

    def _now(self, incident: Incident) -> Iterator[Row]:
        for remedy in phrases.first_and_then(incident.remedies)[0]:
            lead = f"{self.tell(phrases.label_of(remedy))} "
            yield from self._hanging(lead, phrases.sentence(remedy.text, self.language), "bold green")
            yield from self._apply(remedy)

    def _chain(self, incident: Incident) -> Iterator[Row]:
        links = [link for link in incident.chain if not link.missing]
        if not links:
            return
        yield from self._heading(say("How it came about"))
        shown = phrases.clocks(links, self.language)
        rows = QUOTE_ROWS if len(links) <= FEW_LINKS else 1
        for link in self._most_telling(links):
            yield from self._link(link, shown, rows)
        if len(links) > LINKS:
            yield from self._more(len(links) - LINKS)

    def _most_telling(self, links: list[Link]) -> list[Link]:
        """What the verdict rests on, how it began and how it ended, where there are too many."""
        numbers = range(len(links))
        main = [i for i in numbers if links[i].main]
        ranked = dict.fromkeys([*numbers[:2], *main[: LINKS - 3], numbers[-1], *numbers[-3:], *numbers])
        return [links[i] for i in sorted(list(ranked)[:LINKS])]

    def _link(self, link: Link, shown: dict[float, str], rows: int) -> Iterator[Row]:
        when = "" if link.ts is None else shown[link.ts]
        inferred = "" if link.observed else f" {self.tell(say('(inferred)'))}"
        lead = f"  {when:<8}  "
        yield from self._hanging(lead, self.tell(link.link) + inferred, "" if link.observed else "italic")
        if link.text is not None:
            yield from self._quote(f"{phrases.place_of(link, self.names)}: ", link.text, rows)

    def _quote(self, place: str, text: str, rows: int) -> Iterator[Row]:
        indent = " " * 12
        if self.whole_quotes:
            yield Row(f"{indent}{place}{shortened(text, 2000)}", "dim")
            return
        yield from self._hanging(indent, f"{place}{shortened(text, 4 * self.width)}", "dim", most=rows)

    def _suspects(self, incident: Incident) -> Iterator[Row]:
        if not incident.suspects:
            return
        yield Row("")
        share, lift, suspect = (self.tell(said) for said in (say("share"), say("lift"), say("Suspects")))
        yield Row(f"      {share:>6}  {lift:>6}  {suspect}", "bold underline")
        for number, each in enumerate(incident.suspects[:SUSPECTS], 1):
            yield from self._suspect(number, each)
        if len(incident.suspects) > SUSPECTS:
            yield from self._more(len(incident.suspects) - SUSPECTS)

    def _suspect(self, number: int, suspect: Suspect) -> Iterator[Row]:
        share = self.language.share(suspect.share) if suspect.share else "–"
        lift = "–" if suspect.lift is None else f"×{self.language.factor(suspect.lift)}"
        lead = f"  {number}.  {share:>6}  {lift:>6}  "
        yield from self._hanging(lead, phrases.name_of(suspect, self.language), "bold" if number == 1 else "")
        if number > TOLD or (number > 1 and suspect.share < TOLD_SHARE):
            return
        indent = " " * 8
        yield from self._hanging(f"{indent}{self.tell(say('for:'))} ", self.tell(suspect.why))
        if suspect.counter_evidence is not None:
            against = f"{indent}{self.tell(say('against:'))} "
            yield from self._hanging(against, self.tell(suspect.counter_evidence), "yellow")
        if suspect.actors and number == 1:
            yield from self._hanging(f"{indent}{self.tell(say('by:'))} ", self._actors(suspect.actors))

    def _actors(self, actors: tuple[Actor, ...], most: int = 2) -> str:
        shown = ", ".join(
            f"{shortened(each.subject)} ({self.language.number(each.requests)})" for each in actors[:most]
        )
        more = len(actors) - most
        return shown if more <= 0 else f"{shown} {self.tell(say('and {more} more', more=more))}"

    def _whom(self, incident: Incident) -> Iterator[Row]:
        if not (incident.deny or incident.ban or incident.spare):
            return
        yield from self._heading(say("Whom to shut out, whom to spare"))
        for signature in incident.deny:
            yield from self._hanging(f"  {self.tell(say('refuse'))} ", phrases.class_of(signature, self.language))
        if incident.ban:
            yield from self._ban(incident.ban)
        for spared in incident.spare[:SPARED]:
            lead = f"  {self.tell(say('do not ban'))} "
            yield from self._labelled(lead, shortened(spared.subject), self.tell(spared.why))
        if len(incident.spare) > SPARED:
            yield from self._more(len(incident.spare) - SPARED)

    def _ban(self, subjects: tuple[str, ...]) -> Iterator[Row]:
        """All where they fill two lines at most, else those of one line, and how many there are."""
        lead = f"  {self.tell(say('ban'))} "
        room = self.width - len(lead)
        shown = ", ".join(map(shortened, subjects[:50]))
        if len(subjects) > 50 or len(shown) > 2 * room - 20:
            taken = max(1, sum(1 for sign in shown[:room] if sign == ","))
            all_in_all = say('{all} in all: --html FILE shows them, --json has them in "ban"', all=len(subjects))
            shown = f"{', '.join(map(shortened, subjects[:taken]))} … {self.tell(all_in_all)}"
        yield from self._hanging(lead, shown)

    def _remedies(self, incident: Incident) -> Iterator[Row]:
        remedies = phrases.first_and_then(incident.remedies)[1]
        if not remedies:
            return
        yield from self._heading(say("Then"))
        for number, remedy in enumerate(remedies, 1):
            yield from self._hanging(f"  {number}. ", phrases.sentence(remedy.text, self.language))
            yield from self._apply(remedy)

    def _apply(self, remedy: Remedy) -> Iterator[Row]:
        """What is to be typed, whole: a line that is cut is worse than none. Long blocks are left to the page."""
        lines = remedy.apply.splitlines()
        for line in lines[:APPLY_LINES]:
            yield Row(f"      {shortened(line, 4000)}", "cyan")
        if len(lines) > APPLY_LINES:
            yield from self._more(len(lines) - APPLY_LINES)

    def _notes(self, incident: Incident) -> Iterator[Row]:
        missing = phrases.not_found(incident)
        if missing or incident.notes:
            yield from self._heading(say("To know"))
            yield from self._list([*incident.notes, *missing], NOTES)

    # -- what was not seen -------------------------------------------------------------------------------------------

    def _not_seen(self) -> Iterator[Row]:
        yield from self._heading(say("What was read, and what was not seen"))
        yield from self._hanging("  - ", phrases.read_in_all(self.report, self.language))
        used = [each for each in self.report.coverage if phrases.is_used(each)]
        unused = [each for each in self.report.coverage if not phrases.is_used(each)]
        told = [(each, text) for each in used if (text := phrases.holes(each, self.language))]
        for each, text in told[:HOLES]:
            yield from self._source(each, text)
        if len(told) > HOLES:
            yield from self._more(len(told) - HOLES)
        for each in unused[:UNUSED]:
            yield from self._source(each, phrases.holes(each, self.language))
        if len(unused) > UNUSED:
            yield from self._list([say("{more} more sources that say nothing", more=len(unused) - UNUSED)], 1)
        yield from self._list(self.report.notes, 2 * NOTES)

    def _source(self, each: Coverage, text: str) -> Iterator[Row]:
        yield from self._labelled("  - ", shortened(self.names.get(each.source, each.source), 60), text, most=2)

    # -- lines -------------------------------------------------------------------------------------------------------

    def _heading(self, said: Said) -> Iterator[Row]:
        yield Row("")
        yield Row(self.tell(said), "bold underline")

    def _list(self, said: Iterable[Said], most: int) -> Iterator[Row]:
        every = list(said)
        for each in every[:most]:
            yield from self._hanging("  - ", phrases.sentence(each, self.language))
        if len(every) > most:
            yield from self._more(len(every) - most)

    def _labelled(self, lead: str, label: str, text: str, most: int = 0) -> Iterator[Row]:
        yield from self._hanging(lead, f"{label}{self.language.sign(':')} {text}", most=most)

    def _more(self, number: int) -> Iterator[Row]:
        yield Row(f"      {self.tell(say('… and {more} more', more=number))}", "dim")

    def _wrapped(self, said: Said, style: str = "") -> Iterator[Row]:
        yield from self._plain(self.tell(said), style)

    def _plain(self, text: str, style: str = "") -> Iterator[Row]:
        yield from self._hanging("", text, style)

    def _hanging(self, lead: str, text: str, style: str = "", most: int = 0) -> Iterator[Row]:
        """The text behind `lead`, its further lines below its first; `most` lines of it, where given."""
        room = max(20, self.width - len(lead))
        lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        if most and len(lines) > most:
            last = lines[most - 1]
            whole = last if len(last) < room else last.rpartition(" ")[0] or last[: room - 1]
            lines = [*lines[: most - 1], f"{whole}…"]
        for i, line in enumerate(lines):
            yield Row(f"{lead if i == 0 else ' ' * len(lead)}{line}", style)
