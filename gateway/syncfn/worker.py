"""The process in which a sync function runs: `python -m gateway.syncfn.worker`. Other functions run in their like.

A process, not a thread: the engine's time limit does not reach loops inside its own built-ins (`replaceAll` on a long
string in a loop, `join` of an array that claims four billion members), and only a process can be ended. It also keeps
a crash of the engine away from the gateway, and leaves the gateway's other threads their share of the interpreter.

Protocol, lines: first the hello, a JSON object (here `{"source", "limits"}`), answered by `{}` or `{"error"}`; then a
line for each question, texts with tabs between (here four: doc, oldDoc or nothing, meta, writer or nothing), each
answered by a line in the order of the questions. Questions are in ASCII, answers in UTF-8. The end of the input ends
the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from gateway import limits
from gateway.syncfn.engine import MEMORY, TIME, Engine, EngineLimits, SourceError

STUCK = 3  # exit code: the document at hand was answered by the watchdog, all answers are sent
_READ_BYTES = 1 << 20
_SEND_BYTES = 1 << 16
_SEND_SECONDS = 1.0
_THREAD_STACK_BYTES = 64 << 20  # address space, not memory; the main thread's depends on the machine's settings
_WATCH_SECONDS = 0.05
_WATCH_IDLE_SECONDS = 1.0  # being woken for each batch would cost more than looking now and then


class Runnable(Protocol):
    """What answers the questions of one process."""

    @property
    def used(self) -> bool:
        """Whether it answered one before."""

    @property
    def seconds(self) -> float:
        """The CPU time that the question at hand may take."""

    @property
    def run(self) -> Callable[..., tuple[str, bool]]:
        """From the texts of a question to one answer, and whether this engine may be used again."""


class Worker:
    """Reads documents, runs them, writes answers: one thread. `watch` is for the other."""

    def __init__(self, make: Callable[[dict[str, Any]], Runnable]) -> None:
        """`make` turns a hello into an engine, or raises SourceError."""
        self._make = make
        self._lock = threading.Lock()
        self._answers: list[str] = []
        self._size = 0
        self._sent = time.monotonic()
        self._number = 0  # of the document at hand
        self._said: dict[str, Any] = {}
        self._engine: Runnable | None = None
        self._busy = False
        self._ended = False
        self._wanted = threading.Event()  # the watchdog sleeps on it while there is nothing to watch

    def serve(self) -> None:
        """Answer until the input ends."""
        try:
            rest = bytearray()
            while data := os.read(0, _READ_BYTES):
                rest += data
                if b"\n" not in data:
                    continue
                *lines, rest = rest.split(b"\n")
                self._busy = True
                self._wanted.set()
                for line in lines:
                    text = line.decode("ascii")
                    if self._engine is None:
                        self._hello(text)
                    else:
                        self._document(self._engine, text)
                self._busy = False
                self._send()
        except BrokenPipeError:
            pass  # the gateway is gone
        finally:
            self._ended = True
            self._wanted.set()

    def _hello(self, line: str) -> None:
        self._said = json.loads(line)
        try:
            self._engine = self._make(self._said)
        except SourceError as error:
            self._answer(json.dumps({"error": str(error)}))
            self._send()
            sys.exit(1)
        self._answer("{}")

    def _document(self, engine: Runnable, line: str) -> None:
        texts = line.split("\t")
        used = engine.used
        answer, reusable = engine.run(*texts)
        if used and answer.startswith(MEMORY[:-1]):
            # An earlier document may have left its promises behind; what counts is this document alone.
            self._engine = engine = self._make(self._said)
            answer, reusable = engine.run(*texts)
        self._answer(answer)
        if not reusable or time.monotonic() - self._sent > _SEND_SECONDS:
            self._send()  # the gateway may want no more after a failure, and takes long silence for the end
        if not reusable:
            self._engine = self._make(self._said)

    def _allowed(self) -> float:
        return self._engine.seconds if self._engine else limits.SYNC_FUNCTION_START_SECONDS

    def _answer(self, answer: str) -> None:
        with self._lock:
            self._answers.append(answer)
            self._size += len(answer)
            self._number += 1
        if self._size > _SEND_BYTES:
            self._send()

    def _send(self) -> None:
        with self._lock:
            self._send_locked()

    def _send_locked(self) -> None:
        data = memoryview("".join(f"{answer}\n" for answer in self._answers).encode())
        self._answers.clear()
        self._size = 0
        self._sent = time.monotonic()
        while data:
            data = data[os.write(1, data) :]

    def watch(self) -> None:
        """End the process when one document goes on past the time at which the engine should have stopped it.

        Measured in CPU time, so a starved or stopped process is not taken for a runaway.
        """
        number, used, idle = -1, 0.0, 0
        while not self._ended:
            if self._busy and number == self._number:
                if time.process_time() - used > 1.2 * self._allowed() + 0.1:
                    self._give_up(number)
            else:
                idle = idle + 1 if number == self._number else 0
                number, used = self._number, time.process_time()
            if idle * _WATCH_SECONDS < _WATCH_IDLE_SECONDS:
                time.sleep(_WATCH_SECONDS)
            else:
                self._wanted.clear()
                if not (self._busy or self._ended):
                    self._wanted.wait()
                idle = 0

    def _give_up(self, number: int) -> None:
        with self._lock:
            if self._busy and number == self._number:
                self._answers.append(TIME)
                with contextlib.suppress(BrokenPipeError):  # the gateway is gone
                    self._send_locked()
                os._exit(STUCK)


def serve(make: Callable[[dict[str, Any]], Runnable]) -> None:
    """Run until the input ends. `make` turns a hello into an engine, or raises SourceError."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the gateway's; it drains first
    worker = Worker(make)
    threading.stack_size(_THREAD_STACK_BYTES)
    threading.Thread(target=worker.serve, daemon=True).start()
    worker.watch()


def _sync_function(hello: dict[str, Any]) -> Runnable:
    return Engine(hello["source"], EngineLimits(**hello["limits"]))


if __name__ == "__main__":
    serve(_sync_function)
