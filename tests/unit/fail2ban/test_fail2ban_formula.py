"""Formulas against fail2ban's own ban time, what they may not do, and that they are the same in every run."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.fail2ban.expression import CHARS_MAX, Draws, FormulaError, Terms, read
from tocsin.fail2ban.formula import LONGEST_S, Growth, ban_s
from tocsin.fail2ban.model import Increment

PYTHON = Path("/usr/bin/python3")
PACKAGE = Path("/usr/lib/python3/dist-packages/fail2ban")
ORACLE = """
import json, sys
from fail2ban.server.jail import Jail
from fail2ban.server.observer import ObserverThread
answers = []
for options, base, count in json.load(sys.stdin):
    jail = Jail("j", "polling")
    for name, value in options.items():
        jail.setBanTimeExtra(name, value)
    jail.setBanTimeExtra("increment", "true")
    try:
        answers.append(ObserverThread().calcBanTime(jail, base, count))
    except Exception as error:
        answers.append(None)
print(json.dumps(answers))
"""
# Options as a jail has them; what they are for is said where fail2ban's jail.conf has none like it.
OPTIONS: list[dict[str, str]] = [
    {},
    {"factor": "2"},
    {"factor": "0.5"},
    {"factor": "24 * 60 / 7"},
    {"maxtime": "5w"},
    {"maxtime": "60"},  # below bantime: the second ban is shorter than the first
    {"factor": "2", "maxtime": "1d"},
    {"multipliers": "1 2 4 8 16 32 64"},
    {"multipliers": "1 5 30 60 300 720 1440 2880", "factor": "3"},
    {"multipliers": "1 5", "maxtime": "1h"},
    {"multipliers": "7"},
    {"formula": "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)"},
    {"formula": "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)", "factor": "2.885385"},
    {"formula": "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor", "factor": "4"},
    {"formula": "ban.Time << ban.Count"},
    {"formula": "ban.Time ** 2 if ban.Count > 3 else ban.Time // 2"},
    {"formula": "max(ban.Time, 3600) * min(ban.Count, 5) - 7 % 3"},
    {"formula": "[1, 5, 30, 300][min(ban.Count, 3)] * ban.Time"},
    {"formula": "(60, 120)[-1] if 0 < ban.Count <= 2 else ban.Time * math.sqrt(ban.Count)"},
    {"formula": "ban.Time * round(math.log(ban.Count + 1), 2) * (not ban.Count == 1 or 3)"},
    {"formula": "ban.Time * (ban.Count in (1, 2, 3)) + abs(-5) + int(2.9) + pow(2, ban.Count & 7)"},
    {"formula": "sum([ban.Time, ban.Count]) + (ban.Time | 1) - (ban.Time ^ 2) + ~3 + (ban.Time >> 1)"},
]
COUNTS = (1, 2, 3, 5, 7, 19, 20, 21, 24)
BASES = (600, 3600, 1, 86400.5)


def increment_of(options: dict[str, str]) -> Increment:
    return Increment(
        enabled=True,
        factor=options.get("factor", ""),
        formula=options.get("formula", ""),
        multipliers=tuple(map(float, options.get("multipliers", "").split())),
        maxtime_s={"5w": 3024000.0, "60": 60.0, "1d": 86400.0, "1h": 3600.0}.get(options.get("maxtime", "")),
    )


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    """Fail2ban's ban time for every combination."""
    assert PACKAGE.is_dir(), "install fail2ban: make setup does"
    cases = [(options, base, count) for options in OPTIONS for base in BASES for count in COUNTS]
    done = subprocess.run([PYTHON, "-c", ORACLE], input=json.dumps(cases), capture_output=True, text=True, check=True)
    return {json.dumps(case): answer for case, answer in zip(cases, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("options", OPTIONS, ids=[" ".join(each.values()) or "default" for each in OPTIONS])
def test_ban_times_are_those_of_fail2ban(options: dict[str, str], oracle: dict[str, Any]) -> None:
    growth = Growth(increment_of(options))
    for base in BASES:
        for count in COUNTS:
            theirs = oracle[json.dumps((options, base, count))]
            ours = growth.ban_s(base, count, "seed")
            if theirs is None:  # it fails there: the ban keeps its length, as fail2ban's observer has it
                assert ours == base
            elif theirs > LONGEST_S:
                assert ours is None
            else:
                assert ours == pytest.approx(max(1.0, theirs), rel=1e-12), (base, count)


def test_the_table_of_options_has_few_that_fail(oracle: dict[str, Any]) -> None:
    """So that the comparison above compares: whole numbers alone can be shifted, and that is all that fails."""
    failing = {json.loads(case)[1] for case, answer in oracle.items() if answer is None}
    assert failing == {86400.5}


def test_the_first_ban_and_those_for_good_stay_as_they_are() -> None:
    on, off = Increment(enabled=True, rndtime_s=100.0), Increment(formula="ban.Time * 9")
    assert ban_s(on, 600.0, 0, "x") == 600.0
    assert ban_s(on, None, 5, "x") is None
    assert ban_s(off, 600.0, 5, "x") == 600.0


def test_minus_one_is_for_good() -> None:
    assert ban_s(Increment(enabled=True, maxtime_s=-1.0, rndtime_s=60.0), 600.0, 1, "x") is None
    assert ban_s(Increment(enabled=True, formula="math.inf"), 600.0, 1, "x") is None
    assert ban_s(Increment(enabled=True, multipliers=(-3.0,)), 600.0, 1, "x") == 1.0


def test_random_time_follows_from_the_seed() -> None:
    growth = Growth(Increment(enabled=True, rndtime_s=1000.0))
    times = [growth.ban_s(600.0, 1, f"finding {i}") or 0.0 for i in range(200)]
    assert times == [growth.ban_s(600.0, 1, f"finding {i}") for i in range(200)]
    assert all(1200.0 <= time < 2200.0 for time in times)
    assert len(set(times)) == 200
    assert 1600 < sum(times) / 200 < 1800


def test_the_draws_never_change() -> None:
    """They are in ledgers: a finding's ban must come out the same in the next version."""
    draws = Draws("finding")
    assert [round(draws.next(), 6) for _ in range(3)] == [0.352875, 0.929278, 0.378225]


@pytest.mark.parametrize(
    ("formula", "low", "high"),
    [
        ("random.random()", 0, 1),
        ("random.uniform(5, 7)", 5, 7),
        ("random.randint(3, 5)", 3, 5),
        ("random.randrange(4)", 0, 3),
        ("random.randrange(2, 4)", 2, 3),
        ("random.triangular(10, 20, 18)", 10, 20),
        ("random.random() - random.random()", -1, 1),
    ],
)
def test_random_functions_keep_their_ranges(formula: str, low: float, high: float) -> None:
    function = read(formula)
    drawn = [function(Terms(600, 1, 1, Draws(str(seed)))) for seed in range(300)]
    assert min(drawn) >= low
    assert max(drawn) <= high
    assert len(set(drawn)) >= min(300, int(high - low) + 1)
    assert drawn == [function(Terms(600, 1, 1, Draws(str(seed)))) for seed in range(300)]


REFUSED = [
    ("", "no expression"),
    ("ban.Time *", "no expression (invalid syntax)"),
    ("__import__('os').system('true')", 'there is no function "'),
    ("ban.__class__", 'there is no "ban.__class__", expected ban.Time or ban.Count or banFactor at character 1'),
    ("ban.Time.__class__", 'there is no "ban.Time.__class__"'),
    ("600 + os.getpid()", 'there is no function "os.getpid"'),
    ("600 + open", 'there is no "open"'),
    ("600 + cuont", 'there is no "cuont", expected ban.Time or ban.Count or banFactor at character 7'),
    ("math", "math stands here without a function"),
    ("600 * min", "min stands here without its (...)"),
    ("math.factorial(10000000)", 'there is no function "math.factorial"'),
    ("random.seed(1)", 'there is no function "random.seed"'),
    ("(lambda: 600)()", "at character"),
    ("[x for x in (1, 2)]", "a loop is not allowed, only arithmetic"),
    ("(y := 600)", "an assignment is not allowed"),
    ("'600'", "expected a number, got \"'600'\""),
    ("f'{1}'", "a text is not allowed"),
    ("1j", "expected a number"),
    ("None", "expected a number"),
    ("ban.Time @ 2", "this operator is not allowed"),
    ("ban.Time is 2", "this comparison is not allowed"),
    ("max(*[1, 2])", "plain arguments only"),
    ("round(2.5, ndigits=1)", "plain arguments only"),
    ("1 + " * (CHARS_MAX // 4) + "1", "more than 2,000 characters"),
    ("1 + " * 100 + "1", "nested more than 40 deep"),
    ("(" * 900 + "1" + ")" * 900, ""),
    ("-" * 1900 + "1", "nested more than"),
    ("ban.Time \0", ""),
    ("ban.Time + \udc80", ""),
]


@pytest.mark.parametrize(
    ("formula", "said"), REFUSED, ids=[text[:40].encode("unicode_escape").decode() for text, _ in REFUSED]
)
@pytest.mark.filterwarnings('ignore:"is" with:SyntaxWarning')
def test_what_is_no_arithmetic_is_refused(formula: str, said: str) -> None:
    with pytest.raises(FormulaError) as refused:
        read(formula)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1500


FAILING = [
    ("1 / (ban.Count - 1)", "division by zero at character 1"),
    ("2 ** 2 ** 2 ** 2 ** 2 ** 2", "a number too large"),
    ("9 ** 9 ** 9", "a number too large at character 1"),
    ("1 << 10 ** 300", "a number too large"),
    ("10.0 ** 400", "a number too large"),
    ("math.exp(1e9)", "a number too large"),
    ("round(5, -10 ** 300)", "a number too large"),
    ("int(math.inf)", "a number too large"),
    ("(-8) ** 0.5", "a root of a negative number"),
    ("math.sqrt(-1)", "math domain error at character 1"),
    ("1.5 << 2", "expected a whole number, got 1.5"),
    ("1 << -1", "negative shift count"),
    ("[1, 2][5]", "index out of range"),
    ("ban.Time[0]", "expected a list"),
    ("[1, 2][1.5]", "expected a list"),
    ("[1, 2] * 10 ** 9", "expected a number, got a list at character 1"),
    ("[1, 2]", "expected one number as the result"),
    ("[1, 2] < 3", "not supported"),
    ("min(1)", "not iterable"),
    ("math.exp()", "argument"),
    ("random.randint(5, 1)", "empty range"),
    ("random.randint(0.5, 1)", "whole numbers"),
]


@pytest.mark.parametrize(("formula", "said"), FAILING, ids=[text for text, _ in FAILING])
def test_what_fails_is_said_and_leaves_the_ban_as_it_is(formula: str, said: str) -> None:
    with pytest.raises(FormulaError) as failed:
        read(formula)(Terms(600, 1, 1, Draws("")))
    assert said in str(failed.value)
    growth = Growth(Increment(enabled=True, formula=formula))
    assert growth.ban_s(600.0, 1, "x") == 600.0
    assert said in growth.trouble(600.0)[0]
    assert growth.trouble(600.0)[0].endswith("with ban.Count 1: such a ban keeps bantime")


def test_a_factor_is_a_number_alone() -> None:
    with pytest.raises(FormulaError, match="expected a number without ban"):
        Growth(Increment(enabled=True, factor="ban.Time"))
    with pytest.raises(FormulaError, match="division"):
        Growth(Increment(enabled=True, factor="1/0"))


def test_stock_formulas_have_no_trouble() -> None:
    for options in OPTIONS:
        assert Growth(increment_of(options)).trouble(600.0) == ()


OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^", "<", "==", "and", "or")
leaves = st.sampled_from(["ban.Time", "ban.Count", "banFactor", "1", "0", "2.5", "math.pi", "-3", "random.random()"])
formulas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(OPERATORS), inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("{}({})".format, st.sampled_from(["math.exp", "math.log", "int", "abs", "round"]), inner),
        st.builds("max({}, {})".format, inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(formulas, st.integers(1, 40), st.sampled_from([1.0, 600.0, 86400.0]))
def test_every_formula_gives_a_time_or_none(formula: str, count: int, base_s: float) -> None:
    growth = Growth(Increment(enabled=True, formula=formula))
    seconds = growth.ban_s(base_s, count, "seed")
    assert seconds is None or (math.isfinite(seconds) and base_s <= seconds <= LONGEST_S)
    assert seconds == Growth(Increment(enabled=True, formula=formula)).ban_s(base_s, count, "seed")


@settings(max_examples=300)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read(text)
    except FormulaError:
        return
    Growth(Increment(enabled=True, formula=text)).ban_s(600.0, 3, "seed")
