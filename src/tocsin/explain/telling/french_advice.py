"""What the chain tells and what is advised, in French; as in `french_sentences`."""

from __future__ import annotations

ADVICE = """
a program fails by an error of its own
= un programme échoue par une erreur qui lui est propre
ban whom this names
= bannissez ceux qui sont nommés ici
ban all whom this names (give it the same logs, where you named any)
= bannissez tous ceux qui sont nommés ici (redonnez les mêmes journaux, si vous en aviez nommé)
nothing but the address tells these requests from visitors': there is no rule, and nothing to deny
= seule l’adresse distingue ces requêtes de celles des visiteurs : il n’y a ni règle ni classe à refuser
{what}; {why}
= {what} ; {why}
"""
