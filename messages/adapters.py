"""Versions of a policy: LoRA adapters, on their way from the Trainer to the engines."""

from typing import Literal

from pydantic import Field

from .base import Event, Message, Request

Policy = Literal["student", "teacher"]


class AdapterRef(Message):
    """Names one version of one policy. Version 0 is the base model and has no bytes."""

    policy: Policy
    version: int = Field(ge=0)
    sha256: str = ""
    """Digest of `adapter_model.safetensors`."""
    folder: str = ""
    """Where the PEFT folder lies on the machine that trained it."""
    tag: str = ""
    """The data plane's tag under which its files lie; empty where they travel in messages."""
    config_sha256: str = ""
    """Digest of `adapter_config.json`; set where there is a `tag`."""

    @property
    def name(self) -> str | None:
        """The name under which engines load it: new for each version, so none can be stale."""
        return f"{self.policy}-v{self.version}" if self.version else None


class AdapterLoaded(Message):
    """Confirms what one engine replica has loaded now."""

    names: tuple[str, ...]


class LoadAdapter(Request[AdapterLoaded]):
    """Load an adapter under its versioned name; the others stay as they are."""

    adapter: AdapterRef
    config_json: bytes
    """Content of `adapter_config.json`."""
    weights: bytes
    """Content of `adapter_model.safetensors`."""


class FetchAdapter(Request[AdapterLoaded]):
    """Load an adapter whose files lie in the data plane, where `adapter.tag` says."""

    adapter: AdapterRef


class UnloadAdapter(Request[AdapterLoaded]):
    """Unload an adapter once its last running request has ended."""

    name: str


class SetPolicyVersion(Message):
    """From now on sample with this version; sent only after the engine's replicas confirmed it."""

    adapter: AdapterRef
    avoid: tuple[str, ...] = ()
    """Replicas that could not load it: nothing is to be asked of them."""


class AdapterPublished(Event):
    """A new version is loaded everywhere and in use."""

    adapter: AdapterRef
    load_s: float
    """From the Trainer's answer to the last replica's confirmation."""
