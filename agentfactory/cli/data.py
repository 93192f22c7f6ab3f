"""The data plane's part of the command line: `up`, `down`, `status`, `ingest`, `search` and the others."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from .arguments import AddParser

if TYPE_CHECKING:
    from ..configs.data import DataSettings


def add_data_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    up = _add(add_parser, "up", "start the data plane: bridge, store and caches, in the background", _up)
    up.add_argument("--store", choices=("auto", "iowarp", "embedded"), help="where blobs lie for good")
    up.add_argument("--cache", choices=("auto", "memcached", "embedded"), help="what is in front of it")
    _add(add_parser, "down", "stop the data plane; what is stored stays", _down)
    _add(add_parser, "status", "what of the data plane is up, and how it is", _status)

    ingest = _add(
        add_parser, "ingest", "store what URIs name: file::, folder::, hdf5::, mem::, string::", _ingest
    )
    ingest.add_argument("uri", nargs="+", metavar="URI")
    ingest.add_argument("--tag", required=True, help="the tag to store it under")
    ingest.add_argument(
        "--format",
        choices=("arrow", "binary", "text", "csv", "json", "markdown", "parquet"),
        default="arrow",
        help="tables as Arrow (default); the others keep the bytes and say what they are",
    )
    query = _add(add_parser, "query", "what the cache holds", _query)
    query.add_argument("pattern", metavar="PATTERN", help="tags, as in docs* ")
    query.add_argument("blobs", nargs="?", default="*", metavar="NAMES", help="names, as in *.md")

    get = _add(add_parser, "get", "a blob, to a file or to the terminal", _get)
    get.add_argument("tag", metavar="TAG")
    get.add_argument("name", metavar="NAME")
    get.add_argument("-o", "--output", metavar="FILE")
    get.add_argument("--force", action="store_true", help="go past the cache")
    get.add_argument(
        "--original", action="store_true", help="of a table that is stored as Arrow: the file as it was"
    )

    listed = _add(add_parser, "list", "the agents, and what the store holds; with PATTERN, the latter", _list)
    listed.add_argument("pattern", nargs="?", metavar="PATTERN", help="tags, as in docs*")
    listed.add_argument("blobs", nargs="?", default="*", metavar="NAMES", help="names, as in *.md")
    listed.add_argument("--all", action="store_true", help="tags that begin with a dot, too: search indexes")

    search = _add(add_parser, "search", "the passages of stored texts that speak of a question", _search)
    search.add_argument("tag", metavar="TAG")
    search.add_argument("question", metavar="QUESTION")
    search.add_argument("-k", type=int, default=5, metavar="N", help="passages, at most (5)")

    prune = _add(add_parser, "prune", "let the cache forget blobs; the store keeps them", _prune)
    prune.add_argument("tag", metavar="TAG")
    prune.add_argument("names", nargs="*", metavar="NAME")

    destroy = _add(add_parser, "destroy", "remove tags with all their blobs, for good", _destroy)
    destroy.add_argument("tags", nargs="+", metavar="TAG")
    destroy.add_argument("--yes", action="store_true", help="do not ask")


def _add(
    add_parser: AddParser,
    name: str,
    about: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = add_parser(name, help=about)
    parser.add_argument("--preset", default="laptop", help="a preset or a .yaml file, for its `data` section")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")
    parser.set_defaults(command=run)
    return parser


def _data(options: argparse.Namespace) -> "DataSettings":
    from ..configs.load import load_settings

    return load_settings(options.preset).data


def _up(options: argparse.Namespace) -> int:
    from .data_commands import start

    data = _data(options)
    store, cache = options.store or data.store.kind, options.cache or data.cache.kind
    chosen = data.model_copy(
        update={
            "store": data.store.model_copy(update={"kind": store}),
            "cache": data.cache.model_copy(update={"kind": cache}),
        }
    )
    return start(chosen, as_json=options.json)


def _down(options: argparse.Namespace) -> int:
    from .data_commands import stop

    return stop(_data(options))


def _status(options: argparse.Namespace) -> int:
    from .data_commands import status

    return status(_data(options), as_json=options.json)


def _ingest(options: argparse.Namespace) -> int:
    from .data_commands import ingest

    return ingest(_data(options), options.uri, tag=options.tag, form=options.format, as_json=options.json)


def _query(options: argparse.Namespace) -> int:
    from .data_commands import query

    return query(_data(options), options.pattern, options.blobs, as_json=options.json)


def _get(options: argparse.Namespace) -> int:
    from .data_commands import get

    return get(
        _data(options),
        options.tag,
        options.name,
        output=options.output,
        force=options.force,
        original=options.original,
        as_json=options.json,
    )


def _list(options: argparse.Namespace) -> int:
    from .data_commands import list_blobs

    if options.pattern is None and not options.all and not options.json:
        return _list_everything(options)
    pattern = options.pattern or "*"
    return list_blobs(_data(options), pattern, options.blobs, hidden=options.all, as_json=options.json)


def _list_everything(options: argparse.Namespace) -> int:
    from ..cluster.data_plane.services import running_plan
    from ..data import data_folder
    from .blueprints import open_registry, show_all
    from .data_commands import list_blobs

    told = show_all(open_registry(options.preset), as_json=False)
    data = _data(options)
    if running_plan(data_folder(data)) is None:
        print(
            "\nno data plane is up: `agentfactory up` starts it, and this then lists what the store holds too"
        )
        return told
    print("\nthe store:")
    return list_blobs(data, "*", "*", hidden=False, as_json=False) or told


def _search(options: argparse.Namespace) -> int:
    from .data_commands import search

    return search(_data(options), options.tag, options.question, k=options.k, as_json=options.json)


def _prune(options: argparse.Namespace) -> int:
    from .data_commands import prune

    return prune(_data(options), options.tag, options.names, as_json=options.json)


def _destroy(options: argparse.Namespace) -> int:
    from .data_commands import destroy

    return destroy(_data(options), options.tags, sure=options.yes, as_json=options.json)
