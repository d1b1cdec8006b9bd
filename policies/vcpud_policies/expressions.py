"""A small language of arithmetic and conditions: read once, evaluated over named figures.

    rule    = and { "|" and }            "or" and "and" as words too
    and     = not { "&" not }
    not     = [ "!" ] comparison
    comparison = sum [ ("<" | ">" | "<=" | ">=" | "==" | "!=") sum ]
    sum     = product { ("+" | "-") product }
    product = sign { ("*" | "/") sign }
    sign    = [ "-" ] ( number | name | "(" rule ")" )

Nothing is ever handed to Python's own evaluation. Length, depth and names are bounded, so a text
from anywhere can only be right or wrong, and a wrong one says where: line and column from 1.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

MAX_CHARACTERS = 4096
MAX_DEPTH = 32
"""Brackets, signs and negations inside each other."""


class RuleError(ValueError):
    """A text that is no rule, with where it goes wrong."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column


class Unknown(Exception):  # noqa: N818 - not an error: a figure that was not reported
    """A figure is missing, or the result is no number: nothing follows from the rule."""


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """A figure, looked up when evaluated."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative:
    """The other sign."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Chain:
    """Operators of one rank, worked through from left to right: flat, so never deep."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Logical:
    """Not, and, or."""

    symbol: str
    operands: tuple[Node, ...]


Node: TypeAlias = Number | Name | Negative | Chain | Logical


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that was read.

    Attributes:
        text: As it was written.
        root: What it means.
        names: The figures it looks at.
    """

    text: str
    root: Node
    names: tuple[str, ...]

    def holds(self, figures: Mapping[str, float | None]) -> bool:
        """Whether the condition is true.

        Raises:
            Unknown: A figure it needs is missing, or a division is by zero.
        """
        return _value(self.root, figures) != 0.0


def read(text: str, known: Collection[str]) -> Rule:
    """Read a rule.

    Args:
        text: The rule.
        known: Names that exist.

    Raises:
        RuleError: It is none, or uses a name that does not exist.
    """
    if len(text) > MAX_CHARACTERS:
        line, column = _place(text, MAX_CHARACTERS)
        raise RuleError(f"longer than {MAX_CHARACTERS} characters", line, column)
    reader = _Reader(text, known)
    root = reader.whole()
    return Rule(text=text, root=root, names=tuple(sorted(reader.names)))


# ------------------------------------------------------------------------------- evaluation


def _value(node: Node, figures: Mapping[str, float | None]) -> float:
    match node:
        case Number(value):
            return value
        case Name(name):
            figure = figures.get(name)
            if figure is None:
                raise Unknown(f"{name} is not reported")
            return figure
        case Negative(operand):
            return -_value(operand, figures)
        case Logical():
            return _logical(node, figures)
        case Chain(first, rest):
            value = _value(first, figures)
            for symbol, operand in rest:
                value = _applied(symbol, value, _value(operand, figures))
            return value


def _applied(symbol: str, left: float, right: float) -> float:
    if symbol == "/" and right == 0.0:
        raise Unknown("a division by zero")
    result = float(_BINARY[symbol](left, right))
    if not math.isfinite(result):
        raise Unknown("a result that is no finite number")
    return result


def _logical(node: Logical, figures: Mapping[str, float | None]) -> float:
    """One operand that is unknown may be outweighed by the others."""
    if node.symbol == "!":
        return float(_value(node.operands[0], figures) == 0.0)
    decisive = node.symbol == "|"
    unknown: Unknown | None = None
    for operand in node.operands:
        try:
            if (_value(operand, figures) != 0.0) is decisive:
                return float(decisive)
        except Unknown as why:
            unknown = why
    if unknown is not None:
        raise unknown
    return float(not decisive)


_BINARY: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")
_SPELLINGS = {"&&": "&", "||": "|", "and": "&", "or": "|", "not": "!"}


