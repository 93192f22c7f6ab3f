"""The seed model: a tiny Qwen2 that already speaks the ReAct format, made by `python -m training.seed`.

`tokenizer` spells, `corpus` writes the episodes, `pretrain` learns them, `sampling` lets the model
play, `evaluation` measures it, `card` writes down what was measured.
"""
