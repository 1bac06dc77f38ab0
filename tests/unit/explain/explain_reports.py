"""Reports as the reasoning would make them: a flood, a job of the machine's own, a quiet day, one that abstains."""

from __future__ import annotations

import math

from tocsin.explain.model import (
    Actor,
    Coverage,
    Gap,
    Incident,
    Link,
    Mark,
    Remedy,
    Report,
    Said,
    Series,
    Spared,
    Suspect,
    Timeline,
    say,
)
from tocsin.model import Signature

AGENT = "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"
XMLRPC = Signature(method="POST", path="/xmlrpc.php", user_agent="Googlebot/2.1")
START = 1436124360.0  # 2015-07-05 19:26:00 UTC
ACCESS = "/var/log/apache2/blog.example/access.log"
ERROR = "/var/log/apache2/error.log"
SYSLOG = "/var/log/syslog"
FOUNDING = (
    "[Sun Jul 05 19:21:12 2015] [error] server reached MaxClients setting, consider raising the MaxClients setting"
)
KILLED = (
    "Jul  5 21:26:42 web kernel: [4747880.176918] Killed process 6898 (mysqld) "
    "total-vm:1319164kB, anon-rss:402344kB, file-rss:0kB"
)
RULE = """[explained-xmlrpc-php]
title  = "distributed-flood"
on     = "http-request"
where  = { method = "POST", path = "/xmlrpc.php" }
by     = "address"
limit  = 3
within = "10m"
ban    = "1d"
"""
HOSTS = tuple([f"203.0.113.{i}" for i in range(1, 255)] + [f"198.51.100.{i}" for i in range(1, 60)])
LIMIT = say("{service} reached its limit {limit}", service="apache2", limit="MaxClients")
MYSQL_KILLED = say("out of memory: {process} was killed, holding {rss:size}", process="mysqld", rss=412e6)
SILENCE = say("no request was logged for {span:span}", span=960)


def quoted(host: str, second: int) -> str:
    """A line of the flood."""
    return f'{host} - - [05/Jul/2015:21:24:{second:02} +0200] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "{AGENT}"'


def wave(base: float, height: float, onset: int, steps: int = 60) -> tuple[float, ...]:
    """Load by minute that rises at `onset` and falls when the machine is gone."""
    swing = [base * (1 + 0.3 * math.sin(i / 5)) for i in range(steps)]
    rise = [height * min(1.0, max(0.0, (i - onset) / 4)) if i < onset + 14 else 0.0 for i in range(steps)]
    return tuple(round(a + b, 2) for a, b in zip(swing, rise, strict=True))


def why(requests: int, addresses: int, share: float, lift: float) -> Said:
    """What speaks against a class of requests."""
    return say(
        "{requests} requests in {span:span} by {addresses} addresses; {share:share} of the excess load (estimated: "
        "no durations are logged), {lift:times} the usual rate",
        requests=requests,
        span=840,
        addresses=addresses,
        share=share,
        lift=lift,
    )


