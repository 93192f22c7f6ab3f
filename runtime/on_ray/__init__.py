"""The transport on Ray: one actor a process, named, placed and restarted by Ray.

A message never costs a Ray call of its own. Each process keeps one `RayLink` for each actor that it
talks to; the link gathers what is to be sent and carries it in an *exchange*: one Ray call that
delivers a batch and comes back with the answers that are ready.
"""
