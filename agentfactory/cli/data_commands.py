"""Work of the data plane's commands; their arguments are in `cli.data`."""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..bridge.errors import BridgeError
from ..bridge.ingest.progress import IngestProgress as Tally
from ..cluster.data_plane.capacity import measure_costs
from ..cluster.data_plane.process_supervisor import ServicePlan, ServiceState, read_state
from ..cluster.data_plane.services import bring_up, down, ping, running_plan
from ..configs.data import DataSettings
from ..configs.errors import BadInput
from ..configs.files import write_atomically
from ..configs.printable import printable
from ..data import DataPlane, data_folder
from ..messages.data import BlobInfo, Format, IngestReport
from ..messages.search import SearchResult
from ..runtime.telemetry import LogSettings, configure_logging

T = TypeVar("T")
IOWARP_COSTS = "its runtime polls: about a third of a core even while nothing is asked"


def start(data: DataSettings, *, as_json: bool) -> int:
    """`up`."""
    console = Console(stderr=as_json)
    folder = data_folder(data)

    async def run() -> ServicePlan:
        with console.status("starting ...") as spinner:
            return await bring_up(data, folder, watch=lambda text: spinner.update(f"{text} ..."))

    plan = _run(run)
    if as_json:
        print(json.dumps(_status(plan, _run(_ping, plan))))
        return 0
    console.print(f"up: [bold]{plan.state.endpoint}[/]")
    console.print(f"  store  {_store(plan)}, in {plan.data.store.folder}")
    console.print(f"  cache  {_cache(plan)}")
    console.print(f"  logs   {folder / 'logs'}")
    _show_notes(console, plan)
    return 0


def stop(data: DataSettings) -> int:
    """`down`."""
    folder = data_folder(data)
    was_up = _run(down, folder)
    print("down" if was_up else f"nothing was up in {folder}")
    return 0


def status(data: DataSettings, *, as_json: bool) -> int:
    """`status`: 0 if all of it is well, 1 if not."""
    folder = data_folder(data)
    plan = running_plan(folder)
    if plan is None:
        print(
            json.dumps({"up": False})
            if as_json
            else f"nothing is up in {folder}; `agentfactory up` starts it"
        )
        return 1
    answers_ms = _run(_ping, plan)
    if as_json:
        print(json.dumps(_status(plan, answers_ms)))
    else:
        _show_status(plan, answers_ms)
    well = all(service.state == "running" for service in _services(plan))
    return 0 if well and answers_ms is not None else 1


def ingest(data: DataSettings, sources: Sequence[str], *, tag: str, form: Format, as_json: bool) -> int:
    """`ingest`: 0 if all went in."""
    console = Console(stderr=as_json)

    async def run() -> IngestReport:
        async with DataPlane.open(_up(data)) as plane:
            with _bar(console) as bar:
                files = bar.add_task(f"[bold]{escape(printable(tag))}", total=None, files="")

                def watch(tally: Tally) -> None:
                    bar.update(
                        files,
                        completed=tally.bytes,
                        total=tally.bytes_total,
                        files=f"{tally.blobs:,}/{tally.blobs_total:,}",
                    )

                return await plane.ingest(tuple(sources), tag=tag, format=form, watch=watch)

    report = _run(run)
    if as_json:
        print(report.model_dump_json())
    else:
        stored, same = len(report.stored), len(report.unchanged)
        console.print(
            f"{escape(printable(tag))}: {stored:,} stored, {same:,} unchanged, {len(report.failed):,} failed"
        )
        for failed in report.failed[:20]:
            reason = escape(printable(failed.reason))
            console.print(f"  [red]{escape(printable(failed.name))}[/]: {reason}", highlight=False)
        if report.failed:
            console.print("do it again once that is mended: what went in is not sent again")
    return 0 if report.complete else 1


