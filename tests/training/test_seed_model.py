import json
import random
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from configs.models import SEEDS
from training.seed.__main__ import make_seed_model
from training.seed.corpus import Piece, Stage, drill, episode, examples, tokenize
from training.seed.evaluation import examine_student, examine_teacher
from training.seed.pretrain import (
    IGNORED,
    PretrainConfig,
    accumulate_gradients,
    build_model,
    collate,
    pretrain,
    rate_scale,
    stage,
)
from training.seed.sampling import calculate, complete, play
from training.seed.tokenizer import (
    EOS,
    EOS_ID,
    PAD,
    PAD_ID,
    VOCABULARY_SIZE,
    build_tokenizer,
    decode,
    encode,
    save_tokenizer,
)
from training.tasks.arithmetic import evaluate, held_out_tasks, is_held_out

SHIPPED = Path(__file__).parents[2] / "configs" / "models" / "seed"
EXPRESSION = re.compile(r"[0-9+\-*()]*[+\-*][0-9+\-*()]*")
MESSAGES = [
    {"role": "system", "content": "You solve tasks with python."},
    {"role": "user", "content": "Task: Compute 12+34*5."},
    {"role": "assistant", "content": "Thought: Use python.\nAction: python\nInput: print(12+34*5)"},
    {"role": "user", "content": "Observation: 182"},
    {"role": "assistant", "content": "Answer: 182"},
]
TRANSCRIPT = (
    "Task: Compute 12+34*5.\n"
    "Thought: Use python.\nAction: python\nInput: print(12+34*5)<eos>\n"
    "Observation: 182\n"
    "Answer: 182<eos>\n"
)
TINY = PretrainConfig(steps=2, episodes_per_step=4, episodes_per_pass=2)


def draw(count: int) -> list[list[Piece]]:
    rng = random.Random(11)
    return [drill(rng, 24) if rng.random() < 0.3 else episode(rng) for _ in range(count)]


def parses(candidate: str) -> bool:
    """Whether it is an expression and more than a negative number."""
    try:
        evaluate(candidate)
    except ValueError:
        return False
    return not candidate.lstrip("-").isdigit()


def read(pieces: list[Piece]) -> str:
    return "".join(piece.text + (f"{EOS}\n" if piece.ends_turn else "") for piece in pieces)


# --- tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(path)
    build_model().save_pretrained(path)
    return path


