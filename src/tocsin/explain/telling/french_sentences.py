"""What the reasoning says, in French: a line of English, a line of French behind `= `; an indented line goes on.

As in `french`: plain spaces, which are made no-break ones later; `{n:s}` is the plural's `s`.
"""

from __future__ import annotations

VERDICTS = """
The disk was full
= Le disque était plein
A job on the machine itself took everything
= Une tâche de la machine elle-même a tout pris
A program failed by itself
= Un programme est tombé de lui-même
Connections that hold workers and never finish
= Des connexions qui occupent les processus serveur sans jamais aboutir
Passwords were being guessed
= Quelqu’un essayait des mots de passe
A crawler fetched more than the site bears
= Un robot d’indexation a demandé plus que le site ne supporte
A flood of requests, few from each of many addresses
= Une inondation de requêtes venue d’une foule d’adresses
A flood of requests from few addresses
= Une inondation de requêtes venue de quelques adresses
Few requests, each too expensive
= Peu de requêtes, mais chacune trop coûteuse
More visitors than the machine can hold
= Plus de visiteurs que la machine n’en supporte
Limits that the machine cannot honour
= Des limites que la machine ne peut tenir
The cause is not proven
= La cause n’est pas prouvée
Certainty: {level:share}, as good as proven.
= Certitude : {level:share}, autant dire prouvé.
Certainty: {level:share}, likely; look at what speaks against it.
= Certitude : {level:share}, probable ; voyez ce qui s’y oppose.
Certainty: {level:share}, more likely than not; look at what speaks against it.
= Certitude : {level:share}, plutôt oui que non ; voyez ce qui s’y oppose.
Certainty: {level:share}, a guess to be checked.
= Certitude : {level:share}, une hypothèse à vérifier.
No verdict: the evidence does not reach. What is missing stands below.
= Pas de verdict : les preuves ne suffisent pas. Ce qui manque est indiqué plus bas.
{fell}. {why}
= {fell}. {why}
{fell}. What brought it there is not proven.
= {fell}. Ce qui a mené là n’est pas prouvé.
On {ts:time}: {what}
= Le {ts:time} : {what}
{requests} as "{agent}"
= {requests} sous le nom « {agent} »
The cause: the disk was full ({why}).
= La cause : le disque était plein ({why}).
The cause is no attack but a job on the machine itself, {name}: {why}.
= La cause n’est pas une attaque mais une tâche de la machine elle-même, {name} : {why}.
The cause is no attack: {name} failed by itself; {why}.
= La cause n’est pas une attaque : {name} est tombé de lui-même ; {why}.
The cause: {why}, from {number} addresses.
= La cause : {why}, depuis {number} adresse{number:s}.
The cause: passwords were guessed at {name}, {requests} times from {number} addresses.
= La cause : des mots de passe ont été essayés sur {name}, {requests} fois depuis {number} adresse{number:s}.
The cause: a crawler fetched more than the site bears: {name}, {requests} requests.
= La cause : un robot d’indexation a demandé plus que le site ne supporte : {name}, {requests} requête{requests:s}.
The cause: {requests} requests {name} from {number} addresses, few from each.
= La cause : {requests} requête{requests:s} {name} venue{requests:s} de {number} adresse{number:s}, quelques-unes par
  adresse.
The cause: {requests} requests {name} from {number} addresses.
= La cause : {requests} requête{requests:s} {name} venue{requests:s} de {number} adresse{number:s}.
The cause: requests that cost too much, {name}, {requests} of them.
= La cause : des requêtes trop coûteuses, {name}, au nombre de {requests}.
The cause is no attack: more visitors came than the machine holds ({why}).
= La cause n’est pas une attaque : il est venu plus de visiteurs que la machine n’en supporte ({why}).
The cause: {why}.
= La cause : {why}.
{number} outages were found; the last {kept} are explained
= {number} pannes ont été trouvées ; les {kept} dernières sont expliquées
{number} outages have one cause ({cause}): a habit, not an accident
= {number} pannes ont la même cause ({cause}) : une habitude, pas un accident
a suspect is active now, but its lines are not from the time of the outage and prove nothing of it: {requests} {what}
  from {addresses} addresses, as "{agent}"; keep the access logs of the next outage
= un suspect est actif en ce moment, mais ses lignes ne datent pas de la panne et n’en prouvent rien : {requests}
  {what} depuis {addresses} adresse{addresses:s}, sous le nom « {agent} » ; gardez les journaux d’accès de la
  prochaine panne
no access log covers the time of this outage: nobody can be convicted of it by requests
= aucun journal d’accès ne couvre le moment de cette panne : personne ne peut en être accusé pour ses requêtes
no durations are logged: the cost of requests is estimated from their kind
= aucune durée n’est journalisée : le coût des requêtes est estimé d’après leur genre
a request is logged when it ends: no log names those that held every worker of {service}
= une requête est journalisée à sa fin : aucun journal ne nomme celles qui occupaient tous les processus de {service}
{fitting} workers of {size:size} would have fitted into memory; {workers} ran
= {fitting} processus serveur de {size:size} auraient tenu en mémoire ; il en tournait {workers}
the kernel's log names no time: its first kill was put where the other logs show the outage
= le journal du noyau ne donne pas l’heure : le premier processus tué est placé à la panne que montrent les autres
the kernel's log names no time: its kills stand at the end of the other logs, when they were is unknown
= le journal du noyau ne donne pas l’heure : ses processus tués sont placés à la fin des autres journaux, sans qu’on
  sache quand c’était
"""

