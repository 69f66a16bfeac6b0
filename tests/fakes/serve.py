"""`python -m tests.fakes.serve`: the service in a process of its own, with sandboxes that are objects."""

from __future__ import annotations

import anyio

from broker.logs import configure
from broker.server import serve
from broker.settings import from_environment
from tests.fakes.backend import FakeBackend


def main() -> None:
    settings = from_environment()
    configure(settings.log_level, settings.log_format)
    anyio.run(
        serve, settings, FakeBackend(), lambda text: print(text, flush=True), backend_options={"use_uvloop": True}
    )


if __name__ == "__main__":
    main()
