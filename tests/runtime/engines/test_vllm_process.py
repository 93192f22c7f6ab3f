"""What vLLM's log says of a start that failed."""

from agentfactory.runtime.engines.vllm.process import MAX_CHARACTERS, cause_in, is_about_memory

WORKER = """\
2026-01-01 10:00:00,000 4711 ERROR EngineCore failed to start.
Traceback (most recent call last):
  File "core.py", line 1, in run
    raise RuntimeError(
RuntimeError: Worker failed with error 'No available memory for the cache blocks.', please check the stack
trace above for the root cause
"""
TORCH = """\
Traceback (most recent call last):
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB.
"""


def test_the_last_error_of_the_log_is_the_cause() -> None:
    assert cause_in(TORCH) == "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB"
    assert cause_in(TORCH + "ValueError: not this model\n") == "not this model"
    assert cause_in(WORKER.replace("\ntrace", " trace")) == "No available memory for the cache blocks"
    assert cause_in("all is well") == ""


def test_a_cause_is_one_line_of_bounded_length() -> None:
    assert cause_in("ValueError: " + "long " * 1000) == ("long " * 1000)[:MAX_CHARACTERS] + "…"


def test_what_less_would_have_helped_with_is_told_from_the_rest() -> None:
    assert is_about_memory("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert is_about_memory("To serve at least one request 4.0 GiB KV cache is needed")
    assert not is_about_memory("Model architectures ['Mamba9'] are not supported for now.")