CHAIN = """
requests of the class begin
= les requêtes de cette classe commencent
and go on
= et continuent
{by} starts {command}
= {by} lance {command}
{package} is changed
= {package} est modifié
{service} is near its limit {limit}
= {service} approche de sa limite {limit}
{service} reaches its limit {limit}
= {service} atteint sa limite {limit}
storage refuses to take more
= le disque ne prend plus rien
a query takes {span:span}
= une requête à la base prend {span:span}
memory is out: {process} is killed, {number} times in all
= mémoire épuisée : {process} est tué, {number} fois en tout
memory is out: {process} is killed
= mémoire épuisée : {process} est tué
pages find no database
= les pages ne trouvent plus la base de données
the web server finds nobody behind it
= le serveur web ne trouve plus personne derrière lui
the web server waits in vain for what is behind it
= le serveur web attend en vain ce qui est derrière lui
a program gets no memory
= un programme n’obtient plus de mémoire
{service} dies
= {service} meurt
{service} stays down: its supervisor gave up
= {service} reste arrêté : son superviseur a renoncé
{service} refuses to start
= {service} refuse de démarrer
{service} is started again by its supervisor
= {service} est relancé par son superviseur
{service} finds that it was killed
= {service} constate qu’il a été tué
{service} is ready again
= {service} est de nouveau prêt
{workers} processes of {worker} hold {held:size} then
= {workers} processus {worker} occupent alors {held:size}
{killed} killed workers never logged the requests that they were at
= {killed} processus serveur tués n’ont jamais journalisé les requêtes qu’ils traitaient
no access log was found
= aucun journal d’accès
no access log covers this time
= aucun journal d’accès ne couvre ce moment
{process} was ended by signal {signal}
= {process} a été arrêté par le signal {signal}
out of memory: {process} was killed, holding {rss:size}
= mémoire épuisée : {process} a été tué, il occupait {rss:size}
out of memory: {process} was killed
= mémoire épuisée : {process} a été tué
no request was logged for {span:span}
= aucune requête n’a été journalisée pendant {span:span}
{failed} of {requests} requests failed within a minute
= {failed} requête{failed:s} sur {requests} en échec en une minute
{timeouts} connections within a minute never completed a request
= {timeouts} connexion{timeouts:s} sans requête complète en une minute
requests took {mean:span} on average, the slowest {slowest:span}
= les requêtes ont pris {mean:span} en moyenne, la plus lente {slowest:span}
{service} reached its limit {limit}
= {service} a atteint sa limite {limit}
{service} died
= {service} est mort
{service} refused to start
= {service} a refusé de démarrer
{service} found that it had been killed
= {service} a constaté qu’il avait été tué
{service} could not write: storage is {error}
= {service} n’a pas pu écrire : le disque est {error}
{service} stood still for {span:span}
= {service} est resté figé pendant {span:span}
{service}: {symptom}
= {service} : {symptom}
"""

