"""What a process and its children listen on."""

from __future__ import annotations

import ipaddress


def listening(pid: int) -> dict[str, set[tuple[str, int]]]:
    """Address and port of each socket that `pid` or a process below it waits on, by the process's name."""
    from ray._private.process_watcher import psutil  # Ray brings its own

    found: dict[str, set[tuple[str, int]]] = {}
    for process in family(pid):
        try:
            sockets = process.net_connections("inet")
            name = process.name()
        except psutil.Error:  # it has ended meanwhile
            continue
        unconnected = [s for s in sockets if s.status == psutil.CONN_LISTEN or (s.type.name == "SOCK_DGRAM")]
        found.setdefault(name, set()).update((s.laddr.ip, s.laddr.port) for s in unconnected if s.laddr and not s.raddr)
    return found


def family(pid: int) -> list:
    """The process `pid` and all below it, as psutil has them."""
    from ray._private.process_watcher import psutil

    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
