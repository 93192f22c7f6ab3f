"""`python -m training.seed --out DIR`: make the seed model, measure it, and write its card."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from training.seed.card import write_card, write_errands_card
from training.seed.evaluation import examine_student, examine_teacher
from training.seed.pretrain import ERRANDS, PretrainConfig, Progress, pretrain
from training.seed.tokenizer import save_tokenizer

MODELS = {"arithmetic": PretrainConfig(), "errands": ERRANDS}


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(prog="python -m training.seed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--corpus", choices=sorted(MODELS), default="arithmetic", help="what it learns")
    parser.add_argument("--steps", type=int, help="optimizer steps")
    parser.add_argument("--seed", type=int, help="seed of text and weights")
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = vars(parser.parse_args())
    folder, config = arguments.pop("out"), MODELS[arguments.pop("corpus")]
    given = {name: value for name, value in arguments.items() if value is not None}
    make_seed_model(PretrainConfig(**{**config.model_dump(), **given}), folder, Console())


def make_seed_model(config: PretrainConfig, folder: Path, console: Console) -> None:
    """Pretrain, save in the folder format of Hugging Face, measure, and write the card."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    last = Progress(step=0, loss=0.0, taught_tokens=0)
    with Bar(
        TextColumn("pretraining"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        shown = bar.add_task("steps", total=config.steps, loss=0.0)

        def report(progress: Progress) -> None:
            nonlocal last
            last = progress
            bar.update(shown, completed=progress.step, loss=progress.loss)

        model = pretrain(config, report)
    seconds = time.monotonic() - started
    model.save_pretrained(folder)
    save_tokenizer(folder)
    if config.corpus == "errands":
        write_errands_card(folder, config, last, seconds)
        console.print(f"The model is in {folder}")
        return
    with console.status("playing held-out tasks"):
        student, teacher = examine_student(model), examine_teacher(model)
    write_card(folder, config, last, seconds, student, teacher)
    console.print(student, teacher)
    console.print(f"The model is in {folder}")


if __name__ == "__main__":
    main()
