"""Settings of providers: who makes what is sold, with which keys, how much at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stablestudio.rail_settings import Key

Kind = Literal[
    "sandbox",
    "openai-images",
    "openai-videos",
    "xai",
    "gemini",
    "interactions",
    "vertex-veo",
    "bfl",
    "modelark",
    "dashscope",
    "fal",
    "replicate",
    "openrouter",
]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


_ONLY_OF: Mapping[frozenset[str], tuple[Kind, ...]] = {
    frozenset({"project", "location", "token_url"}): ("vertex-veo",),
    frozenset({"bodies"}): ("openai-images", "openai-videos"),
}


class ProviderSettings(BaseModel):
    """One vendor, aggregator or own machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field(description="The protocol that it speaks.")
    key: Key | None = Field(None, description="Its API key; for vertex-veo the service account's JSON.")
    base_url: str | None = Field(None, description="Where it is, if not at its usual address; http on loopback only.")
    models: dict[str, str] = Field(
        default_factory=dict,
        description="Its model id by offering, added to the usual ones; an empty id takes the offering out.",
    )
    at_once: int = Field(16, ge=1, le=1000, description="Jobs that it works on at the same time.")
    timeout_seconds: Seconds = Field(600.0, description="Longest wait for the answer to a submission.")
    connect_seconds: Seconds = Field(10.0, description="Longest wait for a connection.")
    download_seconds: Seconds = Field(300.0, description="Longest time that fetching a result's file may take.")
    poll_seconds: Seconds | None = Field(None, description="Pause between polls; the model's own if not set.")
    deadline_seconds: Seconds | None = Field(
        None,
        description="Longest time that it may work on one job, which is then given up and refunded; by model if not set.",
    )
    bodies: Literal["json", "form"] = Field("json", description="How openai-* servers take requests with files.")
    project: str | None = Field(None, description="Google Cloud project, for vertex-veo; the key's own if not set.")
    location: str = Field("us-central1", description="Google Cloud location, for vertex-veo.")
    token_url: str | None = Field(None, description="Where vertex-veo signs in, if not where its key says.")

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        for names, kinds in _ONLY_OF.items():
            for name in sorted(names & self.model_fields_set):
                if self.kind not in kinds:
                    raise ValueError(f"{name} is a setting of {' and '.join(kinds)} alone")
        return self

    @model_validator(mode="after")
    def _has_address(self) -> Self:
        if self.kind == "openai-videos" and self.base_url is None:
            raise ValueError("openai-videos needs a base_url: its vendor has ended the service at the usual address")
        return self
