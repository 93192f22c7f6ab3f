"""The seed model: a tiny Qwen2 that already speaks the ReAct format.

`python -m scripts.seed_model --out DIR` makes it from nothing but generated text.

`tokenizer` spells, `corpus` writes the episodes, `pretrain` learns them, `sampling` lets the model
play, `evaluation` measures it, `card` writes down what was measured.
"""
