import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import LoraSettings, TrainerSettings
from agentfactory.training.errors import CannotLoadModel
from agentfactory.training.lora import add_adapters, export_adapter, load_base, seeded
from agentfactory.training.policy_models import PolicyModels

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")  # peft asks for it

SETTINGS = TrainerSettings(lora=LoraSettings(rank=4, alpha=8))


def test_a_new_adapter_follows_from_its_seed_and_policy_alone(model: ModelSettings) -> None:
    alone = PolicyModels(model, SETTINGS, {"teacher": 1.0}, seed=5).export("teacher")
    torch.rand(3)  # what was drawn before does not matter
    both = PolicyModels(model, SETTINGS, {"student": 1.0, "teacher": 1.0}, seed=5)
    assert both.export("teacher") == alone
    assert both.export("student")[1] != alone[1]
    assert PolicyModels(model, SETTINGS, {"teacher": 1.0}, seed=6).export("teacher")[1] != alone[1]


def test_the_files_load_in_plain_peft_and_mean_the_same(model: ModelSettings, tmp_path: Path) -> None:
    policies = PolicyModels(model, SETTINGS, {"student": 1.0, "teacher": 1.0}, seed=0)
    with torch.no_grad():
        for weight in policies.parameters("student"):
            weight.add_(0.1)
    config_json, weights = policies.export("student")
    (tmp_path / "adapter_config.json").write_bytes(config_json)
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model.source), tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    with policies.active_policy("student"), torch.no_grad():
        assert torch.allclose(plain(input_ids=ids).logits, policies._model(input_ids=ids).logits, atol=1e-6)


def test_the_weights_survive_the_file_bit_for_bit(model: ModelSettings) -> None:
    policies = PolicyModels(model, SETTINGS, {"student": 1.0}, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policies.parameters("student"):
            weight.copy_(torch.randn_like(weight))
    weights = policies.export("student")[1]
    policies.restore("student", None)
    assert policies.export("student")[1] != weights
    policies.restore("student", weights)
    assert policies.export("student")[1] == weights


def test_the_config_names_the_base_by_a_word_that_means_the_same_on_every_machine(
    model: ModelSettings,
) -> None:
    base = load_base(model)
    adapted = add_adapters(base, LoraSettings(), ("student",), "seed", 0)
    config = json.loads(export_adapter(adapted, "student")[0])
    assert config["base_model_name_or_path"] == "seed"
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"], config["inference_mode"]) == (16, 32, True)
    assert config["target_modules"] == sorted(LoraSettings().target_modules)
    assert "/" not in json.dumps(config)


def test_only_the_active_adapter_is_trained_and_the_base_never(model: ModelSettings) -> None:
    policies = PolicyModels(model, SETTINGS, {"student": 1.0, "teacher": 1.0}, seed=0)
    for policy in ("student", "teacher"):
        with policies.active_policy(policy):
            learning = {name for name, value in policies._model.named_parameters() if value.requires_grad}
        assert len(learning) == len(policies.parameters(policy)) == 2 * 7 * 2
        assert all(f".{policy}." in name for name in learning)


def test_a_target_module_that_the_model_lacks_is_a_clear_error(model: ModelSettings) -> None:
    settings = LoraSettings(target_modules=("no_such_layer",))
    with pytest.raises(CannotLoadModel, match=r"trainer.lora does not fit.*no_such_layer"):
        add_adapters(load_base(model), settings, ("student",), "seed", 0)


def test_an_adapter_of_another_model_is_refused(model: ModelSettings) -> None:
    policies = PolicyModels(model, SETTINGS, {"student": 1.0}, seed=0)
    alien = safetensors.torch.save({"base_model.model.model.other.lora_A.weight": torch.zeros(2, 2)})
    with pytest.raises(CannotLoadModel, match="trained on another model"):
        policies.restore("student", alien)


def test_a_folder_without_weights_is_a_clear_error(model: ModelSettings, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((Path(model.source) / "config.json").read_bytes())
    with pytest.raises(CannotLoadModel, match=r"model.source .* cannot be loaded"):
        load_base(ModelSettings(source=str(tmp_path), device="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of machines without a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_a_clear_error(model: ModelSettings) -> None:
    with pytest.raises(CannotLoadModel, match="sees no GPU"):
        load_base(model.model_copy(update={"device": "cuda"}))
    with pytest.raises(CannotLoadModel, match="needs a GPU"):
        load_base(model.model_copy(update={"quantize": "nf4"}))


def test_seeding_leaves_no_trace_outside() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded("a"):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded("a"):
        assert torch.equal(torch.rand(2), inside)
