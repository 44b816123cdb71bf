"""An open-weight pipeline of the diffusers library: loaded once, and called in the same way whatever it makes."""

from __future__ import annotations

import inspect
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from stablestudio.local.faults import CannotStart, InvalidValue, ModerationBlocked, Refused, ServerError
from stablestudio.local.files import Size, cut
from stablestudio.local.orders import Order

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Step = Callable[[float], None]

_SIDE = 16  # divides the sides that every family of pipelines takes
_SPATIAL = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_scale_factor")
_TEMPORAL = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio")
_RATES = ("frame_rate", "fps")

log = logging.getLogger(__name__)


class LibraryMissing(CannotStart):
    """The libraries that run models are not installed."""

    hint = "Install stablestudio[server,local]; torch alone takes some gigabytes."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which pipeline to load, and how. `model` is a folder or the id of a repository of the hub."""

    model: str
    device: DeviceName = "auto"
    precision: Precision = "auto"
    offload: bool = False
    local_files_only: bool = False


class Pipe:
    """One pipeline, and what its call takes."""

    def __init__(self, pipe: Any, *, seeded: Callable[[int], Any], steps: int | None = None, rate: int = 24) -> None:
        """`seeded` makes the pipeline's random numbers; `steps` and `rate` (frames a second) are the worker's own."""
        self._pipe = pipe
        self._seeded = seeded
        self._steps = steps
        self.rate = rate
        self._takes = inspect.signature(pipe.__call__).parameters
        self.makes: Literal["image", "video"] = "video" if "num_frames" in self._takes else "image"
        self.side = _side(pipe)

    @property
    def name(self) -> str:
        """Return the pipeline's class, such as `WanPipeline`."""
        return type(self._pipe).__name__

    def admit(self, order: Order) -> None:
        """Raise `InvalidValue` where the pipeline cannot make this at all."""
        wanted = "video" if order.seconds else "image"
        if wanted != self.makes:
            raise InvalidValue(f"This worker's model makes {self.makes}s, not {wanted}s.", param="model")
        image = self._takes.get("image")
        if order.images and image is None:
            raise InvalidValue("This worker's model takes no images.", param="images")
        if not order.images and image is not None and image.default is inspect.Parameter.empty:
            raise InvalidValue("This worker's model needs an image.", param="images")

    def run(self, order: Order, step: Step) -> list[Image.Image]:
        """Return the picture, or the frames of the clip, in the order's size. Blocks.

        `step` is told the share that is done, and ends the work by raising. Raises `Refused`.
        """
        began = False

        def after(_: Any, index: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            nonlocal began
            began = True
            step((index + 1) / steps)
            return values

        options = self._options(order)
        steps = int(options.get("num_inference_steps") or self._default("num_inference_steps") or 1)
        if "callback_on_step_end" in self._takes:
            options["callback_on_step_end"] = after
        fault: Refused
        try:
            return self._pictures(self._pipe(**options), order)
        except Refused as refused:
            fault = refused
        except ValueError as error:
            # Before its first step, a pipeline speaks of what it was given.
            fault = ServerError() if began else InvalidValue(f"The model cannot work with this: {error}"[:500])
            log.exception("pipeline_refused")
        except Exception:
            # A library of models raises anything, and the worker has to outlive a job.
            fault = ServerError()
            log.exception("pipeline_broke")
        if hasattr(self._pipe, "maybe_free_model_hooks"):
            self._pipe.maybe_free_model_hooks()  # which a call only does at its own end
        # Raised here and without its past: a traceback would hold the tensors of the frames that it names.
        raise fault.with_traceback(None)

    def _options(self, order: Order) -> dict[str, Any]:
        width, height = (_up(side, self.side) for side in order.size)
        wanted: dict[str, Any] = {
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "width": width,
            "height": height,
            "num_inference_steps": order.steps or self._steps,
            "generator": self._seeded(secrets.randbits(32) if order.seed is None else order.seed),
            "image": self._reference(order, (width, height)),
            "output_type": "pil",
        }
        if self.makes == "video":
            period = int(_first(self._pipe, _TEMPORAL) or 1)
            wanted["num_frames"] = _up(order.seconds * self.rate - 1, period) + 1
            wanted |= dict.fromkeys(_RATES, self.rate)
        return {name: value for name, value in wanted.items() if value is not None and name in self._takes}

    def _reference(self, order: Order, size: Size) -> Image.Image | list[Image.Image] | None:
        if not order.images:
            return None
        if self.makes == "video":
            return order.images[0].resize(size, Image.Resampling.LANCZOS)
        return order.images[0] if len(order.images) == 1 else list(order.images)

    def _pictures(self, result: Any, order: Order) -> list[Image.Image]:
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            raise ModerationBlocked
        made: Sequence[Image.Image] = result.frames[0] if self.makes == "video" else result.images[:1]
        wanted = order.seconds * self.rate or 1
        if len(made) < wanted or any(made[0].size[axis] < order.size[axis] for axis in (0, 1)):
            log.error("pipeline_fell_short", extra={"made": len(made), "wanted": wanted, "size": made[0].size})
            raise ServerError("The pipeline made less than was asked for.")
        return [cut(each, order.size) for each in made[:wanted]]

    def _default(self, name: str) -> Any:
        default = self._takes[name].default if name in self._takes else None
        return None if default is inspect.Parameter.empty else default


def load(source: Source, *, steps: int | None = None, rate: int = 24) -> Pipe:
    """Load a pipeline onto its device. Raises `CannotStart`. Blocks for as long as the weights take."""
    torch, diffusers = library("torch"), library("diffusers")
    device = _device(torch, source.device)
    precision = source.precision if source.precision != "auto" else "float32" if device == "cpu" else "bfloat16"
    if source.model.startswith((".", "/", "~")) and not Path(source.model).expanduser().is_dir():
        raise CannotStart(f"--model: there is no folder {source.model}.")
    try:
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            str(Path(source.model).expanduser()) if source.model.startswith("~") else source.model,
            dtype=getattr(torch, precision),
            local_files_only=source.local_files_only,
            use_safetensors=True,  # pickled weights are programs
        )
    except (OSError, ValueError, ImportError, AttributeError) as error:
        raise CannotStart(f"{source.model} cannot be loaded: {error}") from error
    if source.offload and device == "cuda":
        pipe.enable_model_cpu_offload()
    else:
        pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    log.info("pipeline_loaded", extra={"pipeline": type(pipe).__name__, "device": device, "precision": precision})
    return Pipe(pipe, seeded=lambda seed: torch.Generator("cpu").manual_seed(seed), steps=steps, rate=rate)


def library(name: str) -> Any:
    """Import a library of the `local` extra. Raises `LibraryMissing`."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise LibraryMissing(f"{error.name} is not installed, which runs models on this machine.") from None


def _device(torch: Any, wanted: DeviceName) -> str:
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in usable.items() if there)
    if not usable[wanted]:
        raise CannotStart(f"--device: torch finds no {wanted} on this machine.")
    return wanted


def _side(pipe: Any) -> int:
    """Return what the sides of pictures have to be multiples of: the latents' scale times the transformer's patches."""
    transformer = getattr(pipe, "transformer", None)
    patch = getattr(getattr(transformer, "config", None), "patch_size", 1) or 1
    across = patch if isinstance(patch, int) else patch[-1]
    scale = int(_first(pipe, _SPATIAL) or 8)
    # Families that pack latents two by two say so nowhere.
    return math.lcm(_SIDE, scale * max(2 if hasattr(pipe, "vae_scale_factor") else 1, across))


def _first(pipe: Any, names: Sequence[str]) -> Any:
    return next((getattr(pipe, name) for name in names if getattr(pipe, name, None)), None)


def _up(value: int, step: int) -> int:
    return math.ceil(value / step) * step
