"""The cache tier in front of the store: cached bytes, never stale ones.

A key's home (one server, see `bridge.cache.servers`) holds a value, a write lease, a fill lease, or
nothing. A write lease names all the writers that hold the key now. Leases live for `lease_s`, and writers
renew theirs while a put lasts.

A hit: one `get` of one key. A reader that finds
  - nothing: adds a fill lease, takes the key's token, loads from the store, then stores the value by
    `compare_and_set` with that token;
  - a fill lease, or a list of parts one of which is gone: takes its token, and goes on likewise;
  - a write lease, or no server: loads from the store and stores nothing.
A writer puts its name on the key in place of a value or beside other names, takes the key's token, puts to
the store, and then stores the value by `compare_and_set` with that token. If it was not alone from the
first step to the last, it takes its name away instead, and caches nothing; the last one leaves the key to
the readers. A writer whose name is gone (evicted, flushed) leaves a lease that nobody takes away.

Why nothing stale is read after a write has returned:
  1. A value enters the cache only by `compare_and_set` on a token that was taken before the load or the
     put began. So it fails if anybody has changed the key since, and a request that arrives late (after a
     timeout, from a dead process) can do no harm: late values fail, late leases only cost a hit.
  2. A reader's value: every writer changes the key before its put and once more after it. A reader that
     took its token before either fails; one that took it after both has loaded what was put.
  3. A writer's value: it stays only if no other writer was at the key from before its put to after it, so
     the store holds what it put.
  4. A writer that dies between its put and its last step leaves its name. Until that expires nothing is
     cached, whoever else writes or reads; then the next reader loads what is stored.
  5. Reads that wait for a load of another read carry the same fill lease, so that no writer came
     between, or have asked before that load began.
  6. Leases or values that are evicted are gone: tokens on them fail, and the writer leaves a lease.
  7. A server that a writer cannot reach is flushed before this process uses it again.
Deleting is writing: `delete_through` takes leases on what it was told of, and after the delete also what the
store says it removed, which covers puts that came between.

What remains:
  - Other processes, if they do reach a server which a writer does not reach, read old values there until
    the writer's flush arrives (tried at once and every `retry_s`); if the writer's process ends before,
    until they expire (`default_ttl`).
  - The same if a writer dies in the middle whose lease was evicted, or one that destroys a blob that it
    had not expected; or if a put that failed takes effect only when its lease has expired.
  - Clocks of hosts that differ by more than `lease_s`: the name of a dead writer may go too early.
  - Servers that join while they hold old values: see `bridge.cache.servers`.
"""
