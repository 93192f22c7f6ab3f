"""Adapter files: where a run keeps them, and reading one back. Imports no torch."""

import hashlib
from pathlib import Path

from ..configs.errors import BadInput
from ..messages.adapters import AdapterRef, LoadAdapter, Policy

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def version_name(version: int) -> str:
    """The name of a version's folder."""
    return f"v{version:04d}"


def adapter_folder(run_dir: Path, policy: Policy, version: int) -> Path:
    """The PEFT folder of one version."""
    return run_dir / "adapters" / policy / version_name(version)


def sha256_hex(content: bytes) -> str:
    """SHA-256 in hexadecimal: how an adapter's files are told apart."""
    return hashlib.sha256(content).hexdigest()


def with_location(adapter: LoadAdapter, tag: str) -> LoadAdapter:
    """The same files, with a ref that says under which of the data plane's tags they are to lie."""
    ref = adapter.adapter
    located = {
        "tag": tag,
        "sha256": ref.sha256 or sha256_hex(adapter.weights),
        "config_sha256": ref.config_sha256 or sha256_hex(adapter.config_json),
    }
    return adapter.model_copy(update={"adapter": ref.model_copy(update=located)})


def read_adapter(run_dir: Path, adapter: AdapterRef) -> LoadAdapter:
    """An adapter's files, ready to be loaded by an engine. Raises BadInput where they are missing."""
    folder = adapter_folder(run_dir, adapter.policy, adapter.version)
    try:
        return LoadAdapter(
            adapter=adapter,
            config_json=(folder / CONFIG_FILE).read_bytes(),
            weights=(folder / WEIGHTS_FILE).read_bytes(),
        )
    except OSError as error:
        raise BadInput(f"{folder}: the adapter cannot be read ({error.strerror})") from error
