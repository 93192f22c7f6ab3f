"""Bodies as JSON that everything behind can hold: no half characters, no numbers that are none.

Python's own reader takes more than JSON (RFC 8259): `NaN`, `1e400` as infinity, and halves of surrogate
pairs, which no UTF-8 and no tokenizer can take. They are refused, as OpenAI refuses them: replaced, a
prompt would be answered that nobody wrote.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable
from json import JSONDecodeError
from typing import Any, Final, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import JsonValue

MAX_DEPTH: Final = 64
"""Lists and objects within one another."""
_HALF: Final = re.compile("[\ud800-\udfff]")


class JsonRequest(Request):
    """A request whose body is read so."""

    async def json(self) -> Any:
        """The body. Raises JSONDecodeError, which the framework answers."""
        if not hasattr(self, "_json"):
            self._json = read_json(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route whose requests are read so."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The framework's own, with another request."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json


def read_json(body: bytes) -> JsonValue:
    """The value of a body. Raises JSONDecodeError."""
    try:
        value: JsonValue = json.loads(body.decode(), parse_constant=_refuse, parse_float=_read_float)
    except JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise JSONDecodeError("the body is not UTF-8", "", error.start) from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise JSONDecodeError(str(error), "", 0) from error
    _check(value)
    return value


def _check(value: JsonValue) -> None:
    """Look at every text, without recursion. Raises JSONDecodeError."""
    level: list[JsonValue] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[JsonValue] = []
        for part in level:
            if isinstance(part, str):
                if not part.isascii() and _HALF.search(part):
                    raise JSONDecodeError("half of a surrogate pair is no character", "", 0)
            elif isinstance(part, list):
                inner += part
            elif isinstance(part, dict):
                inner += part.keys()
                inner += part.values()
        if not inner:
            return
        level = inner
    raise _too_deep()


def _too_deep() -> JSONDecodeError:
    return JSONDecodeError(f"more than {MAX_DEPTH} lists and objects within one another", "", 0)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _read_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value
