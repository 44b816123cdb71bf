"""docs/rails.md tells every setting of every rail as the code has it, and its examples are settings that load."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from stablestudio.config import load_settings
from stablestudio.rail_settings import (
    EvmRailSettings,
    FacilitatorSettings,
    SolanaRailSettings,
    TempoRailSettings,
)

PAGE = (Path(__file__).parents[2] / "docs" / "rails.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.*?) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("model", [EvmRailSettings, FacilitatorSettings, SolanaRailSettings, TempoRailSettings])
def test_every_setting_is_told_as_it_is(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if name == "kind":
            continue
        default = field.get_default()
        if field.is_required():
            shown = "*needed*"
        elif default is None or default == ():
            shown = ""
        else:
            shown = " ".join(f"`{each}`" for each in (default if isinstance(default, tuple) else (default,)))
        assert (name, shown, field.description) in ROWS


def test_nothing_is_told_that_is_no_setting() -> None:
    models: tuple[type[BaseModel], ...] = (EvmRailSettings, FacilitatorSettings, SolanaRailSettings, TempoRailSettings)
    known = {name for model in models for name in model.model_fields}
    assert {name for name, _, _ in ROWS} <= known


def test_the_examples_load() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    settings = load_settings({name: value for text in examples for name, value in tomllib.loads(text).items()})
    assert list(settings.rails) == ["base", "solana", "tempo"]
    assert settings.settles("veo-3.1", "generate") == "complete"
    assert settings.settles("veo-3.1-fast", "generate") == "accept"
