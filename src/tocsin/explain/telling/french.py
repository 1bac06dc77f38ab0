"""French: each English sentence and its translation, with the same places.

Written with plain spaces before `: ; ! ? » %` and after `«`; `words.typeset` makes them no-break ones. `{n:s}` is the
plural's `s` of the word before, where the number `n` wants one.
"""

from __future__ import annotations

from tocsin.explain.telling import french_sentences as sentences
from tocsin.explain.telling.french_advice import ADVICE
from tocsin.explain.telling.french_services import SERVICES

DAYS = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")
MONTHS = (
    *("janvier", "février", "mars", "avril", "mai", "juin", "juillet"),
    *("août", "septembre", "octobre", "novembre", "décembre"),
)

WORDS: dict[str, dict[str, tuple[str, str]]] = {
    "symptom": {
        "database-down": ("the database does not answer", "la base de données ne répond pas"),
        "backend-down": ("nobody answers behind the web server", "rien ne répond derrière le serveur web"),
        "backend-slow": (
            "what is behind the web server is too slow",
            "ce qui est derrière le serveur web est trop lent",
        ),
        "out-of-memory": ("a program gets no memory", "un programme n’obtient plus de mémoire"),
        "fatal": ("a program fails with an error", "un programme échoue sur une erreur"),
        "denied": ("refused on purpose", "refusé à dessein"),
        "login": ("a login failed", "une connexion a été refusée"),
        "timeout": ("a client was too slow", "un client a été trop lent"),
    },
    "error": {
        "full": ("full", "plein"),
        "inodes": ("out of inodes", "à court d’inodes"),
        "read-only": ("mounted read-only", "monté en lecture seule"),
        "io": ("broken (input/output error)", "défaillant (erreur d’entrée-sortie)"),
    },
    "limit": {
        "listen queue": ("listen queue", "« file d’attente des connexions »"),
        "open files": ("open files", "« fichiers ouverts »"),
        "header timeout": ("header timeout", "« délai des en-têtes »"),
    },
    "cause": {
        "disk-full": ("a full disk", "un disque plein"),
        "local-job": ("a job on the machine itself", "une tâche de la machine elle-même"),
        "crash": ("a program that fails by itself", "un programme qui tombe de lui-même"),
        "slow-connections": ("connections that never finish", "des connexions qui n’aboutissent jamais"),
        "login-bruteforce": ("guessing at passwords", "des essais de mots de passe"),
        "crawler": ("a crawler that fetches too much", "un robot d’indexation trop gourmand"),
        "distributed-flood": ("a flood from many addresses", "une inondation venue de nombreuses adresses"),
        "request-flood": ("a flood from few addresses", "une inondation venue de quelques adresses"),
        "expensive-requests": ("requests that cost too much", "des requêtes trop coûteuses"),
        "legitimate-surge": ("more visitors than the machine holds", "plus de visiteurs que la machine n’en supporte"),
        "misconfiguration": ("limits that the machine cannot honour", "des limites que la machine ne peut tenir"),
    },
}
"""What the reasoning names by a code: place, code, its English and its French."""

TELLING = """
Why the server went down
= Pourquoi le serveur est tombé
Nothing went wrong in the time that these logs tell of.
= Rien n’a mal tourné pendant le temps que racontent ces journaux.
No outage can be told from these logs; what they do not show stands below.
= Ces journaux ne permettent de reconnaître aucune panne ; ce qu’ils ne montrent pas est indiqué plus bas.
{number} outages, the latest first.
= {number} pannes, la plus récente d’abord.
The first {number} follow; --html FILE or --json tell all.
= Voici les {number} premières ; --html FICHIER ou --json les donnent toutes.
it began to build up {span:span} before
= la montée a commencé {span:span} avant
it came {number} times:
= c’est arrivé {number} fois :
Do now:
= À faire tout de suite :
What to do:
= À faire :
Then
= Ensuite
How it came about
= Comment c’est arrivé
(inferred)
= (déduit)
Suspects
= Suspects
share
= part
lift
= hausse
for:
= pour :
against:
= contre :
by:
= par :
of the load that came on top
= de la surcharge
its normal
= sa normale
requests
= requêtes
Whom to shut out, whom to spare
= Qui écarter, qui épargner
refuse
= refuser
ban
= bannir
do not ban
= ne pas bannir
{all} in all
= {all} en tout
{all} in all: --html FILE shows them, --json has them in "ban"
= {all} en tout : --html FICHIER les montre, --json les donne dans « ban »
and {more} more
= et {more} de plus
… and {more} more
= … et {more} de plus
To know
= À savoir
not found: {what}
= introuvable : {what}
What was read, and what was not seen
= Ce qui a été lu, et ce qui n’a pas été vu
Read: {lines} lines of {sources} sources.
= Lu : {lines} ligne{lines:s} de {sources} source{sources:s}.
Times are {zone}.
= Les heures sont en {zone}.
source
= source
kind
= genre
from
= du
to
= au
lines
= lignes
not seen
= non vu
{more} more sources that say nothing
= {more} autre{more:s} source{more:s} sans rien à dire
empty
= vide
names no times that could be placed
= ne donne aucune heure que l’on puisse situer
{unparsed} of {lines} lines could not be read
= {unparsed} ligne{unparsed:s} illisible{unparsed:s} sur {lines}
silent
= muet
silent {more} more times, not as long
= muet {more} fois encore, moins longtemps
query with "{query}"
= paramètres contenant « {query} »
without a query
= sans paramètres
agent with "{agent}"
= agent contenant « {agent} »
without an agent
= sans agent
site {name}
= site {name}
capacity: {capacity}
= capacité : {capacity}
it begins
= début
the outage
= la panne
everything else
= tout le reste
workers busy
= processus serveur occupés
workers busy (estimated from the kind of request)
= processus serveur occupés (estimation d’après le genre des requêtes)
Load by class of requests, and what fell when
= La charge par classe de requêtes, et ce qui est tombé quand
"""
"""What the terminal and the page say by themselves; as in `french_sentences`."""

