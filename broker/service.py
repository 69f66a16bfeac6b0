"""What the routes share: the parts of one running service, and whether it is on its way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from starlette.requests import Request

from broker.body import BodyBudget, HeldBody
from broker.claims import Claims
from broker.errors import TenantLimited
from broker.executions import Executions
from broker.files import FileStore
from broker.keyed_runs import KeyedRuns
from broker.metrics import Metrics
from broker.sessions import Sessions
from broker.settings import Settings
from broker.tenant_files import TenantFiles
from broker.tenants import Tenant, Tenants
from broker.validation import MAX_BODY_BYTES
from pool import Isolation, PoolError, SandboxPool

# The level of the compatible API that is served: clients switch sessions on from 0.4.0.
API_LEVEL, API_LEVEL_WITHOUT_SESSIONS = "0.4.4", "0.3.3"
# A pool without a warm sandbox for so long, and with a reason for it, is ill; before that it is only busy.
COLD_SECONDS = 60.0

# What a run may need beyond its longest time: for a claim that was long in doubt (`claims.TAKE_OVER_SECONDS`), for
# storing its outcome, and by how much the clocks of two replicas may differ. More keeps callers from hearing that a
# replica has died; less would call a run lost that goes on.
CLAIM_SLACK_SECONDS = 120.0
# Of the bodies of all requests for a run under way. Less refuses long programs that come together; more is memory.
MAX_BODIES_BYTES = 8 * MAX_BODY_BYTES


class Service:
    """One for the life of the process."""

    def __init__(
        self,
        settings: Settings,
        pool: SandboxPool,
        store: FileStore,
        metrics: Metrics,
        tenants: Tenants,
        sessions: Sessions,
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.store = store
        self.metrics = metrics
        self.tenants = tenants
        self.sessions = sessions
        self.leaving = False
        """Set on SIGTERM: `/ready` says so, and each answer closes its connection."""
        self.draining = False
        """What runs may end, nothing new begins."""
        self.active = 0
        """Requests for a run under way; SIGTERM waits for them."""
        self.executions = Executions()
        """Runs under way, by id."""
        self.keyed = KeyedRuns(_claims(settings, store))
        """Runs with an idempotency key."""
        self.bodies = BodyBudget(MAX_BODIES_BYTES)
        self._idle = anyio.Event()

    @property
    def isolation(self) -> Isolation:
        """Of the sandboxes that there are; the pool must have been entered."""
        return self.pool.isolation()

    @property
    def trouble(self) -> str | None:
        """What an operator must see to, while runs go on."""
        return self.tenants.trouble or self.sessions.trouble

    @contextmanager
    def request(self, operation: str, tenant: Tenant) -> Iterator[HeldBody]:
        """One request for a run, from its first byte on. Raises `RateLimited`."""
        self.active += 1
        held = HeldBody(self.bodies, tenant.name)
        try:
            self.tenants.count_run(tenant)
            yield held
        except (PoolError, TenantLimited) as error:
            self.metrics.rejected(operation, error, tenant.name)
            raise
        finally:
            held.release()
            self.active -= 1
            if self.draining and not self.active:
                self._idle.set()

    def files(self, tenant: Tenant) -> TenantFiles:
        """The store as this tenant may see it."""
        return TenantFiles(self.store, tenant.name, quota_bytes=tenant.file_quota_bytes)

    def leave(self) -> None:
        """Whoever asks is served still, and told to connect anew: where a service has replicas, to another."""
        self.leaving = True

    def drain(self) -> None:
        """Nothing new begins from here on."""
        self.leaving = self.draining = True
        if not self.active:
            self._idle.set()

    async def drained(self) -> None:
        """What was running when `drain` was called has ended."""
        await self._idle.wait()


def _claims(settings: Settings, store: FileStore) -> Claims:
    return Claims(
        store.storage,
        ttl_seconds=max(settings.idempotency_ttl_seconds, settings.longest_seconds + CLAIM_SLACK_SECONDS),
        run_seconds=settings.longest_seconds + CLAIM_SLACK_SECONDS,
        quotas=store.quotas,
    )


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
