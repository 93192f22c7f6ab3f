"""Blueprints: an agent and all that it works with, in one YAML file.

Of the data plane a blueprint says only what is its own; the rest is as the data plane's settings have it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ...messages.data import Format
from ..base_config import BaseConfig
from ..data import CacheSettings, DataRewards, DataSettings, Schemes
from ..errors import SettingsError
from ..load import YamlValue, format_validation_error
from .settings import AgentSettings, RuleBasedAgentSettings

SHIPPED: Final = Path(__file__).parents[1] / "blueprints"
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
FIRST_VERSION: Final = "0.1.0"
_OTHER_NAMES: Final = {"iowarp_agent": "rule_based"}
"""Of agent types."""


class BlueprintHeader(BaseConfig):
    """Name, version and description."""

    name: str = Field(pattern=NAME)
    version: str = Field(default=FIRST_VERSION, min_length=1)
    """The author's own; the registry keeps its own count."""
    description: str = ""

    @field_validator("description", mode="before")
    @classmethod
    def _nothing_said(cls, value: object) -> object:
        return "" if value is None else value  # `description:` with nothing behind it

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) else value  # YAML reads 0.1 as a number


class IowarpSettings(BaseConfig):
    """The bridge to the store: one endpoint, or several."""

    bridge_endpoint: str | None = None
    bridge_endpoints: tuple[str, ...] = ()
    """Taken in turn; one that does not answer is skipped for a while."""
    connect_timeout_ms: int | None = Field(default=None, ge=1)
    request_timeout_ms: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.bridge_endpoint and self.bridge_endpoints:
            raise ValueError("give bridge_endpoint or bridge_endpoints, not both")
        return self

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All of them; empty: the data plane's."""
        return (self.bridge_endpoint,) if self.bridge_endpoint else self.bridge_endpoints


class UriResolverSettings(BaseConfig):
    """Sources that may be read."""

    temp_dir: str | None = None
    supported_schemes: Schemes | None = None
    """With or without `::` behind them."""
    roots: tuple[str, ...] | None = None
    """Folders that may be read from."""


class EnvironmentSettings(BaseConfig):
    """The agent's environment, and the rewards of its actions."""

    type: Literal["iowarp"] = "iowarp"
    default_format: Format = "arrow"
    reward: DataRewards = DataRewards()


class Blueprint(BaseConfig):
    """An agent and all that it works with."""

    blueprint: BlueprintHeader
    iowarp: IowarpSettings = IowarpSettings()
    cache: CacheSettings = CacheSettings()
    """Only the keys that are given replace the data plane's."""
    uri_resolver: UriResolverSettings = UriResolverSettings()
    environment: EnvironmentSettings = EnvironmentSettings()
    agent: AgentSettings = RuleBasedAgentSettings()

    @model_validator(mode="before")
    @classmethod
    def _types_by_other_names(cls, values: object) -> object:
        agent = values.get("agent") if isinstance(values, Mapping) else None
        if not isinstance(values, Mapping) or not isinstance(agent, Mapping):
            return values
        kind = agent.get("type")
        other = _OTHER_NAMES.get(kind) if isinstance(kind, str) else None
        return {**values, "agent": {**agent, "type": other}} if other else values

    @property
    def name(self) -> str:
        """By which it is found."""
        return self.blueprint.name

    @property
    def default_format(self) -> Format:
        """The agent's, else the environment's."""
        return self.agent.default_format or self.environment.default_format

    def sha256(self) -> str:
        """Digest of every value: two blueprints with the same one are the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def data_settings(self, base: DataSettings) -> DataSettings:
        """The data plane's settings, with what this blueprint says itself.

        Raises SettingsError where the two do not fit.
        """
        iowarp, uris = self.iowarp, self.uri_resolver
        bridge = {
            "endpoints": iowarp.endpoints or None,
            "connect_timeout_ms": iowarp.connect_timeout_ms,
            "request_timeout_ms": iowarp.request_timeout_ms,
        }
        read = {"temp_folder": uris.temp_dir, "schemes": uris.supported_schemes, "roots": uris.roots}
        tag = {
            "default_tag": self.agent.default_tag if "default_tag" in self.agent.model_fields_set else None
        }
        merged = base.model_copy(
            update={
                "bridge": _changed(base.bridge, bridge),
                "cache": _changed(base.cache, _given(self.cache)),
                "uris": _changed(base.uris, read),
                "rewards": _changed(base.rewards, _given(self.environment.reward)),
                "actions": _changed(base.actions, tag),
            }
        )
        try:
            return DataSettings.model_validate(merged.model_dump())
        except ValidationError as error:
            raise SettingsError(
                format_validation_error(error, f"blueprint {self.name}", DataSettings)
            ) from error


def read_blueprint(values: Mapping[str, YamlValue], where: str) -> Blueprint:
    """Check what a file says. Raises SettingsError: `where`, the key, what was expected."""
    try:
        return Blueprint.model_validate(values)
    except ValidationError as error:
        raise SettingsError(format_validation_error(error, where, Blueprint)) from error


def _given(section: BaseConfig) -> dict[str, object]:
    return {name: getattr(section, name) for name in section.model_fields_set}


def _changed(section: BaseConfig, values: Mapping[str, object]) -> BaseConfig:
    return section.model_copy(update={name: value for name, value in values.items() if value is not None})
