"""A YAML or JSON text as plain values that remember their line and column, with the environment filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

from gateway.settings.problems import PathInFile, Problem, place_text

VALUES_COUNT: Final = 100_000  # aliases let a short text name very many values
NESTING_COUNT: Final = 50

Position: TypeAlias = tuple[int, int]

_REFERENCE = re.compile(r"\$\$|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?P<text>.*))?\Z", re.DOTALL)


@dataclass(slots=True)
class Tree:
    """`value` is made of dict, list, str, int, float, bool and None. Positions are (line, column) from 1."""

    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    key_positions: dict[PathInFile, Position] = field(default_factory=dict)
    value_positions: dict[PathInFile, Position] = field(default_factory=dict)

    def position(self, path: PathInFile, *, of_key: bool = False) -> Position:
        """Where the value (or its key) stands; for a value that is not there, the nearest key above it."""
        if not of_key and path in self.value_positions:
            return self.value_positions[path]
        for end in range(len(path), 0, -1):
            if found := self.key_positions.get(path[:end]) or self.value_positions.get(path[:end]):
                return found
        return self.value_positions.get((), (1, 1))

    def problem(self, path: PathInFile, text: str, *, of_key: bool = False) -> Problem:
        line, column = self.position(path, of_key=of_key)
        return Problem(place_text(path), text, line, column)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `no`, `off`, `on`, `12:30` and dates are text, as whoever wrote them expects."""

    # PyYAML's own table holds YAML 1.1's; a class attribute of this name is what it looks in.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+\Z"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
    "-+.0123456789",
)


def read_tree(data: bytes, environ: Mapping[str, str] | None, *, is_json: bool) -> Tree:
    """The whole file. What is wrong with it is in `problems`; `value` then holds what could be read.

    Without `environ` nothing is filled in: `$` is a character like others.
    """
    tree = Tree()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        tree.problems.append(Problem("", "the file is not UTF-8 text", line, 1))
        return tree
    if is_json:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            tree.problems.append(Problem("", f"this is not JSON: {error.msg}", error.lineno, error.colno))
            return tree
        except (ValueError, RecursionError) as error:
            tree.problems.append(Problem("", f"this is not JSON: {error}", 1, 1))
            return tree
        # YAML reads JSON but for tabs between its tokens; inside strings JSON has none.
        text = text.replace("\t", " ")
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        tree.problems.append(Problem("", f"this is not YAML: {error.problem or error.context}", *where))
        return tree
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        tree.problems.append(Problem("", f"the file holds the character U+{error.character:04X}", line, 1))
        return tree
    except RecursionError:
        tree.problems.append(Problem("", f"values are nested deeper than {NESTING_COUNT} levels", 1, 1))
        return tree
    if node is None:
        tree.problems.append(Problem("", "the file is empty", 1, 1))
        return tree
    _Builder(tree, environ).fill(node)
    return tree


class _Builder:
    def __init__(self, tree: Tree, environ: Mapping[str, str] | None) -> None:
        self._tree = tree
        self._environ = environ
        self._count = 0

    def fill(self, node: yaml.Node) -> None:
        try:
            self._tree.value = self._value(node, ())
        except _TooMuch as error:
            self._tree.value = None
            self._tree.problems.append(Problem("", str(error), *_position(node)))

    def _value(self, node: yaml.Node, path: PathInFile) -> Any:
        self._count += 1
        if self._count > VALUES_COUNT:
            raise _TooMuch(f"the file holds more than {VALUES_COUNT} values")
        if len(path) > NESTING_COUNT:
            raise _TooMuch(f"values are nested deeper than {NESTING_COUNT} levels")
        self._tree.value_positions[path] = _position(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise TypeError(f"{type(node).__name__} is no YAML node")

    def _mapping(self, node: yaml.MappingNode, path: PathInFile) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._tree.problems.append(Problem(place_text(path), "a key must be text", *_position(key_node)))
                continue
            # The text as written, also where it looks like a number or a boolean: all our keys are names.
            key = _whole_characters(key_node.value)
            inner = (*path, key)
            if key in values:
                first = self._tree.key_positions[inner][0]
                text = f"this key is there twice, first in line {first}"
                self._tree.problems.append(Problem(place_text(inner), text, *_position(key_node)))
                continue
            self._tree.key_positions[inner] = _position(key_node)
            values[key] = self._value(value_node, inner)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: PathInFile) -> Any:
        text: str = node.value
        match node.tag:
            case "tag:yaml.org,2002:null":
                return None
            case "tag:yaml.org,2002:bool":
                return text.lower() == "true"
            case "tag:yaml.org,2002:int":
                # Only ever refused with its kind named, so a number of any length will do.
                return int(text[:20])
            case "tag:yaml.org,2002:float":
                return float(text)
            case "tag:yaml.org,2002:str":
                whole = _whole_characters(text)
                if self._environ is None or _holds_javascript(path):
                    return whole
                return self._filled_in(whole, path, self._environ)
        self._tree.problems.append(self._tree.problem(path, f"the YAML tag {node.tag} is not known here"))
        return text

    def _filled_in(self, text: str, path: PathInFile, environ: Mapping[str, str]) -> str:
        """`${NAME}`, `${NAME:-default}` and `$$` replaced; any other `$` stays. What is put in is final."""

        def replacement(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            variable = _VARIABLE.match(match["body"]) if match["end"] else None
            if not variable:
                complain('"${" must be followed by a name and "}", as in ${NAME} or ${NAME:-default}; $$ stands for $')
                return ""
            value = environ.get(variable["name"], "")
            if value:
                return value
            if variable["default"] is None:
                kind = "empty" if variable["name"] in environ else "not set"
                complain(f"the environment variable {variable['name']} is {kind}, and no default is given")
                return ""
            return variable["text"]

        found: list[str] = []
        complain = found.append
        filled = _REFERENCE.sub(replacement, text)
        self._tree.problems.extend(self._tree.problem(path, complaint) for complaint in found)
        return filled


class _TooMuch(Exception):
    pass


def _holds_javascript(path: PathInFile) -> bool:
    """A function of a database: a `$` or `${…}` in it is the function's own (a template string)."""
    of_database = len(path) == 3 and path[0] == "databases"
    of_default = len(path) == 2 and path[0] == "default_database"
    return (of_database or of_default) and path[-1] in ("sync", "import_filter")


def _position(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _whole_characters(text: str) -> str:
    """JSON's escaped surrogate pairs joined, which PyYAML leaves apart."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return text