# ---------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(?![0-9A-Za-z_.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]{0,63}(?![A-Za-z0-9_]))"
    r"|(?P<sign>&&|\|\||<=|>=|==|!=|[-+*/<>&|!()])"
)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            number = text[at] in "0123456789."
            what = (
                "a number like 0.75 was expected"
                if number
                else f"{text[at]!r} is no part of a rule"
            )
            raise RuleError(what, *_place(text, at))
        kind = found.lastgroup or ""
        if kind != "space":
            word = _SPELLINGS.get(found.group(), found.group())
            yield _Token("sign" if word != found.group() else kind, word, at)
        at = found.end()
    yield _Token("end", "", len(text))


class _Reader:
    """Recursive descent with one token of foresight."""

    def __init__(self, text: str, known: Collection[str]) -> None:
        self._text = text
        self._known = known
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._depth = 0
        self.names: set[str] = set()

    def whole(self) -> Node:
        if self._next.kind == "end":
            raise self._error("a condition was expected, the rule is empty")
        root = self._any()
        if self._next.kind != "end":
            raise self._error(f"an operator was expected, not {self._next.text!r}")
        return root

    def _any(self) -> Node:
        return self._several("|", self._all)

    def _all(self) -> Node:
        return self._several("&", self._negated)

    def _several(self, symbol: str, part: Callable[[], Node]) -> Node:
        operands = [part()]
        while self._take(symbol):
            operands.append(part())
        return operands[0] if len(operands) == 1 else Logical(symbol, tuple(operands))

    def _negated(self) -> Node:
        if self._next.text != "!":
            return self._comparison()
        self._deeper()
        self._advance()
        operand = self._negated()
        self._depth -= 1
        return Logical("!", (operand,))

    def _comparison(self) -> Node:
        left = self._chain(("+", "-"), self._product)
        symbol = self._next.text
        if symbol not in _COMPARISONS:
            return left
        self._advance()
        right = self._chain(("+", "-"), self._product)
        if self._next.text in _COMPARISONS:
            raise self._error("comparisons cannot be chained: join them with '&'")
        return Chain(left, ((symbol, right),))

    def _product(self) -> Node:
        return self._chain(("*", "/"), self._signed)

    def _chain(self, symbols: tuple[str, ...], part: Callable[[], Node]) -> Node:
        first = part()
        rest = []
        while self._next.text in symbols:
            symbol = self._next.text
            self._advance()
            rest.append((symbol, part()))
        return Chain(first, tuple(rest)) if rest else first

    def _signed(self) -> Node:
        token = self._next
        if token.text == "-":
            self._deeper()
            self._advance()
            operand = self._signed()
            self._depth -= 1
            return Negative(operand)
        if token.text == "(":
            self._deeper()
            self._advance()
            inside = self._any()
            if not self._take(")"):
                line, column = _place(self._text, token.at)
                raise self._error(f"')' was expected for '(' of line {line}, column {column}")
            self._depth -= 1
            return inside
        if token.kind == "number":
            self._advance()
            return Number(float(token.text))
        if token.kind == "name":
            return self._name(token)
        found = repr(token.text) if token.text else "the end"
        raise self._error(f"a figure, a number or '(' was expected, not {found}")

    def _name(self, token: _Token) -> Node:
        if token.text not in self._known:
            close = get_close_matches(token.text, list(self._known), n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise self._error(f"there is no figure {token.text!r}{meant}")
        self._advance()
        self.names.add(token.text)
        return Name(token.text)

    def _take(self, symbol: str) -> bool:
        if self._next.text != symbol:
            return False
        self._advance()
        return True

    def _advance(self) -> None:
        self._next = next(self._tokens)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH}")

    def _error(self, message: str) -> RuleError:
        return RuleError(message, *_place(self._text, self._next.at))


def _place(text: str, at: int) -> tuple[int, int]:
    """Line and column of a position, both from 1."""
    before = text[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
