"""The rule language: TOML in, frozen rules out, each compiled to needs, a predicate and a sentence."""

from tocsin.rules.compiled import SET_ASIDE, CompiledRule, Failure, Judge, LineFilter, Place, Verdict, compile_rule
from tocsin.rules.language import Rule, RuleError, RuleErrors
from tocsin.rules.literals import Need, Needs
from tocsin.rules.load import load_rules, load_shipped, only
from tocsin.rules.tables import read_rules

__all__ = [
    "SET_ASIDE",
    "CompiledRule",
    "Failure",
    "Judge",
    "LineFilter",
    "Need",
    "Needs",
    "Place",
    "Rule",
    "RuleError",
    "RuleErrors",
    "Verdict",
    "compile_rule",
    "load_rules",
    "load_shipped",
    "only",
    "read_rules",
]
