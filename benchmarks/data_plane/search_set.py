"""A small library and questions about it, each with the words of the passage that answers it.

Half of the questions use the library's own words, half say it in others: what the two halves of a search
are each good at.
"""

from typing import NamedTuple


class Question(NamedTuple):
    """What is asked, and where the answer stands."""

    text: str
    blob: str
    answer: str
    """Words of the text; a passage that holds them answers."""


DOCUMENTS = {
    "project_overview.md": """\
# Project overview

Agents keep what they learn in two tiers. The first is quick and forgets; the second is slow and does not.

## Two tiers

The persistent tier is a store of named bytes under tags. Whatever it has acknowledged is there after a
power cut. It is mapped into memory, so a reader copies nothing.

The cache tier is a set of memcached servers. When one of them is full it throws out what nobody has asked
for the longest, so it never refuses a value that fits.

## Who does what

The Ingestor turns files and folders into stored blobs. The Retriever answers with blobs, and looks into the
cache before it goes to the store. The Coordinator reads plain language and passes a request on to
whichever agent is able to serve it.

## Rewards

An agent that finds a blob in the cache earns 0.30; one that had to go to the store earns 0.20. Mistakes
cost half a point.
""",
    "setup_guide.md": """\
# Setup guide

## Before you begin

You need Python 3.11, four gigabytes of free memory, and a kernel that offers Landlock if tools are to be
walled in. No graphics card is needed for the small model.

## Installing

Run `pip install agentfactory`. The first installation takes a minute or two, since PyTorch is fetched.

## Starting the services

Start memcached with `memcached -m 512 -I 16m -l 127.0.0.1 -p 11211`. The bridge listens on
`tcp://127.0.0.1:5560`. If another program has taken that port, set `data.bridge.endpoints`.

## When something is wrong

If the first question hangs for five seconds and then fails, no bridge answers at the endpoint: see whether
its process is alive. A message about shared memory means that /dev/shm is too small; in a container, give it
`--shm-size 2g`.
""",
    "api_reference.md": """\
# API reference

## put

`put(tag, name, data, meta)` stores a blob and returns its BlobInfo once the bytes are safe. Names and tags
may have up to 16 KiB of UTF-8.

## get

`get(tag, name)` returns the bytes. It raises `NoSuchBlob` when there is no such name.

## list

`list(tag_pattern, name_pattern, after, limit)` returns a page of what matches. Patterns are globs: `*`, `?`
and `[abc]`. Give the page's `next` as `after` to go on.

## delete and destroy

`delete` removes single blobs. `destroy` removes whole tags from both tiers; it cannot be undone.

## prune

`prune(tag, blob_names)` makes the cache forget. The data stays in the store, and the next reader brings it
back.
""",
    "troubleshooting.md": """\
# Troubleshooting

## The training reward does not rise

See whether all episodes of a group get the same reward: then every advantage is zero and there is nothing
to learn from. Lower `curriculum.start_difficulty`, or sample at a higher temperature.

## The graphics card runs out of memory

Make `trainer.micro_batch_tokens` smaller first; it bounds what one pass holds. Gradient checkpointing
trades time for space. Four-bit base weights save the most.

## A worker dies again and again

The supervisor restarts an actor five times, each time after twice the pause. Then the run ends, and
`agentfactory resume` goes on from the journal.

## The log says that an event loop was silent

Something blocked for more than thirty seconds. The stacks in the log show the line; work that blocks
belongs in a thread.
""",
    "security.md": """\
# Security

## What code may touch

Code that a model wrote runs in a process of its own, without a network, in an empty folder, with a limit on
time and memory. System calls that it does not need are refused by seccomp.

## Keys on the wire

Traffic between machines is encrypted with CURVE. The server's public key is part of the settings; the
client's secret key is read from an environment variable and never written to a log.

## Reading files

`file::` and `folder::` read only below the folders in `data.uris.roots`. A symbolic link that leads out of
them is refused.

## Reporting a hole

Write to the maintainers, not to the public tracker, and give them ninety days.
""",
    "training.md": """\
# Training

## Groups

Every task is tried eight times. What an attempt earns is compared with the mean of its siblings, so no
separate network has to guess the value of a state.

## Staleness

While a step is trained, the Student goes on sampling with the version before. `loop.max_staleness` says how
many versions old an episode may be when it is used; 0 makes the loop strictly on-policy.

## Clipping

The ratio of new to old probability is kept between 0.8 and 1.28. The upper bound is looser, so that rare
tokens can grow.

## Adapters

Only low-rank matrices are trained. One version is a few megabytes and is loaded into the running engine
without a restart.
""",
    "formats.md": """\
# Formats

## Tables

CSV, TSV, JSON lines and Parquet become Arrow files. A column whose type cannot be told is kept as text.

## Arrays

Each dataset of an HDF5 file becomes one blob; its shape and dtype are kept beside it. A reader may ask for
a slice and only that part travels.

## Text

Text is checked to be UTF-8 and stored as it is. A byte order mark is removed.

## Pictures and sound

They are stored byte for byte and never opened.
""",
    "operations.md": """\
# Operations

## Backups

Copy the store's folder while nothing writes, or use `agentfactory store copy`, which takes a consistent
picture of a store in use.

## Watching

`/metrics` has counters for hits, misses and bytes. Alert when the share of failed episodes passes one half,
and when the disk has less than a tenth left.

## Upgrading

Stop the run, install the new version, and resume. Journals of an older version are read; those of a newer
one are refused.

## Moving to another machine

A run is a folder. Copy it, and resume there: paths in it are relative.
""",
    "cache_design.md": """\
# Cache design

## Which server has a key

Each key is scored against every server, and the server with the highest score has it. When a server leaves,
only its own keys move.

## Stale values

A reader that misses takes a lease before it asks the store. A writer removes the lease, so the reader's old
value is not accepted afterwards.

## Large values

A value above the item limit is split into pieces under keys of their own. If any piece is missing the whole
counts as a miss.

## A server that is down

It is skipped for two seconds after a failure, then tried again. Reads meanwhile go straight to the store.
""",
    "glossary.md": """\
# Glossary

**Policy**: the model in training. **Version**: its number, raised by each step.

**Episode**: one task, run to its end. **Group**: the sibling episodes of one task.

**Verifier**: judges an answer. **Reward**: the number it gives.

**Advantage**: a reward against the baseline of its group.

**Supervisor**: restarts what has died.

**Frontier**: tasks that are solved about half of the time, neither too easy nor hopeless.
""",
    "notes/garden.txt": """\
The greenhouse wants water twice a week in spring and every evening in July. Tomatoes are tied up when they
reach the second wire.

The compost is turned in March. Leaves of the walnut stay out of it: they keep other plants from growing.

Apples are picked when the stalk comes off with a quarter turn. They keep until February in the cool cellar,
away from the potatoes.
""",
    "notes/travel.txt": """\
The night train to Vienna leaves at 21:40 from platform 8. Reserve a couchette at least a week ahead.

In Ljubljana the bus to the lake goes every half hour; buy the card at the kiosk, the driver takes no money.

The museum is shut on Mondays. On the first Sunday of a month nobody pays to get in.
""",
}

