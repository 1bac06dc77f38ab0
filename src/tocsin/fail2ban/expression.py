"""Arithmetic of configurations (`bantime.formula`, `bantime.factor`), read by an evaluator of our own.

A formula speaks of `ban.Time` (the jail's own ban, seconds), `ban.Count` (earlier bans) and `banFactor`, with `math.*`,
`random.*` and a few built-in functions. It is read once into nested functions over an allow-list of expressions: no
attribute, name or call besides these exists, so nothing in a configuration can reach anything. Length, depth,
sequences and the size of numbers are bounded, so no formula can hold up a ban either.

`random.*` draws from a seed: the n-th number drawn is the BLAKE2b hash of the seed and n, so that the same seed gives
the same result in every run.
"""

from __future__ import annotations

import ast
import math
import operator
from _blake2 import blake2b  # what hashlib hands out; hashlib itself loads OpenSSL
from collections.abc import Callable

from msgspec import Struct

CHARS_MAX = 2000
DEPTH_MAX = 40
BITS_MAX = 1000  # of a whole number: a float holds 1,024
DIGITS_MAX = 300

Number = int | float
Value = Number | tuple["Value", ...]


class FormulaError(ValueError):
    """A formula that cannot be read, or that fails on certain numbers; says where in it, and what was expected."""

    def __init__(self, text: str, node: ast.AST | None, problem: str) -> None:
        column = getattr(node, "col_offset", None)
        # `col_offset` counts bytes; the text of an expression that was read at all is short
        at = "" if column is None else f" at character {len(text.encode()[:column].decode(errors='replace')) + 1}"
        super().__init__(f"{problem}{at} of {_shortened(text)}")


