"""HTTP servers: the one in front of an engine, and what all of them have."""

from pydantic import Field

from .base_config import BaseConfig


class HttpServerSettings(BaseConfig):
    """Address, access and request limits of an HTTP server."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Without a key only an address of this machine itself is taken."""
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free one."""
    api_key_env: str = "AGENTFACTORY_API_KEY"
    """The environment variable with the keys that clients may use, commas between them."""
    max_requests: int = Field(default=256, ge=1)
    """In hand at a time, those that wait included; one more is answered with 429."""
    max_body_kb: int = Field(default=4096, ge=1)
    body_timeout_s: float = Field(default=30.0, gt=0.0)
    """How long a client may take to send its request."""
    timeout_s: float = Field(default=600.0, gt=0.0)
    """The longest an answer may take."""
    drain_s: int = Field(default=30, ge=0)
    """At the end: how long requests in hand have to finish."""


class ServingSettings(HttpServerSettings):
    """Settings of `agentfactory serve`."""

    versions: int = Field(default=4, ge=1)
    """Of a run's adapters: how many of each policy are loaded, the newest."""
    max_prompts: int = Field(default=128, ge=1)
    """Prompts of one request for completions, and texts of one for embeddings."""
    embedder: str = "auto"
    """`auto` (the best that is on this machine), `ngrams`, or a sentence-transformers model that is here."""


class EnvironmentServerSettings(HttpServerSettings):
    """Settings of `agentfactory environment`."""

    port: int = Field(default=8100, ge=0, le=65535)
    """0 takes a free one."""
    max_sessions: int = Field(default=64, ge=1)
    """Open at a time; one more is answered with 429."""
    idle_s: float = Field(default=900.0, gt=0.0)
    """A session that nobody used for so long is closed."""
    max_steps: int = Field(default=16, ge=1)
    """Of a task that says nothing else."""
    evaluation_tasks: int = Field(default=200, ge=1)
    """How many there are, the same for every session."""
    evaluation_seed: int = 2026
