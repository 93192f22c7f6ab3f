"""`python -m bridge.server --settings FILE.json`: one bridge server, until SIGTERM."""

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from bridge.server.process import run
from bridge.server.settings import ServerSettings
from configs.errors import AgentFactoryError, SettingsError
from configs.load import describe


def read_settings(path: Path) -> ServerSettings:
    """Raises SettingsError, which names the file and the key."""
    try:
        return ServerSettings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise SettingsError(describe(error, where=str(path), model=ServerSettings)) from error


def main() -> int:
    """Serve; 0 after an end in good order."""
    parser = argparse.ArgumentParser(prog="python -m bridge.server", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="a ServerSettings as JSON")
    try:
        settings = read_settings(parser.parse_args().settings)
        from bridge.store.opening import open_store  # type: ignore[import-not-found, unused-ignore]

        run(settings, open_store(settings.store))
    except AgentFactoryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
