"""Nothing honest breaks: what people's programs do every day works in the sandbox as it does outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pool import RunLimits
from tests.hostile.attack import answer_of, run
from tests.hostile.estates import AnyEstate, estate_of
from tests.places import Place
from tests.sandboxes import SCIENCE, Sandboxes


@pytest.fixture(scope="module")
def estate(place: Place, limits: RunLimits) -> Iterator[AnyEstate]:
    """With the libraries loaded before the fork, as the service has them."""
    with estate_of(place, limits=limits, preload=SCIENCE) as estate:
        yield estate


PROGRAMS = {
    "numpy": """
        import numpy
        matrix = numpy.random.default_rng(1).random((300, 300))
        answer(bool(numpy.allclose(matrix @ numpy.linalg.inv(matrix), numpy.eye(300))))
    """,
    "pandas": """
        import io, pandas
        frame = pandas.read_csv(io.StringIO("city,sales\\nA,1\\nB,2\\nA,3\\n"))
        frame.to_csv("out.csv"); frame.to_json("out.json")
        answer(frame.groupby("city").sales.sum().to_dict() == {"A": 4, "B": 2} and len(pandas.read_csv("out.csv")) == 3)
    """,
    "matplotlib": """
        from matplotlib import pyplot
        figure, axes = pyplot.subplots()
        axes.plot([1, 2, 3]); axes.set_title("Ünïcode")
        for kind in ("png", "svg", "pdf"): figure.savefig("chart." + kind)
        answer(open("chart.png", "rb").read(4) == b"\\x89PNG")
    """,
    "scipy": """
        from scipy import optimize, sparse, stats
        root = optimize.brentq(lambda x: x * x - 2, 0, 2)
        answer(bool(abs(root - 2 ** 0.5) < 1e-9 and sparse.eye(10).sum() == 10.0 and stats.norm.cdf(0) == 0.5))
    """,
    "PIL": """
        from PIL import Image, ImageDraw
        image = Image.new("RGB", (100, 50), "red"); ImageDraw.Draw(image).text((5, 5), "hi"); image.save("image.jpg")
        answer(Image.open("image.jpg").size == (100, 50))
    """,
    "openpyxl": """
        import openpyxl, pandas
        pandas.DataFrame({"a": [1, 2]}).to_excel("book.xlsx", index=False)
        answer(openpyxl.load_workbook("book.xlsx").active["A2"].value == 1)
    """,
    "subprocess": """
        ran = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
        piped = subprocess.Popen(["sort"], stdin=subprocess.PIPE, stdout=subprocess.PIPE).communicate(b"b\\na\\n")[0]
        answer(ran.stdout == "42\\n" and piped == b"a\\nb\\n")
    """,
    "shell": """
        out = subprocess.run("echo $((6 * 7)) | tee copy | wc -c; exit 3", shell=True, capture_output=True, text=True)
        answer(out.returncode == 3 and out.stdout.strip() == "3" and os.system("bash -c 'exit 4'") >> 8 == 4)
    """,
    "threads": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as threads:
            answer(sum(threads.map(lambda number: number * 2, range(100))) == 9900)
    """,
    "asyncio": """
        import asyncio
        async def talk():
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            said, _ = await process.communicate(b"hello")
            def serve(reader, writer):
                writer.write(b"served"); writer.close()
            server = await asyncio.start_unix_server(serve, "server")
            reader, writer = await asyncio.open_unix_connection("server")
            heard = await reader.read()
            server.close()
            return said + heard + await asyncio.to_thread(lambda: b"!")
        answer(asyncio.run(talk()) == b"helloserved!")
    """,
    "multiprocessing": """
        import multiprocessing
        from multiprocessing import shared_memory
        def double(number):
            return number * 2
        if __name__ == "__main__":
            with multiprocessing.Pool(4) as pool:
                doubled = pool.map(double, range(10))
            queue, lock, value = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i", 1)
            process = multiprocessing.Process(target=queue.put, args=("said",)); process.start()
            heard = queue.get(timeout=20); process.join()
            block = shared_memory.SharedMemory(create=True, size=1000); block.buf[0] = 7; block.close(); block.unlink()
            answer(doubled == [number * 2 for number in range(10)] and heard == "said")
    """,
    "spawned processes": """
        import multiprocessing
        def double(number):
            return number * 2
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                answer(pool.map(double, [1, 2]) == [2, 4])
    """,
    "process pool": """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as processes:
            answer(list(processes.map(abs, [-1, -2])) == [1, 2])
    """,
    "SQLite": """
        import sqlite3
        found = []
        for mode in ("delete", "wal"):
            with sqlite3.connect(mode + ".db") as database:
                database.execute("pragma journal_mode=" + mode)
                database.execute("create table t (x)"); database.executemany("insert into t values (?)", [(1,), (2,)])
            other = sqlite3.connect(mode + ".db")
            found.append(other.execute("select sum(x) from t").fetchone()[0])
        answer(found == [3, 3])
    """,
    "file locks": """
        lock = open("lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = open("lock")
        refused = attempt(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_UN); fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB); fcntl.lockf(lock, fcntl.LOCK_UN)
        answer(refused == "EAGAIN")
    """,
    "tar": """
        import tarfile, zipfile
        os.mkdir("folder"); open("folder/a", "w").write("x")
        os.link("folder/a", "folder/b"); os.symlink("a", "folder/c")
        subprocess.run(["tar", "czf", "folder.tar.gz", "folder"], check=True); shutil.rmtree("folder")
        subprocess.run(["tar", "xzf", "folder.tar.gz"], check=True)
        names = tarfile.open("folder.tar.gz").getnames(); tarfile.open("folder.tar.gz").extractall("again")
        shutil.make_archive("zipped", "zip", "folder"); zipfile.ZipFile("zipped.zip").testzip()
        answer(len(names) == 4 and os.stat("folder/a").st_nlink == 2 and os.readlink("again/folder/c") == "a")
    """,
    "files": """
        os.makedirs("a/b/c"); open("a/file", "w").write("x")
        os.link("a/file", "a/b/link"); os.rename("a/file", "a/b/c/moved")
        shutil.copytree("a", "copy"); shutil.move("copy", "moved"); os.replace("moved/b/link", "replaced")
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x"); shutil.copy(file.name, "from-tmp")
        os.chmod("replaced", 0o600); os.utime("replaced", (1, 1)); os.truncate("replaced", 0); os.sync()
        shutil.rmtree("a")
        answer(sorted(os.listdir("."))[-3:] == ["from-tmp", "moved", "replaced"])
    """,
    "memory maps": """
        with open("file", "w+b") as file:
            file.truncate(8192)
            with mmap.mmap(file.fileno(), 0) as view:
                view[:5] = b"hello"; view.flush()
        anonymous = mmap.mmap(-1, 4096); anonymous[:1] = b"x"
        answer(open("file", "rb").read(5) == b"hello")
    """,
    "signals and timers": """
        heard = []
        signal.signal(signal.SIGALRM, lambda *_: heard.append("alarm"))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while not heard: time.sleep(0.001)
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("user")); os.kill(os.getpid(), signal.SIGUSR1)
        signal.signal(signal.SIGCHLD, lambda *_: heard.append("child"))
        pid = os.fork() or os._exit(0); os.waitpid(pid, 0)
        answer(heard == ["alarm", "user", "child"])
    """,
    "time zones and locales": """
        import datetime, locale, zoneinfo
        there = datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
        answer(there.utcoffset() == datetime.timedelta(hours=2) and locale.getpreferredencoding() == "UTF-8")
    """,
    "who am I": """
        import getpass, platform, pwd
        answer([getpass.getuser(), pwd.getpwuid(os.getuid()).pw_name, os.path.expanduser("~"), os.cpu_count() > 0,
                platform.system(), os.getloadavg()[0] >= 0, os.path.realpath("/proc/self/cwd")]
               == ["sandbox", "sandbox", "/tmp", True, "Linux", True, "/workspace"])
    """,
    "its own executable": """
        ran = subprocess.run(["/proc/self/exe", "-c", ""])
        answer(open("/proc/self/exe", "rb").read(4) == b"\\x7fELF" and ran.returncode == 0)
    """,
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_works(boxes: Sandboxes, name: str):
    result = run(boxes, PROGRAMS[name], timeout_ms=60_000)
    assert (result.stdout, result.exit_code, result.outcome.reason) == ("true\n", 0, "exited"), result.stderr
    assert (result.stderr, result.outcome.limits_hit) == ("", ())


