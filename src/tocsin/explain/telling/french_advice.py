"""What the chain tells and what is advised, in French; as in `french_sentences`."""

from __future__ import annotations

ADVICE = """
a program fails by an error of its own
= un programme échoue par une erreur qui lui est propre
{service} did not come back
= {service} n’est pas revenu
ban whom this names
= bannissez ceux qui sont nommés ici
ban all whom this names (give it the same logs, where you named any)
= bannissez tous ceux qui sont nommés ici (redonnez les mêmes journaux, si vous en aviez nommé)
nothing but the address tells these requests from visitors': there is no rule, and nothing to deny
= seule l’adresse distingue ces requêtes de celles des visiteurs : il n’y a ni règle ni classe à refuser
{what}; {why}
= {what} ; {why}
the machine was not shut down, and booted at {ts:time}
= la machine n’a pas été arrêtée, et a démarré le {ts:time}
the machine stood still for {span:span}
= la machine est restée figée {span:span}
{fell}; {known}. What brought it there is not proven.
= {fell} ; {known}. Ce qui a mené là n’est pas prouvé.
On {ts:time}: {what}; on {later:time}: {then}
= Le {ts:time} : {what} ; le {later:time} : {then}
No verdict: the evidence does not reach.
= Pas de verdict : les preuves ne suffisent pas.
let the web server open the socket {path}: its owner, group and mode
= laissez le serveur web ouvrir la prise {path} : son propriétaire, son groupe et son mode
no socket is at {path}: give the web server the path that the pool listens at
= aucune prise en {path} : donnez au serveur web le chemin sur lequel écoute le pool
ask {crawler} not to fetch these, in robots.txt: it minds no Crawl-delay
= demandez à {crawler} de ne pas les lire, dans robots.txt : il ignore Crawl-delay
{crawler} minds no Crawl-delay: name in robots.txt what it need not fetch
= {crawler} ignore Crawl-delay : nommez dans robots.txt ce qu’il n’a pas à lire
nobody is to be banned, and no cache can answer these: have as many workers as the memory bears, or let fewer visitors
  in at a time
= personne n’est à bannir, et aucun cache ne peut répondre : autant de processus serveur que la mémoire en supporte, ou
  moins de visiteurs admis à la fois
such requests came since {ts:time} at least: their number, and whom to ban, are of all that time
= ces requêtes sont venues depuis le {ts:time} au moins : leur nombre, et qui bannir, valent pour tout ce temps
such requests went on after the last symptom until {ts:time} at least: their number, and whom to ban, are of all that
  time
= ces requêtes ont continué après le dernier symptôme, au moins jusqu’au {ts:time} : leur nombre, et qui bannir, valent
  pour tout ce temps
visitors come from few networks, such as {network}: they are of what stands before the site (a CDN, a proxy), and nobody
  can be told from others; let the web server take the clients' own addresses from it (mod_remoteip,
  ngx_http_realip_module)
= les visiteurs viennent de peu de réseaux, comme {network} : ce sont ceux de ce qui se tient devant le site (un CDN, un
  mandataire), et l’on ne distingue personne ; que le serveur web en tire les adresses des clients eux-mêmes
  (mod_remoteip, ngx_http_realip_module)
"""
