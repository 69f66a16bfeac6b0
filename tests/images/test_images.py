"""What is in the images and what is not, by their files and in pods under the strictest Pod Security."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement

from tests.cluster.harness import BASE_IMAGE, Cluster, eventually
from tests.images.building import MARK, Images, authorities, build_from, files_of, load, run
from tests.images.pods import FACTS, RESTRICTED, ZYGOTE, RunningPod, a_pod, running
from tests.source_tree import ROOT

MB = 10**6
# Beyond the base, whose size is somebody else's: Debian with pip is 240 MB here, the slim image of Python 130.
MOST_BYTES = {"service": 110 * MB, "executor": 310 * MB}
UID = 65532
ENOUGH_SECONDS = 60.0
SLEEP = ["python3", "-c", "import time; time.sleep(3600)"]
PROMISED = ["matplotlib.pyplot", "numpy.testing", "openpyxl", "pandas.testing", "PIL.Image", "scipy.stats", "scipy.io"]
SIGNATURES = re.compile(r"(\S{64})\s+\S+\s+-----END CERTIFICATE-----")

OWN = f"""
FROM {BASE_IMAGE}
COPY --from={{executor}} /opt/code-interpreter /opt/code-interpreter
RUN python3 /opt/code-interpreter/prepare.py
"""

CHART = """
import matplotlib.pyplot as plt
import pandas as pd

pd.Series([1, 3, 2]).plot()
plt.savefig("chart.png")
print(pd.Series([1, 3, 2]).sum())
"""


class Image(NamedTuple):
    kind: str
    name: str
    root: Path

    @property
    def config(self) -> Any:
        return json.loads(run(["buildah", "inspect", "--type", "image", self.name]))["OCIv1"]["config"]

    def folders(self) -> list[Path]:
        """What it adds to its base."""
        return [self.root / "opt" / name for name in ADDED[self.kind]]


ADDED = {"service": ["service"], "executor": ["packages", "code-interpreter"]}


@pytest.fixture(scope="module", params=["service", "executor"])
def image(request: pytest.FixtureRequest, images: Images) -> Iterator[Image]:
    name = getattr(images, request.param)
    with files_of(name) as root:
        yield Image(request.param, name, root)


@pytest.fixture(scope="module")
def executor(images: Images) -> Iterator[Image]:
    with files_of(images.executor) as root:
        yield Image("executor", images.executor, root)


@pytest.fixture(scope="module")
def service(images: Images) -> Iterator[Image]:
    with files_of(images.service) as root:
        yield Image("service", images.service, root)


@pytest.fixture(scope="module")
def base(images: Images) -> Iterator[Path]:
    with files_of(BASE_IMAGE) as root:
        yield root


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace(labels=RESTRICTED) as name:
        yield name


@pytest.fixture(scope="module")
def own_image(cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Somebody's image with a Python and none of our packages, made an executor by two lines."""
    name = images.executor.replace("executor", "own-executor")
    build_from(OWN.format(executor=images.executor), name, tmp_path_factory.mktemp("own"))
    load(cluster, name)
    return name


# --- by their files


def test_is_nobody_in_particular(image: Image):
    assert image.config["User"] == f"{UID}:{UID}"
    users = [line.split(":")[2] for line in (image.root / "etc/passwd").read_text().splitlines()]
    groups = [line.split(":")[2] for line in (image.root / "etc/group").read_text().splitlines()]
    assert users == groups == ["0", str(UID)]


def test_says_what_it_is(image: Image):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert image.config["Labels"]["org.opencontainers.image.version"] == version
    assert image.config["Labels"]["org.opencontainers.image.title"].startswith("code-interpreter")


def test_service_listens_where_a_cluster_can_reach_it(service: Image):
    assert "HOST=0.0.0.0" in service.config["Env"]
    assert list(service.config["ExposedPorts"]) == ["8000/tcp"]
    assert service.config["Entrypoint"] + service.config["Cmd"] == ["code-interpreter", "serve"]


def test_executor_starts_as_its_pods_do(executor: Image):
    assert executor.config["Cmd"][:3] == ZYGOTE[:3]
    assert executor.config["WorkingDir"] == "/workspace"
    assert (executor.root / "workspace").is_dir()


def test_nothing_in_it_lends_rights(image: Image):
    lending = stat.S_ISUID | stat.S_ISGID
    assert [path for path in files(image.root) if path.lstat().st_mode & lending and path.is_file()] == []


def test_belongs_to_root_and_everybody_can_read_it(image: Image):
    for path in (each for folder in image.folders() for each in [folder, *folder.rglob("*")]):
        found = path.lstat()
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert found.st_uid == 0, path
        assert path.is_symlink() or found.st_mode & (wanted | stat.S_IWGRP | stat.S_IWOTH) == wanted, path


def test_has_no_pip_and_nothing_that_pip_left(image: Image):
    found = [path.relative_to(image.root) for path in image.root.rglob("pip*") if "dpkg" not in path.parts]
    assert [path for path in found if path.name == "pip" and "share" not in path.parts] == []
    assert list((image.root / "root").rglob(".cache")) == []
    assert list((image.root / "tmp").iterdir()) == []


