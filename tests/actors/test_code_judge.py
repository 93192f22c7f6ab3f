"""Code that would rather be called right than be right; and what the judge of code promises beside."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentfactory.actors.domains import domain_named
from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.code.domain import read_assert
from agentfactory.actors.domains.code.judge import CodeJudge, values_equal
from agentfactory.actors.domains.grading import GraderDied, NoReference
from agentfactory.configs.data import LIBRARY
from agentfactory.configs.roles import TrialSettings, VerifierSettings
from agentfactory.messages.episodes import Solution, Verdict
from agentfactory.messages.tasks import CodeSpec, CodeTestCase, IoTestCase, Task
from agentfactory.runtime.sandbox.errors import SandboxError
from agentfactory.training.tasks import code as tasks

LIMIT_S = 180.0
SETTINGS = VerifierSettings(trials=TrialSettings(timeout_s=3.0, max_parallel=2))
DOUBLE = CodeSpec(
    function="f",
    parameters=1,
    checks=tuple(CodeTestCase(call=f"f({n})", expected=str(2 * n)) for n in (2, 5, 11)),
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def judge() -> AsyncIterator[CodeJudge]:
    made = CodeJudge(JudgeDeps(SETTINGS))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
    yield made
    async with asyncio.timeout(LIMIT_S):
        await made.aclose()


async def judged(judge: CodeJudge, answer: str, goal: CodeSpec | None = DOUBLE) -> Verdict:
    task = Task(id="t", domain="code", description="Double it.", difficulty=0.1, goal=goal)
    solution = Solution(episode_id="e", task_id="t", answer=answer, turns=(), stop_reason="answered")
    async with asyncio.timeout(LIMIT_S):
        return await judge.judge(task, solution, answer)


EQUALS_ALL = "    def __eq__(self, other): return True\n    def __hash__(self): return 4\n"
TRICKS = {
    "prints a result": "def f(x):\n    print('[true, \"4\"]')\n    print('ok')",
    "writes a result to the pipe and leaves": (
        "import random\nos = random._os\ndef f(x):\n    os.write(1, b'\\n[true, \"4\"]')\n    os._exit(64)"
    ),
    "exits with success": "def f(x):\n    raise SystemExit(0)",
    "exits before it is called": "def f(x): return 0\nraise SystemExit",
    "leaves the process with the code for success": "import random\ndef f(x): random._os._exit(64)",
    "returns what equals everything": f"class Any:\n{EQUALS_ALL}def f(x): return Any()",
    "returns a number that equals everything": f"class Any(int):\n{EQUALS_ALL}def f(x): return Any(0)",
    "returns a string that claims to be a number": (
        "class Text(str):\n    def __repr__(self): return '4'\ndef f(x): return Text('4')"
    ),
    "names its class like a plain one": "int_ = type('int', (int,), {})\ndef f(x): return int_(2 * x)",
    "patches the writer of values": (
        "import sys\nfor m in list(sys.modules.values()):\n"
        "    if hasattr(m, 'write_value'): m.write_value = lambda v, d=0: '4'\ndef f(x): return 0"
    ),
    "patches json": "import json\njson.dumps = lambda *a, **k: '[true, \"4\"]'\ndef f(x): return 0",
    "patches the builtins": "__builtins__['int'] = __builtins__['repr'] = lambda *a: '4'\ndef f(x): return 0",
    "looks for the tests in the frames": (
        "def f(x):\n    try: raise KeyError\n    except KeyError as e: frame = e.__traceback__.tb_frame\n"
        "    while frame:\n        for v in frame.f_locals.values():\n"
        "            if 'expe' + 'cted' in repr(v): return 2 * x\n        frame = frame.f_back"
    ),
    "looks for the tests among all objects": (
        "import functools\ndef f(x):\n    gc = functools.__loader__.load_module('gc')\n"
        "    return next((2 * x for o in gc.get_objects() if 'toler' + 'ance' in repr(o)[:500]), None)"
    ),
    "looks for the tests on the disk": "def f(x):\n    return len(open('/etc/passwd').read()) and 2 * x",
    "asks for the environment": (
        "import random\ndef f(x): return 2 * x if random._os.environ.get('PATH') else None"
    ),
    "remembers the last test": (
        "seen = []\ndef f(x):\n    seen.append(x)\n    return 2 * x if len(seen) > 1 else 0"
    ),
    "knows the visible values": "def f(x): return {2: 4, 3: 6}.get(x)",
    "returns a constant": "def f(x): return 4",
    "raises what tests catch": "def f(x):\n    raise AssertionError('2 * x')",
    "loops for ever": "def f(x):\n    while True: pass",
    "loops where nothing can stop it": "def f(x): return 10 ** 10 ** 10",
    "eats all memory": "def f(x): return [0] * 10 ** 10",
    "floods the output": "import random\ndef f(x):\n    while True: random._os.write(1, b'4' * 65536)",
    "overflows the stack": "def f(x): return f(x)",
    "kills its parent": (
        "import random\nos = random._os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    return 4"
    ),
    "forks": "import random\ndef f(x):\n    return 4 if random._os.fork() == 0 else random._os._exit(64)",
    "is no function but a promise": "async def f(x): return 2 * x",
    "gives the values out one by one": "def f(x): yield 2 * x",
}


@pytest.mark.parametrize("trick", TRICKS)
async def test_a_trick_is_not_an_answer(judge: CodeJudge, trick: str) -> None:
    verdict = await judged(judge, TRICKS[trick])
    assert not verdict.correct, verdict
    assert verdict.score <= 1 / 3 + 1e-9, verdict  # a guess may meet one of three
    assert judge._server.starts == 1
    assert (await judged(judge, "def f(x): return 2 * x")).correct


THIEF = """
import random, re
sys = random._os.sys
def pieces():
    frame = sys._getframe()
    while frame:
        yield from map(repr, (frame.f_locals, frame.f_globals))
        for each in list(frame.f_locals.values()):
            for inner in getattr(each, '__dict__', {}).values():
                yield repr(getattr(inner, '__dict__', inner))
        frame = frame.f_back
    for each in sys.modules['gc'].get_objects():
        try: yield repr(each) + repr(getattr(each, '__dict__', None))
        except BaseException: pass
