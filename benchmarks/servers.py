"""The servers under test, each one process on the first core; all are ended by their ids when the block ends."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare import ANSWER
from benchmarks.load import Answer, ask

PEER = Path(__file__).parent / "peer"
_READY_SECONDS = 120.0
_NGINX_BODIES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
SERVER_CORE, LOAD_CORE = 0, 1
_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server; `ready_seconds` from the start of the process to its first answer; `data` is our data folder."""

    port: int
    pid: int
    ready_seconds: float
    data: Path | None = None

    def memory_mib(self) -> float | None:
        """Resident memory of the process and its children; None where /proc does not tell."""
        statuses = [Path(f"/proc/{pid}/status") for pid in _family(self.pid)]
        if not statuses or not all(path.exists() for path in statuses):
            return None
        return sum(_kib(path.read_text(), "VmRSS") for path in statuses) / 1024

    def forget_peak(self) -> None:
        """Let the kernel measure the peak of resident memory anew (proc_pid_clear_refs(5))."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """Peak of the process's resident memory."""
        return _kib(Path(f"/proc/{self.pid}/status").read_text(), "VmHWM") / 1024

    def cpu_seconds(self) -> float | None:
        """CPU time of the process and its children so far; None where /proc does not tell."""
        stats = [Path(f"/proc/{pid}/stat") for pid in _family(self.pid)]
        if not stats or not all(path.exists() for path in stats):
            return None
        return sum(_ticks(path.read_text()) for path in stats) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        return [pid]
    return [pid, *(member for child in children.read_text().split() for member in _family(int(child)))]


def _ticks(stat: str) -> int:
    # Behind the name in brackets, which may hold spaces, the 12th and 13th are user and system time.
    return sum(int(field) for field in stat.rpartition(")")[2].split()[11:13])


def _kib(status: str, name: str) -> int:
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:")), 0)


def pinned() -> bool:
    """Whether the server and the load generator can have a core each."""
    return hasattr(os, "sched_setaffinity") and {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0)


@contextmanager
def core(number: int) -> Iterator[None]:
    """Bind this process, and so what it starts, to one core; a no-op where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    # Of all cores, not of those left to the caller: a load generator on its own core starts servers on the other.
    os.sched_setaffinity(0, {number} & _CORES or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Give a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: list[str], *, environment: dict[str, str], log: Path, on: int = SERVER_CORE, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on a core until the block ends; its output goes to `log`."""
    with core(on), log.open("ab") as output:
        # Neither the operator's settings nor a stablestudio.toml nearby should take part.
        outside = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
        child = subprocess.Popen(
            command, env=outside | environment, stdout=output, stderr=output, cwd=cwd, start_new_session=True
        )
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_ready(child: subprocess.Popen[bytes], *, port: int, path: str, log: Path) -> float:
    """Ask for `path` until it answers; gives the seconds since the call, raises `RuntimeError` with the log's end."""
    started = time.perf_counter()
    while time.perf_counter() - started < _READY_SECONDS:
        if child.poll() is not None:
            break
        if _answers(port, path=path):
            return time.perf_counter() - started
        time.sleep(0.01)
    raise RuntimeError(f"{log.stem} is not ready:\n{log.read_text()[-2000:]}")


def _answers(port: int, *, path: str) -> bool:
    try:
        answer: Answer = ask(port, "GET", path)
    except OSError:
        return False
    return answer.status < 500


@contextmanager
def ours(folder: Path, **environment: str) -> Iterator[Server]:
    """The service as an operator starts it, on a new data folder."""
    port, log = free_port(), folder / "ours.log"
    program = Path(sys.executable).parent / "stablestudio"
    data = folder / f"data-{port}"
    command = [str(program), "serve", "--port", str(port), "--data", str(data)]
    with process(command, environment=environment, log=log, cwd=folder) as child:
        ready = wait_ready(child, port=port, path="/health", log=log)
        yield Server(port=port, pid=child.pid, ready_seconds=ready, data=data)


@contextmanager
def bare(folder: Path, *, answer: Path) -> Iterator[Server]:
    """The bare app on the service's own HTTP server settings."""
    port, log = free_port(), folder / "bare.log"
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--lifespan",
        "off",
        "--no-access-log",
        "--no-server-header",
        "--log-level",
        "error",
    ]
    engines = ["--loop", "uvloop", "--http", "httptools"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare:app", *options, *engines]
    with process(command, environment={ANSWER: str(answer)}, log=log) as child:
        ready = wait_ready(child, port=port, path="/", log=log)
        yield Server(port=port, pid=child.pid, ready_seconds=ready)


@contextmanager
def nginx(folder: Path) -> Iterator[Server]:
    """nginx as one process that serves `folder`/served and takes files there by PUT, on settings that suit large files."""
    port, log, served = free_port(), folder / "nginx.log", folder / "served"
    served.mkdir()
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in _NGINX_BODIES)
    settings = folder / "nginx.conf"
    settings.write_text(f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {log};
        events {{}}
        http {{
            access_log off; sendfile on; tcp_nopush on; {temporary}
            client_max_body_size 0; client_body_buffer_size 1m;
            server {{ listen 127.0.0.1:{port}; root {served}; location / {{ dav_methods PUT; }} }}
        }}
    """)
    with process(["nginx", "-e", str(log), "-p", str(folder), "-c", str(settings)], environment={}, log=log) as child:
        ready = wait_ready(child, port=port, path="/", log=log)
        yield Server(port=port, pid=child.pid, ready_seconds=ready)


@contextmanager
def peer(folder: Path, *, checks: bool = True) -> Iterator[Server]:
    """The peer and its facilitator.

    With `checks` the facilitator is the SDK's own code and shares the peer's core, as the service settles in its own
    process; without, it believes everything and runs on the load generator's core.
    """
    port, wicket, log = free_port(), free_port(), folder / "peer.log"
    temper, on = ("checks", SERVER_CORE) if checks else ("believes", LOAD_CORE)
    with ExitStack() as stack:
        environment = {"PORT": str(wicket), "TEMPER": temper}
        child = stack.enter_context(
            process(["node", str(PEER / "facilitator.mjs")], environment=environment, log=log, on=on)
        )
        wait_ready(child, port=wicket, path="/supported", log=log)
        environment = {"PORT": str(port), "FACILITATOR_URL": f"http://127.0.0.1:{wicket}", "NODE_ENV": "production"}
        child = stack.enter_context(process(["node", str(PEER / "server.mjs")], environment=environment, log=log))
        ready = wait_ready(child, port=port, path="/llms.txt", log=log)
        yield Server(port=port, pid=child.pid, ready_seconds=ready)


def install_peer() -> str | None:
    """Install the peer's npm packages where they are missing; gives the reason when the peer cannot run."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node.js is missing"
    wanted = (PEER / "package.json").read_text()
    stamp = PEER / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return None
    npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    if subprocess.run(npm, cwd=PEER, check=False, stdout=sys.stderr).returncode != 0:
        return "npm could not install its packages"
    stamp.write_text(wanted)
    return None
