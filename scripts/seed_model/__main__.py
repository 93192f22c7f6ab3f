"""`python -m scripts.seed_model --out DIR`: make the seed model, measure it, and write its card."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from scripts.seed_model.card import TrainingRecord, write_card
from scripts.seed_model.evaluation import EVALUATIONS, evaluate_student, evaluate_teacher
from scripts.seed_model.pretrain import PretrainConfig, Progress, pretrain
from scripts.seed_model.tokenizer import save_tokenizer


def main() -> None:
    """Parse the command line and make the model."""
    lessons = PretrainConfig().lessons
    parser = argparse.ArgumentParser(prog="python -m scripts.seed_model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument(
        "--steps", type=int, nargs=len(lessons), default=[lesson.steps for lesson in lessons],
        help="optimizer steps of each lesson",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of text and weights")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--first", type=Path, metavar="DIR", help="weights of the first lesson, made earlier: go on from them"
    )
    given = parser.parse_args()
    config = PretrainConfig(
        lessons=tuple(
            lesson.model_copy(update={"steps": steps})
            for lesson, steps in zip(lessons, given.steps, strict=True)
        ),
        seed=given.seed,
        threads=given.threads,
    )
    make_seed_model(config, given.out, Console(), given.first)


def make_seed_model(
    config: PretrainConfig, folder: Path, console: Console, first: Path | None = None
) -> None:
    """Pretrain, save in the folder format of Hugging Face, measure, and write the card.

    `first` holds weights that the first lesson made earlier.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    lessons = config.lessons[0 if first is None else 1 :]
    taught = 0
    with Bar(
        TextColumn("pretraining"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        shown = bar.add_task("steps", total=sum(lesson.steps for lesson in lessons), loss=0.0)

        def report(progress: Progress) -> None:
            nonlocal taught
            taught += progress.taught_tokens
            bar.update(shown, advance=1, loss=progress.loss)

        model = pretrain(config, report, first)
    seconds = time.monotonic() - started
    model.save_pretrained(folder)
    save_tokenizer(folder)
    with console.status("playing held-out tasks"):
        students = {domain: evaluate_student(model, domain) for domain in EVALUATIONS}
        teachers = {domain: evaluate_teacher(model, domain) for domain in EVALUATIONS}
    write_card(folder, TrainingRecord(config, taught, seconds, first is not None), students, teachers)
    for domain in EVALUATIONS:
        console.print(domain, students[domain], teachers[domain])
    console.print(f"The model is in {folder}")


if __name__ == "__main__":
    main()
