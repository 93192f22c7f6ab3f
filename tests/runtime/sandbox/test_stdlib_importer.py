"""The standard library behind the walls: what it imports in the middle of a call is there."""

import ast
import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from agentfactory.configs.roles import SandboxSettings, TrialSettings
from agentfactory.runtime.sandbox.python import PythonSandbox

LIMIT_S = 60.0
SYSTEM = {"asyncio", "ctypes", "curses", "grp", "multiprocessing", "pwd", "subprocess", "unittest.async_case"}
"""What starts or asks for what the walls refuse anyway."""
INSTEAD_OF_OPENSSL = {"_md5", "_sha1", "_sha2", "_sha256", "_sha3", "_sha512"}
"""Shared objects that are asked for only where OpenSSL is missing."""
MODULES = sorted({*SandboxSettings().modules, *TrialSettings().modules})

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[PythonSandbox]:
    sandbox = PythonSandbox(SandboxSettings(modules=(*MODULES,), timeout_s=30.0, output_bytes=65536))
    async with asyncio.timeout(LIMIT_S):
        await sandbox.start()
        yield sandbox
        await sandbox.aclose()


def late_imports(module: str) -> set[str]:
    """What functions of a module import when they are called, as its source has it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return set()
    with open(spec.origin, "rb") as file:
        tree = ast.parse(file.read())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {name for function in functions for name in _imported(function, spec.parent or "")}


def _imported(function: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if (node.level)
                else str(node.module)
            )


def is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


async def test_whatever_a_module_imports_late_can_be_had(sandbox: PythonSandbox) -> None:
    late = {name for module in MODULES for name in late_imports(module)}
    late |= {name for module in late if is_there(module) for name in late_imports(module)}
    names = sorted(filter(is_there, late - SYSTEM - INSTEAD_OF_OPENSSL))
    assert len(names) > 20
    code = "\n".join((
        "import sys",
        "find = sys.modules['builtins'].__import__",
        f"for name in {names!r}:",
        "    try: find(name)",
        "    except BaseException as error: print(name, type(error).__name__, error)",
    ))  # fmt: skip
    result = await sandbox.run(code)
    assert (result.output, result.failure) == ("", "")


@pytest.mark.parametrize(
    "code",
    [
        "from collections import Counter\nCounter('aab').most_common(1)",
        "import statistics\nstatistics.mode([1])",
        "import datetime\ndatetime.date(2020, 1, 1).strftime('%d')",
        "import datetime\ndatetime.datetime.strptime('1', '%d')",
        "from functools import singledispatch\n@singledispatch\ndef f(x): 0\nf.register(int, str)\nf(2)",
        "import random\nrandom.choices('ab', k=2)",
        "import re\nre.compile('a', re.DEBUG)",
        "import json\njson.loads('{}')",
        "'a'.encode('idna')",
        "import decimal\ndecimal.Decimal('NaN').as_tuple()",
    ],
)
async def test_a_function_of_a_listed_module_may_import_what_is_not_listed(code: str) -> None:
    sandbox = PythonSandbox(SandboxSettings(timeout_s=20.0))
    async with asyncio.timeout(LIMIT_S):
        assert (await sandbox.run(code)).failure == ""
        assert (await sandbox.run("import heapq")).failure == "forbidden"
        await sandbox.aclose()