def flood() -> Report:
    """The first founding incident, had its logs been read at once."""
    memory = say(
        "On {ts:time} memory ran out, and {killer} killed {names}, {number} processes in all",
        ts=START + 42,
        killer=say("the kernel"),
        names="mysqld",
        number=1,
    )
    cause = say(
        "The cause: {requests} requests {name} from {number} addresses, few from each.",
        requests=5210,
        name=say("{requests}", requests="POST /xmlrpc.php"),
        number=len(HOSTS),
    )
    workers = say("{workers} processes of {worker} hold {held:size} then", workers=212, worker="apache2", held=1.3e10)
    incident = Incident(
        start=START,
        end=START + 1260,
        onset=START - 120,
        cause="distributed-flood",
        confidence=0.94,
        summary=say("{fell}. {why}", fell=memory, why=cause),
        chain=(
            Link(START - 120, say("requests of the class begin"), True, ACCESS, 18231, quoted("203.0.113.9", 2)),
            Link(START - 15, LIMIT, True, ERROR, 71, FOUNDING.replace("19:21:12", "21:25:45")),
            Link(START + 10, workers, False),
            Link(START + 42, MYSQL_KILLED, True, SYSLOG, 90211, KILLED),
            Link(START + 300, SILENCE, True),
            Link(None, say("no access log covers this time"), False, missing=True),
        ),
        suspects=(
            Suspect(
                "requests",
                "distributed-flood",
                say('POST /xmlrpc.php, agent with "Googlebot/2.1"'),
                why(5210, len(HOSTS), 0.94, 38.2),
                XMLRPC,
                actors=tuple(Actor(host, 20 - i // 20) for i, host in enumerate(HOSTS)),
                requests=5210,
                share=0.94,
                lift=38.2,
                counter_evidence=say("what each request cost is an estimate: log durations (%D) to be sure"),
            ),
            Suspect(
                "requests",
                "legitimate-surge",
                say("GET /feed/"),
                why(311, 1, 0.04, 1.2),
                Signature("GET", "/feed/"),
                actors=(Actor("192.0.2.80", 40),),
                requests=311,
                share=0.04,
                lift=1.2,
                counter_evidence=say("such requests came before, too: {before} in {span:span}", before=260, span=840),
            ),
        ),
        ban=HOSTS,
        deny=(XMLRPC,),
        spare=(
            Spared(
                "66.249.66.1", say("a genuine {crawler}: its address is one that is published", crawler="Googlebot")
            ),
        ),
        remedies=(
            Remedy(say("this rule for Tocsin bans who sends such requests"), RULE),
            Remedy(
                say("{service} was down when the logs end: start it", service="mysql"),
                "systemctl restart mysql",
                now=True,
            ),
        ),
        notes=(say("no durations are logged: the cost of requests is estimated from their kind"),),
        times=(START - 4 * 3600, START),
        timeline=flood_timeline(),
    )
    return Report(coverage(), (incident,), quiet=False, notes=(say("The kernel log was not given."),))


def flood_timeline() -> Timeline:
    """What the picture of the flood shows."""
    return Timeline(
        START - 1800,
        60,
        say("workers busy"),
        (
            Series(say("POST /xmlrpc.php"), wave(0.2, 180, 28), suspect=True),
            Series(say("GET pages"), wave(6, 0, 28)),
            Series(say("GET /feed/"), wave(2, 3, 26)),
            Series(say("everything else"), wave(3, 0, 28)),
        ),
        (
            Mark(START - 15, "limit", LIMIT),
            Mark(START + 42, "killed", MYSQL_KILLED),
            Mark(START + 55, "state", say("{service} died", service="mysqld")),
            Mark(START + 300, "silence", SILENCE),
        ),
        150,
    )


def coverage() -> tuple[Coverage, ...]:
    """What was read, of which one fell silent."""
    gap = Gap(START + 300, START + 1260)
    return (
        Coverage(ACCESS, "access", START - 86400, START + 3600, 184_211, 3, (gap,)),
        Coverage(ERROR, "error", START - 86400, START + 3600, 812, 0),
        Coverage(SYSLOG, "system", START - 86400, START + 3600, 90_300, 0, notes=(say("years were guessed"),)),
        Coverage("/var/log/mysql/mysql-slow.log", "slow-query", None, None, 0, 0),
    )


def local_job() -> Report:
    """A backup at night that took memory and disk."""
    at = 1718758800.0
    job = say("{by} starts {command}", by="cron", command="/usr/local/bin/backup.sh")
    killed = say("memory is out: {process} is killed", process="mysqld")
    cron = "Jun 19 03:00:00 web CRON[812]: (root) CMD (/usr/local/bin/backup.sh)"
    suspect = Suspect(
        "process",
        "local-job",
        say("{process}, started by {by}", process="backup.sh", by="cron"),
        say("it began {span:span} before the first symptom", span=300),
        process="backup.sh",
        counter_evidence=say("nothing shows that it took memory or processor"),
    )
    incident = Incident(
        start=at + 300,
        end=at + 1500,
        onset=at,
        cause="local-job",
        confidence=0.78,
        summary=say("On {ts:time}: {what}", ts=at + 300, what=killed),
        chain=(
            Link(at, job, True, SYSLOG, 12, cron),
            Link(at + 300, killed, True, SYSLOG, 44, "Jun 19 03:05:00 web kernel: Killed process 812 (mysqld)"),
        ),
        suspects=(suspect,),
        remedies=(
            Remedy(
                say("run the job with a limit of memory, and at another time"),
                "systemd-run --scope -p MemoryMax=25% -p CPUWeight=20 backup.sh",
            ),
        ),
        timeline=Timeline(
            at - 900,
            60,
            say("workers busy"),
            (Series(say("everything else"), wave(30, 0, 20, 45)),),
            (Mark(at, "job", job), Mark(at + 300, "killed", killed)),
        ),
    )
    return Report(coverage(), (incident,), quiet=False)


def quiet() -> Report:
    """Nothing went wrong."""
    return Report(coverage(), (), quiet=True)


def abstaining() -> Report:
    """One line of an error log, and nothing to hold it against."""
    snapshot = "* * * * * root (date; ps aux --sort=-rss | head -40; free; ss -tn) >> /var/log/snapshot.log"
    incident = Incident(
        start=START,
        end=START,
        onset=START,
        cause="unknown",
        confidence=0.5,
        summary=say(
            "{fell}. What brought it there is not proven.",
            fell=say("On {ts:time}: {what}", ts=START, what=LIMIT),
        ),
        chain=(
            Link(START, LIMIT, True, ERROR, 1, FOUNDING),
            Link(None, say("no access log was found"), False, missing=True),
        ),
        suspects=(),
        remedies=(
            Remedy(
                say(
                    "to know next time: keep the access logs, and take a snapshot of processes and connections each "
                    "minute"
                ),
                snapshot,
            ),
        ),
    )
    return Report((Coverage(ERROR, "error", START, START, 1, 0),), (incident,), quiet=False)


REPORTS = {"flood": flood, "local-job": local_job, "quiet": quiet, "abstaining": abstaining}
