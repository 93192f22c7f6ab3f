"""What a person asks a Student: a text, made into a task of one of the domains."""

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from .actors.domains import domain_named
from .configs.errors import BadInput
from .configs.settings import Settings
from .messages.tasks import Task


def task_of(text: str, settings: Settings) -> Task:
    """The task that a text asks for, in the domain that knows it. Raises BadInput for an empty one."""
    with suppress(UnicodeEncodeError):
        text = os.fsencode(text).decode("utf-8", "replace")  # an argument not in the terminal's encoding
    text = text.encode("utf-8", "replace").decode()  # half a character, which no tokenizer takes
    if not text.strip():
        raise BadInput("the task is empty; expected something to solve, such as 'What is 12*(7+5)?'")
    return Task(
        id=uuid.uuid4().hex[:12],
        domain=_domain_of(text.strip(), settings),
        description=text.strip(),
        difficulty=0.5,
        reference_kind="none",
        created_at=time.time(),
    )


def _domain_of(text: str, settings: Settings) -> str:
    """The first of the run's domains that can tell what the answer is; else the first of all."""
    domains = tuple(dict.fromkeys(settings.curriculum.domains))
    if len(domains) > 1:
        library = Path(settings.data.locate_library())
        for name in domains:
            checked = domain_named(name).teacher(library).check(f"Task: {text}", difficulty=0.5)
            if checked is not None and checked.reference is not None:
                return name
    return domains[0]
