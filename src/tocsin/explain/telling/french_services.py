"""What is said of services that memory ran out with, and of their limits, in French; as in `french_sentences`."""

from __future__ import annotations

SERVICES = """
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
