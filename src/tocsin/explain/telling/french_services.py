"""What is said of services that memory ran out with, and of their limits, in French; as in `french_sentences`."""

from __future__ import annotations

SERVICES = """
Times without a zone were taken to be at {zone}, as the system's logs are.
= Les heures sans fuseau ont été lues en {zone}, comme celles des journaux du système.
No log names a zone: times without one were taken to be at this machine's, or at that of --tz.
= Aucun journal ne nomme de fuseau : les heures sans fuseau ont été lues dans celui de cette machine, ou de --tz.
the kernel
= le noyau
On {ts:time} memory ran out, and {killer} killed {names}
= Le {ts:time}, la mémoire s’est épuisée et {killer} a tué {names}
On {ts:time} memory ran out, and {killer} killed {names}, {number} processes in all
= Le {ts:time}, la mémoire s’est épuisée et {killer} a tué {names}, {number} processus en tout
On {ts:time} memory ran out, and {names} were killed, {number} processes in all
= Le {ts:time}, la mémoire s’est épuisée et {names} ont été tués, {number} processus en tout
look for what it never frees; until then let it be started again by itself
= cherchez ce qu’il ne libère jamais ; d’ici là, faites-le redémarrer de lui-même
look for what it never frees; until then a limit somewhat below the {share:share} that it held has it started again
  before the machine's memory runs out (what it needs while it is well, no log says)
= cherchez ce qu’il ne libère jamais ; d’ici là, une limite un peu au-dessous des {share:share} qu’il occupait le fait
  redémarrer avant que la mémoire de la machine s’épuise (ce qu’il lui faut en temps normal, aucun journal ne le dit)
raise that limit, if the machine has room, or keep the program below it by a limit of its own (java -Xmx, node
  --max-old-space-size), and look for what it never frees
= relevez cette limite, si la machine a de la place, ou tenez le programme au-dessous par une limite à lui (java -Xmx,
  node --max-old-space-size), et cherchez ce qu’il ne libère jamais
let the pools of all applications together stay below max_connections, or put one pool before the database (PgBouncer,
  ProxySQL); raise it only as far as the memory bears. This shows who holds them
= que les réserves de connexions de toutes les applications restent ensemble au-dessous de max_connections, ou placez-en
  une seule devant la base (PgBouncer, ProxySQL) ; ne relevez la limite que si la mémoire le permet. Ceci montre qui les
  tient
{process} runs as a service, and held {size:size} when memory gave out and it was killed
= {process} tourne comme service, et occupait {size:size} quand la mémoire a manqué et qu’il a été tué
{process} runs as a service, and was killed when memory gave out
= {process} tourne comme service, et a été tué quand la mémoire a manqué
the memory of {process}
= la mémoire de {process}
requests rose as well: they may have called for it
= les requêtes ont augmenté aussi : elles ont pu la réclamer
no access log covers that time: requests may have called for it
= aucun journal d’accès ne couvre ce moment : des requêtes ont pu la réclamer
the memory limit of {process}
= la limite de mémoire de {process}
{unit} reached its own limit of memory, and {process} in it was killed
= {unit} a atteint sa propre limite de mémoire, et {process}, qui y tournait, a été tué
{unit} reached its own limit of {limit:size} of memory, not the machine's, and {process} in it was killed
= {unit} a atteint sa propre limite de {limit:size} de mémoire, non celle de la machine, et {process}, qui y tournait, a
  été tué
it was killed when memory gave out
= il a été tué quand la mémoire a manqué
it was killed when memory gave out: it held {size:size}
= il a été tué quand la mémoire a manqué : il occupait {size:size}
"""
