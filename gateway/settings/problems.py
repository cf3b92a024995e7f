"""What is wrong with a config file, and where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

PathInFile: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the top of the file to one value."""

_PLAIN_KEY = re.compile(r"[\w$()+/@-]+\Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. `place` is as in `databases.notes.users.ann.password`, empty for the file as a whole;
    `line` and `column` count from 1, and are 0 where no line is to blame."""

    place: str
    text: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}" if self.line else ""
        return ": ".join(part for part in (" ".join(filter(None, (where, self.place))), self.text) if part)


class SettingsError(Exception):
    """The config file cannot be used. `problems` are all of them, in the order of the file; none holds a secret."""

    def __init__(self, file: Path, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda problem: (problem.line, problem.column, problem.place))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"{file}: {count}", *map(str, self.problems)]))


def place_text(path: PathInFile) -> str:
    """`databases.notes.users["ann.b"].admin_channels[0]`"""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.match(part):
            text += f".{part}" if text else part
        else:
            text += '["' + part.replace('"', '\\"') + '"]'
    return text
