"""Covariate formulae: ``age + age^2 + age:sex + C(centre)``, nothing that could run code.

The whole grammar, parsed here and nowhere evaluated::

    formula := term ("+" | "-") term ...      term := factor (":" | "*") factor ...
    factor  := name | C(name) | I(name^k) | name^k | 0 | 1 | ( formula )
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imgwas.checks import did_you_mean
from imgwas.errors import UsageError, explain

_TOKEN = re.compile(
    r"\s*(?:(?P<name>`[^`]+`|[A-Za-z_][\w.]*)|(?P<number>\d+)|(?P<sign>\*\*|[-+:*^()]))"
)
_LARGEST_POWER = 6


def columns_of(formula: str, available: Sequence[str], path: Path) -> tuple[list[str], set[str]]:
    """Names of the columns a formula uses, and those it declares as labels.

    Raises
    ------
    UsageError
        If the text is no formula or names a column that does not exist.
    """
    terms = parse(formula)
    used: dict[str, None] = {}
    labels: set[str] = set()
    for term in terms:
        for factor in term:
            used[factor.name] = None
            if factor.is_label:
                labels.add(factor.name)
    for name in used:
        if name not in available:
            raise UsageError(
                explain(
                    f"the formula names {name!r}, and {path} has no such column",
                    do=did_you_mean(name, available) or f"It has {', '.join(list(available)[:8])}",
                )
            )
    return list(used), labels


class Factor:
    """A column, its power, and whether it is declared a label."""

    def __init__(self, name: str, power: int = 1, is_label: bool = False) -> None:
        self.name, self.power, self.is_label = name, power, is_label

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Factor) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.name, self.power, self.is_label))

    def __repr__(self) -> str:
        return self.name if self.power == 1 else f"{self.name}^{self.power}"


Term = tuple[Factor, ...]


def parse(formula: str) -> list[Term]:
    """Parse a formula into products of factors, in order, without repeats."""
    return _Parser(formula).formula()


class _Parser:
    """Recursive descent over the tokens of a formula."""

    def __init__(self, text: str) -> None:
        self.text = text.partition("~")[2] if "~" in text else text
        self.tokens = self._tokens()
        self.at = 0

    def _tokens(self) -> list[str]:
        tokens, position = [], 0
        text = self.text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._refuse(f"{text[position:].strip()[:20]!r} is not part of a formula")
            tokens.append(match.group().strip())
            position = match.end()
        return tokens

    def _refuse(self, what: str) -> UsageError:
        return UsageError(
            explain(
                f"the formula {self.text.strip()[:80]!r} cannot be read: {what}",
                expected="Terms are column names joined by + : * ^, with C(name) for labels",
                do="For example: age + age^2 + age:sex + C(centre)",
            )
        )

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise self._refuse(f"{expected or 'a name'} is missing after {self.at} parts")
        self.at += 1
        return token

    def formula(self) -> list[Term]:
        terms = self._sum()
        if self._peek():
            raise self._refuse(f"{self._peek()!r} is out of place")
        return terms

    def _sum(self) -> list[Term]:
        terms: dict[Term, None] = dict.fromkeys(self._product())
        while self._peek() in ("+", "-"):
            sign = self._take()
            for term in self._product():
                if sign == "+":
                    terms[term] = None
                else:
                    terms.pop(term, None)
        return list(terms)

    def _product(self) -> list[Term]:
        terms = self._power()
        while self._peek() in (":", "*"):
            operator = self._take()
            right = self._power()
            crossed = [tuple(dict.fromkeys(a + b)) for a in terms for b in right]
            terms = crossed if operator == ":" else [*terms, *right, *crossed]
        return terms

    def _power(self) -> list[Term]:
        terms = self._atom()
        if self._peek() in ("^", "**"):
            self._take()
            exponent = self._take()
            if not exponent.isdigit() or not 1 <= int(exponent) <= _LARGEST_POWER:
                raise self._refuse(f"a power is a whole number from 1 to {_LARGEST_POWER}")
            if len(terms) != 1 or len(terms[0]) != 1:
                raise self._refuse("only a single column can be raised to a power")
            return [(Factor(terms[0][0].name, int(exponent)),)]
        return terms

    def _atom(self) -> list[Term]:
        token = self._take()
        if token[0] == "(":
            inner = self._sum()
            self._take(")")
            return inner
        if token.isdigit():
            if token not in ("0", "1"):
                raise self._refuse(f"the number {token} stands alone")
            return []  # the intercept is always in the model
        if token in ("C", "I") and self._peek() == "(":
            self._take("(")
            inner = self._sum()
            self._take(")")
            return self._wrapped(token, inner)
        if token[0].isalpha() or token[0] in "_`":
            if self._peek() == "(":
                raise self._refuse(f"{token}(...) is not a known function")
            return [(Factor(token.strip("`")),)]
        raise self._refuse(f"{token!r} is out of place")

    def _wrapped(self, function: str, inner: list[Term]) -> list[Term]:
        if len(inner) != 1 or len(inner[0]) != 1:
            raise self._refuse(f"{function}(...) takes one column")
        factor = inner[0][0]
        return [(Factor(factor.name, is_label=True),)] if function == "C" else [(factor,)]


def design_of(
    formula: str, blocks: Mapping[str, Mapping[str, np.ndarray]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Columns of a formula from the columns of its factors.

    Parameters
    ----------
    blocks : mapping
        For each source column the numeric columns it becomes (itself, or its indicators).

    Returns
    -------
    columns : dict of str to (samples,) float array
    terms : list of str
        The term each column belongs to.
    """
    columns: dict[str, np.ndarray] = {}
    terms: list[str] = []
    for term in parse(formula):
        product: dict[str, np.ndarray] = {}
        for factor in term:
            product = _times(product, _factor_columns(factor, blocks[factor.name]))
        for name, values in product.items():
            if name not in columns:
                columns[name] = values
                terms.append(":".join(map(repr, term)))
    return columns, terms


def _factor_columns(factor: Factor, block: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if factor.power == 1:
        return dict(block)
    return {f"{name}^{factor.power}": values**factor.power for name, values in block.items()}


def _times(
    left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    if not left:
        return dict(right)
    return {f"{a}:{b}": x * y for a, x in left.items() for b, y in right.items()}
