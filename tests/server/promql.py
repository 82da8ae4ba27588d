"""As much of PromQL's grammar as dashboards use: a parser that tells which series and labels a query reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

AGGREGATIONS = {"sum", "avg", "min", "max", "count", "topk", "quantile"}
FUNCTIONS = {"rate": 1, "irate": 1, "increase": 1, "histogram_quantile": 2, "scalar": 1, "clamp_max": 2, "vector": 1}
_RANGED = {"rate", "irate", "increase"}
_TOKENS = re.compile(
    r"""\s+|(?P<duration>\[(?:\d+[smhd]|\$__rate_interval|\$__range)\])|(?P<number>\d+(?:\.\d+)?)"""
    r"""|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<text>"[^"\\]*")|(?P<match>=~|!~|!=|==|>=|<=)|(?P<sign>[-+*/%^(){},=<>])"""
)
_OPERATORS = {"+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"}


@dataclass
class Selector:
    """Series of one name. matched: labels in braces; grouped: labels of the aggregations around it."""

    name: str
    matched: dict[str, str] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)
    is_ranged: bool = False


class Query:
    """A parsed query. Raises ValueError where it is wrong."""

    def __init__(self, text: str) -> None:
        self.selectors: list[Selector] = []
        self._tokens = _tokenize(text)
        self._expression()
        if self._tokens:
            raise ValueError(f"{self._tokens[0]!r} comes after the end of {text!r}")

    def _expression(self) -> None:
        self._term()
        while self._tokens and self._tokens[0] in _OPERATORS:
            self._take()
            if self._next() in ("on", "ignoring"):
                self._take()
                self._labels()
                if self._next() in ("group_left", "group_right"):
                    self._take()
                    self._labels()
            self._term()

    def _term(self) -> None:
        token = self._take()
        if token == "-":
            self._term()
        elif token == "(":
            self._expression()
            self._take(")")
        elif token in AGGREGATIONS:
            self._aggregation()
        elif token in FUNCTIONS and self._next() == "(":
            self._call(token)
        elif re.fullmatch(r"\d+(\.\d+)?", token):
            return
        elif re.fullmatch(r"[a-zA-Z_:]\w*", token) and self._next() != "(":
            self._selector(token)
        else:
            raise ValueError(f"{token!r} is no function and begins no expression")

    def _aggregation(self) -> None:
        labels: set[str] = set()
        if self._next() == "by":
            self._take()
            labels = self._labels()
        before = len(self.selectors)
        self._take("(")
        self._expression()
        self._take(")")
        for selector in self.selectors[before:]:
            selector.grouped |= labels

    def _call(self, name: str) -> None:
        before = len(self.selectors)
        self._take("(")
        arguments = 1
        self._expression()
        while self._next() == ",":
            self._take()
            self._expression()
            arguments += 1
        self._take(")")
        if arguments != FUNCTIONS[name]:
            raise ValueError(f"{name} takes {FUNCTIONS[name]} arguments, not {arguments}")
        if (name in _RANGED) != any(selector.is_ranged for selector in self.selectors[before:]) and name in _RANGED:
            raise ValueError(f"{name} needs a range")

    def _selector(self, name: str) -> None:
        selector = Selector(name)
        if self._next() == "{":
            self._take()
            while self._next() != "}":
                label, _, value = self._take(), self._take(), self._take()
                if not value.startswith('"'):
                    raise ValueError(f"{value} is no text")
                selector.matched[label] = value.strip('"')
                if self._next() == ",":
                    self._take()
            self._take()
        if self._next().startswith("["):
            self._take()
            selector.is_ranged = True
        self.selectors.append(selector)

    def _labels(self) -> set[str]:
        labels = set()
        self._take("(")
        while self._next() != ")":
            labels.add(self._take())
            if self._next() == ",":
                self._take()
        self._take()
        return labels

    def _next(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _take(self, wanted: str | None = None) -> str:
        if not self._tokens or (wanted is not None and self._tokens[0] != wanted):
            raise ValueError(f"{wanted or 'something'} is missing before {self._next() or 'the end'!r}")
        return self._tokens.pop(0)


def _tokenize(text: str) -> list[str]:
    tokens = []
    position = 0
    while position < len(text):
        found = _TOKENS.match(text, position)
        if found is None:
            raise ValueError(f"{text[position:]!r} is no PromQL")
        if found.lastgroup is not None:
            tokens.append(found[0])
        position = found.end()
    return tokens
