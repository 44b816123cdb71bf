"""Settings: what an operator can choose, from the environment (`STABLESTUDIO_*`) and `stablestudio.toml`."""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from stablestudio.errors import StudioError
from stablestudio.money import Money
from stablestudio.naming import link, settle
from stablestudio.provider_settings import ProviderSettings
from stablestudio.rail_settings import Dollars, Key, RailSettings, reveal, whereabouts

CONFIG_FILE = Path("stablestudio.toml")
_PREFIX = "STABLESTUDIO_"
# The buyer's variables, and the tests'.
_OF_OTHERS = frozenset({"URL", "HOME", "PRIVATE_KEY", "FAILPOINT"})
_ALIKE = 0.75  # of 1, by difflib
# A folder in the data folder for as long as a backup is being restored into it.
RESTORING = ".restoring"
_ORIGIN = re.compile(r"(https?://(?:[A-Za-z0-9](?:[-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?)/?")

# User and password may hold none of the letters that end them: half of a password would be taken for a host, and told.
_DATABASE = re.compile(
    r"postgresql://(?:[^@:/?#\s]+(?::[^@/?#\s]*)?@)?"
    r"(?:(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)?"
    r"(?:/[^@/?#\s]*)?(?:\?(?P<options>[^?#\s]*))?"
)
_SECRET_OPTIONS = frozenset({"password", "sslpassword"})


