from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.cli.generate import approval
from stablestudio.cli.inputs import place_media, read_fields, read_value, split_model
from stablestudio.cli.output import Output, Progress, visible
from stablestudio.client import Journal, KeyWallet, Sent, StudioClient
from stablestudio.client.fakes import FakeSeller
from stablestudio.money import Money

from .desk import Shell, shop


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1.5", 1.5),
        ("true", True),
        ('["a", "b"]', ["a", "b"]),
        ('{"a": 1}', {"a": 1}),
        ('"512"', "512"),
        ("1K", "1K"),
        ("16:9", "16:9"),
        ("null", "null"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("", ""),
        ("[1,", "[1,"),
    ],
)
def test_a_value_is_json_where_it_reads_as_such(text: str, value: object) -> None:
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


@given(st.text())
def test_any_value_can_be_sent(text: str) -> None:
    json.dumps(read_value(text), allow_nan=False)


def test_a_repeated_field_makes_a_list_and_the_first_equals_sign_divides() -> None:
    assert read_fields(["images=a", "seed=7", "images=b=c"]) == {"images": ["a", "b=c"], "seed": 7}


def test_a_field_with_brackets_is_a_list_of_one_too() -> None:
    assert read_fields(["images[]=a", "urls[]=a", "urls[]=b"]) == {"images": ["a"], "urls": ["a", "b"]}


def test_an_at_sign_names_a_file_and_two_begin_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b=c.png", "@d.png"):
        Path(name).touch()
    pairs = ["one=@a.png", "many=@a.png", "many=@b=c.png", 'some=["@a.png", "job:x", "@@x"]', "text=@@home", "at=a@b"]
    assert read_fields(pairs) == {
        "one": Path("a.png"),
        "many": [Path("a.png"), Path("b=c.png")],
        "some": [Path("a.png"), "job:x", "@x"],
        "text": "@home",
        "at": "a@b",
    }
    with pytest.raises(click.BadParameter, match="no file here"):
        read_fields(["image=@missing.png"])


@pytest.mark.parametrize(
    ("model", "operation", "field"),
    [
        ("nano-banana", "edit", "images"),
        ("seedance-fast", "i2v", "urls"),
        ("wan-2.6", "i2v", "image"),
        ("veo-3.1", "generate", "image"),
        ("sora-2-pro", "generate", "input_reference"),
    ],
)
def test_media_go_where_the_family_takes_them(model: str, operation: str, field: str) -> None:
    assert list(place_media(["job:x"], model=model, operation=operation)) == [field]
    assert place_media([], model=model, operation=operation) == {}


def test_a_model_may_name_its_operation() -> None:
    assert split_model("veo-3.1", operation=None) == ("veo-3.1", None)
    assert split_model("grok/edit", operation="edit") == ("grok", "edit")


def test_talk_goes_to_standard_error_and_one_document_to_standard_output(tmp_path: Path) -> None:
    with shop(tmp_path) as (_, shell):
        result = shell.run("generate", "nano-banana/generate", "a fox", "-o", str(tmp_path))
    assert json.loads(result.stdout)["success"] is True
    assert "Price $0.067" in result.stderr
    assert "\r" not in result.stderr
    assert "\x1b" not in result.output


def test_people_get_lines_and_programs_get_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for as_json, expected in ((False, "line one\nline two\n"), (True, '{\n "a": 1\n}\n')):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        Output(as_json=as_json).result({"a": 1}, "line one", "line two")
        assert terminal.getvalue() == expected


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, *, environ: dict[str, str], coloured: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    Output().fail({}, "it broke")
    assert ("\x1b[31m" in terminal.getvalue()) is coloured


def test_progress_off_a_terminal_tells_changes_and_nothing_twice() -> None:
    said: list[str] = []
    progress = Progress(said.append, stream=None)
    progress.upload(Sent(0, 10))
    progress.upload(Sent(5, 10))
    for status, percent in (("pending", None), ("loading", 10.0), ("loading", 60.0), ("complete", None)):
        progress.update(status, percent)
    progress.sleep(0.001)
    progress.clear()
    assert [line.split()[-1] for line in said] == ["uploading", "pending", "loading", "complete"]


