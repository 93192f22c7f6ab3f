"""Content types, by the suffix of a name. The table is ours: the system's differs between machines."""

BINARY = "application/octet-stream"
TEXT = "text/plain"
ARROW_FILE = "application/vnd.apache.arrow.file"
CSV = "text/csv"
JSON = "application/json"
MARKDOWN = "text/markdown"
JSON_LINES = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"

CONTENT_TYPES = {"csv": CSV, "json": JSON, "markdown": MARKDOWN, "parquet": PARQUET}
"""Of what is ingested in a format that only says what the bytes are."""

_BY_SUFFIX = {
    ".arrow": ARROW_FILE,
    ".bz2": "application/x-bzip2",
    ".c": "text/x-c",
    ".css": "text/css",
    ".csv": CSV,
    ".feather": ARROW_FILE,
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".htm": "text/html",
    ".html": "text/html",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".log": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".ndjson": JSON_LINES,
    ".parquet": PARQUET,
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".rst": "text/x-rst",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".toml": "application/toml",
    ".txt": TEXT,
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
}


def content_type_of(name: str, otherwise: str = BINARY) -> str:
    """By the suffix; `otherwise` for one that says nothing."""
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    return _BY_SUFFIX.get(base[dot:].lower(), otherwise) if dot >= 0 else otherwise
