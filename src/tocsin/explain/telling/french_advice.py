"""What the chain tells and what is advised, in French; as in `french_sentences`."""

from __future__ import annotations

ADVICE = """
a program fails by an error of its own
= un programme échoue par une erreur qui lui est propre
"""