def test_a_terminal_sees_how_much_of_a_file_has_arrived() -> None:
    screen = Terminal()
    Progress(lambda _: None, stream=screen).upload(Sent(3, 4))
    assert screen.getvalue().endswith("uploading 75%")


def test_progress_on_a_terminal_is_one_line_that_goes() -> None:
    terminal = Terminal()
    progress = Progress(lambda _: None, stream=terminal)
    progress.update("loading", 40.0)
    progress.sleep(0.001)
    progress.clear()
    assert "0:00  loading 40%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "\n" not in terminal.getvalue()


def test_the_command_line_is_imported_without_what_it_may_not_need() -> None:
    code = "import stablestudio.cli, sys; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    heavy = {"sqlalchemy", "dbos", "starlette", "PIL", "av", "uvicorn", "httpx2", "pydantic", "coincurve"}
    assert not heavy & loaded
    assert "stablestudio.client" not in loaded


def test_a_missing_server_part_is_told_with_its_remedy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None\nfrom stablestudio.cli import main\nmain(['serve', '--port', '1'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert "stablestudio[server]" in result.stderr


def test_commands_end_with_what_became_of_the_money(tmp_path: Path) -> None:
    result = Shell(home=tmp_path, key="").run("wallet", "address")
    first, *rest = result.stderr.strip().splitlines()
    assert first.startswith("Error: There is no wallet in ")
    assert rest[0].startswith("Next: Make one with `stablestudio wallet create`")
    assert rest[-1] == "Money: none moved."


@pytest.mark.parametrize(("answer", "approved"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_above_a_dollar_the_person_at_the_terminal_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, answer: str, approved: bool
) -> None:
    seller = FakeSeller(price=Money.parse("1.000001"))
    client = StudioClient(
        seller.origin, KeyWallet.generate(), journal=Journal(tmp_path), transport=seller.transport(), clock=seller.clock
    )
    quote = client.quote("veo-3.1", "generate", {"prompt": "a fox"})
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(sys, name, Terminal(answer))
    approve = approval(Output(), max_price=None, yes=False)
    assert approve(quote) is approved
    assert approval(Output(), max_price=None, yes=True)(quote)
    assert approval(Output(), max_price=Money.parse("3"), yes=False)(quote)


HOSTILE = "a\x1b]0;owned\x07\x9b2J\u202eb\u2066\nError: c\ud800\r"
SHOWN = r"a\u001b]0;owned\u0007\u009b2J\u202eb\u2066\u000aError: c\ud800\u000d"


def test_what_a_terminal_would_obey_is_shown_as_text() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("Wände — 木 \t 👩\u200d🚀") == "Wände — 木 \t 👩\u200d🚀"


@pytest.mark.parametrize("way", ["result", "listing", "fail"])
def test_strangers_words_reach_no_terminal_as_they_are(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    document = {"text": HOSTILE}
    out.machine = False
    if way == "listing":
        out.listing([document], HOSTILE)
    else:
        getattr(out, way)(document, HOSTILE)
    told = capsys.readouterr()
    assert (told.out + told.err).removeprefix("Error: ") == f"{SHOWN}\n"
    out.machine = True
    out.result(document)
    assert json.loads(capsys.readouterr().out) == document


def test_progress_shows_a_strange_state_as_text() -> None:
    stream = Terminal()
    Progress(print, stream=stream).update(HOSTILE, None)
    assert SHOWN in stream.getvalue()


def test_long_work_keeps_the_clock_going_on_a_terminal_and_is_silent_elsewhere() -> None:
    said: list[str] = []
    with Progress(said.append, stream=None).during("restoring"):
        pass
    screen = io.StringIO()
    with Progress(said.append, stream=screen).during("restoring"):
        until = time.monotonic() + 30
        while screen.getvalue().count("restoring") < 3 and time.monotonic() < until:
            time.sleep(0.01)
    assert screen.getvalue().count("restoring") >= 3
    assert screen.getvalue().endswith("\r\x1b[K")
    assert said == []
