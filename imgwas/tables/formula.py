"""Covariate formulae: ``age + age^2 + age:sex + C(centre)``, nothing that could run code.

The whole grammar, parsed here and nowhere evaluated::

    formula := [name "~"] terms        terms  := term ("+" | "-") term ...
    term    := factor (":" | "*") factor ...
    factor  := name | C(name) | factor ^ k | I(factor) | 1 | ( terms )

``name`` is a column, in backticks where it holds other characters than letters, digits, ``_`` and
``.``; ``k`` is a whole number. ``a*b`` means ``a + b + a:b``. The intercept is always in the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgwas.checks import did_you_mean
from imgwas.errors import UsageError, explain

_NAME = r"`[^`]+`|[^\W\d][\w.]*"
_TOKEN = re.compile(rf"\s*(?:{_NAME}|[0-9]+|\*\*|[-+:*^()])")
_LARGEST_POWER, _DEEPEST, _MOST_TERMS, _LONGEST = 6, 20, 1_000, 20_000


@dataclass(frozen=True)
class Factor:
    """A column, its power, and whether the formula declares it a label."""

    name: str
    power: int = 1
    is_label: bool = False

    def __str__(self) -> str:
        return self.name if self.power == 1 else f"{self.name}^{self.power}"

    @property
    def source(self) -> Factor:
        """The factor without its power."""
        return replace(self, power=1)


@dataclass(frozen=True)
class Block:
    """Numeric columns that a column becomes: itself, or the indicators of all its levels."""

    columns: Mapping[str, np.ndarray]
    is_label: bool = False

    def contrasts(self) -> dict[str, np.ndarray]:
        """Columns that tell people apart beside an intercept: every level but the first."""
        if not self.is_label or len(self.columns) == 1:
            return dict(self.columns)
        return dict(list(self.columns.items())[1:])


Term = tuple[Factor, ...]


def sources_of(formula: str, available: Sequence[str], path: Path) -> list[Factor]:
    """List the columns a formula uses, each as it is used: as a number or as labels.

    Raises
    ------
    UsageError
        If the text is no formula, names a column that does not exist, or names none.
    """
    sources = list(dict.fromkeys(factor.source for term in parse(formula) for factor in term))
    if not sources:
        raise UsageError(explain(f"the formula {formula.strip()[:80]!r} names no column"))
    for name in (source.name for source in sources):
        if name not in available:
            raise UsageError(
                explain(
                    f"the formula names {name!r}, and {path} has no such column",
                    do=did_you_mean(name, available) or f"It has {', '.join(list(available)[:8])}",
                )
            )
    return sources


def parse(formula: str) -> list[Term]:
    """Parse a formula into products of factors, in order, without repeats."""
    return _Parser(formula).formula()


def _unique(terms: Iterable[Term]) -> list[Term]:
    """Drop terms that came before, in whatever order of their factors."""
    seen: dict[frozenset[Factor], Term] = {}
    for term in terms:
        seen.setdefault(frozenset(term), term)
    return list(seen.values())


class _Parser:
    """Recursive descent over the tokens of a formula."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.tokens = self._tokens()
        self.at = self.depth = 0

    def _tokens(self) -> list[str]:
        outcome, tilde, text = self.text.rpartition("~")
        if len(self.text) > _LONGEST:
            raise self._refuse(f"it has more than {_LONGEST:,} characters")
        if tilde and not re.fullmatch(rf"\s*(?:{_NAME})?\s*", outcome):
            raise self._refuse("'~' may follow one name only")
        tokens, position = [], 0
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
                f"the formula {self.text[:80]!r} cannot be read: {what}",
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
        terms = [] if self._peek() == "-" else self._product()
        while self._peek() in ("+", "-"):
            sign, product = self._take(), self._product()
            if sign == "+":
                terms = [*terms, *product]
            elif product:
                gone = {frozenset(term) for term in product}
                terms = [term for term in terms if frozenset(term) not in gone]
            else:
                raise self._refuse("the intercept is always in the model")
        return _unique(terms)

    def _product(self) -> list[Term]:
        terms = self._power()
        while self._peek() in (":", "*"):
            operator = self._take()
            right = self._power()
            if len(terms) * len(right) > _MOST_TERMS:
                raise self._refuse(f"it has more than {_MOST_TERMS:,} terms")
            crossed = [tuple(dict.fromkeys(a + b)) for a in terms for b in right]
            terms = _unique(crossed if operator == ":" else [*terms, *right, *crossed])
        return terms

    def _power(self) -> list[Term]:
        terms = self._atom()
        while self._peek() in ("^", "**"):
            self._take()
            exponent = self._take()
            factor = self._single(terms, "only a single column can be raised to a power")
            if factor.is_label:
                raise self._refuse("labels have no powers")
            power = factor.power * int(exponent) if re.fullmatch(r"[1-9]", exponent) else 0
            if not 1 <= power <= _LARGEST_POWER:
                raise self._refuse(f"a power is a whole number from 1 to {_LARGEST_POWER}")
            terms = [(replace(factor, power=power),)]
        return terms

    def _single(self, terms: list[Term], what: str) -> Factor:
        if len(terms) != 1 or len(terms[0]) != 1:
            raise self._refuse(what)
        return terms[0][0]

    def _atom(self) -> list[Term]:
        part = self._take()
        if part == "(":
            return self._inside()
        if part == "1":
            return []
        if part == "0":
            raise self._refuse("the intercept is always in the model")
        if part.isdigit():
            raise self._refuse(f"the number {part[:20]} stands alone")
        if not (part[0].isalpha() or part[0] in "_`"):
            raise self._refuse(f"{part!r} is out of place")
        return self._call(part) if self._peek() == "(" else [(Factor(part.strip("`")),)]

    def _call(self, function: str) -> list[Term]:
        if function not in ("C", "I"):
            raise self._refuse(f"{function[:40]}(...) is not a known function")
        self._take("(")
        factor = self._single(self._inside(), f"{function}(...) takes one column")
        if function == "I":
            return [(factor,)]
        if factor.power > 1:
            raise self._refuse("labels have no powers")
        return [(replace(factor, is_label=True),)]

    def _inside(self) -> list[Term]:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._refuse(f"its parentheses are more than {_DEEPEST} deep")
        terms = self._sum()
        self._take(")")
        self.depth -= 1
        return terms