def test_no_authority_of_the_builder_stays_in_it(image: Image, base: Path):
    found = authorities()
    private = set(SIGNATURES.findall(found.read_text())) - signatures(base) if found else set()
    patterns = "\n".join([MARK, *private])
    done = subprocess.run(
        ["grep", "-rlF", "--devices=skip", "-f", "-", str(image.root)], input=patterns, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_every_module_is_compiled(image: Image):
    sources = [path for folder in image.folders() for path in folder.rglob("*.py")]
    assert len(sources) > 400
    missing = [path for path in sources if not list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc"))]
    assert [path for path in missing if compiles(path)] == []


def test_executor_has_a_list_of_fonts(executor: Image):
    [found] = (executor.root / "opt/code-interpreter/matplotlib").glob("fontlist-*.json")
    assert len(json.loads(found.read_text())["ttflist"]) > 30


def test_executor_has_the_tools_that_a_program_calls(executor: Image):
    tools = ["bash", "tar", "cat", "ls", "cp", "head", "sort", "env", "timeout", "grep", "sed", "find"]
    places = [executor.root / place for place in ("usr/local/bin", "usr/bin", "bin")]
    assert [tool for tool in tools if not any((place / tool).exists() for place in places)] == []


def test_service_has_what_it_needs_and_nothing_else(service: Image):
    [place] = (service.root / "opt/service/lib").glob("python3.*/site-packages")
    found = {normalized(each.metadata["Name"]): each for each in distributions(path=[str(place)])}
    needed, waiting = set(), [("code-interpreter-broker", "server")]
    while waiting:
        name, extra = waiting.pop()
        needed.add(name)
        for asked in map(Requirement, found[name].requires or []):
            if (asked.marker is None or asked.marker.evaluate({"extra": extra})) and asked.name not in needed:
                waiting.append((normalized(asked.name), next(iter(asked.extras), "")))
    assert set(found) == needed


def test_size_is_within_its_budget(image: Image, base: Path):
    assert size(image.root) - size(base) < MOST_BYTES[image.kind]


# --- in pods


def test_service_runs_under_a_read_only_root(cluster: Cluster, restricted: str, images: Images):
    cluster.apply(a_pod(restricted, "help", images.service, args=["--help"]))
    eventually(lambda: phase(cluster, restricted, "help") in ("Succeeded", "Failed"), ENOUGH_SECONDS)
    assert "serve" in cluster.kubectl("logs", "-n", restricted, "help")
    assert phase(cluster, restricted, "help") == "Succeeded"


def test_service_starts_from_compiled_modules(cluster: Cluster, restricted: str, images: Images):
    with running(cluster, a_pod(restricted, "service", images.service, command=SLEEP)) as pod:
        assert pod.execute("id", "-u").strip() == str(UID)
        assert_is_compiled(pod, "broker.command")


@pytest.fixture(scope="module")
def pod(cluster: Cluster, restricted: str, images: Images) -> Iterator[RunningPod]:
    with running(cluster, a_pod(restricted, "executor", images.executor, command=ZYGOTE)) as found:
        yield found


def test_executor_runs_under_a_read_only_root(pod: RunningPod):
    assert pod.execute("id", "-u").strip() == str(UID)
    assert pod.execute("bash", "-c", "echo x 2>/dev/null >/x || tar --version").startswith("tar")
    pod.execute("python3", "-c", f"import {', '.join(PROMISED)}")
    assert_is_compiled(pod, "pandas, matplotlib.pyplot, scipy.stats, openpyxl")


def test_executor_runs_a_program(pod: RunningPod):
    with pod.supervisor() as supervisor:
        assert set(FACTS["preload_if_there"]) <= set(supervisor.hello.preloaded)
        done = supervisor.run(CHART)
    assert (done.reason, done.stdout, done.stderr, done.files) == ("exited", "6\n", "", {"chart.png"})


def test_own_image_runs_a_program(cluster: Cluster, restricted: str, own_image: str):
    security = {"runAsUser": UID, "runAsGroup": UID}
    found: Any = a_pod(restricted, "own", own_image, command=ZYGOTE)
    found["spec"]["securityContext"].update(security)  # an image that says nothing runs as root elsewhere
    with running(cluster, found) as pod, pod.supervisor() as supervisor:
        assert supervisor.hello.preloaded == []
        done = supervisor.run("print(6 * 7)\nopen('made', 'w').write('x')\nimport numpy")
    assert (done.reason, done.stdout, done.files) == ("exited", "42\n", {"made"})
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'numpy'\n")


def test_own_image_has_nothing_of_the_image_it_copied_from(own_image: str):
    with files_of(own_image) as root:
        assert list((root / "opt/code-interpreter/matplotlib").iterdir()) == []


def assert_is_compiled(pod: RunningPod, modules: str) -> None:
    """Python says of each module where its code came from, on stderr."""
    asked = f"import subprocess, sys; r = subprocess.run([sys.executable, '-v', '-c', 'import {modules}'], "
    told = pod.execute("python3", "-c", asked + "stderr=subprocess.PIPE, text=True, check=True); print(r.stderr)")
    assert told.count(".pyc matches ") > 50
    assert re.findall(r"^# code object from '?(.*\.py)'?$", told, re.MULTILINE) == []


# --- small things


def files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if not path.is_symlink())


def size(root: Path) -> int:
    each = [path.lstat() for path in files(root) if path.is_file()]
    return sum({(found.st_dev, found.st_ino): found.st_size for found in each}.values())


def compiles(path: Path) -> bool:
    """Some packages bring templates whose names end like modules."""
    try:
        compile(path.read_bytes(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def signatures(base: Path) -> set[str]:
    """A line of each certificate that is the base's own."""
    bundles = [path for path in (base / "etc/ssl/certs").glob("*.crt") if path.is_file()]
    return {found for bundle in bundles for found in SIGNATURES.findall(bundle.read_text())}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    return str(cluster.get("pod", "-n", namespace, name)["status"]["phase"])
