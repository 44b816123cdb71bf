"""Build the providers that the settings name, and bind them to offerings in order."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stablestudio.catalog import OFFERINGS, Kind, Offering
from stablestudio.clock import Clock
from stablestudio.config import ConfigurationInvalid, Settings
from stablestudio.errors import StudioError
from stablestudio.provider_settings import ProviderSettings
from stablestudio.providers import (
    bfl,
    dashscope,
    fal,
    gemini,
    modelark,
    openai_images,
    openrouter,
    replicate,
    xai,
)
from stablestudio.providers.bindings import Binding
from stablestudio.providers.google_token import GoogleToken, ServiceAccount
from stablestudio.providers.http import TimeOuts, VendorHttp
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.interactions import Interactions
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.openai_videos import OpenAIVideos
from stablestudio.providers.provider import Provider, Vendor
from stablestudio.providers.vertex_veo import VertexVeo, connect
from stablestudio.providers.vertex_veo import base_url as vertex_base_url
from stablestudio.rail_settings import Key, reveal

log = logging.getLogger(__name__)
SANDBOX = "sandbox"
MADE: Sequence[Offering] = tuple(offering for offering in OFFERINGS if offering.kind is not Kind.UPLOAD)
# Usual addresses; openai-videos has none any more, and vertex-veo's has the location in it.
BASE_URLS: Mapping[str, str] = {
    "openai-images": openai_images.BASE_URL,
    "xai": xai.BASE_URL,
    "gemini": gemini.BASE_URL,
    "interactions": gemini.BASE_URL,
    "bfl": bfl.BASE_URL,
    "modelark": modelark.BASE_URL,
    "dashscope": dashscope.BASE_URL,
    "fal": fal.BASE_URL,
    "replicate": replicate.BASE_URL,
    "openrouter": openrouter.BASE_URL,
}
# Whoever replaces an ended model by its successor says so: these are bound only by name, in `models`.
# So are models that their vendor has ended: whoever has another source names it.
_BY_NAME_ONLY = frozenset(
    {
        ("interactions", "veo-3.1/generate"),
        ("interactions", "veo-3.1-fast/generate"),
        ("openai-images", "gpt-image-1/generate"),
        ("openai-images", "gpt-image-1/edit"),
    }
)


class NoProvider(ConfigurationInvalid):
    """Nobody is left who could make anything."""

    hint = "Set what the lines above name, or leave out `providers` altogether for the sandbox."


@dataclass(slots=True, kw_only=True)
class Providers:
    """Who makes what: bindings by the offering's key, the preferred first."""

    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    built: dict[str, Provider] = field(default_factory=dict)
    vendors: dict[str, Vendor] = field(default_factory=dict)  # all but the sandbox
    at_once: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # why a provider is off
    close: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def off(self) -> list[str]:
        """Return a line about each provider that is off."""
        return [f"providers.{name} is off: {why}" for name, why in self.missing.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What adapters need of the house."""

    source: MediaSource
    kept: KeptResults
    clock: Clock
    secret: bytes
    sandbox: Provider

    def user(self, wallet: str) -> str:
        """Name a wallet to vendors without telling it: their bans should hit the abuser and not the operator."""
        return hmac.digest(self.secret, f"vendor user: {wallet}".encode(), "sha256").hex()


class _Missing(Exception):
    """A provider lacks its key."""


def build_providers(settings: Settings, workshop: Workshop) -> Providers:
    """Build every provider; raise `ConfigurationInvalid` where a value is wrong, or nobody is left."""
    providers = plan(settings, workshop)
    for line in providers.off:
        log.warning(line)
    if not providers.built:
        raise NoProvider("; ".join(providers.off))
    return providers


def named(settings: Settings) -> Mapping[str, ProviderSettings]:
    """Return the settings of each provider by name: the sandbox where none are set."""
    return settings.providers or {SANDBOX: ProviderSettings(kind="sandbox")}


def require_known(settings: Settings) -> None:
    """Raise `ConfigurationInvalid` for policies and bindings of offerings that do not exist: a typo would be silent."""
    known = {"default", *(name for offering in OFFERINGS for name in (offering.key, offering.model))}
    for setting, names in (("settle", settings.settle), ("bindings", settings.bindings)):
        if strangers := sorted(set(names) - known):
            raise ConfigurationInvalid(f"{setting}: {strangers[0]} is no offering, no model and not `default`.")


def plan(settings: Settings, workshop: Workshop) -> Providers:
    """Build and bind what can be, without a question to anybody; raise `ConfigurationInvalid` where a value is wrong."""
    require_known(settings)
    providers = Providers()
    wanted = named(settings)
    for name, one in wanted.items():
        try:
            providers.built[name] = _build(name, one, workshop, providers)
        except _Missing as missing:
            providers.missing[name] = str(missing)
        except (ValueError, ConfigurationInvalid) as error:
            told = error.message if isinstance(error, StudioError) else str(error)
            raise ConfigurationInvalid(f"providers.{name}: {told}") from None
        else:
            providers.at_once[name] = one.at_once if one.kind != SANDBOX else settings.jobs_at_once or 1
    for offering in MADE:
        providers.bindings[offering.key] = _bind(offering, settings, wanted, providers.built)
    return providers


def _bind(
    offering: Offering, settings: Settings, wanted: Mapping[str, ProviderSettings], built: Mapping[str, Provider]
) -> list[Binding]:
    named = next(
        (settings.bindings[each] for each in (offering.key, offering.model, "default") if each in settings.bindings),
        None,
    )
    if named is not None and (strangers := [name for name in named if name not in wanted]):
        raise ConfigurationInvalid(f"bindings: there is no provider {strangers[0]!r} among {', '.join(wanted)}")
    if "default" not in settings.bindings or named is not settings.bindings["default"]:
        _require_makers(offering, named or (), wanted, built)
    bound = []
    for name in named if named is not None else wanted:
        model = served(wanted[name], built[name]).get(offering.key) if name in built else None
        if model is not None:
            one = wanted[name]
            terms = {"poll_seconds": one.poll_seconds, "deadline_seconds": one.deadline_seconds}
            at_once = one.at_once if one.kind != SANDBOX else None
            bound.append(Binding(provider=built[name], model=model, at_once=at_once, **terms))
    return bound


def _require_makers(
    offering: Offering, names: Sequence[str], wanted: Mapping[str, ProviderSettings], built: Mapping[str, Provider]
) -> None:
    """Refuse a binding by name to a provider that cannot make the offering: its place in the order would mean nothing."""
    for name in names:
        if name in built and offering.key not in served(wanted[name], built[name]):
            raise ConfigurationInvalid(f"bindings: {name} ({wanted[name].kind}) does not make {offering.key}")


def served(settings: ProviderSettings, provider: Provider) -> dict[str, str]:
    """Return what a provider makes: the vendor's model by the offering's key."""
    return _served(settings, getattr(provider, "models", {offering.key: "" for offering in MADE}))


def _served(settings: ProviderSettings, usual: Mapping[str, str]) -> dict[str, str]:
    kept = {key: model for key, model in usual.items() if (settings.kind, key) not in _BY_NAME_ONLY}
    return {key: model for key, model in (kept | settings.models).items() if model or key not in settings.models}


def address(settings: ProviderSettings) -> str:
    """Return where a provider is asked; empty for the sandbox, which is in this process."""
    if settings.kind == "vertex-veo":
        return settings.base_url or vertex_base_url(settings.location)
    return settings.base_url or BASE_URLS.get(settings.kind, "")


def _sought(key: Key | None) -> str:
    """Tell where a key was looked for; a key itself is never repeated."""
    told = key.get_secret_value() if key is not None else ""
    return f" ({told})" if told.startswith(("env:", "file:")) else ""


def _build(name: str, settings: ProviderSettings, shop: Workshop, providers: Providers) -> Provider:
    unknown = sorted(set(settings.models) - {offering.key for offering in MADE})
    if unknown:
        raise ValueError(f"models: there is no offering {unknown[0]!r}")
    if settings.kind == "sandbox":
        return shop.sandbox
    key = reveal(settings.key)
    if key is None:
        raise _Missing(f"key is not set{_sought(settings.key)}")
    if settings.kind != "vertex-veo" and not (key.isascii() and key.isprintable()):
        raise ValueError("key has characters that no key has: was it copied whole?")
    vendor = _FACTORIES[settings.kind](_Parts(name=name, settings=settings, shop=shop, key=key, close=providers.close))
    vendor.name = name
    if unfit := sorted(key for key, model in settings.models.items() if model and key not in vendor.models):
        raise ValueError(f"models: {settings.kind} cannot make {unfit[0]!r}")
    providers.close.append(vendor.close)
    providers.vendors[name] = vendor
    return vendor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What one adapter is made from."""

    name: str
    settings: ProviderSettings
    shop: Workshop
    key: str
    close: list[Callable[[], Awaitable[None]]]

    @property
    def seconds(self) -> TimeOuts:
        """Return the time-outs of a line."""
        settings = self.settings
        return {
            "timeout_seconds": settings.timeout_seconds,
            "connect_seconds": settings.connect_seconds,
            "download_seconds": settings.download_seconds,
        }

    @property
    def bearer(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def served(self, usual: Mapping[str, str]) -> Mapping[str, str]:
        """Return the models that are asked for here, which a check then looks for."""
        return _served(self.settings, usual)

    def line(self, auth: Mapping[str, str], *, own_hosts: Sequence[str] = ()) -> VendorHttp:
        return VendorHttp(
            name=self.name,
            base_url=address(self.settings),
            auth=auth,
            own_hosts=own_hosts,
            **self.seconds,
        )


def _openai_images(parts: _Parts) -> Vendor:
    shop, settings = parts.shop, parts.settings
    return openai_images.OpenAIImages(
        parts.line(parts.bearer),
        source=shop.source,
        kept=shop.kept,
        user=shop.user,
        served=parts.served(openai_images.OpenAIImages.models),
        edits=settings.bodies,
    )


def _openai_videos(parts: _Parts) -> Vendor:
    shop = parts.shop
    line = parts.line(parts.bearer)
    return OpenAIVideos(
        line,
        source=shop.source,
        clock=shop.clock,
        user=shop.user,
        served=parts.served(OpenAIVideos.models),
        bodies=parts.settings.bodies,
    )


def _xai(parts: _Parts) -> Vendor:
    shop = parts.shop
    line = parts.line(parts.bearer)
    return xai.Xai(
        line, source=shop.source, kept=shop.kept, clock=shop.clock, user=shop.user, served=parts.served(xai.Xai.models)
    )


def _gemini(parts: _Parts) -> Vendor:
    line = parts.line({gemini.KEY_HEADER: parts.key})
    return gemini.Gemini(line, source=parts.shop.source, kept=parts.shop.kept)


def _interactions(parts: _Parts) -> Vendor:
    line = parts.line({gemini.KEY_HEADER: parts.key})
    return Interactions(line, source=parts.shop.source, clock=parts.shop.clock)


def _vertex_veo(parts: _Parts) -> Vendor:
    shop, settings = parts.shop, parts.settings
    account = ServiceAccount.parse(parts.key, token_url=settings.token_url)
    project = settings.project or account.project
    if project is None:
        raise _Missing("project is not set, and the key names none")
    token = GoogleToken(account, clock=shop.clock)
    parts.close.append(token.close)
    return VertexVeo(
        connect(
            token,
            location=settings.location,
            url=settings.base_url,
            name=parts.name,
            **parts.seconds,
        ),
        source=shop.source,
        kept=shop.kept,
        project=project,
        location=settings.location,
        clock=shop.clock,
    )


def _bfl(parts: _Parts) -> Vendor:
    shop = parts.shop
    line = parts.line({bfl.KEY_HEADER: parts.key}, own_hosts=bfl.OWN_HOSTS)
    return bfl.Bfl(line, source=shop.source, kept=shop.kept, clock=shop.clock)


def _modelark(parts: _Parts) -> Vendor:
    shop = parts.shop
    line = parts.line(parts.bearer)
    return modelark.ModelArk(line, source=shop.source, user=shop.user, clock=shop.clock)


def _dashscope(parts: _Parts) -> Vendor:
    line = parts.line(parts.bearer)
    return dashscope.DashScope(line, source=parts.shop.source, clock=parts.shop.clock)


def _fal(parts: _Parts) -> Vendor:
    shop = parts.shop
    line = parts.line({"Authorization": f"Key {parts.key}"})
    return fal.Fal(line, source=shop.source, user=shop.user, clock=shop.clock)


def _replicate(parts: _Parts) -> Vendor:
    shop = parts.shop
    line = parts.line(parts.bearer)
    return replicate.Replicate(line, source=shop.source, user=shop.user, clock=shop.clock)


def _openrouter(parts: _Parts) -> Vendor:
    shop = parts.shop
    line = parts.line(parts.bearer)
    return openrouter.OpenRouter(line, source=shop.source, user=shop.user, clock=shop.clock)


_FACTORIES: Mapping[str, Callable[[_Parts], Vendor]] = {
    "openai-images": _openai_images,
    "openai-videos": _openai_videos,
    "xai": _xai,
    "gemini": _gemini,
    "interactions": _interactions,
    "vertex-veo": _vertex_veo,
    "bfl": _bfl,
    "modelark": _modelark,
    "dashscope": _dashscope,
    "fal": _fal,
    "replicate": _replicate,
    "openrouter": _openrouter,
}
