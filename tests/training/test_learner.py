import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import GrpoSettings, LoraSettings, TrainerSettings
from agentfactory.messages.trajectories import Group, StepReport, TrainStep
from agentfactory.messages.turns import Turn
from agentfactory.training import learner
from agentfactory.training.batching import Sample
from agentfactory.training.errors import CheckpointMissing, CheckpointNotWritten, TrainingDiverged
from agentfactory.training.learner import Learner
from agentfactory.training.methods.grpo import Grpo
from agentfactory.training.rewards import shuffle_rewards

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")  # peft asks for it

SETTINGS = TrainerSettings(
    lora=LoraSettings(rank=4, alpha=8), learning_rate=5e-3, updates_per_step=2, micro_batch_tokens=64
)


def started(
    model: ModelSettings, folder: Path, settings: TrainerSettings = SETTINGS, seed: int = 7
) -> Learner:
    learner = Learner(model, settings, {"student": 1.0}, folder, seed)
    learner.start()
    return learner


def step(version: int, groups: tuple[Group, ...]) -> TrainStep:
    return TrainStep(policy="student", version=version, groups=groups)


def renamed(groups: tuple[Group, ...], name: str) -> tuple[Group, ...]:
    return tuple(group.model_copy(update={"group_id": name + group.group_id}) for group in groups)


def run_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.safetensors")
    }  # fmt: skip


def test_a_step_makes_the_next_version_and_reports_it(
    model: ModelSettings, groups: tuple[Group, ...], run_folder: Path
) -> None:
    report = started(model, run_folder).step(step(0, groups))
    adapter = report.adapter
    assert (adapter.name, adapter.version, report.groups_used) == ("student-v1", 1, 3)
    assert report.tokens == sum(sum(t.loss_mask) for g in groups for t in g.trajectories)
    assert 0.5 * math.log(20) < report.entropy < 3 * math.log(20)
    assert report.grad_norm > 0
    assert report.train_s > 0
    assert (Path(adapter.folder) / "adapter_model.safetensors").read_bytes() == report.weights
    assert (Path(adapter.folder) / "adapter_config.json").read_bytes() == report.config_json