def test_made_files_come_back(boxes: Sandboxes):
    result = run(boxes, PROGRAMS["matplotlib"], timeout_ms=60_000)
    assert {name: data[:4] for name, data in result.files.items()} == {
        "chart.png": b"\x89PNG",
        "chart.svg": b"<?xm",
        "chart.pdf": b"%PDF",
    }


def test_four_processes_with_pandas_are_no_four_times_pandas(boxes: Sandboxes):
    source = """
        import multiprocessing, pandas
        def total(number):
            return int(pandas.DataFrame({"a": range(1000)}).a.sum()) + number
        if __name__ == "__main__":
            with multiprocessing.Pool(4) as pool:
                answer(pool.map(total, range(4)))
    """
    assert answer_of(boxes, source, timeout_ms=60_000) == [499500, 499501, 499502, 499503]


def test_numpys_old_generator_differs_from_run_to_run(boxes: Sandboxes):
    source = "import numpy; answer([numpy.random.rand(), float(numpy.random.default_rng().random())])"
    runs = [answer_of(boxes, source) for _ in range(4)]
    assert all(len(set(values)) == len(runs) for values in zip(*runs, strict=True))


def test_variables_of_the_request_reach_the_program_and_its_children_only(boxes: Sandboxes):
    # A library to preload and an option of Python count for what the program starts, as in a shell.
    source = """
        command = [sys.executable, "-c", "import sys; print(sys.flags.optimize)"]
        started = subprocess.run(command, capture_output=True, text=True)
        answer([os.environ["LD_PRELOAD"], sys.flags.optimize, started.stdout])
    """
    answer = answer_of(boxes, source, env={"LD_PRELOAD": "/workspace/absent.so", "PYTHONOPTIMIZE": "2"})
    assert answer == ["/workspace/absent.so", 0, "2\n"]