SUSPECTS = """
it came before the outage began, too, and sent but {requests} of these
= elle venait déjà avant la panne, et n’en a envoyé que {requests}
such requests came from it, or from beside it, before, and as often as now
= de telles requêtes venaient déjà d’elle, ou d’à côté, et aussi souvent que maintenant
{requests} requests in {span:span} by {addresses} addresses; {share:share} of the excess load (estimated: no durations
  are logged), {lift:times} the usual rate
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s} ; {share:share} de la
  surcharge (estimation : aucune durée n’est journalisée), {lift:times} le rythme habituel
{requests} requests in {span:span} by {addresses} addresses; {share:share} of the excess time of workers, {lift:times}
  the usual rate
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s} ; {share:share} du temps de
  travail en trop, {lift:times} le rythme habituel
{requests} requests in {span:span} by {addresses} addresses that fetch pages with their files, as browsers do;
  {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s} prenant les pages avec
  leurs fichiers, comme les navigateurs ; {share:share} de la surcharge, {lift:times} l’habitude
{requests} requests in {span:span} by {addresses} addresses that follow links from page to page, as visitors do;
  {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s} allant de page en page par les
  liens, comme des visiteurs ; {share:share} de la surcharge, {lift:times} l’habitude
{requests} requests in {span:span} by {addresses} addresses, most of them servers of the fediverse, each for a preview
  of what was shared; {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s}, pour la plupart des serveurs du
  fédivers, chacun pour l’aperçu d’un partage ; {share:share} de la surcharge, {lift:times} l’habitude
{requests} requests in {span:span} by {addresses} addresses, most of them from the published networks of crawlers such
  as {crawler}; {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s}, pour la plupart depuis les
  réseaux publiés de robots tels que {crawler} ; {share:share} de la surcharge, {lift:times} l’habitude
{requests} requests in {span:span} by {addresses} addresses, most of them git's own, which fetches repositories and was
  answered; {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s}, pour la plupart de git, qui
  récupère des dépôts et a été servi ; {share:share} de la surcharge, {lift:times} l’habitude
{requests} requests in {span:span} by {addresses} addresses, one of each for the same, while many more visitors than
  usual read what it belongs to; {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s}, une de chacune pour la même
  chose, alors que bien plus de visiteurs que d’habitude lisent ce dont elle fait partie ; {share:share} de la
  surcharge, {lift:times} l’habitude
{requests} requests in {span:span} by {addresses} addresses, most of which had sent the same before and were answered;
  {share:share} of the excess load, {lift:times} the usual
= {requests} requête{requests:s} en {span:span} depuis {addresses} adresse{addresses:s} dont la plupart en envoyaient
  déjà auparavant et avaient une réponse ; {share:share} de la surcharge, {lift:times} l’habitude
{requests} requests in {span:span} by one client that says what it is; {share:share} of the excess load
= {requests} requête{requests:s} en {span:span} d’un seul client, qui dit ce qu’il est ; {share:share} de la surcharge
{requests}
= {requests}
{requests} and {others}
= {requests} et {others}
{requests}, {others} and the like
= {requests}, {others} et semblables
all requests
= toutes les requêtes
it began {span:span} after the first symptom: rather an effect
= cela a commencé {span:span} après le premier symptôme : plutôt un effet
they are logged as they end, and had waited: when they came is not known
= elles sont journalisées à leur fin et ont attendu : leur arrivée n’est pas connue
the logs hold nothing from before: what is usual here is not known
= les journaux ne disent rien d’avant : on ignore ce qui est habituel ici
such requests came before, too: {before} in {span:span}
= de telles requêtes venaient déjà avant : {before} en {span:span}
what each request cost is an estimate: log durations (%D) to be sure
= le coût de chaque requête est une estimation : journalisez les durées (%D) pour en être sûr
a genuine {crawler}: its address is one that is published
= un vrai {crawler} : son adresse figure parmi celles qui sont publiées
{crawler} only reads: it never posts to {path}
= {crawler} ne fait que lire : il n’envoie jamais rien à {path}
the agent lacks the + that {crawler} puts before its address
= l’agent n’a pas le + que {crawler} met devant son adresse
{crawler} speaks HTTP/1.1 or later, not HTTP/1.0
= {crawler} parle HTTP/1.1 ou plus récent, pas HTTP/1.0
it followed a link, and nothing that it asked for was answered
= elle a suivi un lien, et rien de ce qu’elle a demandé n’a reçu de réponse
it sent but {requests} of these, next to nothing beside the others
= elle n’en a envoyé que {requests}, presque rien à côté des autres
it behaves like a visitor: it fetched {assets} files of pages
= elle se comporte comme un visiteur : elle a demandé {assets} fichier{assets:s} de pages
{lines} lines say that there was no room left, the first by {service}
= {lines} ligne{lines:s} pour dire que le disque est plein, la première de {service}
processes were killed for want of memory as well
= des processus ont aussi été tués faute de mémoire
no room left: {where}
= disque plein : {where}
no request was logged any more, while other logs go on for {span:span}
= plus aucune requête n’a été journalisée, alors que d’autres journaux continuent pendant {span:span}
the class to deny had {requests} requests of {addresses} addresses in the {span:span} before it began
= la classe à refuser comptait {requests} requête{requests:s} de {addresses} adresse{addresses:s} pendant {span:span}
  avant le début
{limit} of {service}
= {limit} de {service}
ordinary load reached it: nothing came that does not come otherwise
= une charge ordinaire l’a atteinte : rien n’est venu qui ne vienne d’habitude
it held {size:size}, {share:share} of the memory, and serves no request
= il occupait {size:size}, {share:share} de la mémoire, et ne sert aucune requête
{process} is ended by signal {signal}
= {process} est terminé par le signal {signal}
{process}: {number} are ended by signal {signal}
= {process} : {number} sont terminés par le signal {signal}
{count} processes held {size:size}, {share:share} of the memory, and serve no request
= {count} processus occupaient {size:size}, {share:share} de la mémoire, sans servir aucune requête
{process}, started by {by}
= {process}, lancé par {by}
{command}, started by {by}
= {command}, lancé par {by}
it began {span:span} before the first symptom
= cela a commencé {span:span} avant le premier symptôme
nothing shows that it took memory or processor
= rien ne montre qu’il ait pris de la mémoire ou du processeur
{number} processes died by a fault of their own (a signal such as SEGV)
= {number} processus sont morts de leur propre faute (un signal tel que SEGV)
it refused to start: {detail}
= il a refusé de démarrer : {detail}
it ended without having been told to: {detail}
= il s’est arrêté sans qu’on le lui demande : {detail}
{number} requests failed by an error of the program itself: {text}
= {number} requête{number:s} en échec sur une erreur du programme lui-même : {text}
{process}
= {process}
{process}, after a change of {package}
= {process}, après une modification de {package}
{timeouts} connections held a worker and never completed a request (408)
= {timeouts} connexion{timeouts:s} occupant un processus serveur sans jamais achever une requête (408)
every worker was busy while fewer requests than usual were completed
= tous les processus serveur étaient occupés alors que moins de requêtes que d’habitude aboutissaient
connections that hold a worker leave no line: it is inferred from what is missing
= une connexion qui occupe un processus serveur ne laisse aucune ligne : c’est déduit de ce qui manque
connections that never complete a request
= des connexions qui n’achèvent jamais une requête
{workers} processes of {worker} held {held:size}, {share:share} of the memory; {fitting} fit beside the rest
= {workers} processus {worker} occupaient {held:size}, {share:share} de la mémoire ; il en tient {fitting} à côté du
  reste
more {worker} than the memory holds
= trop de processus {worker} pour la mémoire
it needed something that called for so many workers at once
= il a bien fallu que quelque chose réclame tant de processus à la fois
"""

