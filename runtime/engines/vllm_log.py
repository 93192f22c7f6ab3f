"""vLLM's own log, and what it says of a start that failed.

vLLM runs the model in processes of its own. When one cannot start, its parent hears that it failed, and the
reason is in the log alone. So the log goes to a file, and the reason is read from there.
"""

import json
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

_ERROR: Final = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b:? *(.*)$", re.MULTILINE)
_QUOTED: Final = re.compile(r"Worker failed with error '(.*)', please check", re.DOTALL)
_MEMORY: Final = re.compile(r"memory|KV cache|bad_alloc", re.IGNORECASE)
_FORMAT: Final = "%(asctime)s %(process)d %(levelname)s %(message)s"
MAX_CHARACTERS: Final = 400


@cache
def keep_log() -> Path:
    """The file that the errors of this process's engines go to; asked for before vLLM is imported."""
    folder = Path(tempfile.mkdtemp(prefix="agentfactory-vllm-"))
    log = folder / "vllm.log"
    log.touch()
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": _FORMAT}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(log), "formatter": "plain"}},
        "loggers": {"vllm": {"handlers": ["file"], "level": "ERROR", "propagate": False}},
    }
    (folder / "logging.json").write_text(json.dumps(config))
    os.environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(folder / "logging.json"))
    return log


def cause_in(text: str) -> str:
    """The last error in a log, in one line; empty where there is none."""
    causes = [match for match in _ERROR.findall(text) if match]
    if not causes:
        return ""
    quoted = _QUOTED.search(causes[-1])
    cause = " ".join((quoted.group(1) if quoted else causes[-1]).split()).rstrip(".")
    return cause if len(cause) <= MAX_CHARACTERS else cause[:MAX_CHARACTERS] + "…"


def is_about_memory(cause: str) -> bool:
    """Whether less of something would have helped."""
    return _MEMORY.search(cause) is not None
