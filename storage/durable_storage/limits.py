"""Every limit of the engine in one place, with its unit in its name, and the relations between them asserted."""

from __future__ import annotations

ID_BYTES_MAX = 512
"""Length of an object id in UTF-8."""
NAME_BYTES_MAX = 200
"""Length of a stored class name, a handler's name, an alarm's name or a prefix in UTF-8."""
KEY_BYTES_MAX = 256
"""Length of an idempotency key in UTF-8."""
ARGUMENTS_BYTES_MAX = 4 * 1024 * 1024
"""Encoded arguments of one call."""
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
"""Payload of one alarm, as JSON text."""
RESULT_BYTES_MAX = 16 * 1024 * 1024
"""Encoded result of one call."""
STATE_BYTES_MAX = 16 * 1024 * 1024
"""Encoded state of one object."""
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""One ZeroMQ message: many packed calls or replies."""
REQUEST_BYTES_MAX = 1024 * 1024
"""A message that asks a process for something: it holds names and numbers."""
BATCH_ROWS_MAX = 4096
"""Objects in one commit."""
BATCH_BYTES_MAX = 32 * 1024 * 1024
"""States in one commit; a single larger state still travels alone."""
PROCESS_BYTES_MIN = 256 * 1024 * 1024
"""Least that a shard's process can be limited to: the interpreter, its threads, and a batch with its copies."""
PARTITIONS = 1024
"""Fixed for ever: part of the protocol and of every stored row."""

assert 4 * max(BATCH_BYTES_MAX, MESSAGE_BYTES_MAX) <= PROCESS_BYTES_MIN
assert ARGUMENTS_BYTES_MAX * 2 < MESSAGE_BYTES_MAX
assert RESULT_BYTES_MAX * 2 < MESSAGE_BYTES_MAX
assert max(STATE_BYTES_MAX, PAYLOAD_BYTES_MAX) <= BATCH_BYTES_MAX
