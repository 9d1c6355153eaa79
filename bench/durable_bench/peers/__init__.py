"""durable-engine beside others: the same counter, the same ids, the same callers, in the same run, turn by turn.

`python -m durable_bench.peers` measures; the story is catalogue -> peer -> turns -> results -> table. What runs on the
other side of a pipe, in an environment that has none of our dependencies, is in `workers`, and needs no more than the
standard library.
"""
