"""What holds for every message."""

import json
import pickle

import pytest
from pydantic import ValidationError

from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.base import SCHEMA_VERSION, Message
from agentfactory.messages.episodes import JudgeSolution, Rewards, Solution, SolveTask, Verdict
from agentfactory.messages.generation import Generate, SamplingSettings
from agentfactory.messages.schema import export_schemas, message_classes
from agentfactory.messages.tasks import Proposal, Task
from agentfactory.messages.trajectories import Group, StoreTrajectories, Trajectory
from agentfactory.messages.turns import ToolCall, ToolResult, Turn

TASK = Task(id="t1", domain="math", description="2 + 2?", difficulty=0.25, reference="4")
TURN = Turn(
    prompt_ids=(1, 2, 3),
    completion_ids=(4, 5),
    logprobs=(-0.125, -1.5),
    loss_mask=(0, 0, 0, 1, 1),
    policy_version=2,
    text="2 + 2 = 4",
    calls=(ToolCall(tool="python", input="2 + 2"),),
    results=(ToolResult(output="4", ok=True),),
)
SOLUTION = Solution(
    episode_id="e1", task_id="t1", answer="4", turns=(TURN, TURN), stop_reason="answered", confidence=0.5
)
TRAJECTORY = Trajectory(
    episode_id="e1", group_id="g1", task=TASK, turns=(TURN, TURN), rewards=Rewards(correctness=1, total=0.2)
)
EXAMPLES: list[Message] = [
    TASK,
    TURN,
    SOLUTION,
    TRAJECTORY,
    Group(group_id="g1", trajectories=(TRAJECTORY,)),
    StoreTrajectories.of([TRAJECTORY]),
    Proposal(task=TASK, turn=TURN),
    SolveTask(episode_id="e1", task=TASK, adapter=AdapterRef(policy="student", version=3)),
    JudgeSolution(task=TASK, solution=SOLUTION),
    Verdict(episode_id="e1", correct=True, score=1.0),
    Generate(request_id="r", prompt_ids=(1, 2), sampling=SamplingSettings(stop=("\n",))),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_json_and_pickle(message: Message) -> None:
    for copy in (
        type(message).model_validate_json(message.model_dump_json()),
        pickle.loads(pickle.dumps(message)),
    ):
        assert copy == message
        assert hash(copy) == hash(message)
        assert copy.model_dump_json() == message.model_dump_json()


def test_a_message_that_was_pickled_is_still_frozen_and_whole() -> None:
    copy = pickle.loads(pickle.dumps(TASK))
    with pytest.raises(ValidationError, match="frozen"):
        copy.difficulty = 1.0
    assert copy.model_copy(update={"difficulty": 0.5}).difficulty == 0.5
    assert repr(copy) == repr(TASK)


def test_bytes_survive_pickling() -> None:
    adapter = AdapterRef(policy="teacher", version=1)
    message = LoadAdapter(adapter=adapter, config_json=b"{}", weights=bytes(range(256)))
    assert pickle.loads(pickle.dumps(message)) == message


@pytest.mark.parametrize("cls", message_classes().values(), ids=lambda cls: cls.__name__)
def test_every_message_is_closed_frozen_and_documented(cls: type[Message]) -> None:
    assert cls.model_config["frozen"]
    assert cls.model_config["extra"] == "forbid"
    assert cls.__doc__, "says what it is"


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Task(id="t", domain="math", description="", difficulty=0.5, color="red")  # type: ignore[call-arg]


def test_equal_messages_are_one_in_a_set() -> None:
    assert len({TASK, TASK.model_copy(), TASK.model_copy(update={"id": "t2"})}) == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"logprobs": (-0.1,)}, "1 logprobs for 2 sampled tokens"),
        ({"loss_mask": (0, 0, 1, 1)}, "loss_mask has 4 entries for 5 tokens"),
        ({"logprobs": (-0.1, float("nan"))}, "finite number"),
    ],
)
def test_a_turn_whose_lengths_disagree_is_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Turn.model_validate(TURN.model_dump() | change)


def test_a_trajectory_lines_its_tokens_up() -> None:
    assert TRAJECTORY.token_ids == (1, 2, 3, 4, 5) * 2
    assert TRAJECTORY.loss_mask == (0, 0, 0, 1, 1) * 2
    assert TRAJECTORY.behaviour_logprobs == (0.0, 0.0, 0.0, -0.125, -1.5) * 2
    assert TRAJECTORY.oldest_version == 2


def test_what_an_older_writer_stored_is_read() -> None:
    """Version 1 knew neither a task's source nor where in the data plane an adapter lies."""
    task = TASK.model_dump(exclude={"source"})
    adapter = {"policy": "student", "version": 3, "sha256": "ab", "folder": "runs/a"}
    stored = TRAJECTORY.model_dump(mode="json") | {"schema_version": 1, "task": task}
    assert Trajectory.model_validate(stored).task.source is None
    assert (AdapterRef.model_validate(adapter).tag, AdapterRef.model_validate(adapter).version) == ("", 3)


def test_an_adapter_is_named_by_policy_and_version() -> None:
    assert AdapterRef(policy="student", version=0).name is None
    assert AdapterRef(policy="student", version=3).name == "student-v3"


def test_schemas_of_all_messages_are_exported_with_their_version() -> None:
    document = export_schemas()
    assert document["schema_version"] == SCHEMA_VERSION
    schemas = document["messages"]
    assert isinstance(schemas, dict)
    assert set(schemas) == set(message_classes())
    assert {"Task", "Turn", "Trajectory", "JudgeSolution"} <= set(schemas)
    assert "Seconds since the epoch." in json.dumps(schemas["Task"]), "with the fields' docstrings"


def test_a_turn_that_was_stored_with_one_call_is_read_as_before() -> None:
    """Until version 2 a turn held at most one call, in fields of other names."""
    stored = TURN.model_dump(mode="json", exclude={"calls", "results"})
    call, result = {"tool": "python", "input": "2 + 2"}, {"output": "4", "ok": True}
    assert Turn.model_validate_json(json.dumps(stored | {"call": call, "result": result})) == TURN
    without = Turn.model_validate_json(json.dumps(stored | {"call": None, "result": None}))
    assert (without.calls, without.results) == ((), ())
    unanswered = Turn.model_validate_json(json.dumps(stored | {"call": call, "result": None}))
    assert unanswered.exchanges == ((ToolCall(tool="python", input="2 + 2"), None),)


def test_a_turn_has_no_more_results_than_calls() -> None:
    with pytest.raises(ValidationError, match="1 results for 0 calls"):
        Turn.model_validate(TURN.model_dump() | {"calls": ()})
