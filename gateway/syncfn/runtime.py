"""The sync function of one database: calls in, verdicts out."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from gateway import limits
from gateway.errors import BadSyncFunction, NotLookedAt, SyncFunctionFailed, SyncFunctionUnavailable
from gateway.model.routing import Call, Verdict
from gateway.syncfn import answers
from gateway.syncfn.engine import EngineLimits, SourceError, compile_error
from gateway.syncfn.runner import Runner

__all__ = ["EngineLimits", "SyncFunction", "compile_error"]

_log = logging.getLogger(__name__)


class SyncFunction:
    """One JavaScript function in a process of its own, which starts with the first call.

    What holds: each document is looked at by a function made anew, in a context where nothing that an earlier
    document left behind can be found; it may use SYNC_FUNCTION_SECONDS of CPU time and the memory and stack of
    limits.py. One that uses more gets an error, and the next one works. Another database's function is not concerned.
    """

    def __init__(
        self,
        source: str,
        *,
        name: str = "sync function",
        checked: bool = False,
        in_resync: bool = False,
        engine_limits: EngineLimits | None = None,
    ) -> None:
        """`name` says in the log whose function it is.

        `in_resync` says that it is asked about every document there is: the log then tells of some of them only.
        Unless the source is `checked` already, raises BadSyncFunction and blocks a few milliseconds.
        """
        if not checked and (problem := compile_error(source)):
            raise BadSyncFunction(problem)
        self.source = source
        self.version = 0  # which version of a database's function it is, if it is one: its verdicts bear it
        self.digest = hashlib.sha256(source.encode()).hexdigest()
        self._name = name
        self._log_left: int | None = limits.RESYNC_LOGGED_DOCUMENTS_COUNT if in_resync else None
        hello = {"source": source, "limits": asdict(engine_limits or EngineLimits())}
        self._runner = Runner("gateway.syncfn.worker", hello, name=name)

    def decide(self, version: int) -> None:
        """It is in force from now on, as this version of its database's function."""
        self.version = version
        self._log_left = None

    async def run(self, calls: Sequence[Call], *, now: float | None = None) -> list[Verdict]:
        """One verdict for each call, in order; a failing function is a verdict's `error`, never raised.

        `now` in unix seconds is what relative times count from, where a call says nothing else. Batches run one after
        the other. A cancelled caller does not disturb the others. Raises SyncFunctionUnavailable when no process can be
        started or `close` was called, which is no answer about any document, and ValueError or TypeError for a body
        that is not JSON.

        Once it ran away on SYNC_FUNCTION_RUNAWAYS_COUNT documents of a request, the others of that request have the
        error NotLookedAt: those of other requests wait for this batch.
        """
        moment = time.time() if now is None else now
        verdicts: dict[int, Verdict] = {}
        todo = list(range(len(calls)))
        while todo:
            left_out = [at for at in todo if _too_many(calls[at])]
            verdicts |= {at: Verdict(error=NotLookedAt(), version=self.version) for at in left_out}
            if left_out:
                _log.warning("%s: %d documents were not looked at, it ran away on others", self._name, len(left_out))
                todo = [at for at in todo if at not in verdicts]
            lines = await self._ask([calls[at] for at in todo])
            for place, line in enumerate(lines):
                if place % 64 == 63:
                    await asyncio.sleep(0)
                call = calls[todo[place]]
                if call.runaways is not None:
                    call.runaways.count += answers.ran_away(line)
                asked_at = moment if call.asked_at is None else call.asked_at
                verdicts[todo[place]] = answers.verdict(line, asked_at, self.version)
            todo = todo[len(lines) :]
        found = [verdicts[at] for at in range(len(calls))]
        self._write_logs(calls, found)
        return found

    async def _ask(self, calls: Sequence[Call]) -> list[bytes]:
        """Answers to all of them, or to those up to a runaway where another of its request may be one too many."""
        owned = Counter(call.runaways for call in calls if call.runaways is not None)
        may_end = any(one.count + count > limits.SYNC_FUNCTION_RUNAWAYS_COUNT for one, count in owned.items())
        last = answers.ran_away if may_end else None
        try:
            return await self._runner.run(len(calls), lambda start, end: answers.questions(calls[start:end]), last=last)
        except SourceError as problem:
            raise SyncFunctionUnavailable(f"the sync function cannot be run: {problem}") from None

    def _write_logs(self, calls: Sequence[Call], verdicts: Sequence[Verdict]) -> None:
        name = self._name if self._log_left is None else f"{self._name}, in a resync"
        for call, verdict in zip(calls, verdicts, strict=True):
            failure = verdict.error
            if not isinstance(failure, SyncFunctionFailed) or isinstance(failure, NotLookedAt):
                failure = None
            if failure is None and not verdict.logs:
                continue
            if self._log_left is not None:
                if not self._log_left:
                    return
                self._log_left -= 1
            if failure is not None:
                _log.warning("%s: %s: %s", name, call.doc.get("_id"), failure.reason)
            for line in verdict.logs:
                _log.info("%s: %s: %s", name, call.doc.get("_id"), line)
            if self._log_left == 0:
                _log.info("%s: the log tells of no more documents of this resync", name)

    async def close(self) -> None:
        """End the process. Calls under way raise SyncFunctionUnavailable."""
        await self._runner.close()


def _too_many(call: Call) -> bool:
    return call.runaways is not None and call.runaways.count >= limits.SYNC_FUNCTION_RUNAWAYS_COUNT
