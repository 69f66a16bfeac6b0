"""A NetworkPolicy enforcer for the test cluster: watches, decides (rules.py), and programs nftables after the fact.

    python -m tests.cluster.enforcer https://10.99.0.2:6443 FOLDER-OF-CERTIFICATES

Runs in the cluster's network namespace, with nothing but the standard library. As with every real one there is a gap
between the moment a pod or a policy is made and the moment it counts; ENFORCER_DELAY_SECONDS makes that gap at least
so long.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.rules import decide, pod_of

WATCHED = {
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
}
WATCH_SECONDS = 240
PAUSE_SECONDS = 0.2


class Api:
    """The API server, asked with a client certificate."""

    def __init__(self, server: str, certificates: Path) -> None:
        address = urlsplit(server)
        self._host, self._port = address.hostname or "", address.port or 443
        self._tls = ssl.create_default_context(cafile=certificates / "ca.crt")
        self._tls.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")

    def get(self, path: str, timeout: float = 30) -> tuple[HTTPSConnection, HTTPResponse]:
        connection = HTTPSConnection(self._host, self._port, context=self._tls, timeout=timeout)
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            connection.close()
            raise HTTPException(f"{path}: the API server answered {response.status}")
        return connection, response


class Mirror(threading.Thread):
    """All objects of one kind, kept up to date in a thread of its own."""

    def __init__(self, api: Api, path: str, changed: threading.Event) -> None:
        super().__init__(name=path, daemon=True)
        self._api, self._path, self._changed = api, path, changed
        self._objects: dict[str, Any] = {}
        self.is_listed = threading.Event()

    def objects(self) -> list[Any]:
        return list(self._objects.copy().values())

    def run(self) -> None:
        while True:
            try:
                self._follow(self._list())
            except (OSError, HTTPException, ValueError) as error:
                log(f"{self._path}: {error!r}; it is listed again")
            time.sleep(PAUSE_SECONDS)

    def _list(self) -> str:
        connection, response = self._api.get(self._path)
        found = json.load(response)
        connection.close()
        self._objects = {each["metadata"]["uid"]: each for each in found["items"]}
        self.is_listed.set()
        self._changed.set()
        return str(found["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        for event in self._events(version):
            uid = event["object"].get("metadata", {}).get("uid")
            if event["type"] == "ERROR" or uid is None:
                return  # Our version is too old: list again.
            if event["type"] == "DELETED":
                self._objects.pop(uid, None)
            else:
                self._objects[uid] = event["object"]
            self._changed.set()

    def _events(self, version: str) -> Iterator[Any]:
        query = f"?watch=1&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        connection, response = self._api.get(self._path + query, timeout=WATCH_SECONDS + 30)
        try:
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()


def enforce(api: Api, delay_seconds: float) -> None:
    changed = threading.Event()
    mirrors = {kind: Mirror(api, path, changed) for kind, path in WATCHED.items()}
    for mirror in mirrors.values():
        mirror.start()
    for mirror in mirrors.values():
        mirror.is_listed.wait()  # Half of the picture would open what a policy closes.
    programmed = ""
    while True:
        changed.wait()
        changed.clear()
        text = _decided(mirrors)
        if text != programmed:
            time.sleep(delay_seconds)
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
            programmed = text
            log(f"programmed {text.count(' # ')} chains")


def _decided(mirrors: dict[str, Mirror]) -> str:
    pods = [pod for found in mirrors["pods"].objects() if (pod := pod_of(found)) is not None]
    metadata = [found["metadata"] for found in mirrors["namespaces"].objects()]
    labels = {each["name"]: each.get("labels") or {} for each in metadata}
    decision = decide(mirrors["policies"].objects(), pods, labels)
    for complaint in decision.complaints:
        log(complaint)
    return decision.text


def log(sentence: str) -> None:
    print(time.strftime("%H:%M:%S"), sentence, flush=True)


if __name__ == "__main__":
    enforce(Api(sys.argv[1], Path(sys.argv[2])), float(os.environ.get("ENFORCER_DELAY_SECONDS", "0")))