REMEDIES = """
no rule is proposed: replayed over these logs, {others} of the {banned} addresses that it bans are not to be banned
= aucune règle n’est proposée : rejouée sur ces journaux, sur {banned} adresse{banned:s} qu’elle bannit, {others} ne
  sont pas à bannir
no rule is proposed: replayed over these logs, it stops nothing
= aucune règle n’est proposée : rejouée sur ces journaux, elle n’arrête rien
turn the class away in the web server
= faites refuser ces requêtes par le serveur web
turn the class away in the web server while it lasts; others ask for it, too
= faites refuser ces requêtes par le serveur web tant que cela dure ; d’autres les font aussi
{remedy}; replayed over these logs it bans {banned} addresses, all of them to be banned, and stops {stopped} of their
  lines
= {remedy} ; rejouée sur ces journaux, elle bannit {banned} adresse{banned:s}, toutes à bannir, et arrête {stopped} de
  leurs lignes
{remedy}; replayed over these logs it bans {banned} addresses, {others} of them not among those to ban, and stops
  {stopped} of their lines
= {remedy} ; rejouée sur ces journaux, elle bannit {banned} adresse{banned:s}, dont {others} hors de celles à bannir,
  et arrête {stopped} de leurs lignes
{service} was down when the logs end: start it
= {service} était arrêté à la fin des journaux : démarrez-le
an address that comes once is banned too late: {denial}
= bannir une adresse qui ne vient qu’une fois, c’est trop tard : {denial}
this rule for Tocsin bans who sends such requests
= cette règle de Tocsin bannit qui envoie de telles requêtes
give clients less time to send a request (Apache: mod_reqtimeout)
= laissez moins de temps aux clients pour envoyer une requête (Apache : mod_reqtimeout)
run the job with a limit of memory, and at another time
= lancez la tâche avec une limite de mémoire, et à une autre heure
make room: this shows what takes most
= faites de la place : ceci montre ce qui en prend le plus
take back what was changed last, or correct what the lines above name, then start it again
= revenez sur la dernière modification, ou corrigez ce que nomment les lignes ci-dessus, puis redémarrez-le
ask the crawler to go slower, in robots.txt
= demandez au robot d’aller moins vite, dans robots.txt
cache the answer, or index what it searches; until then limit how often it may be asked for
= mettez la réponse en cache, ou indexez ce qu’elle cherche ; d’ici là, limitez la fréquence des demandes
nobody is to be banned: let a page cache answer visitors who are not logged in
= il ne faut bannir personne : laissez un cache de pages répondre aux visiteurs non connectés
cap the workers at what the memory holds: at most {fitting} of {size:size} each fit beside the rest
= limitez les processus serveur à ce que la mémoire contient : il en tient au plus {fitting}, de {size:size} chacun
to know next time: keep the access logs, and take a snapshot of processes and connections each minute
= pour savoir la prochaine fois : gardez les journaux d’accès, et relevez chaque minute les processus et les
  connexions
"""