def query(data: DataSettings, tag_pattern: str, blob_pattern: str, *, as_json: bool) -> int:
    """`query`: what the cache holds."""

    async def run() -> list[dict[str, object]]:
        async with DataPlane.open(_up(data)) as plane:
            return [blob.model_dump() for blob in await plane.query(tag_pattern, blob_pattern)]

    matches = _run(run)
    if as_json:
        print(json.dumps({"matches": matches}))
    else:
        for match in matches:
            print(
                f"{match['size']:>12,}  {printable(str(match['tag']))}  {printable(str(match['blob_name']))}"
            )
        if not matches:
            asked = printable(tag_pattern)
            print(f"the cache holds nothing that matches; `agentfactory list {asked}` asks the store")
    return 0


def get(
    data: DataSettings,
    tag: str,
    name: str,
    *,
    output: str | None,
    force: bool,
    original: bool,
    as_json: bool,
) -> int:
    """`get`: a blob to a file, or to stdout."""

    async def run() -> int:
        async with DataPlane.open(_up(data)) as plane:
            if output is None or as_json:
                content = await plane.get(tag, name, force=force, original=original)
                if output is None:
                    sys.stdout.buffer.write(content)
                else:
                    write_atomically(Path(output), content)
                return len(content)
            return await _save(plane, tag, name, Path(output), original=original)

    size = _run(run)
    if output is not None:
        answer = {"tag": tag, "name": name, "size": size, "file": output}
        print(json.dumps(answer) if as_json else f"{output}: {size:,} bytes")
    return 0


def list_blobs(
    data: DataSettings, tag_pattern: str, blob_pattern: str, *, hidden: bool, as_json: bool
) -> int:
    """`list`: what the store holds."""

    async def run() -> int:
        count = 0
        async with DataPlane.open(_up(data)) as plane:
            async for blob in plane.list(tag_pattern, blob_pattern, hidden=hidden):
                count += 1
                print(blob.model_dump_json() if as_json else _line(blob))
        return count

    if _run(run) == 0 and not as_json:
        print("the store holds nothing that matches")
    return 0


def search(data: DataSettings, tag: str, question: str, *, k: int, as_json: bool) -> int:
    """`search`: 0 if a passage was found, 1 if none."""
    console = Console(stderr=True)

    async def run() -> SearchResult:
        async with DataPlane.open(_up(data)) as plane:
            with console.status(f"searching {escape(printable(tag))} ..."):
                return SearchResult(tag=tag, passages=await plane.search(tag, question, k))

    found = _run(run)
    if as_json:
        print(found.model_dump_json())
        return 0 if found.passages else 1
    for number, passage in enumerate(found.passages, start=1):
        heading = f"  {passage.heading}" if passage.heading else ""
        print(f"[{number}] {printable(f'{passage}{heading}')}\n{printable(passage.text, lines=True)}\n")
    if not found.passages:
        print(f"no text under {printable(tag)} speaks of it")
    return 0 if found.passages else 1


def prune(data: DataSettings, tag: str, names: Sequence[str], *, as_json: bool) -> int:
    """`prune`: the cache forgets, the store keeps."""

    async def run() -> tuple[str, ...]:
        async with DataPlane.open(_up(data)) as plane:
            return await plane.prune(tag, names)

    pruned = _run(run)
    if as_json:
        print(json.dumps({"tag": tag, "pruned": pruned}))
    else:
        print(f"the cache forgot {len(pruned):,} of {printable(tag)}; the store keeps them")
    return 0


def destroy(data: DataSettings, tags: Sequence[str], *, sure: bool, as_json: bool) -> int:
    """`destroy`: gone for good, after a plain question."""

    async def run() -> int:
        async with DataPlane.open(_up(data)) as plane:
            if not sure:
                await _ask_first(plane, tags)
            return await plane.destroy(*tags)

    blobs = _run(run)
    answer = {"tags": list(tags), "destroyed": blobs}
    print(
        json.dumps(answer) if as_json else f"destroyed {blobs:,} blobs of {', '.join(map(printable, tags))}"
    )
    return 0


