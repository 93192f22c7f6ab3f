import json
import random
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from agentfactory.configs.data import LIBRARY
from agentfactory.training.tasks import truth_tables as columns
from agentfactory.training.tasks.arithmetic import evaluate, held_out_tasks, is_held_out
from scripts.seed_model import logic_corpus
from scripts.seed_model.__main__ import make_seed_model
from scripts.seed_model.corpus import CurriculumStage, Segment, examples, tokenize
from scripts.seed_model.evaluation import EVALUATIONS, evaluate_student, evaluate_teacher
from scripts.seed_model.math_corpus import episode, exercise
from scripts.seed_model.mixture import WRITERS
from scripts.seed_model.pretrain import (
    IGNORED,
    PretrainConfig,
    TrainingPhase,
    accumulate_gradients,
    build_model,
    collate,
    pretrain,
    rate_scale,
    stage,
)
from scripts.seed_model.sampling import complete, rollout
from scripts.seed_model.simulated_tools import SimulatedStore, calculate
from scripts.seed_model.tokenizer import (
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
TINY = PretrainConfig(
    lessons=(
        TrainingPhase(steps=2, episodes_per_step=4, episodes_per_pass=2),
        TrainingPhase(corpus="mixed", steps=1, episodes_per_step=4, episodes_per_pass=2),
    )
)


def draw(count: int) -> list[list[Segment]]:
    rng = random.Random(11)
    return [exercise(rng, 24) if rng.random() < 0.3 else episode(rng) for _ in range(count)]


def parses(candidate: str) -> bool:
    """Whether it is an expression and more than a negative number."""
    try:
        evaluate(candidate)
    except ValueError:
        return False
    return not candidate.lstrip("-").isdigit()


def read(pieces: list[Segment]) -> str:
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
    middle = CurriculumStage(drill_share=0.5, longest_string=20)
    first, second = (examples(random.Random(5), middle, 50, WRITERS["math"]) for _ in range(2))
    assert first == second


def logic_episodes(count: int) -> list[list[Segment]]:
    rng = random.Random(11)
    return [logic_corpus.episode(rng) for _ in range(count)]


def test_a_held_out_formula_never_appears_in_the_corpus() -> None:
    for pieces in logic_episodes(3000):
        asked = pieces[1] if pieces[0].text.startswith("Propose ") else pieces[0]
        formula = columns.find_formula(asked.text.removeprefix("Task: "))
        assert formula is not None, asked.text
        assert not columns.is_held_out(formula)


def test_the_code_of_a_logic_episode_prints_what_is_then_observed() -> None:
    calls = [pieces for pieces in logic_episodes(2000) if len(pieces) == 5]
    assert calls
    for pieces in calls:
        code = pieces[2].text.partition("Input: ")[2]
        printed = calculate("python", code)
        assert pieces[3].text == f"Observation: {printed}\n"
        assert str(eval(code, {"print": lambda x: x})) == printed  # noqa: S307


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
    example = tokenize([Segment("Task: 1+1\n", False), Segment("Answer: 2", True, ends_turn=True)])
    assert example.ids == [*encode("Task: 1+1\nAnswer: 2"), EOS_ID, *encode("\n")]
    assert example.taught == [False] * 10 + [True] * 10 + [False]


# --- pretraining


def test_a_target_is_the_next_taught_token() -> None:
    short = tokenize([Segment("ab", False), Segment("c", True, ends_turn=True)])
    long = tokenize([Segment("abcd", False), Segment("e", True, ends_turn=True)])
    ids, targets = collate([short, long])
    assert ids.shape == targets.shape == (2, 7)
    c, e = encode("ce")
    assert targets[0].tolist() == [IGNORED, c, EOS_ID] + [IGNORED] * 4
    assert targets[1].tolist() == [IGNORED] * 3 + [e, EOS_ID] + [IGNORED] * 2


def test_the_size_of_a_pass_does_not_change_the_gradient() -> None:
    batch = examples(random.Random(0), CurriculumStage(0.3, 12), 6, WRITERS["mixed"])
    model = build_model()
    gradients = []
    for size in (2, 6):
        model.zero_grad()
        accumulate_gradients(model, batch, size)
        gradients.append(model.model.embed_tokens.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_the_curriculum_goes_from_short_drills_to_mixed_episodes() -> None:
    lesson = TrainingPhase(drill_steps=100, drill_shares=(1.0, 0.2), longest_strings=(8, 24))
    stages = [stage(step, lesson) for step in (0, 50, 500)]
    assert [now.drill_share for now in stages] == pytest.approx([1.0, 0.6, 0.2])
    assert [now.longest_string for now in stages] == [8, 16, 24]


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    lesson = TrainingPhase(steps=100, warmup_steps=10)
    scales = [rate_scale(step, lesson) for step in (1, 10, 55, 100)]
    assert scales == pytest.approx([0.1, 1.0, 0.5, 0.0])


def test_the_same_settings_give_the_same_weights() -> None:
    first, second = (pretrain(TINY, report=lambda _: None).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exams of a few tasks."""
    monkeypatch.setattr(
        "scripts.seed_model.__main__.evaluate_student",
        lambda m, d: evaluate_student(m, d, tasks=3, samples=1),
    )
    monkeypatch.setattr(
        "scripts.seed_model.__main__.evaluate_teacher",
        lambda m, d: evaluate_teacher(m, d, asked=(0.3,), proposals=2),
    )


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_command_writes_a_whole_model_folder_with_its_card(tmp_path: Path) -> None:
    make_seed_model(TINY, tmp_path, Console(quiet=True))
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    card = (tmp_path / "README.md").read_text()
    assert "--steps 2 1 --seed 0" in card
    assert all(f"| {domain} |" in card for domain in EVALUATIONS)
    assert "not repeated" not in card


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lessons_in_two_goes_give_the_weights_of_one_go(tmp_path: Path) -> None:
    pretrain(TINY.model_copy(update={"lessons": TINY.lessons[:1]}), lambda _: None).save_pretrained(
        tmp_path / "first"
    )
    make_seed_model(TINY, tmp_path / "two", Console(quiet=True), first=tmp_path / "first")
    made = Qwen2ForCausalLM.from_pretrained(tmp_path / "two").state_dict()
    whole = pretrain(TINY, lambda _: None).state_dict()
    assert all(torch.equal(made[name], whole[name]) for name in whole)
    assert "not repeated" in (tmp_path / "two" / "README.md").read_text()


# --- playing


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("print(12+34*5)", "182"),
        ("print((1+2)*3)", "9"),
        ("print((12&10)|5)", "13"),
        ("print(15^12)", "3"),
        ("print(12&)", "Error: SyntaxError"),
        ("print(12&3+1)", "Error: SyntaxError"),
        ("12+34", "Error: SyntaxError"),
        ("print(12+)", "Error: SyntaxError"),
        ("print(__import__('os'))", "Error: SyntaxError"),
    ],
)
def test_the_calculator_prints_sums_and_formulas_and_nothing_else(code: str, printed: str) -> None:
    assert calculate("python", code) == printed


def test_a_shelf_gives_back_what_was_loaded_from_the_library_and_nothing_else() -> None:
    shelf = SimulatedStore(LIBRARY)
    assert shelf("retrieve", "docs/todo.txt").startswith("Error")
    assert shelf("assimilate", "folder::samples as docs").startswith("stored 4 blobs (")
    assert shelf("assimilate", "file::travel/visa.txt as kb").startswith("stored 1 blob (")
    assert shelf("retrieve", "docs/todo.txt") == "Fix the lamp."
    assert shelf("retrieve", "kb/visa.txt") == "Till 2031."
    assert shelf("retrieve", "docs/visa.txt").startswith("Error")
    assert shelf("assimilate", "folder::nowhere as docs").startswith("Error")
    assert shelf("python", "print(1)").startswith("Error")


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


def test_the_shipped_model_has_our_shape_and_our_tokenizer(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((SHIPPED / name).read_text()) == json.loads((tmp_path / name).read_text())
    ends = json.loads((SHIPPED / "generation_config.json").read_text())
    assert (ends["eos_token_id"], ends["pad_token_id"]) == (EOS_ID, PAD_ID)


@pytest.mark.parametrize("domain", EVALUATIONS)
def test_the_shipped_model_is_weak_and_solves_what_it_gives_to_a_tool(
    shipped: Qwen2ForCausalLM, domain: str
) -> None:
    report = evaluate_student(shipped, domain, tasks=120, samples=1, seed=1)
    assert report.well_formed >= 0.9
    assert 0.1 <= report.tool_share <= 0.5
    assert report.tool_accuracy >= 0.6
    assert 0.12 <= report.pass_at_1 <= 0.5


@pytest.mark.parametrize(("domain", "well_formed"), [("math", 0.5), ("logic", 0.5), ("data", 0.15)])
def test_the_shipped_model_proposes_tasks_of_the_difficulty_asked_for(
    shipped: Qwen2ForCausalLM, domain: str, well_formed: float
) -> None:
    report = evaluate_teacher(shipped, domain, asked=(0.1, 0.3, 0.7), proposals=50, seed=1)
    assert report.well_formed >= well_formed
    assert report.distinct >= 0.6 * well_formed
    assert report.difficulty[0.1] < report.difficulty[0.7]


def test_the_same_seed_plays_the_same_episodes(shipped: Qwen2ForCausalLM) -> None:
    texts = [task.text for task in held_out_tasks(8, seed=0)]
    first, second = (
        rollout(shipped, texts, torch.Generator().manual_seed(3), lambda: calculate) for _ in range(2)
    )
    assert first == second
