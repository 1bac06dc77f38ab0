"""Zones as logs and `logtimezone` name them: offsets, abbreviations, both together, and names such as Europe/Paris.

An abbreviation stands for one offset, summer and winter alike, and is the one that fail2ban takes it for: `CST` is
American, `IST` is none. A sign after an abbreviation adds: `CET+0130` is two and a half hours.
"""

from __future__ import annotations

import re
from datetime import timedelta, timezone, tzinfo
from difflib import get_close_matches

_WRITTEN = """
A+1 ACDT+10:30 ACST+9:30 ACT+8 ADT-3 AEDT+11 AEST+10 AFT+4:30 AKDT-8 AKST-9 ALMT+6 AMST+5 AMT+4 ANAST+12 ANAT+12
AQTT+5 ART-3 AST-4 AWDT+9 AWST+8 AZOT-1 AZST+5 AZT+4 B+2 BDT+8 BIOT+6 BNT+8 BOT-4 BRST-2 BRT-3 BTT+6 C+3 CAST+8
CAT+2 CCT+6:30 CDT-5 CEDT+2 CEST+2 CET+1 CHST+10 CIST-8 CKT-10 CLST-3 CLT-4 COST-4 COT-5 CST-6 CVT-1 CXT+7 D+4
DAVT+7 DFT+1 E+5 EASST-5 EAST-6 EAT+3 ECT-5 EDT-4 EEDT+3 EEST+3 EET+2 EGST+0 EGT-1 EST-5 ET-5 F+6 FJST+13 FJT+12
FKST-3 FKT-4 FNT-2 G+7 GALT-6 GAMT-9 GET+4 GFT-3 GILT+12 GIT-9 GMT+0 GST+4 GYT-4 H+8 HAA-3 HAC-5 HADT-9 HAE-4 HAP-7
HAR-6 HAST-10 HAT-2:30 HAY-8 HKT+8 HLV-4:30 HMT+5 HNA-4 HNC-6 HNE-5 HNP-8 HNR-7 HNT-3:30 HNY-9 HOVT+7 HST-10 I+9
ICT+7 IDT+3 IOT+6 IRDT+4:30 IRKST+9 IRKT+8 IRST+3:30 JST+9 K+10 KGT+6 KRAST+8 KRAT+7 KST+9 KUYT+4 L+11 LHDT+11
LHST+10:30 M+12 MAGST+12 MAGT+11 MART-9:30 MAWT+5 MDT-6 MHT+12 MIT-9:30 MMT+6:30 MSD+4 MSK+3 MST-7 MUT+4 MVT+5 MYT+8
N-1 NCT+11 NDT-2:30 NFT+11:30 NOVST+7 NOVT+6 NPT+5:45 NST-3:30 NT-3:30 NUT-11 NZDT+13 NZST+12 O-2 OMSST+7 OMST+6 P-3
PDT-7 PET-5 PETST+12 PETT+12 PGT+10 PHT+8 PKT+5 PMDT-2 PMST-3 PONT+11 PST-8 PT-8 PWT+9 PYST-3 PYT-4 Q-4 R-5 RET+4
S-6 SAMT+4 SAST+2 SBT+11 SCT+4 SGT+8 SLT+5:30 SRT-3 SST-11 T-7 TAHT-10 TFT+5 THA+7 TJT+5 TKT-10 TLT+9 TMT+5 TVT+12
U-8 ULAT+8 UTC+0 UYST-2 UYT-3 UZT+5 V-9 VET-4:30 VLAST+11 VLAT+10 VUT+11 W-10 WAST+2 WAT+1 WDT+9 WEDT+1 WEST+1 WET+0
WFT+12 WGST-2 WGT-3 WIB+7 WIT+9 WITA+8 WST+8 WT+0 X-11 Y-12 YAKST+10 YAKT+9 YAPT+10 YEKST+6 YEKT+5 Z+0
"""


def _minutes(sign: str, hours: str, minutes: str | None) -> int:
    return (-1 if sign == "-" else 1) * (int(hours) * 60 + int(minutes or 0))


ABBREVIATIONS = {
    name: _minutes(sign, hours, minutes)
    for name, sign, hours, minutes in re.findall(r"([A-Z]+)([+-])(\d+)(?::(\d\d))?", _WRITTEN)
}
"""Minutes east of UTC by upper-case abbreviation."""

_SPELLING = re.compile(r"([A-Z]{1,5})?(?:([+-])([01][0-9])(?::?([0-9]{2}))?)?", re.ASCII).fullmatch
_DAY_MINUTES = 24 * 60


def offset_minutes(text: str) -> int | None:
    """Minutes east of UTC of an abbreviation, an offset (`+01`, `+0100`, `+01:00`) or both; None if it is neither.

    An abbreviation is in upper case: what else stands before a date is a name."""
    spelled = _SPELLING(text)
    if spelled is None or not text:
        return None
    name, sign, hours, minutes = spelled.groups()
    base = ABBREVIATIONS.get(name) if name else 0
    if base is None:
        return None
    total = base + (_minutes(sign, hours, minutes) if sign else 0)
    return total if abs(total) < _DAY_MINUTES else None


def zone_of(logtimezone: str) -> tzinfo:
    """The zone of a `logtimezone`. ValueError says what may be written."""
    minutes = offset_minutes(logtimezone.upper())
    if minutes is not None:
        return timezone(timedelta(minutes=minutes))
    if "/" in logtimezone and (named := _named(logtimezone)) is not None:
        return named
    near = get_close_matches(logtimezone.upper(), ABBREVIATIONS, 1)
    raise ValueError(
        f"logtimezone {logtimezone!r} is no known zone{f' (is {near[0]} meant?)' if near else ''}; "
        "expected an offset such as +0200, an abbreviation such as CET, both (UTC+0300), or a name such as Europe/Paris"
    )


def _named(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  seldom wanted, and not small

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
