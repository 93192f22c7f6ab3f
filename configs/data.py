"""The data plane's settings: the bridge, the store behind it, the caches in front, and URIs."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from .base_config import PLACE, BaseConfig, PlaceOrName, PlaceText
from .errors import SettingsError

_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.%]+\]|[^\s:/]+):(?P<port>\d{1,5}|\*)|(ipc|inproc)://\S+")
_LAST_PORT = 65_535
LIBRARY = Path(__file__).parent / "library"


class BridgeSettings(BaseConfig):
    """The bridge server and how to reach it."""

    endpoints: tuple[str, ...] = ("tcp://127.0.0.1:5560",)
    """Servers, tried in turn; one that does not answer is skipped for a while. A server that is started
    here takes any free port for port 0."""
    store_id: str = ""
    """The store that is meant: a bridge of another is not spoken to. Empty: that of who answers first."""
    connect_timeout_ms: int = Field(default=5000, ge=1)
    """How long a request waits for a server while none has ever answered."""
    request_timeout_ms: int = Field(default=30_000, ge=1)
    """How long a request waits for its answer; also for a server that was up and is being started again."""
    chunk_kb: int = Field(default=1024, ge=4)
    """Values larger than this travel in pieces of this size."""
    window_chunks: int = Field(default=8, ge=1)
    """Pieces of one stream that are under way before the receiver has to ask for more."""
    max_in_flight: int = Field(default=256, ge=1)
    """Requests of one client that the server works on before it reads no more of them."""
    max_message_mb: int = Field(default=64, ge=1)
    """A larger JSON request is refused."""
    server_key: str = ""
    """The server's public CURVE key (Z85). Empty: no encryption, loopback only."""
    client_secret_env: str = "AGENTFACTORY_BRIDGE_SECRET"
    """The environment variable that holds the client's secret CURVE key."""

    @field_validator("endpoints")
    @classmethod
    def _can_be_reached(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        if not endpoints:
            raise ValueError("name at least one, as tcp://HOST:PORT")
        for endpoint in endpoints:
            found = _ENDPOINT.fullmatch(endpoint)
            port = found["port"] if found else None
            if found is None or (port and port.isdigit() and int(port) > _LAST_PORT):
                raise ValueError(f"{endpoint!r} is no address: write tcp://HOST:PORT, or ipc://PATH")
        return endpoints


class StoreSettings(BaseConfig):
    """Store of blobs, the durable tier."""

    kind: Literal["auto", "iowarp", "embedded"] = "auto"
    """`auto` takes what the folder was made as, and the embedded store for a new one: IOWarp's runtime
    takes about a third of a core even while nothing is asked of it."""
    folder: PlaceText = ".agentfactory/store"
    max_gb: float = Field(default=8.0, gt=0.0)
    """The store refuses to grow further (a sparse file: unused space costs nothing)."""
    outage_s: float = Field(default=20.0, gt=0.0)
    """How long a request waits for an IOWarp that went away or is stuck; less than a client waits."""


class CacheHost(BaseConfig):
    """One memcached."""

    host: str = "127.0.0.1"
    port: int = Field(default=11211, ge=1, le=65535)


class CacheSettings(BaseConfig):
    """The cache tier."""

    kind: Literal["auto", "memcached", "embedded"] = "auto"
    """`auto` takes memcached where the program is found, else the embedded cache."""
    hosts: tuple[CacheHost, ...] = (CacheHost(),)
    key_prefix: str = Field(default="iowarp", pattern=r"^[!-~]{1,32}$")
    default_ttl: int = Field(default=3600, ge=1)
    """Seconds."""
    max_value_size: int = Field(default=10 << 20, ge=1024)
    """Bytes; larger values are left to the store, or split."""
    oversize: Literal["split", "skip"] = "split"
    """What happens to values over the server's item limit."""
    item_limit: int = Field(default=1 << 20, ge=4096)
    """Bytes of one item that a server takes (memcached's `-I`)."""
    memory_mb: int = Field(default=512, ge=1)
    """Of each cache."""
    timeout_ms: int = Field(default=250, ge=1)
    """A slower answer is a miss."""
    retry_s: float = Field(default=2.0, gt=0.0)
    """How long a dead server is skipped."""


class DataRewards(BaseConfig):
    """Reward of each action of the data environment."""

    cache_hit: float = 0.30
    cache_miss: float = 0.20
    assimilate_success: float = 0.10
    query_success: float = 0.10
    list_success: float = 0.10
    prune_success: float = 0.05
    destroy_success: float = 0.05
    error: float = -0.50


def _without_colons(value: object) -> object:
    """Schemes as URIs have them, `file::`, without the colons."""
    if not isinstance(value, list | tuple):
        return value
    return [part.rstrip(":") if isinstance(part, str) else part for part in value]


Schemes = Annotated[
    tuple[Literal["file", "folder", "hdf5", "mem", "string"], ...], BeforeValidator(_without_colons)
]
"""Kinds of URIs, with or without `::` behind them."""


class UriSettings(BaseConfig):
    """Sources that may be read, and their limits."""

    roots: Annotated[tuple[str, ...], PLACE] = (".",)
    """Folders that `file::`, `folder::` and `hdf5::` may read from."""
    schemes: Schemes = ("file", "folder", "hdf5", "mem", "string")
    concurrency: int = Field(default=16, ge=1)
    """Files of a folder that are ingested at once; of small ones, batches."""
    temp_folder: PlaceText = ""
    """Where tables are kept while they are converted; empty for the system's own place."""


class ActionSettings(BaseConfig):
    """The Ingestor and the Retriever."""

    default_tag: str = Field(default="default", min_length=1)
    """Where things go that are ingested without a tag."""
    max_answer_mb: int = Field(default=16, ge=1)
    """A larger blob is not carried in the answer to a Retrieve: the bridge's client streams it."""


class SearchSettings(BaseConfig):
    """Passages of stored texts, and how they are found."""

    embedder: PlaceOrName = "auto"
    """`ngrams` (built in, sees spelling), a sentence-transformers model that lies on this machine, or
    `auto`: all-MiniLM-L6-v2 where it is there, else `ngrams`. Nothing is ever downloaded."""
    lexical: Literal["auto", "own"] = "auto"
    """How passages are ranked by words: `own` is BM25 over the passages; `auto` also lets those of a text
    count more that IOWarp's own search finds, where IOWarp is the store."""
    passage_chars: int = Field(default=800, ge=100)
    """The longest passage, in characters."""
    overlap_chars: int = Field(default=120, ge=0)
    """Characters of a passage that the next one may repeat, where no heading parts them."""
    max_blob_mb: int = Field(default=16, ge=1)
    """Larger texts are left out, and counted."""
    max_passages: int = Field(default=100_000, ge=1)
    """Of one tag, in memory: 2 to 3 KB each."""
    open_tags: int = Field(default=4, ge=1)
    """Indexes that are kept in memory; the one that was searched longest ago goes first."""
    max_age_s: float = Field(default=2.0, ge=0.0)
    """How old what an index knows of its tag may be before a search looks again."""

    @model_validator(mode="after")
    def _passages_move_on(self) -> Self:
        if self.overlap_chars > self.passage_chars // 3:
            raise ValueError(
                f"overlap_chars ({self.overlap_chars}) must be at most a third of passage_chars "
                f"({self.passage_chars})"
            )
        return self


class DataSettings(BaseConfig):
    """The whole data plane."""

    folder: PlaceText = ".agentfactory"
    """Where `agentfactory up` keeps the state and the logs of what it runs."""
    of_run: bool = False
    """Each run starts a data plane of its own in its folder, with a small embedded store and cache, unless it
    works with texts that are stored elsewhere. What else is said of the store's and the cache's kind, of
    places and endpoints is for everything but runs then."""
    run_max_gb: float = Field(default=1.0, gt=0.0)
    """Of the store that a run starts for itself."""
    run_memory_mb: int = Field(default=64, ge=1)
    """Of the cache that a run starts for itself."""
    bridge: BridgeSettings = BridgeSettings()
    store: StoreSettings = StoreSettings()
    cache: CacheSettings = CacheSettings()
    uris: UriSettings = UriSettings()
    rewards: DataRewards = DataRewards()
    actions: ActionSettings = ActionSettings()
    search: SearchSettings = SearchSettings()
    library: PlaceText = ""
    """The folder whose folders the tasks of the `data` domain are about; empty: the one that ships with
    the project."""

    @model_validator(mode="after")
    def _the_reason_reaches_the_client(self) -> Self:
        if self.store.outage_s * 1000 >= self.bridge.request_timeout_ms:
            raise ValueError(
                f"store.outage_s ({self.store.outage_s:g} s) must be less than bridge.request_timeout_ms "
                f"({self.bridge.request_timeout_ms} ms): a client would hear of no answer, not of why"
            )
        return self

    def for_run(self, run_dir: Path) -> Self:
        """A data plane of a run's own, in its folder."""
        folder = run_dir / "data"
        store = {"kind": "embedded", "folder": str(folder / "store"), "max_gb": self.run_max_gb}
        cache = {"kind": "embedded", "memory_mb": self.run_memory_mb}
        return self.model_copy(
            update={
                "folder": str(folder),
                "bridge": self.bridge.model_copy(update={"endpoints": ("tcp://127.0.0.1:0",)}),
                "store": self.store.model_copy(update=store),
                "cache": self.cache.model_copy(update=cache),
            }
        )

    def locate_library(self) -> str:
        """The absolute path of the library. Raises SettingsError for a folder that is not there."""
        path = Path(self.library).expanduser().resolve() if self.library else LIBRARY
        if not path.is_dir():
            raise SettingsError(f"data.library: there is no folder {self.library!r}")
        return str(path)
