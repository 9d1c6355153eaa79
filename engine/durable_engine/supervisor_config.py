"""What a supervisor is told before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from durable_shards.alarm_settings import AlarmSettings
from durable_storage.limits import PROCESS_BYTES_MIN

DEFAULT_BIND = "tcp://127.0.0.1:7400"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorConfig:
    """Settings of a supervisor; every duration is in seconds."""

    objects: tuple[str, ...]
    """Modules, files, `module:Class` or `file.py:Class`: see `durable_shards.registry`."""
    store: str
    shards: int = 1
    bind: str = DEFAULT_BIND
    """Where clients find the routing table: `tcp://HOST:PORT` (port 0: any) or `ipc:///PATH`."""
    migrate: bool | None = None
    """None: SQLite and memory stores upgrade themselves, PostgreSQL is only verified."""
    takeover: bool = False
    """Fence a supervisor that owns the store already, instead of refusing to start."""
    accept_data_loss: bool = False
    """Serve what a store still has that shows less than was acknowledged. It holds for each shard's first start."""
    stall_warning: float = 0.5
    stall_timeout: float = 3.0
    """A shard whose event loop did not turn for this long is killed."""
    drain_timeout: float = 10.0
    strikes_max: int = 3
    strikes_window: float = 600.0
    memory_bytes: int | None = None
    """Budget of each shard for live objects."""
    process_bytes: int | None = None
    """What the process of each shard may take altogether; see `memoryguard`. None: what the machine has."""
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    path: tuple[str, ...] = ()
    """Prepended to `sys.path` before the objects are imported."""
    strict_readonly: bool = False
    """Check that readonly handlers change nothing (`durable-engine dev`)."""
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        """Refuse what cannot work. Raises ValueError with the setting's name."""
        if not 1 <= self.shards <= 256:
            raise ValueError(f"shards must be between 1 and 256, not {self.shards}")
        if not self.objects:
            raise ValueError("objects must name at least one module or file with classes to serve")
        if not self.bind.startswith(("tcp://", "ipc://")):
            raise ValueError(f"bind must be tcp://HOST:PORT or ipc:///PATH, not {self.bind!r}")
        if self.stall_timeout <= 0 or self.drain_timeout < 0:
            raise ValueError("stall_timeout must be above 0 and drain_timeout at least 0 seconds")
        if self.process_bytes is not None and self.process_bytes < PROCESS_BYTES_MIN:
            raise ValueError(f"process_bytes must be at least {PROCESS_BYTES_MIN}: the interpreter needs as much")

    @classmethod
    def from_json(cls, data: bytes) -> SupervisorConfig:
        """From one JSON object. Raises ValueError."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"malformed supervisor settings: {error}") from None

    def to_json(self) -> bytes:
        """As one line of JSON."""
        return msgspec.json.encode(self)