class Settings(BaseSettings):
    """Every setting has a default: with nothing configured the service runs in its embedded world."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        toml_file=CONFIG_FILE,
        extra="forbid",
        frozen=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8402, ge=0, le=65535, description="Port to listen on.")
    data: Path = Field(Path("stablestudio-data"), description="Folder of the database, the files and the secret.")
    database: Key | None = Field(
        None,
        description="PostgreSQL that many processes share, postgresql://user:password@host/name; a file in the data folder if not set.",
    )
    role: Literal["all", "web", "worker"] = Field(
        "all", description="What this process does: `web` sells and answers, `worker` makes, `all` does both."
    )
    public_url: str | None = Field(
        None, description="Origin that buyers use, e.g. https://studio.example; host and port above if not set."
    )
    contact: str | None = Field(
        None,
        pattern=r"^(https://\S+|[^@\s]+@[^@\s]+)$",
        max_length=200,
        description="Where buyers reach you: an e-mail address or an https URL; told in the documents.",
    )
    storage: str | None = Field(
        None,
        description="Where files are kept: a folder, or s3://bucket/prefix; `assets` in the data folder if not set.",
    )
    s3_endpoint: str | None = Field(
        None, description="Origin of an S3-compatible store; AWS_ENDPOINT_URL if not set, else Amazon's."
    )
    s3_plain_http: bool = Field(
        default=False,
        description="Whether `s3_endpoint` may be http on another machine: in a private network only, since files can be read on the way.",
    )
    s3_region: str | None = Field(None, description="Region of the bucket; AWS_REGION if not set, else us-east-1.")
    s3_key_id: Key | None = Field(None, description="Access key id; AWS_ACCESS_KEY_ID if not set.")
    s3_secret: Key | None = Field(None, description="Its secret; AWS_SECRET_ACCESS_KEY if not set.")
    s3_links: bool = Field(
        default=True, description="Whether links lead to the bucket itself, or through this service."
    )
    link_seconds: int = Field(1200, ge=60, le=604_740, description="How long a link to a file holds.")
    keep_images_days: float = Field(
        30, ge=0, le=36_500, description="Days that a picture is kept after it is complete; 0 for ever."
    )
    keep_videos_days: float = Field(
        30, ge=0, le=36_500, description="Days that a clip is kept after it is complete; 0 for ever."
    )
    keep_uploads_days: float = Field(
        30, description="Days that an upload is kept after it was confirmed, 2 at least; 0 for ever.", ge=0, le=36_500
    )
    min_free_bytes: int = Field(
        500_000_000,
        ge=0,
        description="Room (bytes) in the data folder and that of the files, below which nothing is sold.",
    )
    prices: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Prices that replace the default table, by offering and cell, in dollars."
    )
    rails: dict[str, RailSettings] = Field(
        default_factory=dict, description="Ways to be paid, by a name of your choice; the embedded ones if none is set."
    )
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict,
        description="Who makes what is sold, by a name of your choice; the sandbox if none is set.",
    )
    bindings: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Providers in order of preference, by offering, model or `default`; as listed if not set.",
    )
    settle: dict[str, Literal["accept", "complete"]] = Field(
        default_factory=dict,
        description="When payments are settled, by offering, model or `default`: when accepted, or when the work is done.",
    )
    hold_seconds: int = Field(3600, ge=60, le=86400, description="Longest time that a held payment waits for the work.")
    exposure_cap: Dollars = Field(Money(20_000_000), description="Most dollars held for one payer at a time.")
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(6_000_000, description="Largest request body accepted.")
    max_upload_bytes: int = Field(
        250_000_000,
        ge=1_000_000,
        le=5_000_000_000,
        description="Largest file (bytes) that can be uploaded; a job made from it holds it in memory.",
    )
    webhooks_inside: bool = Field(
        default=False, description="Whether webhooks may go to private addresses, any port and plain http, too."
    )
    jobs_at_once: int = Field(256, ge=0, le=10_000, description="Jobs made at the same time; 0 only accepts them.")
    lease_seconds: float = Field(
        30.0, ge=5, le=600, description="Longest silence of a worker, after which others make its jobs."
    )
    drain_seconds: float = Field(
        120.0, ge=0, le=3600, description="Longest wait at a stop for vendors that answer with the result itself."
    )
    sandbox_delay: float = Field(1.0, ge=0, le=3600, description="Seconds that the sandbox pretends to work.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        return None if value is None else read_origin(value)

    @field_validator("database")
    @classmethod
    def _postgresql(cls, value: Key | None) -> Key | None:
        if value is None or not value.get_secret_value():
            return None
        text = reveal(value)
        if text is None:  # a variable that is missing must not lead to other books
            raise ValueError(f"no URL is there{whereabouts(value)}")
        _require_database_url(text)
        return Key(text)

    @model_validator(mode="after")
    def _one_process_a_file(self) -> Self:
        if self.role != "all" and self.database is None:
            raise ValueError("role: a database in a file has one process, which does everything; set `database`, too")
        return self

    @field_validator("keep_uploads_days")
    @classmethod
    def _outlives_a_job(cls, value: float) -> float:
        if 0 < value < 2:
            raise ValueError("2 days at least, since an order may be made for one; or 0 for ever")
        return value

    @property
    def books(self) -> str:
        """Return the URL of the database."""
        return (
            f"sqlite:///{self.data / 'stablestudio.db'}" if self.database is None else self.database.get_secret_value()
        )

    @property
    def works(self) -> bool:
        """Tell whether this process makes jobs, where it is not alone and others may do so."""
        return self.role != "web" and self.jobs_at_once > 0

    @property
    def origin(self) -> str:
        """Return the public origin. It never comes from a request (money rule 7)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    def settles(self, model: str, operation: str) -> str:
        """Return when an offering's payments are settled; the nearest setting counts."""
        for name in (f"{model}/{operation}", model, "default"):
            if name in self.settle:
                return self.settle[name]
        return "accept"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Rank the sources: arguments, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _require_database_url(text: str) -> None:
    """Raise `ValueError` for what is not the URL of one PostgreSQL, in words that repeat nothing of it."""
    if not text.startswith("postgresql://"):
        raise ValueError("a URL such as postgresql://user:password@host/name, or nothing for a file")
    found = _DATABASE.fullmatch(text)
    if found is None or not 0 < int(found["port"] or 5432) < 65536:
        raise ValueError(
            "a URL such as postgresql://user:password@host:5432/name?sslmode=require, of one host; in user and password "
            "write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
        )
    if not _SECRET_OPTIONS.isdisjoint(
        name.casefold() for name, _ in parse_qsl(found["options"] or "", keep_blank_values=True)
    ):
        raise ValueError(
            "a password stands before the host, as in postgresql://user:password@host/name, not in an option"
        )


