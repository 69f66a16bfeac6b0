"""Who a request is from, and what that tenant may take. Without keys everyone is one tenant, without limits."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec
from starlette.requests import Request

from broker import rate
from broker.errors import RateLimited, Unauthenticated
from broker.key_file import KeyFile
from broker.limits import Limits
from broker.settings import MIB, Settings
from pool import ANYBODY, Caller

TENANT = "broker.tenant"
"""Where a request's scope has its tenant."""


class Tenant(msgspec.Struct, frozen=True):
    name: str = ""
    """Empty without keys; no tenant of a key file is called that."""
    limits: Limits = Limits()

    @property
    def caller(self) -> Caller:
        """As the pool knows it."""
        if not self.name:
            return ANYBODY
        return Caller(self.name, max_in_flight=self.limits.concurrency, max_waiting=self.limits.queue)

    @property
    def sees_all_metrics(self) -> bool:
        return not self.name or self.limits.all_metrics

    @property
    def file_quota_bytes(self) -> int:
        """0 where it has none of its own."""
        return (self.limits.file_quota_mb or 0) * MIB


EVERYONE = Tenant()


class Tenants:
    """All there are. `clock` is monotonic."""

    def __init__(
        self,
        file: KeyFile | None = None,
        defaults: Limits = EVERYONE.limits,
        *,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.file = file
        self._defaults = defaults
        self._clock = clock
        self._buckets: dict[str, rate.Bucket] = {}

    @property
    def trouble(self) -> str | None:
        """What an operator should know about the keys, for `/health`."""
        return self.file.trouble if self.file else None

    def of_key(self, key: str | None) -> Tenant:
        """Raises `Unauthenticated`."""
        if self.file is None:
            return EVERYONE
        if key is None:
            raise Unauthenticated(
                "This service needs an API key: send it as 'Authorization: Bearer <key>' or as 'X-API-Key: <key>'."
            )
        keys = self.file.keys
        name = keys.tenant_of(key)
        if name is None:
            raise Unauthenticated("This API key is not known here, or no longer.")
        return Tenant(name, keys.limits_of(name, self._defaults))

    def count_run(self, tenant: Tenant) -> None:
        """One more request for a run. Raises `RateLimited`."""
        per_minute = tenant.limits.runs_per_minute
        if per_minute is None:
            return
        bucket = self._buckets.get(tenant.name)
        self._buckets[tenant.name], wait_seconds = rate.take(bucket, per_minute=per_minute, now=self._clock())
        if wait_seconds:
            text = f"This tenant may start {per_minute:g} runs a minute; the next one in {wait_seconds:.2f} s."
            raise RateLimited(text, retry_after_seconds=wait_seconds)

    async def watch_forever(self) -> None:
        if self.file is not None:
            await self.file.watch_forever()


def open_tenants(settings: Settings) -> Tenants:
    """Raises `SettingsError` where there are to be keys and are none."""
    if settings.keys_file is None:
        return Tenants()
    return Tenants(KeyFile(settings.keys_file), tenant_defaults(settings))


def tenant_defaults(settings: Settings) -> Limits:
    return Limits(
        concurrency=settings.tenant_concurrency,
        runs_per_minute=settings.tenant_runs_per_minute,
        # Half of the queue: one flood leaves as much to all others.
        queue=settings.queue // 2 if settings.tenant_queue is None else settings.tenant_queue,
        file_quota_mb=settings.tenant_file_quota_mb,
        sessions=max(1, settings.max_sessions // 2) if settings.tenant_sessions is None else settings.tenant_sessions,
    )


def tenant_of(request: Request) -> Tenant:
    """Of a request that has come through `Authentication`; there is no other way to a route."""
    tenant: Tenant = request.scope[TENANT]
    return tenant
