"""Puts counters into a sync function, so that it can be told which of its lines ran.

A counter stands before each statement, and before the expression that is an arrow function's whole body. Nothing is
moved to another line, so lines in messages stay. What the reader of statements does not know with certainty (classes,
`with`, generators, labels before blocks, …) is not instrumented at all: no number is better than a wrong one. Whoever
uses the result compares its answers with those of the source as it was written (coverage.py).

Where statements end: https://tc39.es/ecma262/#sec-automatic-semicolon-insertion
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.syncfn.tokens import NotUnderstood, Scanner, Token

_REFUSED: Final = {"class", "with", "yield", "await", "async", "import", "export", "enum", "super"}
_PREFIXES: Final = {"typeof", "void", "delete", "new"}
_PREFIX_MARKS: Final = {"+", "-", "!", "~", "++", "--", "..."}
_WORD_OPERATORS: Final = {"in", "instanceof"}
_CLOSING: Final = {")", "]", "}", ";", ","}
_STATEMENT_WORDS: Final = {
    *("if", "else", "for", "while", "do", "switch", "case", "default", "try", "catch", "finally", "return", "throw"),
    *("break", "continue", "debugger", "var", "const", "function"),
}
_COUNTER: Final = "$ran"


@dataclass(frozen=True, slots=True)
class Instrumented:
    """`source` calls `counter`(n) before its n-th unit runs, which begins in line `lines[n]` (from 1)."""

    source: str
    counter: str
    lines: tuple[int, ...]


def instrument(source: str) -> Instrumented:
    """The source with counters. Raises NotUnderstood when that cannot be done without the risk of changing it.

    The source is one that `compile_error` has nothing against.
    """
    reader = _Reader(source)
    try:
        reader.whole()
    except RecursionError:
        raise NotUnderstood("it is nested too deeply") from None
    return reader.result()


class _Reader:
    def __init__(self, source: str) -> None:
        self._scan = Scanner(source)
        self._source = source
        self._inserts: list[tuple[int, int, str]] = []  # place, order at one place, text
        self._lines: list[int] = []
        self._last_end = 0
        self._counter = _COUNTER
        while self._counter in source:
            self._counter += "_"

    def result(self) -> Instrumented:
        parts: list[str] = []
        at = 0
        for place, _, text in sorted(self._inserts):
            parts += self._source[at:place], text
            at = place
        return Instrumented("".join([*parts, self._source[at:]]), self._counter, tuple(self._lines))

    # ---- tokens

    def _peek(self, *, regex: bool = False) -> Token:
        token = self._scan.peek(regex=regex)
        if token.kind == "name" and token.text in _REFUSED:
            raise self._problem(f"`{token.text}` is not understood", token)
        return token

    def _take(self, token: Token) -> None:
        self._scan.at = self._last_end = token.end

    def _expect(self, text: str, *, regex: bool = False) -> Token:
        token = self._peek(regex=regex)
        if token.text != text or token.kind not in ("mark", "name"):
            raise self._problem(f"`{token.text}` instead of `{text}`", token)
        self._take(token)
        return token

    def _is(self, text: str, *, regex: bool = False) -> bool:
        token = self._peek(regex=regex)
        return token.text == text and token.kind in ("mark", "name")

    def _problem(self, what: str, token: Token) -> NotUnderstood:
        return self._scan.problem(what, token.start)

    def _count(self, place: int, before: str = "", after: str = ";") -> None:
        number = len(self._lines)
        self._lines.append(self._scan.line(place))
        self._insert(place, f"{before}{self._counter}({number}){after}")

    def _insert(self, place: int, text: str) -> None:
        self._inserts.append((place, len(self._inserts), text))

    # ---- the source: one function, as an expression

    def whole(self) -> None:
        self._expression()
        while self._is(";"):
            self._take(self._peek())
        if (token := self._peek()).kind != "end":
            raise self._problem(f"`{token.text}` is not understood", token)

    # ---- statements

    def _block(self) -> None:
        self._expect("{", regex=True)
        self._statements()
        self._expect("}", regex=True)

    def _function_body(self) -> None:
        self._expect("{")
        while (token := self._peek(regex=True)).kind == "string":
            start = self._scan.at
            self._take(token)
            after = self._peek()
            directive = after.text in (";", "}") or (after.after_line_end and not _continues(after))
            if not directive:
                self._scan.at = start
                break
            if after.text == ";":
                self._take(after)
        self._statements()
        self._expect("}", regex=True)

    def _statements(self) -> None:
        while (token := self._peek(regex=True)).text not in ("}", "case", "default") or token.kind == "string":
            if token.kind == "end":
                raise self._problem("a block without an end", token)
            self._statement(listed=True)

    def _within(self) -> None:
        """The body of an `if` or a loop: gets braces of its own when it has none."""
        token = self._peek(regex=True)
        if token.text == "{" and token.kind == "mark":
            self._block()
        elif token.text == ";" and token.kind == "mark":
            self._take(token)
        elif token.text in ("function", "const", "let") and token.kind == "name":
            raise self._problem(f"a body that begins with `{token.text}` is not understood", token)
        else:
            self._count(token.start, before="{")
            self._statement(listed=False)
            self._insert(self._last_end, "}")

    def _statement(self, *, listed: bool) -> None:
        """One statement, up to its end; with a counter when it stands in a list."""
        token = self._peek(regex=True)
        if token.kind == "mark" and token.text == "{":
            self._block()
            return
        if token.kind == "mark" and token.text == ";":
            self._take(token)
            return
        if token.kind == "name" and token.text == "function":
            self._function()  # is there from the beginning: nothing runs here
            return
        if listed:
            self._count(token.start)
        if token.kind != "name" or not self._keyword(token):
            self._simple()

    def _keyword(self, token: Token) -> bool:
        """A statement that begins with a word of its own; False: it is an expression."""
        word = token.text
        if word not in _STATEMENT_WORDS and word != "let":
            return self._label(token)
        self._take(token)
        if word in ("if", "while", "for"):
            self._group("(", ")")
            self._within()
            if word == "if" and self._is("else", regex=True):
                self._take(self._peek(regex=True))
                self._within()
        elif word == "do":
            self._within()
            self._expect("while", regex=True)
            self._group("(", ")")
            if self._is(";", regex=True):
                self._take(self._peek(regex=True))
        elif word == "switch":
            self._switch()
        elif word == "try":
            self._try()
        elif word in ("return", "throw"):
            following = self._peek(regex=True)
            if not (following.after_line_end or following.text in (";", "}")):
                self._simple()
            elif following.text == ";":
                self._take(following)
        elif word in ("break", "continue", "debugger"):
            following = self._peek(regex=True)
            if following.kind == "name" and not following.after_line_end:
                self._take(following)
            self._end_of_statement()
        elif word in ("var", "const", "let"):
            following = self._peek()
            if not (following.kind == "name" or following.text in ("[", "{")) or following.text in _WORD_OPERATORS:
                raise self._problem("`let` as a name is not understood", token)
            self._simple()
        else:
            raise self._problem(f"`{word}` is not understood", token)
        return True

    def _label(self, token: Token) -> bool:
        start, end = self._scan.at, self._last_end
        self._take(token)
        if not self._is(":"):
            self._scan.at, self._last_end = start, end
            return False
        self._take(self._peek())
        if self._peek(regex=True).text not in ("for", "while", "do"):
            raise self._problem("a label before anything but a loop is not understood", token)
        self._statement(listed=False)
        return True

    def _switch(self) -> None:
        self._group("(", ")")
        self._expect("{")
        while not self._is("}", regex=True):
            token = self._peek(regex=True)
            self._take(token)
            if token.text == "case":
                self._expression()
            elif token.text != "default":
                raise self._problem(f"`{token.text}` is not understood", token)
            self._expect(":")
            self._statements()
        self._expect("}", regex=True)

    def _try(self) -> None:
        self._block()
        if self._is("catch", regex=True):
            self._take(self._peek(regex=True))
            if self._is("("):
                self._group("(", ")")
            self._block()
        if self._is("finally", regex=True):
            self._take(self._peek(regex=True))
            self._block()

    def _simple(self) -> None:
        before = self._scan.at
        self._expression(ends_at_line=True)
        if self._scan.at == before:
            token = self._peek()
            raise self._problem(f"`{token.text}` is not understood", token)
        self._end_of_statement()

    def _end_of_statement(self) -> None:
        token = self._peek()
        if token.kind == "mark" and token.text == ";":
            self._take(token)
        elif token.text != "}" and token.kind != "end" and not token.after_line_end:
            raise self._problem(f"`{token.text}` is not understood", token)

    # ---- expressions: brackets are followed, operators only as far as to know what a `/`, a `{`, an end of line is

    def _expression(self, *, ends_at_line: bool = False, one: bool = False) -> None:
        """Up to what cannot belong to it; `one`: also up to a comma. `ends_at_line`: an end of line may be its end."""
        wanted, choices, arrow = True, 0, False  # whether an operand must follow, open `?`, just behind `=> {…}`
        while True:
            token = self._peek(regex=wanted)
            if wanted:
                if token.kind == "mark" and token.text in (_CLOSING - {","}) | {":"}:
                    return  # empty, or behind a comma that ends a list
                if token.text == "," and token.kind == "mark":
                    raise self._problem("`,` is not understood", token)
                wanted = self._operand(token)
                continue
            if token.kind == "end" or (token.kind == "mark" and token.text in _CLOSING - {","}):
                return
            if token.text == "," and token.kind == "mark":
                if one:
                    return
                self._take(token)
                wanted, arrow = True, False
                continue
            if ends_at_line and token.after_line_end and (arrow or not _continues(token)):
                return
            if token.text == ":" and token.kind == "mark":
                if choices == 0:
                    return
                choices -= 1
                self._take(token)
                wanted, arrow = True, False
                continue
            if arrow:
                raise self._problem(f"`{token.text}` behind an arrow function is not understood", token)
            if token.text == "?" and token.kind == "mark":
                choices += 1
            wanted, arrow = self._operator(token)

    def _operand(self, token: Token) -> bool:
        """Passes one, or what stands before one: then another must follow."""
        if token.kind == "mark" and token.text in _PREFIX_MARKS:
            self._take(token)
            return True
        if token.kind == "name" and token.text in _PREFIXES:
            self._take(token)
            if token.text == "new" and self._is("."):
                self._take(self._peek())
                self._expect("target")
                return False
            return True
        if token.kind == "template":
            self._template(token)
        elif token.text == "function" and token.kind == "name":
            self._function()
        elif token.text in ("(", "[") and token.kind == "mark":
            self._group(token.text, ")" if token.text == "(" else "]")
        elif token.text == "{" and token.kind == "mark":
            self._object()
        elif token.kind in ("number", "string", "regex") or (
            token.kind == "name" and token.text not in _STATEMENT_WORDS | _WORD_OPERATORS
        ):
            self._take(token)
        else:
            raise self._problem(f"`{token.text}` is not understood", token)
        return False

    def _operator(self, token: Token) -> tuple[bool, bool]:
        """Passes what follows an operand: whether another operand must follow, and whether it was `=> {…}`."""
        if token.kind == "template":
            self._template(token)
            return False, False
        if token.kind == "name":
            if token.text in _WORD_OPERATORS or token.text == "of":
                self._take(token)
                return True, False
        elif token.kind == "mark":
            if token.text in ("(", "["):
                self._group(token.text, ")" if token.text == "(" else "]")
                return False, False
            if token.text in (".", "?."):
                return self._member(token), False
            if token.text in ("++", "--") and not token.after_line_end:
                self._take(token)
                return False, False
            if token.text == "=>":
                return False, self._arrow(token)
            if token.text not in ("{", "!", "~", "...", "++", "--"):
                self._take(token)
                return True, False
        raise self._problem(f"`{token.text}` is not understood", token)

    def _member(self, dot: Token) -> bool:
        self._take(dot)
        token = self._scan.peek(regex=False)  # any word is a name behind a dot
        if token.kind == "name":
            self._take(token)
        elif dot.text == "." or not (token.kind == "template" or token.text in ("(", "[")):
            raise self._problem(f"`{token.text}` behind `{dot.text}` is not understood", token)
        return False

    def _arrow(self, token: Token) -> bool:
        self._take(token)
        body = self._peek(regex=True)
        if body.text == "{" and body.kind == "mark":
            self._function_body()
            return True
        self._count(body.start, before="(", after=",")
        self._expression(ends_at_line=True, one=True)
        self._insert(self._last_end, ")")
        return True

    def _group(self, opening: str, closing: str) -> None:
        """Brackets with expressions, patterns, or the three parts of a `for` in them."""
        self._expect(opening, regex=True)
        while True:
            token = self._peek(regex=True)
            if token.kind == "mark" and token.text == closing:
                self._take(token)
                return
            if (token.kind == "mark" and token.text in (",", ";")) or (
                token.kind == "name" and token.text in ("var", "let", "const")
            ):
                self._take(token)
            else:
                before = self._scan.at
                self._expression(one=True)
                if self._scan.at == before:
                    raise self._problem(f"`{token.text}` is not understood", token)

    def _object(self) -> None:
        self._expect("{", regex=True)
        while self._peek_any().text != "}":
            self._object_member()
            token = self._peek_any()
            if token.text == ",":
                self._take(token)
            elif token.text != "}":
                raise self._problem(f"`{token.text}` in an object is not understood", token)
        self._expect("}")

    def _object_member(self) -> None:
        token = self._scan.peek(regex=False)
        if token.text == "..." and token.kind == "mark":
            self._take(token)
            self._expression(one=True)
            return
        self._key()
        if token.text in ("get", "set", "async") and token.kind == "name" and self._peek_any().text not in "(,:}=":
            if token.text == "async":
                raise self._problem("`async` is not understood", token)
            self._key()
        following = self._peek_any()
        if following.text == "(" and following.kind == "mark":
            self._group("(", ")")
            self._function_body()
        elif following.text in (":", "=") and following.kind == "mark":
            self._take(following)
            self._expression(one=True)

    def _peek_any(self) -> Token:
        return self._scan.peek(regex=False)

    def _key(self) -> None:
        token = self._peek_any()
        if token.text == "[" and token.kind == "mark":
            self._group("[", "]")
        elif token.kind in ("name", "string", "number"):
            self._take(token)
        else:
            raise self._problem(f"`{token.text}` in an object is not understood", token)

    def _function(self) -> None:
        self._expect("function", regex=True)
        if self._peek().kind == "name":
            self._take(self._peek())
        self._group("(", ")")
        self._function_body()

    def _template(self, token: Token) -> None:
        at = token.end
        source = self._source
        while at < len(source):
            if source[at] == "\\":
                at += 2
            elif source[at] == "`":
                self._scan.at = self._last_end = at + 1
                return
            elif source.startswith("${", at):
                self._scan.at = at + 2
                self._expression()
                at = self._expect("}").end
            else:
                at += 1
        raise self._problem("a template without an end", token)


def _continues(token: Token) -> bool:
    """Whether a token behind an end of line goes on with a complete expression, where the grammar lets it."""
    if token.kind == "template":
        return True
    if token.kind == "name":
        return token.text in _WORD_OPERATORS
    return token.kind == "mark" and token.text not in ("{", "}", "!", "~", "++", "--", "...")
