"""Files in a bucket: the same store, over a local S3 server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from broker.storage import REMOTE_PIECE_BYTES
from broker.sweep import ORPHAN_SECONDS, sweep
from tests.http_service import Running

BUCKET = "files"


class Bucket:
    def __init__(self, url: str) -> None:
        self.url = f"{url}/{BUCKET}"
        # The server's state belongs to the process, not to the server.
        httpx.post(f"{url}/moto-api/reset", trust_env=False).raise_for_status()
        httpx.put(self.url, trust_env=False).raise_for_status()

    def keys(self) -> list[str]:
        found = httpx.get(self.url, params={"list-type": "2"}, trust_env=False).text
        return [part.partition("</Key>")[0] for part in found.split("<Key>")[1:]]

    def unfinished_uploads(self) -> int:
        return httpx.get(f"{self.url}?uploads", trust_env=False).text.count("<UploadId>")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    # As an operator gives them; the settings name the bucket only.
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        yield Bucket(url)
    finally:
        server.stop()


@pytest.fixture
def service(bucket: Bucket, make_service: Any) -> Running:
    found: Running = make_service(file_storage_url=f"s3://{BUCKET}/some/prefix")
    return found


@pytest.mark.slow
def test_files_of_any_size_go_in_and_out(service: Running, bucket: Bucket) -> None:
    for size in (0, 5, REMOTE_PIECE_BYTES, 2 * REMOTE_PIECE_BYTES + 12_345):
        data = bytes(size)
        path = f"/v1/files/{service.upload(data, 'n')}"
        assert service.client.get(path).content == data
        assert service.client.delete(path).status_code == 204
        assert service.client.get(path).status_code == service.client.delete(path).status_code == 404
    assert bucket.keys() == []


@pytest.mark.slow
def test_a_run_reads_from_the_bucket_and_writes_to_it(service: Running, bucket: Bucket) -> None:
    file_id = service.upload(b"from s3", "in.txt")
    code = "text = open('in.txt').read()\nf = open('out.txt', 'w'); f.write(text * 2); f.close()"
    (made,) = service.execute(code, files=[{"path": "in.txt", "file_id": file_id}]).json()["files"]
    assert service.client.get(f"/v1/files/{made['file_id']}").content == b"from s3from s3"
    listed = service.client.get("/v1/files").json()["files"]
    assert [each["filename"] for each in listed] == ["in.txt", "out.txt"]
    found = bucket.keys()
    assert len(found) == 4
    assert [key for key in found if not key.startswith("some/prefix/")] == []


@pytest.mark.slow
def test_an_upload_that_breaks_off_leaves_nothing_in_the_bucket(service: Running, bucket: Bucket) -> None:
    def broken() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield b"x" * (2 * REMOTE_PIECE_BYTES)
        yield b"\r\n--x\r\nnonsense without colon\r\n\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert service.client.post("/v1/files", content=broken(), headers=kind).status_code == 422
    assert (bucket.keys(), bucket.unfinished_uploads()) == ([], 0)


@pytest.mark.slow
def test_what_is_old_is_swept_whoever_wrote_it(service: Running, bucket: Bucket) -> None:
    store = service.service.store
    service.upload(b"old", "old.txt")
    orphan = store.write()

    async def lose() -> None:
        await orphan.write(b"half")
        await orphan.close()

    service.call(lose)
    assert len(bucket.keys()) == 3
    later = time.time() + store.ttl_seconds + ORPHAN_SECONDS
    store.clock = lambda: later
    assert [each.filename for each in service.call(sweep, store)] == ["old.txt"]
    assert bucket.keys() == []


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_503_and_runs_go_on(make_service: Any, bucket: Bucket) -> None:
    service = make_service(file_storage_url="s3://another")
    answer = service.client.post("/v1/files", files={"file": ("a", b"x")})
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
    code = "print('on'); f = open('a.txt', 'w'); f.write('x'); f.close()"
    result = service.execute(code).json()
    assert (result["stdout"], result["files"]) == ("on\n", [])
    assert result["files_skipped"] == [{"path": "a.txt", "reason": "storage_failed"}]


@pytest.mark.slow
def test_of_two_replicas_that_claim_a_key_in_a_bucket_one_runs(make_service: Any, bucket: Bucket) -> None:
    one, other = (make_service(file_storage_url=f"s3://{BUCKET}/some/prefix") for _ in range(2))
    found = [
        each.client.post("/v1/execute", json={"code": "print(1)"}, headers={"Idempotency-Key": "k"})
        for each in (one, other, one)
    ]
    assert len({answer.json()["execution_id"] for answer in found}) == 1
    found_keys = bucket.keys()
    assert sorted(key.split("/")[2] for key in found_keys) == ["claims", "outcomes"]
    claims = one.service.keyed.claims
    first, second = claims.new("digest"), other.service.keyed.claims.new("digest")
    assert one.call(claims.make, "name", first) == first
    assert other.call(other.service.keyed.claims.make, "name", second) == first