@pytest.mark.parametrize("text", ["Task: Compute 12+34*5.\n", "two  spaces\n\n\ttab", "é ∑ 'll"])
def test_every_way_of_encoding_a_text_agrees_and_decodes_to_it(text: str, folder: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    assert encode(text) == build_tokenizer().encode(text).ids == loaded(text)["input_ids"]
    assert decode(encode(text)) == loaded.decode(encode(text)) == text


def test_every_printable_character_is_one_token() -> None:
    printable = "\n" + "".join(map(chr, range(32, 127)))
    assert len(set(encode(printable))) == len(printable)


def test_pad_and_eos_are_the_first_two_tokens(folder: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    assert (loaded.pad_token, loaded.pad_token_id) == (PAD, PAD_ID)
    assert (loaded.eos_token, loaded.eos_token_id) == (EOS, EOS_ID)
    assert len(loaded) == VOCABULARY_SIZE


def test_the_chat_template_leaves_the_system_out_and_closes_each_reply(folder: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    text = loaded.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert text == TRANSCRIPT


def test_sampled_tokens_are_those_of_the_templated_transcript(folder: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    prompt = loaded.apply_chat_template(MESSAGES[:2], tokenize=False, add_generation_prompt=True)
    reply = [*encode(MESSAGES[2]["content"]), EOS_ID]
    continued = encode(prompt) + reply + encode("\nObservation: 182\n")
    assert continued == loaded.apply_chat_template(MESSAGES[:4])["input_ids"]


# --- corpus


def test_a_held_out_expression_never_appears_in_the_corpus() -> None:
    for piece in chain.from_iterable(draw(4000)):
        for candidate in EXPRESSION.findall(piece.text):
            assert not (parses(candidate) and is_held_out(candidate)), candidate


def test_the_same_seed_writes_the_same_corpus() -> None:
    middle = Stage(drill_share=0.5, longest_string=20)
    assert examples(random.Random(5), middle, 50) == examples(random.Random(5), middle, 50)


def test_what_the_model_only_reads_carries_no_loss() -> None:
    for pieces in draw(500):
        for piece in pieces:
            if piece.text.startswith(("Task: ", "Observation: ", "Propose ")):
                assert piece.taught == (piece.text.startswith("Task: ") and piece.ends_turn)


def test_some_calls_fail_and_no_faulty_call_is_taught() -> None:
    failed = [pieces for pieces in draw(4000) if "Observation: Error" in read(pieces)]
    assert failed
    for pieces in failed:
        task = pieces[0].text
        for piece in pieces:
            call = re.search(r"print\((.+)\)$", piece.text)
            if call and piece.taught:
                assert call[1] in task


def test_tokens_of_an_episode_spell_it_with_its_ends() -> None:
    example = tokenize([Piece("Task: 1+1\n", False), Piece("Answer: 2", True, ends_turn=True)])
    assert example.ids == [*encode("Task: 1+1\nAnswer: 2"), EOS_ID, *encode("\n")]
    assert example.taught == [False] * 10 + [True] * 10 + [False]


# --- pretraining


def test_a_target_is_the_next_taught_token() -> None:
    short = tokenize([Piece("ab", False), Piece("c", True, ends_turn=True)])
    long = tokenize([Piece("abcd", False), Piece("e", True, ends_turn=True)])
    ids, targets = collate([short, long])
    assert ids.shape == targets.shape == (2, 7)
    c, e = encode("ce")
    assert targets[0].tolist() == [IGNORED, c, EOS_ID] + [IGNORED] * 4
    assert targets[1].tolist() == [IGNORED] * 3 + [e, EOS_ID] + [IGNORED] * 2


def test_the_size_of_a_pass_does_not_change_the_gradient() -> None:
    batch = examples(random.Random(0), Stage(0.3, 12), 6)
    model = build_model()
    gradients = []
    for size in (2, 6):
        model.zero_grad()
        accumulate_gradients(model, batch, size)
        gradients.append(model.model.embed_tokens.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_the_curriculum_goes_from_short_drills_to_mixed_episodes() -> None:
    config = PretrainConfig(drill_steps=100, drill_share=0.2, longest_strings=(8, 24))
    stages = [stage(step, config) for step in (0, 50, 500)]
    assert [now.drill_share for now in stages] == pytest.approx([1.0, 0.6, 0.2])
    assert [now.longest_string for now in stages] == [8, 16, 24]


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    config = PretrainConfig(steps=100, warmup_steps=10)
    scales = [rate_scale(step, config) for step in (1, 10, 55, 100)]
    assert scales == pytest.approx([0.1, 1.0, 0.5, 0.0])


def test_the_same_settings_give_the_same_weights() -> None:
    first, second = (pretrain(TINY, report=lambda _: None).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_command_writes_a_whole_model_folder_with_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "training.seed.__main__.examine_student", lambda m: examine_student(m, tasks=4, samples=1)
    )
    monkeypatch.setattr("training.seed.__main__.examine_teacher", lambda m: examine_teacher(m, proposals=2))
    make_seed_model(TINY, tmp_path, Console(quiet=True))
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    assert "--steps 2 --seed 0" in (tmp_path / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_data_seed_model_begins_with_the_one_that_ships(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"corpus": "errands", "begin_with_seed": True, "steps": 1})
    make_seed_model(config, tmp_path, Console(quiet=True))
    assert "--corpus errands" in (tmp_path / "README.md").read_text()
    made, seed = (Qwen2ForCausalLM.from_pretrained(folder).state_dict() for folder in (tmp_path, SHIPPED))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert 0 < (made[name] - seed[name]).abs().max() < 0.1


# --- playing


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("print(12+34*5)", "182"),
        ("print((1+2)*3)", "9"),
        ("12+34", "Error: SyntaxError"),
        ("print(12+)", "Error: SyntaxError"),
        ("print(__import__('os'))", "Error: SyntaxError"),
    ],
)
def test_the_calculator_prints_arithmetic_and_nothing_else(code: str, printed: str) -> None:
    assert calculate(code) == printed


def test_prompts_of_different_lengths_do_not_disturb_each_other() -> None:
    torch.manual_seed(0)
    model = build_model().eval()
    for parameter in model.parameters():
        parameter.data *= 8  # peaked logits: sampling then has one likely outcome
    prompts = [encode("Task: Compute 1+2.\n"), encode("Task: Compute 123+456*789.\n")]
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
    likely = [int(row.argmax()) for row in logits]
    sure = [float(row.softmax(-1).max()) for row in logits]
    drawn = complete(model, prompts, torch.Generator().manual_seed(0), max_tokens=1)
    assert min(sure) > 0.99
    assert [ids[0] for ids in drawn] == likely


# --- the shipped model


@pytest.fixture(scope="module")
def shipped() -> Qwen2ForCausalLM:
    model = Qwen2ForCausalLM.from_pretrained(SHIPPED)
    model.eval()
    return model


def test_the_shipped_model_is_small() -> None:
    assert (SHIPPED / "model.safetensors").stat().st_size < 4_000_000
    model = AutoModelForCausalLM.from_pretrained(SHIPPED)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 950_000


@pytest.mark.parametrize("shipped", SEEDS.values(), ids=SEEDS)
def test_a_shipped_model_has_our_shape_and_our_tokenizer(shipped: Path, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((shipped / name).read_text()) == json.loads((tmp_path / name).read_text())
    ends = json.loads((shipped / "generation_config.json").read_text())
    assert (shipped / "model.safetensors").stat().st_size < 4_000_000
    assert (ends["eos_token_id"], ends["pad_token_id"]) == (EOS_ID, PAD_ID)


def test_the_shipped_model_solves_what_it_gives_to_the_tool(shipped: Qwen2ForCausalLM) -> None:
    report = examine_student(shipped, tasks=150, samples=1, seed=1)
    assert report.well_formed >= 0.95
    assert 0.18 <= report.tool_share <= 0.38
    assert report.tool_accuracy >= 0.9
    assert 0.18 <= report.pass_at_1 <= 0.4


def test_the_shipped_model_proposes_tasks_of_the_difficulty_asked_for(
    shipped: Qwen2ForCausalLM,
) -> None:
    report = examine_teacher(shipped, asked=(0.1, 0.3, 0.9), proposals=60, seed=1)
    assert report.well_formed >= 0.92
    assert report.distinct >= 0.6
    assert report.difficulty[0.1] < report.difficulty[0.3] < report.difficulty[0.9]


def test_the_same_seed_plays_the_same_episodes(shipped: Qwen2ForCausalLM) -> None:
    texts = [task.text for task in held_out_tasks(8, seed=0)]
    first, second = (play(shipped, texts, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second
