"""The process in which the functions of one design document run: `python -m gateway.viewfn.worker`."""

from __future__ import annotations

from typing import Any

from gateway.syncfn.worker import Runnable, serve
from gateway.viewfn.engine import ViewEngine, ViewLimits


def make(hello: dict[str, Any]) -> Runnable:
    """The engine of a hello `{"functions", "limits"}`."""
    return ViewEngine(hello["functions"], ViewLimits(**hello["limits"]))


if __name__ == "__main__":
    serve(make)