class Draws:
    """Numbers that look random and follow from a seed: the n-th is a hash of the seed and n."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode("utf-8", "surrogatepass")
        self._drawn = 0

    def next(self) -> float:
        """The next one, at least 0 and below 1."""
        self._drawn += 1
        digest = blake2b(self._seed, digest_size=8, salt=self._drawn.to_bytes(16, "little")).digest()
        return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


class Terms(Struct):
    """What a formula speaks of."""

    time: Number
    count: int
    factor: Number
    draws: Draws


Expression = Callable[[Terms], Value]


def _randrange(draws: Draws, *bounds: Number) -> Number:
    if not 1 <= len(bounds) <= 2 or not all(isinstance(bound, int) for bound in bounds):
        raise ValueError("random.randrange expects one or two whole numbers")
    low, high = (0, int(bounds[0])) if len(bounds) == 1 else (int(bounds[0]), int(bounds[1]))
    if high <= low:
        raise ValueError("random.randrange has an empty range")
    return low + int(draws.next() * (high - low))


def _uniform(draws: Draws, low: Number, high: Number) -> Number:
    return low + (high - low) * draws.next()


def _triangular(draws: Draws, low: Number = 0.0, high: Number = 1.0, mode: Number | None = None) -> Number:
    drawn = draws.next()
    peak = 0.5 if mode is None else (mode - low) / (high - low)
    if drawn > peak:
        drawn, peak, low, high = 1.0 - drawn, 1.0 - peak, high, low
    return low + (high - low) * math.sqrt(drawn * peak)


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if base.bit_length() * exponent > BITS_MAX:
            raise OverflowError
    elif base < 0 and exponent != int(exponent):
        raise ValueError("a root of a negative number")
    power: Number = base**exponent
    return power


def _left(number: Number, places: Number) -> Number:
    if _whole(number).bit_length() + _whole(places) > BITS_MAX:
        raise OverflowError
    return _whole(number) << _whole(places)


def _rounded(number: Number, digits: Number | None = None) -> Number:
    if digits is None:
        return round(number)
    if abs(digits) > DIGITS_MAX:
        raise OverflowError
    return round(number, _whole(digits))


def _whole(number: Number) -> int:
    if not isinstance(number, int):
        raise TypeError(f"expected a whole number, got {number}")
    return number


_RANDOM: dict[str, Callable[..., Value]] = {
    "random": lambda draws: draws.next(),
    "uniform": _uniform,
    "randint": lambda draws, low, high: _randrange(draws, low, high + 1),
    "randrange": _randrange,
    "triangular": _triangular,
}
_MATH_CONSTANTS = {"math.pi": math.pi, "math.e": math.e, "math.tau": math.tau, "math.inf": math.inf}
_TERMS: dict[str, Expression] = {
    "ban.Time": lambda terms: terms.time,
    "ban.Count": lambda terms: terms.count,
    "banFactor": lambda terms: terms.factor,
}
_MATH: dict[str, Callable[..., Value]] = {
    name: getattr(math, name)
    for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "degrees",
        "erf", "erfc", "exp", "expm1", "fabs", "floor", "fmod", "gcd", "hypot", "isfinite", "isinf", "isnan", "isqrt",
        "ldexp", "log", "log10", "log1p", "log2", "pow", "radians", "remainder", "sin", "sinh", "sqrt", "tan", "tanh",
        "trunc",
    )
}  # fmt: skip
_BUILT_IN: dict[str, Callable[..., Value]] = {
    "abs": abs, "bool": bool, "float": float, "int": int, "len": len, "max": max, "min": min, "pow": _power,
    "round": _rounded, "sum": sum,
}  # fmt: skip
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.LShift: _left,
    ast.RShift: lambda number, places: _whole(number) >> _whole(places),
    ast.BitAnd: lambda left, right: _whole(left) & _whole(right),
    ast.BitOr: lambda left, right: _whole(left) | _whole(right),
    ast.BitXor: lambda left, right: _whole(left) ^ _whole(right),
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: lambda number: operator.invert(_whole(number)),
    ast.Not: operator.not_,
}
_COMPARED: dict[type[ast.cmpop], Callable[[Value, Value], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: isinstance(many, tuple) and one in many,
    ast.NotIn: lambda one, many: isinstance(many, tuple) and one not in many,
}


def read(text: str, *, of_ban: bool = True) -> Callable[[Terms], Number]:
    """The formula as a function; `of_ban`: whether it may speak of the ban, or is a mere number. FormulaError where it
    cannot be read; what is returned raises one where it fails.
    """
    reader = _Reader(text, of_ban=of_ban)
    expression = reader.read()

    def number(terms: Terms) -> Number:
        value = expression(terms)
        if isinstance(value, tuple):
            raise FormulaError(reader.text, None, "expected one number as the result")
        return value

    return number


class _Reader:
    """Turns the text of one formula into a function."""

    def __init__(self, text: str, *, of_ban: bool) -> None:
        self.text = " ".join(text.split())
        self.terms = _TERMS if of_ban else {}
        self.expected = "expected " + " or ".join(self.terms or ["a number without ban.* and banFactor"])

    def read(self) -> Expression:
        """The formula. FormulaError where it cannot be read."""
        if len(self.text) > CHARS_MAX:
            raise FormulaError(self.text, None, f"more than {CHARS_MAX:,} characters")
        try:
            tree = ast.parse(self.text, mode="eval")
        except (SyntaxError, ValueError) as error:
            at = getattr(error, "offset", None)
            where = f" at character {at}" if at else ""
            raise FormulaError(self.text, None, f"no expression ({getattr(error, 'msg', error)}){where}") from error
        except (RecursionError, MemoryError):
            raise FormulaError(self.text, None, f"nested more than {DEPTH_MAX} deep") from None
        return self._expression(tree.body, 0)

    def _expression(self, node: ast.expr, depth: int) -> Expression:
        if depth > DEPTH_MAX:
            raise FormulaError(self.text, node, f"nested more than {DEPTH_MAX} deep")
        read = _READERS.get(type(node))
        if read is None:
            what = _CALLED.get(type(node), type(node).__name__)
            raise FormulaError(self.text, node, f"{what} is not allowed, only arithmetic")
        return self._checked(node, read(self, node, depth + 1))

    def _checked(self, node: ast.expr, expression: Expression) -> Expression:
        """The same, with what can go wrong in it said with its place, and its result bounded."""
        text = self.text

        def checked(terms: Terms) -> Value:
            try:
                value = expression(terms)
            except FormulaError:
                raise
            except OverflowError:
                raise FormulaError(text, node, "a number too large") from None
            except (ArithmeticError, TypeError, ValueError, IndexError) as error:
                raise FormulaError(text, node, str(error)) from error
            if isinstance(value, int) and value.bit_length() > BITS_MAX:
                raise FormulaError(text, node, "a number too large")
            return value

        return checked

    # -- kinds of expressions ----------------------------------------------------------------------------------------

    def _constant(self, node: ast.Constant, _depth: int) -> Expression:
        value = node.value
        if not isinstance(value, int | float):
            raise FormulaError(self.text, node, f"expected a number, got {_shortened(repr(value))}")
        number: Number = value
        return lambda _terms: number

    def _name(self, node: ast.Name, _depth: int) -> Expression:
        if node.id in self.terms:
            return self.terms[node.id]
        if node.id in _BUILT_IN or node.id in _MISSING:
            raise FormulaError(self.text, node, f"{node.id} stands here without {_MISSING.get(node.id, 'its (...)')}")
        raise FormulaError(self.text, node, f'there is no "{node.id}", {self.expected}')

    def _attribute(self, node: ast.Attribute, _depth: int) -> Expression:
        name = _dotted(node)
        if name in self.terms:
            return self.terms[name]
        constant = _MATH_CONSTANTS.get(name)
        if constant is None:
            raise FormulaError(self.text, node, f'there is no "{name}", {self.expected}')
        return lambda _terms: constant

    def _call(self, node: ast.Call, depth: int) -> Expression:
        name = _dotted(node.func)
        room, _, word = name.rpartition(".")
        drawing = _RANDOM.get(word) if room == "random" else None
        function = _MATH.get(word) if room == "math" else _BUILT_IN.get(word) if not room else None
        if drawing is None and function is None:
            known = [f"math.{each}" for each in _MATH] + [f"random.{each}" for each in _RANDOM] + sorted(_BUILT_IN)
            raise FormulaError(self.text, node, f'there is no function "{name}"; there are {", ".join(known)}')
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise FormulaError(self.text, node, f"{name} takes plain arguments only")
        arguments = [self._expression(argument, depth) for argument in node.args]
        if drawing is not None:
            draw = drawing
            return lambda terms: draw(terms.draws, *(argument(terms) for argument in arguments))
        assert function is not None  # noqa: S101  one of both was found
        chosen = function
        return lambda terms: chosen(*(argument(terms) for argument in arguments))

    def _binary(self, node: ast.BinOp, depth: int) -> Expression:
        operate = _BINARY.get(type(node.op))
        if operate is None:
            raise FormulaError(self.text, node, "this operator is not allowed")
        left, right = self._number(node.left, depth), self._number(node.right, depth)
        return lambda terms: operate(left(terms), right(terms))

    def _unary(self, node: ast.UnaryOp, depth: int) -> Expression:
        operate, operand = _UNARY[type(node.op)], self._number(node.operand, depth)
        return lambda terms: operate(operand(terms))

    def _number(self, node: ast.expr, depth: int) -> Callable[[Terms], Number]:
        expression, text = self._expression(node, depth), self.text

        def number(terms: Terms) -> Number:
            value = expression(terms)
            if isinstance(value, tuple):
                raise FormulaError(text, node, "expected a number, got a list")
            return value

        return number

    def _compare(self, node: ast.Compare, depth: int) -> Expression:
        if any(type(op) not in _COMPARED for op in node.ops):
            raise FormulaError(self.text, node, "this comparison is not allowed")
        compared = [_COMPARED[type(op)] for op in node.ops]
        operands = [self._expression(operand, depth) for operand in (node.left, *node.comparators)]

        def compare(terms: Terms) -> Value:
            left = operands[0](terms)
            for holds, operand in zip(compared, operands[1:], strict=True):
                right = operand(terms)
                if not holds(left, right):
                    return False
                left = right
            return True

        return compare

    def _logical(self, node: ast.BoolOp, depth: int) -> Expression:
        operands = [self._expression(operand, depth) for operand in node.values]
        ends_at = isinstance(node.op, ast.Or)

        def logical(terms: Terms) -> Value:
            value: Value = 0
            for operand in operands:
                value = operand(terms)
                if bool(value) is ends_at:
                    return value
            return value

        return logical

    def _conditional(self, node: ast.IfExp, depth: int) -> Expression:
        test, yes, no = (self._expression(part, depth) for part in (node.test, node.body, node.orelse))
        return lambda terms: yes(terms) if test(terms) else no(terms)

    def _sequence(self, node: ast.Tuple | ast.List, depth: int) -> Expression:
        items = [self._expression(item, depth) for item in node.elts]
        return lambda terms: tuple(item(terms) for item in items)

    def _item(self, node: ast.Subscript, depth: int) -> Expression:
        items, index, text = self._expression(node.value, depth), self._number(node.slice, depth), self.text

        def item(terms: Terms) -> Value:
            value, at = items(terms), index(terms)
            if not isinstance(value, tuple) or not isinstance(at, int):
                raise FormulaError(text, node, "expected a list and a whole number as in [1, 5, 30][ban.Count]")
            return value[at]

        return item


_READERS: dict[type[ast.expr], Callable[..., Expression]] = {
    ast.Constant: _Reader._constant,
    ast.Name: _Reader._name,
    ast.Attribute: _Reader._attribute,
    ast.Call: _Reader._call,
    ast.BinOp: _Reader._binary,
    ast.UnaryOp: _Reader._unary,
    ast.Compare: _Reader._compare,
    ast.BoolOp: _Reader._logical,
    ast.IfExp: _Reader._conditional,
    ast.Tuple: _Reader._sequence,
    ast.List: _Reader._sequence,
    ast.Subscript: _Reader._item,
}
_MISSING = {
    "ban": ".Time or .Count",
    "math": "a function as in math.exp(1)",
    "random": "a function as in random.random()",
}


def _dotted(node: ast.expr) -> str:
    """`math.exp` of that expression; "" or less where it is none of names and dots."""
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return ".".join((node.id, *reversed(words))) if isinstance(node, ast.Name) else "this"


_CALLED: dict[type[ast.AST], str] = {
    ast.Lambda: "a function",
    ast.NamedExpr: "an assignment",
    ast.ListComp: "a loop",
    ast.GeneratorExp: "a loop",
    ast.JoinedStr: "a text",
    ast.Dict: "a table",
}


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