EXONERATING = """
No verdict: what happened is known, but not who did it.
= Pas de verdict : on sait ce qui s’est passé, mais pas qui l’a fait.
{service} is told to stop
= {service} reçoit l’ordre de s’arrêter
{service} has stopped
= {service} s’est arrêté
{service} was stopped on {ts:time} as it was told; by whom, and why, no log says
= {service} a été arrêté sur ordre le {ts:time} ; par qui et pourquoi, aucun journal ne le dit
{requests} requests in {span:span} by the site's own WordPress, to run its scheduled jobs
= {requests} requête{requests:s} en {span:span} du WordPress du site lui-même, pour exécuter ses tâches planifiées
it is the site's own server: its WordPress calls itself
= c’est le serveur du site lui-même : son WordPress s’appelle lui-même
let the machine's cron run WordPress's jobs, in place of its requests to itself
= faites exécuter les tâches de WordPress par le cron de la machine, au lieu de ses requêtes à lui-même
it behaves like a visitor: it followed {referred} links
= elle se comporte comme un visiteur : elle a suivi {referred} lien{referred:s}
visitors come from the same {number} networks as these requests, such as {network}: they are of what stands before the
  site (a CDN, a proxy), and to ban it is to shut everybody out; let the web server take the clients' own addresses from
  it (mod_remoteip, ngx_http_realip_module)
= les visiteurs viennent des mêmes {number} réseaux que ces requêtes, tels que {network} : ce sont ceux de ce qui
  précède le site (un CDN, un mandataire), et le bannir, c’est fermer à tout le monde ; faites prendre au serveur web
  les adresses des clients eux-mêmes (mod_remoteip, ngx_http_realip_module)
it held {size:size}, {share:share} of the memory; whether it serves requests is not known
= il occupait {size:size}, {share:share} de la mémoire ; on ne sait s’il sert des requêtes
these logs hold next to no files of pages at any time: that these fetched none says nothing of them
= ces journaux ne contiennent presque jamais de fichiers de pages : n’en avoir demandé aucun ne prouve rien
{requests} requests in {span:span} by {addresses} addresses with browsers of several kinds, as readers of a letter or an
  advertisement come; {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} de {addresses} adresse{addresses:s}, de navigateurs divers, comme
  viennent les lecteurs d’une lettre ou d’une annonce ; {share:share} de la surcharge, {lift:times} l’habitude
most of them failed, and they came when a service was gone already: rather retries, an effect of it
= la plupart ont échoué, et elles sont venues quand un service avait déjà disparu : plutôt de nouveaux essais, un effet
"""
"""What shows that somebody only looks like the cause; as in `french_sentences`."""


def _pairs(text: str) -> dict[str, str]:
    """The sentences of a catalogue and their translations."""
    found: dict[str, str] = {}
    english = ""
    for line in text.strip().splitlines():
        if line.startswith("= "):
            found[english] = line[2:]
        elif not line.startswith("  "):
            english = line
        elif english in found:
            found[english] += line[1:]
        else:
            english += line[1:]
    return found


FRENCH: dict[str, str] = {
    **_pairs(sentences.VERDICTS),
    **_pairs(sentences.CHAIN),
    **_pairs(sentences.SUSPECTS),
    **_pairs(sentences.REMEDIES),
    **_pairs(sentences.EVIDENCE),
    **_pairs(ADVICE),
    **_pairs(TELLING),
    **_pairs(EXONERATING),
    **_pairs(SERVICES),
}