EVIDENCE = """
Its clock was taken to be at {zone}: the clients that it names made their requests then.
= Son horloge a été lue en {zone} : c’est alors que les clients qu’il nomme ont fait leurs requêtes.
There is no journal: {why}.
= Pas de journal systemd : {why}.
It is too large.
= Trop gros.
It is empty, or may not be read.
= Vide, ou lecture interdite.
It cannot be read ({what}); {remedy}.
= Illisible ({what}) ; {remedy}.
Its lines name no year; the latest before {ts:time} was taken.
= Ses lignes ne nomment pas l’année ; la dernière avant le {ts:time} a été prise.
A number behind the user agent was taken for the duration in seconds, as nginx writes it, and the line's time for the
  request's end.
= Un nombre derrière l’agent a été pris pour la durée en secondes, comme l’écrit nginx, et l’heure de la ligne pour la
  fin de la requête.
A number behind the user agent was taken for the duration in whole seconds (%T).
= Un nombre derrière l’agent a été pris pour la durée en secondes entières (%T).
A number behind the user agent was taken for the duration in milliseconds.
= Un nombre derrière l’agent a été pris pour la durée en millisecondes.
A number behind the user agent was taken for the duration in microseconds (%D).
= Un nombre derrière l’agent a été pris pour la durée en microsecondes (%D).
Its lines name no year; it was taken from the other logs.
= Ses lignes ne nomment pas l’année ; elle est prise des autres journaux.
It fits no format that is known; it was not used.
= Format inconnu ; non utilisé.
It cannot be read to its end: {what}.
= Ne se lit pas jusqu’au bout : {what}.
It holds {count} NUL bytes, as a hard reset leaves them.
= Contient {count} octet{count:s} NUL, comme en laisse un arrêt brutal.
It cannot be read: {what}.
= Illisible : {what}.
Its last line is cut off.
= Sa dernière ligne est coupée.
A line that does not fit: {line}
= Une ligne qui ne correspond pas : {line}
Lines longer than {limit:size} were cut there.
= Les lignes de plus de {limit:size} ont été coupées là.
Times without a zone were taken to be at {zone}, as the access logs are.
= Les heures sans fuseau ont été lues en {zone}, comme celles des journaux d’accès.
It tells of more than can be kept; {left} things of kinds that it told of before were left out.
= Raconte plus que l’on ne peut garder ; {left} choses de genres déjà rencontrés ont été laissées de côté.
Its times are seconds since boot, and no line tells when that was.
= Ses heures sont des secondes depuis le démarrage, et aucune ligne ne dit quand il a eu lieu.
Lines were written up to {late:span} after what they tell of.
= Des lignes ont été écrites jusqu’à {late:span} après ce qu’elles racontent.
{count} lines that hold both clocks place the boot at {boot:time}; they agree to {spread:span}.
= Démarrage situé au {boot:time}, à {spread:span} près, par {count} ligne{count:s} portant les deux horloges.
The same events in another log place the boot at {boot:time} ({count} of them, to {spread:span}).
= Les mêmes événements dans un autre journal situent le démarrage au {boot:time} ({count} en tout, à {spread:span}
  près).
The folder is empty.
= Le dossier est vide.
It is no regular file.
= Ce n’est pas un fichier ordinaire.
The archive is empty.
= L’archive est vide.
It may not be read; run as root, or as a member of the group that owns it.
= Lecture interdite ; relancez en root, ou comme membre du groupe à qui il appartient.
It cannot be read ({what}).
= Illisible ({what}).
It is too large to be kept; name the file.
= Trop gros pour être gardé ; nommez le fichier.
The file is empty.
= Le fichier est vide.
There are more than {count} files.
= Il y a plus de {count} fichiers.
It is too large to be read inside its archive; unpack it and name its folder.
= Trop gros pour être lu dans son archive ; décompressez-la et nommez son dossier.
The archive cannot be read to its end ({what}); what comes before is used.
= L’archive ne se lit pas jusqu’au bout ({what}) ; ce qui précède est utilisé.
It holds more than {count} files; the first of them are used.
= Elle contient plus de {count} fichiers ; les premiers sont utilisés.
It cannot be unpacked ({what}).
= Elle ne peut être décompressée ({what}).
"""
