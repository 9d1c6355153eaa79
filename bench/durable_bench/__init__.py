"""How fast the engine is, measured from outside: a real server process, the typed API, commits on disk.

`python -m durable_bench` measures; the story is scenarios -> stores -> server -> measure -> report.
"""
