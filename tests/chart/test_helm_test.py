"""The program of `helm test`, run against a server that answers as the service does."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.chart.rendering import rendered, sets, the


class Answers(http.server.BaseHTTPRequestHandler):
    stdout = "1\n"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == "/v1/execute" and asked == {"code": "print(1)"}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"stdout": self.stdout, "exit_code": 0}).encode())

    def log_message(self, *_: object) -> None:
        pass


class WrongAnswers(Answers):
    stdout = "2\n"


@pytest.fixture(params=[Answers, WrongAnswers])
def server(request: pytest.FixtureRequest) -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), request.param) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_it_knows_the_right_answer(server: http.server.HTTPServer):
    [container] = the(rendered(sets(f"service.port={server.server_port}")), "Pod")["spec"]["containers"]
    assert container["command"] == ["python3", "-I", "-c"]
    [program] = container["args"]
    assert 'host = address if attempt % 2 else name + ".agents"' in program
    by_address = program.replace("range(10)", "range(1, 10)")
    environment = {"CODE_INTERPRETER_SERVICE_HOST": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-I", "-c", by_address], env=environment, timeout=30)
    assert (done.returncode == 0) is (server.RequestHandlerClass is Answers)


def test_no_service_selects_its_pod():
    objects = rendered()
    labels = the(objects, "Pod")["metadata"]["labels"]
    assert not the(objects, "Service")["spec"]["selector"].items() <= labels.items()
    assert not the(objects, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
