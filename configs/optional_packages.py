"""Packages that transformers would load although nothing here uses them."""

from typing import Final

_UNUSED: Final = ("sklearn", "scipy", "pandas")
"""For assisted decoding and for the losses of image models."""


def hide_unused_packages() -> None:
    """Let transformers take them for not installed. Call it before its models are imported.

    They cost each process that loads a model 1.8 s of processor time and 140 MB (transformers 5.19). Whoever
    imports them by themselves still gets them. Without effect on a version that asks in another way.
    """
    import transformers.utils
    from transformers.utils import import_utils

    for package in _UNUSED:
        for module in (import_utils, transformers.utils):
            name = f"is_{package}_available"
            if hasattr(module, name):
                setattr(module, name, _absent)


def _absent() -> bool:
    return False