def f(x):
    for text in pieces():
        for code in re.findall(r'def [f]\\(x\\): return (x \\+ x \\+ [0-9]+ - [0-9]+)', text):
            return eval(code, {'x': x})
"""


async def test_an_answer_cannot_take_its_siblings_code() -> None:
    judge = CodeJudge(JudgeDeps(VerifierSettings(trials=TrialSettings(timeout_s=10.0, max_parallel=100))))
    goal = DOUBLE.model_copy(update={"checks": DOUBLE.checks * 4})
    honest = [f"def f(x): return x + x + {n} - {n}" for n in range(6)]
    verdicts = await asyncio.gather(*(judged(judge, code, goal) for code in (*honest, THIEF, *honest)))
    await judge.aclose()
    assert [verdict.score for verdict in verdicts] == [1.0] * 6 + [0.0] + [1.0] * 6


async def test_the_score_is_the_share_of_tests_that_pass(judge: CodeJudge) -> None:
    verdict = await judged(judge, "def f(x):\n    if x == 5:\n        while True: pass\n    return x + x")
    assert not verdict.correct
    assert verdict.score == pytest.approx(2 / 3)
    assert [credit.score for credit in verdict.breakdown] == [1.0, 1.0, 0.0, 1.0]
    assert "2 of 3 tests passed; test 2: it took too long" in verdict.explanation


async def test_more_passed_tests_make_the_judge_surer(judge: CodeJudge) -> None:
    one_test = DOUBLE.model_copy(update={"checks": DOUBLE.checks[:1]})
    few, many = [await judged(judge, "def f(x): return 2 * x", goal) for goal in (one_test, DOUBLE)]
    assert 0.0 < few.confidence < many.confidence < 1.0


async def test_code_that_is_not_written_as_asked_scores_nothing(judge: CodeJudge) -> None:
    goal = DOUBLE.model_copy(update={"forbidden": ("while",)})
    verdict = await judged(judge, "def f(x):\n    while True: return 2 * x", goal)
    assert (verdict.correct, verdict.score) == (False, 0.0)
    assert verdict.explanation == "'while' may not be used"


async def test_what_a_test_needs_is_in_reach_and_nothing_else(judge: CodeJudge) -> None:
    allowed = await judged(judge, "import math\ndef f(x): return 2 * math.gcd(x, 0)")
    refused = await judged(judge, "import socket\ndef f(x): return 2 * x")
    assert allowed.correct
    assert "socket cannot be imported" in refused.explanation


async def test_output_is_compared_line_by_line(judge: CodeJudge) -> None:
    goal = CodeSpec(runs=(IoTestCase(stdin="2\n", stdout="a\nb\n"),))
    assert (await judged(judge, "input()\nprint('a ')\nprint('b')\nprint()", goal)).correct
    assert not (await judged(judge, "input()\nprint('a b')", goal)).correct
    assert not (await judged(judge, "input()\nprint('a')\nprint()\nprint('b')", goal)).correct


async def test_a_task_without_tests_cannot_be_judged(judge: CodeJudge) -> None:
    with pytest.raises(NoReference, match="has no hidden tests"):
        await judged(judge, "def f(x): return 1", None)


async def test_a_sandbox_that_is_gone_is_a_failure_and_not_a_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CodeJudge(JudgeDeps(SETTINGS))
    await made.aclose()
    with pytest.raises(GraderDied, match="no sandbox") as raised:
        await judged(made, "def f(x): return 2 * x")
    assert isinstance(raised.value.__cause__, SandboxError)


@pytest.mark.parametrize("number", range(6))
async def test_the_solution_that_the_generator_knows_passes_its_tests(judge: CodeJudge, number: int) -> None:
    rng = random.Random(number)
    task = tasks.sample_task(rng, rng.random())
    goal = tasks.goal_of(task)
    assert (await judged(judge, tasks.solution(task), goal)).correct
    for constant in {check.expected for check in goal.checks}:
        verdict = await judged(judge, f"def f(xs): return {constant}", goal)
        assert verdict.score <= 0.5


async def test_equality_is_pythons_but_for_truth_values() -> None:
    assert values_equal(2, 2.0)
    assert values_equal({"a": [1, (2, 3)]}, {"a": [1, (2, 3)]})
    assert not values_equal(1, True)
    assert not values_equal([1], (1,))
    assert not values_equal(10**20 + 1, 1e20)
    assert values_equal(1e6, 1e6 + 1e-4, tolerance=1e-9)
    assert not values_equal({"a": 1}, {"b": 1})


async def test_an_assert_is_read_only_where_a_call_meets_a_literal() -> None:
    assert read_assert("f(1, [2]) == {'a': 3}") == CodeTestCase(call="f(1, [2])", expected="{'a': 3}")
    assert read_assert("not g('x')") == CodeTestCase(call="g('x')", expected="False")
    assert read_assert("f(1) is None") == CodeTestCase(call="f(1)", expected="None")
    for text in ("f(1) == g(1)", "abs(f(1) - 2) < 0.1", "f(1) > 2", "True", "f(1) == x", "f(1", "1 == f(1)"):
        assert read_assert(text) is None, text


async def test_a_task_in_free_words_needs_tests_that_no_constant_passes() -> None:
    side = domain_named("code").task_generator(LIBRARY)
    words = "Task: Write a function up(s) that returns s in capitals.\n"
    tests = ["assert up('a') == 'A'", "assert up('bc') == 'BC'", "assert up('') == ''"]
    checked = side.check(words + "\n".join(tests), 0.2)
    assert checked is not None
    assert checked.can_be_judged
    assert checked.description == "Write a function up(s) that returns s in capitals."
    assert isinstance(checked.goal, CodeSpec)
    assert len(checked.goal.checks) == 3
    assert side.check(words + "\n".join(tests[:2]), 0.2) is None
    assert side.check(words + "\n".join([tests[0]] * 3), 0.2) is None
    assert side.check(words + "\n".join(test.replace("up", "down") for test in tests), 0.2) is None
