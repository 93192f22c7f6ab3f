"""A policy of 20 tokens, small enough that a training step takes milliseconds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentfactory.configs.models import ModelSettings
from agentfactory.messages.episodes import Rewards
from agentfactory.messages.tasks import Task
from agentfactory.messages.trajectories import Group, Trajectory
from agentfactory.messages.turns import Turn

VOCABULARY = 20

MakeTurn = Callable[..., Turn]
MakeGroup = Callable[..., Group]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    """A random two-layer Qwen2 in a folder."""
    transformers.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.3,  # with the usual 0.02 no logit could leave ±0.6
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return ModelSettings(source=str(folder), device="cpu")


@pytest.fixture(scope="session")
def make_turn() -> MakeTurn:
    """A turn whose completion is all the policy's."""

    def make(
        prompt: Sequence[int],
        completion: Sequence[int],
        logprobs: Sequence[float] | None = None,
        version: int = 0,
    ) -> Turn:
        return Turn(
            prompt_ids=tuple(prompt),
            completion_ids=tuple(completion),
            logprobs=tuple(-3.0 for _ in completion) if logprobs is None else tuple(logprobs),
            loss_mask=(0,) * len(prompt) + (1,) * len(completion),
            policy_version=version,
        )

    return make


@pytest.fixture(scope="session")
def make_group() -> MakeGroup:
    """A group from the turns and the reward of each of its episodes."""

    def make(name: str, *episodes: tuple[Sequence[Turn], float]) -> Group:
        task = Task(id=name, domain="math", description="", difficulty=0.5)
        return Group(
            group_id=name,
            trajectories=tuple(
                Trajectory(
                    episode_id=f"{name}-{place}",
                    group_id=name,
                    task=task,
                    turns=tuple(turns),
                    rewards=Rewards(total=reward),
                )
                for place, (turns, reward) in enumerate(episodes)
            ),
        )

    return make


@pytest.fixture
def groups(make_turn: MakeTurn, make_group: MakeGroup) -> tuple[Group, ...]:
    """Three groups of four two-turn episodes of several lengths, sampled by version 0."""
    torch.manual_seed(1)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in torch.randint(0, VOCABULARY, (count,))]

    return tuple(
        make_group(
            f"g{group}",
            *(
                (
                    [
                        make_turn([1, 2, group], tokens(2 + episode)),
                        make_turn([3, 4], tokens(3)),
                    ],
                    float(episode % 2),
                )
                for episode in range(4)
            ),
        )
        for group in range(3)
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