def read_origin(value: str) -> str:
    """Return an origin without a slash at its end; raise `ValueError` for anything else."""
    match = _ORIGIN.fullmatch(value)
    if match is None or int(match[2] or 0) > 65535:
        raise ValueError("an origin such as https://studio.example, without a path")
    return match[1]


class ConfigurationInvalid(StudioError):
    """The settings of this service are wrong, so it does not start."""

    hint = "Correct the settings named above, in the environment or in stablestudio.toml."


def load_settings(given: Mapping[str, Any]) -> Settings:
    """Read the settings; arguments that are None are left to environment, file and defaults.

    Raises `ConfigurationInvalid` with every problem.
    """
    strays = [
        f"{variable}: there is no such setting, {meant} may be meant"
        for variable, meant in misspelt(os.environ).items()
    ]
    if strays:
        raise ConfigurationInvalid("; ".join(strays))
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [f"{_place(item['loc'])}: {_words(item)}".removeprefix(": ") for item in error.errors()]
        raise ConfigurationInvalid("; ".join(problems)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationInvalid(f"{CONFIG_FILE}: {error}") from None


def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables that look like a setting's and are none, each with what was probably meant: they have no effect.

    Others that begin alike are let be: keys have names of their own, and Kubernetes adds some for a service of our name.
    """
    settings = [name.upper() for name in Settings.model_fields]
    ours = {variable: variable[len(_PREFIX) :] for variable in environ if variable.upper().startswith(_PREFIX)}
    names = {variable: rest.upper().partition("__")[0] for variable, rest in ours.items()}
    strange = {variable: name for variable, name in names.items() if name not in settings and name not in _OF_OTHERS}
    likely = {variable: get_close_matches(name, settings, n=1, cutoff=_ALIKE) for variable, name in strange.items()}
    return {variable: f"{_PREFIX}{meant[0]}" for variable, meant in likely.items() if meant}


def _words(problem: Any) -> str:
    """Return what is wrong, in the words of people who never heard of the library that found it."""
    match problem["type"]:
        case "extra_forbidden":
            return "there is no such setting"
        case "union_tag_not_found" | "union_tag_invalid":
            return "kind must be one of x402-evm, x402-solana, mpp-tempo"
        case "string_pattern_mismatch" if "eip155" in str(problem["ctx"]):
            return "a network is written as eip155:8453"
    return str(problem["msg"]).removeprefix("Value error, ")


def _place(location: tuple[int | str, ...]) -> str:
    """Return where a setting stands in the file; pydantic's names of a union's members stand nowhere."""
    return ".".join(str(part) for part in location if part not in ("x402-evm", "x402-solana", "mpp-tempo"))


def load_secret(folder: Path) -> bytes:
    """Return the service's secret (32 bytes), made at the first start and readable by its owner only."""
    path = folder / "secret"
    if not path.exists():
        _make_secret(path)
    written = path.read_text().strip()
    if not written:
        raise ConfigurationInvalid(
            f"The secret in {path} is empty, as a first start that is cut off can leave it.",
            hint="Remove the empty file and start again. Where the service has run before, put the secret there instead, "
            "from a backup or from another machine of this service.",
        )
    if not re.fullmatch("[0-9a-f]{64}", written):
        raise ConfigurationInvalid(
            f"The secret in {path} is damaged: take it from a backup or from another machine of this service. "
            "Without either, remove it for a new one, and run `stablestudio db replace-secret`."
        )
    return bytes.fromhex(written)


def _make_secret(path: Path) -> None:
    """Write a secret that is there as a whole or not at all; of processes that do so at once, one wins."""
    draft = path.with_name(f".secret-{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            link(draft, path)
            settle(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
