"""Chat formats: the project's own plain one, and ChatML as Qwen writes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from agentfactory.runtime.engines.chat.format import ChatFormat, ChatFormatError, ChatMessage
from scripts.seed_model.tokenizer import EOS_ID, encode, save_tokenizer

CHATML = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{ '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture
def seed(tmp_path: Path) -> ChatFormat:
    save_tokenizer(tmp_path)
    return ChatFormat.load(tmp_path)


def write_chatml(folder: Path, template: str = CHATML, **settings: object) -> Tokenizer:
    alphabet = ["Ċ", "Ġ", *map(chr, range(33, 127))]  # byte-level spellings of newline and blank
    tokenizer = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"chat_template": template, "eos_token": {"content": "<|im_end|>"}, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return tokenizer


@pytest.fixture
def chatml(tmp_path: Path) -> ChatFormat:
    write_chatml(tmp_path)
    return ChatFormat.load(tmp_path)


def spelled(chat: ChatFormat, folder: Path, ids: tuple[int, ...]) -> str:
    return str(Tokenizer.from_file(str(folder / "tokenizer.json")).decode(ids, skip_special_tokens=False))


def test_the_seed_format_is_plain_and_drops_system_messages(seed: ChatFormat) -> None:
    opening = seed.opening([ChatMessage("system", "Be brief."), ChatMessage("user", "Task: 1+1")])
    assert opening == tuple(encode("Task: 1+1\n"))
    assert seed.eos_ids == {EOS_ID}


def test_after_the_seed_models_eos_comes_a_newline_and_the_observation(seed: ChatFormat) -> None:
    assert seed.observation("Observation: 2") == tuple(encode("\nObservation: 2\n"))
    assert seed.observation("Observation: 2", cut_off=True) == (EOS_ID, *encode("\nObservation: 2\n"))


def test_special_tokens_are_not_decoded(seed: ChatFormat) -> None:
    assert seed.decode([*encode("Answer: 2"), EOS_ID]) == "Answer: 2"


def test_chatml_opens_with_the_generation_prompt(chatml: ChatFormat, tmp_path: Path) -> None:
    opening = chatml.opening([ChatMessage("system", "Be brief."), ChatMessage("user", "1+1?")])
    assert spelled(chatml, tmp_path, opening) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_chatml_observation_is_what_the_template_puts_between_two_completions(
    chatml: ChatFormat, tmp_path: Path
) -> None:
    between = "\n<|im_start|>user\nObservation: 2<|im_end|>\n<|im_start|>assistant\n"
    assert spelled(chatml, tmp_path, chatml.observation("Observation: 2")) == between
    cut_off = chatml.observation("Observation: 2", cut_off=True)
    assert spelled(chatml, tmp_path, cut_off) == "<|im_end|>" + between


def test_turn_by_turn_gives_the_tokens_of_the_whole_conversation(chatml: ChatFormat) -> None:
    messages = [ChatMessage("system", "s"), ChatMessage("user", "1+1?")]
    reply = (*chatml.encode("Action: python"), *chatml.encode("<|im_end|>"))
    by_turns = chatml.opening(messages) + reply + chatml.observation("2")
    whole = [*messages, ChatMessage("assistant", "Action: python"), ChatMessage("user", "2")]
    assert by_turns == chatml.opening(whole)


def test_all_ends_of_sequence_are_known(chatml: ChatFormat) -> None:
    assert {chatml.decode([eos]) for eos in chatml.eos_ids} == {""}
    assert len(chatml.eos_ids) == 2


def test_a_template_that_refuses_system_messages_gets_them_in_the_users(tmp_path: Path) -> None:
    refusing = "{%- if messages[0]['role'] == 'system' -%}{{ raise_exception('no system') }}{%- endif -%}"
    write_chatml(tmp_path, refusing + CHATML)
    chat = ChatFormat.load(tmp_path)
    opening = chat.opening([ChatMessage("system", "Be brief."), ChatMessage("user", "1+1?")])
    assert "user\nBe brief.\n\n1+1?<|im_end|>" in spelled(chat, tmp_path, opening)


def test_a_template_in_its_own_file_wins(tmp_path: Path) -> None:
    write_chatml(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0]['content'] }}>")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "<|im_start|>"}))
    chat = ChatFormat.load(tmp_path)
    assert spelled(chat, tmp_path, chat.opening([ChatMessage("user", "hi")])) == "<|im_start|>hi>"


@pytest.mark.parametrize(
    ("template", "reason"),
    [("{% if %}", "does not compile"), ("{{ raise_exception('never') }}", "never")],
)
def test_a_template_that_cannot_be_used_says_so(tmp_path: Path, template: str, reason: str) -> None:
    write_chatml(tmp_path, template)
    with pytest.raises(ChatFormatError, match=reason):
        ChatFormat.load(tmp_path).opening([ChatMessage("user", "hi")])


def test_a_folder_without_a_template_is_refused(tmp_path: Path) -> None:
    write_chatml(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ChatFormatError, match="chat template"):
        ChatFormat.load(tmp_path)


def test_a_template_cannot_reach_outside_its_sandbox(tmp_path: Path) -> None:
    write_chatml(tmp_path, "{{ messages.__class__.__mro__ }}")
    with pytest.raises(ChatFormatError):
        ChatFormat.load(tmp_path).opening([ChatMessage("user", "hi")])


def test_without_tokenizer_json_transformers_reads_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ChatFormatError, match="no tokenizer"):
        ChatFormat.load(tmp_path)


def test_the_light_modules_import_no_torch(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    code = (
        "import sys; import agentfactory.runtime.engines.base, agentfactory.runtime.engines.simulated; "
        "import agentfactory.runtime.engines.chat.format as c; "
        f"c.ChatFormat.load({str(tmp_path)!r}); "
        "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def limited(folder: Path) -> None:
    """Say in the tokenizer's file what published models say there: cut to 8 tokens, fill up to 64."""
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    stored["truncation"] = {
        "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    stored["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize("words", [1, 500])
def test_a_tokenizer_neither_cuts_nor_fills_up_a_text(seed: ChatFormat, tmp_path: Path, words: int) -> None:
    text = "word " * words
    limited(tmp_path)
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(plain.encode(text, add_special_tokens=False).ids) in (8, 64)
    assert ChatFormat.load(tmp_path).encode(text) == tuple(encode(text))


def test_half_a_character_is_refused_in_a_sentence(seed: ChatFormat) -> None:
    with pytest.raises(ChatFormatError, match="half of a surrogate pair"):
        seed.encode("a\ud83d b")


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model": 1}'])
def test_a_tokenizer_file_that_is_none_is_named(seed: ChatFormat, tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ChatFormatError, match=r"tokenizer\.json: not a tokenizer"):
        ChatFormat.load(tmp_path)


@pytest.mark.parametrize("stored", [[1], [{"name": "rag", "template": "x"}], {"rag": "x"}, 7, [{"name": 1}]])
def test_a_chat_template_in_no_known_form_is_refused(tmp_path: Path, stored: object) -> None:
    write_chatml(tmp_path, chat_template=stored)
    with pytest.raises(ChatFormatError, match=r"chat.template"):
        ChatFormat.load(tmp_path)
