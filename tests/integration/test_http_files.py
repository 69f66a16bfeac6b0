"""`/v1/files`: names, sizes, ages, quota; and what is no upload."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from tests.http_service import Running

UNKNOWN = str(uuid.uuid4())


def raw_upload(service: Running, body: Any, kind: str = "multipart/form-data; boundary=x") -> Any:
    return service.client.post("/v1/files", content=body, headers={"Content-Type": kind})


def part(content: bytes, disposition: str = 'form-data; name="file"; filename="a.txt"') -> bytes:
    return b"--x\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


def test_an_upload_is_listed_downloaded_and_deleted(service: Running) -> None:
    before = time.time()
    answer = service.client.post("/v1/files", files={"file": ("data.csv", b"a,b\n1,2\n")})
    stored = answer.json()
    assert answer.status_code == 201
    assert (stored["filename"], stored["size_bytes"]) == ("data.csv", 8)
    assert str(uuid.UUID(stored["file_id"], version=4)) == stored["file_id"]
    (listed,) = [
        each for each in service.client.get("/v1/files").json()["files"] if each["file_id"] == stored["file_id"]
    ]
    assert listed == {**stored, "upload_time": listed["upload_time"]}
    assert before <= listed["upload_time"] <= time.time()
    path = f"/v1/files/{stored['file_id']}"
    assert service.client.get(path).content == b"a,b\n1,2\n"
    deleted = service.client.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for again in (service.client.get(path), service.client.delete(path)):
        assert (again.status_code, again.json()["detail"]) == (404, f"File with ID '{stored['file_id']}' not found")


def test_a_download_says_what_it_is(service: Running) -> None:
    path = f"/v1/files/{service.upload(b'x' * 1000, 'plain name.bin')}"
    for answer in (service.client.get(path), service.client.head(path)):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-length"] == "1000"
        assert answer.headers["content-disposition"] == 'attachment; filename="plain name.bin"'


NAMES = [
    ("报告.csv", "报告.csv", "filename=\"??.csv\"; filename*=UTF-8''%E6%8A%A5%E5%91%8A.csv"),
    ('a".csv', "a%22.csv", "filename=\"a_22.csv\"; filename*=UTF-8''a%2522.csv"),
    ("../../etc/passwd", "passwd", 'filename="passwd"'),
    ("C:\\temp\\x.txt", "x.txt", 'filename="x.txt"'),
    ("", "unnamed", 'filename="unnamed"'),
    ("..", "unnamed", 'filename="unnamed"'),
]


@pytest.mark.parametrize(("given", "stored", "header"), NAMES)
def test_names_are_metadata_and_never_a_500(service: Running, given: str, stored: str, header: str) -> None:
    body = part(b"1", f'form-data; name="file"; filename="{given.replace(chr(34), "%22")}"') + b"--x--\r\n"
    answer = raw_upload(service, body)
    assert (answer.status_code, answer.json()["filename"]) == (201, stored)
    download = service.client.get(f"/v1/files/{answer.json()['file_id']}")
    assert (download.status_code, download.headers["content-disposition"]) == (200, f"attachment; {header}")


def test_an_empty_file_is_a_file(service: Running) -> None:
    path = f"/v1/files/{service.upload(b'', 'empty')}"
    answer = service.client.get(path)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


def test_other_parts_are_read_and_dropped(service: Running) -> None:
    other = part(b"y", 'form-data; name="purpose"')
    answer = raw_upload(service, other + part(b"x\r\n--xy") + other + b"--x--\r\n")
    assert (answer.status_code, answer.json()["size_bytes"]) == (201, 7)


@pytest.mark.parametrize(
    "file_id", [UNKNOWN, UNKNOWN.upper(), "..%2f..%2fetc%2fpasswd", "%2e%2e", "a" * 3000, "{" + UNKNOWN + "}"]
)
def test_what_is_no_id_of_ours_is_not_found(service: Running, file_id: str) -> None:
    for method in ("GET", "DELETE", "HEAD"):
        answer = service.client.request(method, f"/v1/files/{file_id}")
        assert answer.status_code == 404


NOT_UPLOADS = [
    (b"", "multipart/form-data", 422),
    (b"", "multipart/form-data; boundary=", 422),
    (b"", "multipart/form-data; boundary=" + "b" * 300, 422),
    (b"", "multipart/form-data; boundary=x", 422),
    (b"nonsense", "multipart/form-data; boundary=x", 422),
    (part(b"x"), "multipart/form-data; boundary=x", 422),
    (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    (part(b"x", 'form-data; name="other"') + b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    (part(b"x") + part(b"y") + b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    (part(b"x", "form-data; name=file; " + "f" * 9000) + b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    (b"--x\r\n" + b"A: b\r\n" * 20 + b"\r\nx\r\n--x--\r\n", "multipart/form-data; boundary=x", 422),
    (b'{"file": "x"}', "application/json", 415),
]


@pytest.mark.parametrize(("body", "kind", "status"), NOT_UPLOADS)
def test_what_is_no_upload_says_so_and_leaves_nothing(make_service: Any, body: bytes, kind: str, status: int) -> None:
    service = make_service()
    answer = raw_upload(service, body, kind)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert service.client.get("/v1/files").json() == {"files": []}
    assert list(service.service.store.storage.folder.glob("*/*")) == []


def test_a_missing_part_is_named_as_fastapi_does(service: Running) -> None:
    detail = raw_upload(service, b"--x--\r\n").json()["detail"]
    assert detail == [{"type": "missing", "loc": ["body", "file"], "msg": "Field required", "input": None}]


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_above_the_limit_is_413_and_leaves_nothing(make_service: Any, declared: bool) -> None:
    service = make_service(max_file_size_mb=1)
    body = part(b"x" * (2**20 + 1)) + b"--x--\r\n"
    answer = raw_upload(service, body if declared else iter([body[:700_000], body[700_000:]]))
    assert (answer.status_code, answer.json()["detail"]) == (413, "File size exceeds maximum of 1 MB")
    assert list(service.service.store.storage.folder.glob("*/*")) == []
    assert service.service.store.quotas.used_bytes == 0
    exact = raw_upload(service, part(b"x" * 2**20) + b"--x--\r\n")
    assert exact.status_code == 201


def test_a_full_store_is_507_and_a_run_says_which_files_it_could_not_keep(make_service: Any) -> None:
    service = make_service("local", file_quota_mb=1)
    service.upload(b"x" * 900_000)
    answer = service.client.post("/v1/files", files={"file": ("b", b"x" * 200_000)})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (507, "storage_full", True)
    code = "for name, size in [('big', 200_000), ('small', 10)]:\n f = open(name, 'w'); f.write('x' * size); f.close()"
    result = service.execute(code).json()
    assert [each["path"] for each in result["files"]] == ["small"]
    assert result["files_skipped"] == [{"path": "big", "reason": "storage_full"}]
    assert (result["exit_code"], result["files_skipped_count"]) == (0, 1)


def test_an_expired_file_is_gone(make_service: Any) -> None:
    service = make_service(file_ttl_sec=100)
    file_id = service.upload(b"x")
    now = time.time()
    service.service.store.clock = lambda: now + 101
    assert service.client.get(f"/v1/files/{file_id}").status_code == 404
    assert service.client.get("/v1/files").json() == {"files": []}
    assert service.execute("", files=[{"path": "a", "file_id": file_id}]).status_code == 404


def test_files_outlive_the_service(make_service: Any, tmp_path: Any) -> None:
    folder = str(tmp_path / "kept")
    file_id = make_service(file_storage_dir=folder).upload(b"kept")
    assert make_service(file_storage_dir=folder).client.get(f"/v1/files/{file_id}").content == b"kept"


def test_a_store_that_fails_is_503_and_retryable(make_service: Any) -> None:
    service = make_service()
    file_id = service.upload(b"x")
    folder = service.service.store.storage.folder
    (folder / "meta").rename(folder / "elsewhere")
    (folder / "meta").write_text("no folder")
    answer = service.client.post("/v1/files", files={"file": ("b", b"x")})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "storage_failed", True)
    assert service.client.get(f"/v1/files/{file_id}").status_code in (404, 503)
    assert service.execute("print(1)").status_code == 200