def _run(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run it, with errors alone in the log: the terminal is for people."""
    configure_logging(LogSettings(level="error", format="console"))
    return anyio.run(work, *arguments)


async def _ask_first(plane: DataPlane, tags: Sequence[str]) -> None:
    if not sys.stdin.isatty():
        raise BadInput("destroy removes data for good: say --yes where nobody can be asked")
    listed = {tag: [blob async for blob in plane.list(tag)] for tag in tags}
    for tag, blobs in listed.items():
        print(f"{printable(tag)}: {len(blobs):,} blobs, {sum(blob.size for blob in blobs):,} bytes")
    answer = await anyio.to_thread.run_sync(input, "Destroy them for good? Type `yes`: ")
    if answer.strip() != "yes":
        raise BadInput("nothing was destroyed")


async def _save(plane: DataPlane, tag: str, name: str, path: Path, *, original: bool) -> int:
    """Stream a blob into a file; the file is whole or not there."""
    part = path.with_name(f".{path.name}.part")
    size = 0
    try:
        async with (
            plane.stream(tag, name, original=original) as pieces,
            await anyio.open_file(part, "wb") as file,
        ):
            async for piece in pieces:
                size += await file.write(bytes(piece))
        await anyio.Path(part).replace(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        await anyio.Path(part).unlink(missing_ok=True)
    return size


def _up(data: DataSettings) -> DataSettings:
    """The settings, if the data plane is up. Raises BadInput."""
    folder = data_folder(data)
    if running_plan(folder) is None:
        raise BadInput(f"no data plane is up in {folder}; start it with `agentfactory up`")
    return data


async def _ping(plan: ServicePlan) -> float | None:
    try:
        return await ping(plan)
    except BridgeError:
        return None


def _services(plan: ServicePlan) -> Iterable[ServiceState]:
    state = read_state(Path(plan.data.folder))
    return state.services if state is not None else ()


def _status(plan: ServicePlan, answers_ms: float | None) -> dict[str, object]:
    return {
        "up": True,
        "endpoint": plan.state.endpoint,
        "store": plan.data.store.kind,
        "max_gb": plan.data.store.max_gb,
        "cache": plan.data.cache.kind,
        "memory_mb": plan.data.cache.memory_mb,
        "notes": list(plan.state.notes),
        "answers_ms": answers_ms,
        "services": [_service(service) for service in _services(plan)],
    }


def _service(service: ServiceState) -> dict[str, object]:
    costs = measure_costs(service.pid) if service.pid else None
    return {**service.model_dump(), "costs": costs._asdict() if costs else None}


def _show_status(plan: ServicePlan, answers_ms: float | None) -> None:
    console = Console()
    columns = ("service", "state", "pid", "up for", "restarts", "takes", "what it is")
    table = Table(*columns, box=None, pad_edge=False)
    for service in _services(plan):
        colour = "green" if service.state == "running" else "red"
        up_for = f"{time.time() - service.since:,.0f} s" if service.pid else ""
        died = f"  (last: {service.last_exit})" if service.last_exit else ""
        restarts = f"{service.restarts}{died}"
        state, pid = f"[{colour}]{service.state}[/]", str(service.pid or "")
        costs = measure_costs(service.pid) if service.pid else None
        takes = f"{costs.memory_mb:,} MB, {costs.processor:.0%}" if costs else ""
        table.add_row(service.name, state, pid, up_for, restarts, takes, service.about)
    console.print(table)
    bridge = f"answers in {answers_ms:.1f} ms" if answers_ms is not None else "[red]does not answer[/]"
    console.print(f"bridge {bridge}; store {_store(plan)}; cache {_cache(plan)}")
    _show_notes(console, plan)


def _store(plan: ServicePlan) -> str:
    costs = f"; {IOWARP_COSTS}" if plan.data.store.kind == "iowarp" else ""
    return f"{plan.state.store}, up to {plan.data.store.max_gb:g} GB{costs}"


def _cache(plan: ServicePlan) -> str:
    return f"{plan.state.cache}, {plan.data.cache.memory_mb} MB"


def _show_notes(console: Console, plan: ServicePlan) -> None:
    for note in plan.state.notes:
        console.print(f"  note: {escape(note)}", highlight=False)


def _line(blob: BlobInfo) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M", time.localtime(blob.stored_at))
    return f"{blob.size:>12,}  {stamp}  {printable(blob.tag)}  {printable(blob.name)}"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]} files"),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
