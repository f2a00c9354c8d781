"""What an artifact is: the header, the versions, the limits, and the Artifact that holds the flows of one program.

An artifact file is a header of 64 bytes and one msgpack payload; all integers are little-endian:

    offset  0  4 bytes  magic `APXM`
            4  2        format version, major: another one is another format
            6  2        format version, minor: an older one loads, a newer one is refused
            8  4        flags: none is defined, all must be 0
           12  8        length of the payload in bytes
           20  32       BLAKE2b-256 of the payload
           52  12       reserved, all 0

The payload is described in `encode.py`. `docs/explain/artifact-format.md` tells why it looks like that.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from apxm.dag import Siblings
from apxm.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.dag import ExecutionDag

MAGIC: Final = b"APXM"
VERSION: Final = (1, 0)
HEADER: Final = struct.Struct("<4sHHIQ32s12s")
assert HEADER.size == 64

# Limits of a decode. They are far above any program that a person or a model writes, and low enough that the
# worst payload of 16 MiB costs less than 400 MiB and a few seconds.
BYTES_MAX: Final = 16 * 1024 * 1024  # the default of `max_bytes`; a node with three in-edges takes about 50 bytes
NESTING_MAX: Final = 32  # levels of msgpack, and levels of regions
NODES_MAX: Final = 4_000_000
EDGES_MAX: Final = 16_000_000
STRING_BYTES_MAX: Final = 4 * 1024 * 1024
MAP_ENTRIES_MAX: Final = 65_536
MESSAGE_MAX: Final = 500  # characters of an error: it shows what was found, and that may be megabytes
BYTES_PER_VALUE: Final = 8  # one msgpack value for every 8 bytes of `max_bytes`: an empty map is 1 byte there, 64 in memory

FlowKey: TypeAlias = tuple[str, str]  # agent, flow


def seal(payload: bytes) -> bytes:
    """Header and payload."""
    digest = blake2b(payload, digest_size=32).digest()
    return HEADER.pack(MAGIC, *VERSION, 0, len(payload), digest, bytes(12)) + payload


def unseal(data: bytes, max_bytes: int = BYTES_MAX) -> bytes:
    """The payload, once every field of the header has been found right."""
    if len(data) > max_bytes:
        raise _too_large(f"{len(data)} bytes", max_bytes)
    if data[:4] != MAGIC:
        raise ArtifactError(f"not an artifact: it starts with {data[:4]!r}, expected {MAGIC!r}")
    if len(data) < HEADER.size:
        raise ArtifactError(f"an artifact cut short: {len(data)} bytes, but the header alone has {HEADER.size}")
    _, major, minor, flags, length, digest, reserved = HEADER.unpack_from(data)
    _check_version(major, minor)
    if flags or any(reserved):
        raise ArtifactError(f"header with flags {flags:#x} and reserved bytes {reserved.hex()}; all of them must be 0")
    payload = data[HEADER.size :]
    if length != len(payload):
        raise ArtifactError(f"the header announces a payload of {length} bytes, there are {len(payload)}")
    if blake2b(payload, digest_size=32).digest() != digest:
        raise ArtifactError("the payload does not have the digest of the header: the file was changed or damaged")
    return payload


def _check_version(major: int, minor: int) -> None:
    ours = f"{VERSION[0]}.{VERSION[1]}"
    if major != VERSION[0]:
        raise ArtifactError(f"artifact of format {major}.{minor}; this apxm reads format {VERSION[0]}.x", hint="compile it again")
    if minor > VERSION[1]:
        raise ArtifactError(f"artifact of format {major}.{minor}; this apxm reads up to {ours}", hint="use a newer apxm")


def _too_large(size: str, max_bytes: int) -> ArtifactError:
    return ArtifactError(f"artifact of {size}, more than the {max_bytes} allowed", hint="pass a larger max_bytes if you trust it")


@dataclass(frozen=True, slots=True)
class CapabilityFacts:
    """What was known about a capability at compile time: its effect class and the JSON Schema of its arguments, or None."""

    effect: str | None = None
    schema: Mapping[str, Any] | None = None


class Artifact:
    """A compiled program: flows by (agent, flow), ready to run, and what is known about them.

    `manifest` has, for every flow, the capabilities that its INV nodes name; `agents` what the program says about each
    agent besides its flows. `digest` is the BLAKE2b-256 of the
    payload in hex: the same program compiled by the same apxm has the same digest everywhere.
    """

    __slots__ = ("_bytes", "_flows", "agents", "compiler", "entry", "level", "manifest", "metadata", "name")

    def __init__(
        self,
        name: str,
        flows: Mapping[FlowKey, ExecutionDag],
        *,
        entry: FlowKey,
        level: int,
        compiler: str,
        manifest: Mapping[FlowKey, Mapping[str, CapabilityFacts]],
        agents: Mapping[str, Mapping[str, Any]],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        assert entry in flows
        self.name, self.entry, self.level, self.compiler = name, entry, level, compiler
        self.agents, self.manifest, self.metadata = agents, manifest, metadata or {}
        self._flows = Siblings({key: flows[key] for key in sorted(flows)}, agents)
        self._bytes: bytes | None = None
        for dag in self._flows.values():
            _introduce(dag, self._flows)

    @classmethod
    def from_bytes(cls, data: bytes, *, max_bytes: int = BYTES_MAX) -> Artifact:
        """Decode an artifact; whatever the bytes are, nothing but ArtifactError comes out, and nothing has run."""
        from apxm.artifact.decode import decode

        if not isinstance(data, bytes):
            data = bytes(data)
        try:
            artifact = decode(unseal(data, max_bytes), values_max=max_bytes // BYTES_PER_VALUE)
        except ArtifactError as error:
            if len(error.message) <= MESSAGE_MAX:
                raise
            raise ArtifactError(f"{error.message[:MESSAGE_MAX]} …", hint=error.hint) from None
        artifact._bytes = data
        return artifact

    def to_bytes(self) -> bytes:
        """The artifact as bytes; always the same ones."""
        if self._bytes is None:
            from apxm.artifact.encode import encode

            self._bytes = seal(encode(self))
        return self._bytes

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_bytes: int = BYTES_MAX) -> Artifact:
        """Read an artifact file. A file over `max_bytes` is refused before it is read."""
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > max_bytes:
                    raise _too_large(f"{size} bytes ({os.fspath(path)})", max_bytes)
                data = file.read(max_bytes + 1)  # a pipe has no size; one byte more shows that it is too long
        except OSError as error:
            raise ArtifactError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from error
        return cls.from_bytes(data, max_bytes=max_bytes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file: whoever reads `path` sees the old content or all of the new one, also after a power cut."""
        data, target = self.to_bytes(), Path(path)
        draft = target.with_name(f".{target.name}.{os.getpid()}-{token_hex(4)}")
        try:
            try:
                with draft.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(target)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)
        except OSError as error:
            raise ArtifactError(f"cannot write {target}: {error.strerror or error}") from error

    def flows(self) -> Mapping[FlowKey, ExecutionDag]:
        """Every flow by (agent, flow), sorted."""
        return dict(self._flows)

    def into_dag(self, flow: str | None = None) -> ExecutionDag:
        """The entry flow, or the one called `agent.flow` or, where only one agent has it, `flow`."""
        if flow is None:
            return self._flows[self.entry]
        found = [dag for key, dag in self._flows.items() if flow in (f"{key[0]}.{key[1]}", key[1])]
        exact = [dag for key, dag in self._flows.items() if flow == f"{key[0]}.{key[1]}"]
        if len(exact) == 1 or len(found) == 1:
            return (exact or found)[0]
        if found:
            names = ", ".join(f"`{dag.agent}.{dag.name}`" for dag in found)
            raise ArtifactError(f"`{self.name}` has several flows `{flow}`: {names}", hint="name the agent too")
        known = [f"{agent}.{name}" for agent, name in self._flows]
        close = get_close_matches(flow, [*known, *(name for _, name in self._flows)], n=1)
        hint = f"close: `{close[0]}`" if close else "it has " + ", ".join(f"`{name}`" for name in known[:10])
        raise ArtifactError(f"`{self.name}` has no flow `{flow}`", hint=hint)

    @property
    def digest(self) -> str:
        """BLAKE2b-256 of the payload, in hex."""
        return HEADER.unpack_from(self.to_bytes())[5].hex()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Artifact {self.name}: {len(self._flows)} flows, entry {self.entry[0]}.{self.entry[1]}, O{self.level}>"


def _introduce(dag: ExecutionDag, flows: Siblings) -> None:
    """Let a dag and the regions in it know the other flows of the program."""
    stack = [dag]
    while stack:
        one = stack.pop()
        one.siblings = flows
        for regions in one.regions.values():
            stack.extend(regions.values())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
