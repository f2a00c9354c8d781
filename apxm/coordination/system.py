"""What a runtime owns of queues, checkpoints and peers: the stores of this machine, those of servers, leases. Wiring only."""

from __future__ import annotations

from functools import cached_property
from time import monotonic, time
from typing import TYPE_CHECKING

from apxm.coordination.leases import Leases
from apxm.coordination.peers import Peers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apxm.coordination.checkpoint import Checkpoints
    from apxm.coordination.queue import Queues
    from apxm.coordination.remote import RemoteCheckpoints, RemoteQueues, Servers
    from apxm.coordination.store import Store


class CoordinationSystem:
    """Opens what is used, when it is first used. `folder` gives the state directory, and makes it where it is not there.

    `clock` (seconds, monotonic) is what waits are measured by, `wall_clock` (Unix time) what leases and deadlines are.
    """

    def __init__(
        self, folder: Callable[[], Path], *, clock: Callable[[], float] = monotonic, wall_clock: Callable[[], float] = time
    ) -> None:
        self._folder, self.clock, self.wall_clock = folder, clock, wall_clock
        self.leases = Leases()
        self.peers = Peers()

    @cached_property
    def _store(self) -> Store:
        from apxm.coordination.store import Store

        return Store(self._folder, self.wall_clock)

    @cached_property
    def queues(self) -> Queues:
        """The queues of this machine."""
        from apxm.coordination.queue import Queues

        return Queues(self._store)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints of this machine."""
        from apxm.coordination.checkpoint import Checkpoints

        return Checkpoints(self._store)

    @cached_property
    def servers(self) -> Servers:
        """What calls servers."""
        from apxm.coordination.remote import Servers

        return Servers()

    def queues_of(self, server_url: str | None) -> Queues | RemoteQueues:
        """The queues of a server; those of this machine when none is named."""
        if server_url is None:
            return self.queues
        from apxm.coordination.remote import RemoteQueues

        return RemoteQueues(self.servers, server_url)

    def checkpoints_of(self, server_url: str | None) -> Checkpoints | RemoteCheckpoints:
        """The checkpoints of a server; those of this machine when none is named."""
        if server_url is None:
            return self.checkpoints
        from apxm.coordination.remote import RemoteCheckpoints

        return RemoteCheckpoints(self.servers, server_url)

    def close(self) -> None:
        """Let go of leases, threads and the file."""
        self.leases.close()
        if "servers" in self.__dict__:
            self.servers.close()
        if "_store" in self.__dict__:
            self._store.close()
