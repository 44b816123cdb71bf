"""The command line hands over files, as a person at a shell does it: real processes, killed and interrupted too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stablestudio.client import KeyWallet
from tests.doubles import png
from tests.service import Service

STUDIO = Path(sys.executable).parent / "stablestudio"
LARGE = 200_000_000


class Shell:
    """A shell in a folder, with a funded wallet in its home."""

    def __init__(self, studio: Service, folder: Path) -> None:
        self.folder = folder
        self.orders = folder / "home" / "orders"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
        own = {"STABLESTUDIO_HOME": str(folder / "home"), "STABLESTUDIO_URL": studio.url}
        self.environment = clean | own
        studio.fund(KeyWallet.create(environ=own).address)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # Whoever runs the tests in the background of a shell ignores it, and a command would inherit that.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            [str(STUDIO), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command to its end and read its one document."""
        process = self.start(*arguments)
        out, told = process.communicate(timeout=120)
        assert process.returncode == code, out + told
        document: dict[str, Any] = json.loads(out)
        return document

    def balance(self) -> str:
        return str(self.run("wallet", "balance")["balance"])

    def picture(self, name: str, size: int = 0, *, pixels: tuple[int, int] = (64, 48)) -> str:
        """Return a real picture in the folder, filled up to a size."""
        path = self.folder / name
        path.write_bytes(png(pixels))
        if size:
            os.truncate(path, size)
        return name

    def cut_off(self, sent: signal.Signals, *arguments: str) -> tuple[float, str]:
        """Upload by a command and send a signal once a part has arrived; return the balance before, and what was written."""
        for _ in range(10):
            before = float(self.balance())
            process = self.start(*arguments)
            while process.poll() is None and not any(note["etags"] for note in self._notes()):
                time.sleep(0.005)
            process.send_signal(sent)
            out, _told = process.communicate(timeout=60)
            if process.returncode and any(note["upload"] is None for note in self._notes()):
                return before, out  # else the signal came too late
        raise AssertionError("every upload ended before it could be cut off")

    def _notes(self) -> list[dict[str, Any]]:
        notes = [json.loads(path.read_text())["sending"] for path in self.orders.glob("*.json")]
        return [note for note in notes if note is not None]  # an order whose file has arrived sends none


@pytest.fixture
def shell(studio: Service, tmp_path: Path) -> Shell:
    return Shell(studio, tmp_path)


def test_a_file_is_uploaded_and_its_address_is_used(shell: Shell) -> None:
    told = shell.run("upload", shell.picture("cat.png", 5_000_000))
    address = told["upload"]["blobUrl"]
    assert (told["success"], told["upload"]["size"], address.endswith("/cat.png")) == (True, 5_000_000, True)
    done = shell.run("generate", "nano-banana", "bluer", "--image", address, "-p", "imageSize=512")
    assert done["job"]["status"] == "complete"


def test_generate_takes_files_small_and_large_alone_and_in_lists(shell: Shell) -> None:
    small, large = shell.picture("a.png"), shell.picture("b.png", 4_000_000)
    before = shell.balance()
    wish = ("generate", "nano-banana", "bluer", "-p", "imageSize=512")
    for named in (
        ["-p", f"images[]=@{small}"],
        ["-p", f"images=@{small}", "-p", f"images=@{large}"],
        ["--image", large],
    ):
        told = shell.run(*wish, *named)
        assert (told["job"]["status"], told["job"]["type"]) == ("complete", "nano-banana-edit")
    assert round(float(before) - float(shell.balance()), 6) == 3 * 0.045 + 2 * 0.01
    small = shell.picture("c.png", pixels=(400, 400))
    one = shell.run("generate", "wan-2.6/i2v", "it moves", "-p", f"image=@{small}", "-p", "duration=5", "--no-wait")
    assert one["job"]["type"] == "wan-2.6-i2v"
    assert [json.loads(path.read_text())["model"] for path in shell.orders.glob("*.json")] == ["wan-2.6"]


def test_a_quote_tells_the_uploads_and_sends_nothing(shell: Shell) -> None:
    large = shell.picture("b.png", 4_000_000)
    before = shell.balance()
    told = shell.run("quote", "nano-banana", "bluer", "-p", f'images=["@{large}"]', "-p", "imageSize=512")
    assert (told["price"], told["uploads"], told["total"]) == ("0.045", 1, "0.055")
    assert shell.balance() == before


@pytest.mark.parametrize(
    ("data", "options", "code", "name"),
    [
        (b"<html>", (), 2, "file_unusable"),
        (png((64, 48)), ("--max-price", "0.001"), 3, "price_above_limit"),
        (png((64, 48))[:60], (), 5, "upload_refused"),
    ],
)
def test_each_failure_has_its_exit_code_and_tells_the_money(
    shell: Shell, data: bytes, options: tuple[str, ...], code: int, name: str
) -> None:
    (shell.folder / "file.png").write_bytes(data)
    told = shell.run("upload", "file.png", *options, code=code)
    assert (told["code"], told["exitCode"], told["charged"]) == (name, code, code == 5)


def test_a_killed_upload_is_resumed_and_not_paid_again(shell: Shell) -> None:
    before, _ = shell.cut_off(signal.SIGKILL, "upload", shell.picture("big.png", LARGE))
    told = shell.run("resume")
    assert told["orders"][0]["upload"]["size"] == LARGE
    assert round(before - float(shell.balance()), 6) == 0.01
    assert shell.run("resume")["orders"] == []


def test_an_interrupted_upload_tells_how_to_go_on_and_the_same_command_does(shell: Shell) -> None:
    before, out = shell.cut_off(signal.SIGINT, "upload", shell.picture("big.png", LARGE))
    told = json.loads(out)
    assert (told["exitCode"], told["code"], told["charged"]) == (7, "upload_interrupted", True)
    assert told["next"] == "stablestudio resume"

    assert shell.run("upload", "big.png")["upload"]["size"] == LARGE
    assert round(before - float(shell.balance()), 6) == 0.01


@pytest.mark.parametrize("between", ["resume", "nothing"])
def test_an_interrupted_order_pays_its_upload_once_and_is_placed_by_the_same_command(
    shell: Shell, between: str
) -> None:
    large = shell.picture("big.png", 60_000_000)
    wish = ("generate", "nano-banana/edit", "night", "--image", large, "-p", "imageSize=512", "--no-wait")
    before, out = shell.cut_off(signal.SIGINT, *wish)
    assert json.loads(out)["next"].startswith("stablestudio resume   (sends the file; then the same command again")
    if between == "resume":
        (told,) = shell.run("resume")["orders"]
        assert "was not placed yet: repeat your `stablestudio generate nano-banana/edit" in told["next"]
    assert shell.run(*wish)["job"]["type"] == "nano-banana-edit"
    assert round(before - float(shell.balance()), 6) == 0.045 + 0.01


def test_an_order_that_is_refused_after_its_upload_tells_what_was_paid(shell: Shell) -> None:
    wish = ("generate", "wan-2.6/i2v", "x", "-p", "duration=5", "-p")
    told = shell.run(*wish, f"image=@{shell.picture('b.png', 4_000_000)}", code=2)
    assert (told["charged"], told["issues"][0]["code"]) == (True, "file_out_of_limits")
    assert "$0.01 was paid for the upload of b.png, which stays usable until 2" in told["error"]
    assert "nothing was charged for the order itself" in told["hint"]
    small = shell.run(*wish, f"image=@{shell.picture('a.png')}", code=2)
    assert (small["charged"], small["issues"][0]["code"]) == (False, "file_out_of_limits")
