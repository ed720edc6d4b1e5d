"""Takes turns at a counter in a folder, under a lock of kazoo's that honours Curator's nodes.

Usage: kazoo_turns.py SERVERS PATH TURNS FOLDER
"""

import pathlib
import sys
import time

from kazoo.client import KazooClient


def increment(folder):
    """Reads the counter, pauses, writes it back plus one. Fails if somebody else is inside."""
    inside = folder / "inside"
    inside.mkdir()
    counter = folder / "counter"
    count = int(counter.read_text())
    time.sleep(0.002)
    counter.write_text(f"{count + 1}\n")
    inside.rmdir()


def main(servers, path, turns, folder):
    client = KazooClient(hosts=servers)
    client.start()
    lock = client.Lock(path, extra_lock_patterns=["lock-"])
    for _ in range(int(turns)):
        with lock:
            increment(pathlib.Path(folder))
    client.stop()


main(*sys.argv[1:])