def design_of(
    formula: str, blocks: Mapping[Factor, Block]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Columns of a formula from the columns of its factors.

    A label stands for every level but the first where the rest of its term is in the model too
    (the intercept always is), and for all its levels where it is not: ``age + age:C(sex)`` has one
    slope more than ``age``, and ``age:C(sex)`` alone has a slope for each sex.

    Parameters
    ----------
    blocks : mapping
        The columns of each of :func:`sources_of`.

    Returns
    -------
    columns : dict of str to (samples,) float array
    terms : list of str
        The term each column belongs to.

    Raises
    ------
    UsageError
        If labels are raised to a power, or two different columns get the same name.
    """
    terms = [tuple(dict.fromkeys(_plain(f, blocks) for f in term)) for term in parse(formula)]
    blocks = {_plain(source, blocks): block for source, block in blocks.items()}
    present = {frozenset(term) for term in [(), *terms]}
    columns: dict[str, np.ndarray] = {}
    labels: list[str] = []
    for term in terms:
        product: dict[str, np.ndarray] = {}
        for factor in term:
            is_whole = frozenset(term) - {factor} not in present
            with np.errstate(over="ignore"):  # an infinite covariate is refused where it lands
                product = _times(product, _columns_of(factor, blocks[factor.source], is_whole))
        n_before = len(columns)
        add_columns(columns, product)
        labels += [":".join(map(str, term))] * (len(columns) - n_before)
    return columns, labels


def _plain(factor: Factor, blocks: Mapping[Factor, Block]) -> Factor:
    """Mark labels as such, whether ``C()``, an option or their text makes them labels."""
    return replace(factor, is_label=blocks[factor.source].is_label)


def _columns_of(factor: Factor, block: Block, is_whole: bool) -> Mapping[str, np.ndarray]:
    if factor.power == 1:
        return block.columns if is_whole else block.contrasts()
    if block.is_label:
        raise UsageError(explain(f"the formula has {factor}, and {factor.name} holds labels"))
    return {f"{name}^{factor.power}": v**factor.power for name, v in block.columns.items()}


def _times(
    left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    if not left:
        return dict(right)
    return {f"{a}:{b}": x * y for a, x in left.items() for b, y in right.items()}


def add_columns(columns: dict[str, np.ndarray], more: Mapping[str, np.ndarray]) -> None:
    """Add named columns; the same column again is no news, another of the same name is refused."""
    for name, values in more.items():
        if name in columns and not np.array_equal(columns[name], values, equal_nan=True):
            raise UsageError(
                explain(f"two different covariates would be called {name}", do="Rename a column")
            )
        columns.setdefault(name, values)