@pytest.mark.slow
def test_the_same_groups_and_seed_make_the_same_bytes_in_another_process(
    model: ModelSettings, groups: tuple[Group, ...], run_folder: Path, tmp_path: Path
) -> None:
    report = started(model, run_folder).step(step(0, groups))
    (tmp_path / "step.json").write_text(step(0, groups).model_dump_json())
    (tmp_path / "settings.json").write_text(SETTINGS.model_dump_json())
    code = f"""
from pathlib import Path
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import TrainerSettings
from agentfactory.messages.trajectories import TrainStep
from agentfactory.training.learner import Learner
here = Path({str(tmp_path)!r})
settings = TrainerSettings.model_validate_json((here / "settings.json").read_text())
model = ModelSettings(source={model.source!r}, device="cpu")
learner = Learner(model, settings, {{"student": 1.0}}, here / "run2", 7)
learner.start()
learner.step(TrainStep.model_validate_json((here / "step.json").read_text()))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
    there = tmp_path / "run2" / "adapters" / "student" / "v0001"
    assert (there / "adapter_model.safetensors").read_bytes() == report.weights
    assert (there / "adapter_config.json").read_bytes() == report.config_json


def test_another_seed_makes_other_weights(
    model: ModelSettings, groups: tuple[Group, ...], tmp_path: Path
) -> None:
    one, other = (started(model, tmp_path / str(seed), seed=seed).step(step(0, groups)) for seed in (1, 2))
    assert one.adapter.sha256 != other.adapter.sha256


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_four_steps_equal_two_steps_a_restart_and_two_more(
    model: ModelSettings, groups: tuple[Group, ...], tmp_path: Path, dropout: float
) -> None:
    lora = SETTINGS.lora.model_copy(update={"dropout": dropout})
    settings = SETTINGS.model_copy(update={"lora": lora, "warmup_steps": 5})
    through = started(model, tmp_path / "through", settings)
    for version in range(4):
        through.step(step(version, groups))
    first = started(model, tmp_path / "broken", settings)
    for version in (0, 1):
        first.step(step(version, groups))
    second = started(model, tmp_path / "broken", settings)
    for version in (2, 3):
        second.step(step(version, groups))
    assert run_files(tmp_path / "broken") == run_files(tmp_path / "through")
    assert len(run_files(tmp_path / "through")) == 4 + 2


def test_a_finished_step_is_answered_from_its_checkpoint(
    model: ModelSettings, groups: tuple[Group, ...], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = started(model, run_folder).step(step(0, groups))
    again = started(model, run_folder)
    monkeypatch.setattr(learner, "run_updates", None)
    assert again.step(step(0, groups)) == report
    monkeypatch.undo()
    assert again.step(step(1, groups)).adapter.version == 2


def test_other_groups_redo_the_step_from_the_version_before(
    model: ModelSettings, groups: tuple[Group, ...], tmp_path: Path
) -> None:
    learner = started(model, tmp_path / "run")
    for version in (0, 1):
        learner.step(step(version, groups))
    others = renamed(groups[:2], "other")
    redone = learner.step(step(1, others))
    straight = started(model, tmp_path / "straight")
    straight.step(step(0, groups))
    assert redone.weights == straight.step(step(1, others)).weights


def test_the_student_and_the_teacher_share_a_base_and_nothing_else(
    model: ModelSettings, groups: tuple[Group, ...], tmp_path: Path
) -> None:
    both = Learner(model, SETTINGS, {"student": 1.0, "teacher": 1.0}, tmp_path / "both", 7)
    both.start()
    teach = TrainStep(policy="teacher", version=0, groups=groups)
    reports = [both.step(step(0, groups)), both.step(teach), both.step(step(1, groups))]
    alone = started(model, tmp_path / "alone")
    assert reports[0].weights == alone.step(step(0, groups)).weights
    assert reports[2].weights == alone.step(step(1, groups)).weights
    assert reports[1].adapter.name == "teacher-v1"
    assert reports[1].weights != reports[0].weights


def test_a_batch_that_teaches_nothing_makes_a_version_with_the_same_weights(
    model: ModelSettings, make_turn: Callable[..., Turn], make_group: Callable[..., Group], run_folder: Path
) -> None:
    turns = [make_turn([1], [2])]
    flat = make_group("flat", (turns, 1.0), (turns, 1.0))
    learner = started(model, run_folder)
    report = learner.step(step(0, (flat,)))
    assert (report.adapter.version, report.groups_used, report.tokens, report.loss) == (1, 0, 0, 0.0)
    again = started(model, run_folder).step(step(1, ()))
    assert again.weights == report.weights


def test_flat_groups_change_nothing(
    model: ModelSettings,
    groups: tuple[Group, ...],
    make_turn: Callable[..., Turn],
    make_group: Callable[..., Group],
    tmp_path: Path,
) -> None:
    turns = [make_turn([1], [2])]
    flat = make_group("flat", (turns, 1.0), (turns, 1.0))
    with_flat = started(model, tmp_path / "a").step(step(0, (*groups, flat)))
    without = started(model, tmp_path / "b").step(step(0, groups))
    assert with_flat.weights == without.weights
    assert with_flat.groups_used == 3


def test_a_version_without_a_checkpoint_cannot_be_gone_on_from(
    model: ModelSettings, groups: tuple[Group, ...], run_folder: Path
) -> None:
    learner = started(model, run_folder)
    with pytest.raises(CheckpointMissing, match=r"student's version 5 .* those kept are none"):
        learner.step(step(5, groups))
    assert learner.step(step(0, groups)).adapter.version == 1


def test_a_failed_save_leaves_no_trace_in_the_learner(
    model: ModelSettings, groups: tuple[Group, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = started(model, tmp_path / "a")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    for version in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(CheckpointNotWritten):
                learner.step(step(version, groups))
        learner.step(step(version, groups))
    straight = started(model, tmp_path / "b")
    for version in (0, 1):
        straight.step(step(version, groups))
    assert run_files(tmp_path / "a") == run_files(tmp_path / "b")


def test_a_diverged_step_saves_nothing_and_the_learner_goes_on(
    model: ModelSettings, groups: tuple[Group, ...], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = started(model, run_folder)
    with monkeypatch.context() as patch:
        patch.setattr(Grpo, "samples", _with_infinite_advantages)
        with pytest.raises(TrainingDiverged):
            learner.step(step(0, groups))
    assert not (run_folder / "adapters").exists()
    assert learner.step(step(0, groups)).adapter.version == 1


def _with_infinite_advantages(_method: Grpo, groups: tuple[Group, ...]) -> list[Sample]:
    return [Sample(t, math.inf) for group in groups for t in group.trajectories]


def test_the_divergence_from_the_base_is_measured_when_it_is_weighed(
    model: ModelSettings, groups: tuple[Group, ...], run_folder: Path
) -> None:
    settings = SETTINGS.model_copy(update={"method": GrpoSettings(kl_weight=0.1)})
    learner = started(model, run_folder, settings)
    first, second = learner.step(step(0, groups)), learner.step(step(1, groups))
    assert first.kl_to_base is not None
    assert second.kl_to_base is not None
    assert 0.0 <= first.kl_to_base < second.kl_to_base


def test_a_simulated_step_takes_its_time_and_trains_nothing(
    model: ModelSettings, groups: tuple[Group, ...], run_folder: Path
) -> None:
    learner = started(model, run_folder, SETTINGS.model_copy(update={"simulate_s": 0.05}))
    reports = [learner.step(step(version, groups)) for version in (0, 1)]
    assert reports[0].weights == reports[1].weights
    assert all(report.train_s >= 0.05 for report in reports)
    assert reports[1].adapter.version == 2


def test_a_step_before_the_start_is_refused(model: ModelSettings, run_folder: Path) -> None:
    with pytest.raises(RuntimeError, match="start"):
        Learner(model, SETTINGS, {"student": 1.0}, run_folder, 0).step(step(0, ()))


PRIZE = 5
"""The token that the bandit pays for."""


class Bandit:
    """Sixteen pulls in groups of eight: one token each, after the same prompt, paid if it is the prize.

    The policy is read from the report's PEFT folder, as an engine would.
    """

    def __init__(
        self, model: ModelSettings, make_turn: Callable[..., Turn], make_group: Callable[..., Group]
    ) -> None:
        self._source = model.source
        self._make_turn = make_turn
        self._make_group = make_group
        self._random = torch.Generator().manual_seed(0)

    def probabilities(self, report: StepReport | None) -> torch.Tensor:
        policy = AutoModelForCausalLM.from_pretrained(self._source)
        if report is not None:
            policy = PeftModel.from_pretrained(policy, report.adapter.folder)
        with torch.no_grad():
            odds: torch.Tensor = policy(input_ids=torch.tensor([[1, 2]])).logits[0, -1].softmax(-1)
        return odds

    def pull(self, report: StepReport | None, version: int) -> tuple[Group, ...]:
        odds = self.probabilities(report)
        tokens = torch.multinomial(odds, 64, replacement=True, generator=self._random).tolist()
        episodes = [
            ([self._make_turn([1, 2], [token], [odds[token].log().item()], version)], float(token == PRIZE))
            for token in tokens
        ]
        return tuple(
            self._make_group(f"{version}-{start}", *episodes[start : start + 16])
            for start in range(0, 64, 16)
        )


def play(learner: Learner, bandit: Bandit, rounds: int, shuffle: bool, lag: int) -> float:
    """The probability of the prize after some rounds on samples `lag` versions old."""
    reports: list[StepReport | None] = [None]
    for version in range(rounds):
        sampled = max(0, version - lag)
        groups = bandit.pull(reports[sampled], sampled)
        groups = shuffle_rewards(groups, Random(version)) if shuffle else groups
        reports.append(learner.step(step(version, renamed(groups, f"{version}:"))))
    return bandit.probabilities(reports[-1])[PRIZE].item()


@pytest.mark.parametrize(("shuffle", "lag"), [(False, 0), (False, 2), (True, 0)])
def test_a_bandit_is_learned_from_its_rewards_and_not_from_shuffled_ones(
    model: ModelSettings,
    make_turn: Callable[..., Turn],
    make_group: Callable[..., Group],
    run_folder: Path,
    shuffle: bool,
    lag: int,
) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-2, "updates_per_step": 4})
    bandit = Bandit(model, make_turn, make_group)
    before = bandit.probabilities(None)[PRIZE].item()
    after = play(started(model, run_folder, settings), bandit, 20, shuffle, lag)
    assert before < 0.1
    assert (after > 0.8) is not shuffle, f"from {before:.3f} to {after:.3f}"
    assert after > 0.8 or after < 0.3
