"""`stablestudio local`: an open-weight model on a machine of one's own, as a vendor for the service."""

from __future__ import annotations

import logging
from typing import Any

import click

from stablestudio.errors import StudioError
from stablestudio.local.orders import Limits
from stablestudio.local.pipes import Source
from stablestudio.local.serve import Options
from stablestudio.local.serve import serve as run
from stablestudio.rail_settings import Key, reveal

_EXAMPLE = """\b
The service uses a worker as a provider, in stablestudio.toml:
  [providers.own]
  kind = "openai-images"          # openai-videos for a model that makes clips
  base_url = "http://127.0.0.1:PORT/v1"
  key = "env:NAME"                # any word if the worker has no key
  at_once = 8                     # as many as --queue lets wait
  models = { "gpt-image-2/generate" = "MODEL_ID", "gpt-image-2/edit" = "MODEL_ID" }
"""


class CannotServe(click.ClickException):
    """The options do not allow a start: wrong usage."""

    exit_code = 2


@click.group()
def local() -> None:
    """Work with models on this machine."""


@local.command(short_help="Serve one open-weight model.", epilog=_EXAMPLE)
@click.option(
    "--model", required=True, metavar="DIR_OR_ID", help="Folder of a diffusers pipeline, or its repository on the hub."
)
@click.option("--name", required=True, metavar="MODEL_ID", help="The model id that requests carry.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port; 0 for a free one.")
@click.option("--key", help="Key that requests must carry as a bearer token, as env:NAME or file:PATH.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    help="Precision of the weights; auto is bfloat16, on a cpu float32.",
)
@click.option("--offload", is_flag=True, help="Keep in the GPU only the part of the model that works.")
@click.option("--local-files-only", is_flag=True, help="Never ask the hub; use the folder or the hub's cache.")
@click.option("--steps", type=click.IntRange(1, 200), help="Steps of each job; the pipeline's own number if not given.")
@click.option("--fps", type=click.IntRange(1, 60), default=24, show_default=True, help="Frames a second of clips.")
@click.option("--queue", type=click.IntRange(0, 1000), default=8, show_default=True, help="Jobs that may wait.")
@click.option("--max-pixels", type=click.IntRange(256), default=4_194_304, show_default=True, help="Of one picture.")
@click.option("--max-seconds", type=click.IntRange(1), default=12, show_default=True, help="Of one clip.")
def serve(**options: Any) -> None:
    """Load one pipeline and serve it in the protocol of OpenAI, one job at a time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run(_read(options))
    except StudioError as error:
        raise CannotServe(f"{error.message}\nNext: {error.advice}") from None


def _read(options: dict[str, Any]) -> Options:
    key = options["key"] and reveal(Key(options["key"]))
    if options["key"] and not key:
        raise CannotServe(f"--key: {options['key'].partition(':')[0]}: names nothing that is there.")
    return Options(
        source=Source(
            model=options["model"],
            device=options["device"],
            precision=options["dtype"],
            offload=options["offload"],
            local_files_only=options["local_files_only"],
        ),
        limits=Limits(model=options["name"], pixels=options["max_pixels"], seconds=options["max_seconds"]),
        host=options["host"],
        port=options["port"],
        key=key or None,
        steps=options["steps"],
        rate=options["fps"],
        waiting=options["queue"],
    )