QUESTIONS = (
    # In the library's own words.
    Question("Which port does the bridge listen on?", "setup_guide.md", "tcp://127.0.0.1:5560"),
    Question("memcached start command", "setup_guide.md", "memcached -m 512"),
    Question("What does NoSuchBlob mean?", "api_reference.md", "raises `NoSuchBlob`"),
    Question("trainer.micro_batch_tokens", "troubleshooting.md", "trainer.micro_batch_tokens"),
    Question("What is loop.max_staleness?", "training.md", "`loop.max_staleness` says"),
    Question("Is CURVE used for encryption?", "security.md", "encrypted with CURVE"),
    Question("What happens to an HDF5 dataset?", "formats.md", "Each dataset of an HDF5"),
    Question("Which counters does /metrics have?", "operations.md", "`/metrics` has counters"),
    Question("data.uris.roots", "security.md", "data.uris.roots"),
    Question("How long may names and tags be?", "api_reference.md", "16 KiB of UTF-8"),
    Question("What does the supervisor do with an actor?", "troubleshooting.md", "The supervisor restarts"),
    Question("How are large values split into pieces?", "cache_design.md", "is split into pieces"),
    Question("What does prune do?", "api_reference.md", "`prune(tag, blob_names)`"),
    Question("When does the night train to Vienna leave?", "notes/travel.txt", "leaves at 21:40"),
    Question("What is the Coordinator for?", "project_overview.md", "The Coordinator reads plain language"),
    Question("seccomp", "security.md", "refused by seccomp"),
    Question("Define advantage", "glossary.md", "**Advantage**"),
    Question("Which glob patterns can be used?", "api_reference.md", "Patterns are globs"),
    Question("shared memory too small in a container", "setup_guide.md", "--shm-size 2g"),
    Question("Are Parquet tables supported?", "formats.md", "Parquet become Arrow"),
    # In other words.
    Question("How do I get my stuff back after the electricity failed?", "project_overview.md", "power cut"),
    Question("What gets evicted once the RAM is used up?", "project_overview.md", "throws out what nobody"),
    Question("Do I require a GPU?", "setup_guide.md", "No graphics card is needed"),
    Question("The client just times out at the beginning", "setup_guide.md", "no bridge answers"),
    Question("Can a deletion be reverted?", "api_reference.md", "cannot be undone"),
    Question("CUDA OOM", "troubleshooting.md", "micro_batch_tokens` smaller"),
    Question("My model is not improving at all", "troubleshooting.md", "every advantage is zero"),
    Question("Can malicious scripts reach the internet?", "security.md", "without a network"),
    Question("Where do I disclose a vulnerability?", "security.md", "Write to the maintainers"),
    Question("Why is there no critic?", "training.md", "no separate network has to guess"),
    Question("How big is a fine-tuned checkpoint?", "training.md", "a few megabytes"),
    Question("Are JPEG images decoded?", "formats.md", "never opened"),
    Question("How to transfer everything onto new hardware", "operations.md", "A run is a folder"),
    Question("Saving a snapshot of the database while live", "operations.md", "store copy"),
    Question("What if a node of the cluster cache crashes?", "cache_design.md", "It is skipped for two"),
    Question("How are outdated entries kept out?", "cache_design.md", "takes a lease"),
    Question("How are keys sharded among hosts?", "cache_design.md", "scored against every server"),
    Question("What do you call problems of just the right difficulty?", "glossary.md", "**Frontier**"),
    Question("How often to irrigate vegetables in summer?", "notes/garden.txt", "every evening in July"),
    Question("When is the gallery free of charge?", "notes/travel.txt", "first Sunday of a month"),
)
IN_OWN_WORDS = 20
"""How many questions, from the first on, use the library's words."""
