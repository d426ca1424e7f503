#!/usr/bin/env python3
"""Writes golden.txt: what every implementation of the ring has to compute.

This is the second opinion on package ring: hashlib for the hash, and the plainest
code that can be written for the rest. It shares nothing with the Go code. The test
TestGoldenAgainstPython runs it and compares its output with golden.txt; after a
deliberate change of the vectors run

    python3 golden.py > golden.txt
"""

import hashlib

TOP = 2**32 - 1


def position(data):
    return int.from_bytes(hashlib.md5(data).digest()[:4], "big")


def token(address, i):
    return position((address if i == 0 else f"{address}#{i}").encode())


class Ring:
    """Nodes as {address: tokens}, held ranges as [(start, end, owner)]."""

    def __init__(self, nodes, held=()):
        self.nodes, self.held = nodes, held
        self.tokens = {}
        for address, count in sorted(nodes.items(), reverse=True):
            for i in range(count):
                self.tokens[token(address, i)] = address  # The smaller one comes last.
        self.order = sorted(self.tokens)

    def owner(self, p):
        for start, end, owner in reversed(self.held):
            if 0 < (p - start) % 2**32 <= ((end - start) % 2**32 or 2**32):
                return owner
        after = [t for t in self.order if t >= p] or self.order
        return self.tokens[after[0]] if after else "-"

    def cuts(self):
        return set(self.order) | {p for h in self.held for p in h[:2]}


def labelled(cuts, label):
    """The ranges (start, end] on which label is the same, in order of their ends."""
    cuts = sorted(cuts)
    ends = [c for c, after in zip(cuts, cuts[1:] + cuts[:1]) if label(c) != label((c + 1) % 2**32)]
    if not ends:
        ends = [TOP]
    return [(ends[i - 1], end, label(end)) for i, end in enumerate(ends)]


KEYS = [
    b"", b"a", b"user:1", b"user:2", b"hello world", b"\x00", b"\xff\xfe\r\n",
    "Grüße".encode(), b"x" * 55, b"x" * 56, b"x" * 63, b"x" * 64, b"x" * 65, b"x" * 1000,
]
LOWEST, HIGHEST = "node-6441823585:7401", "node-1460092713:7401"  # Found by search: at 0 and 2^32-1.
TWINS = ("10.0.15.73:7401", "10.0.95.40:7401")  # Both at 2729479234.
LEFT, RIGHT = "10.0.17.89:7401", "10.0.40.237:7401"  # Next to each other.
THREE = {"10.0.0.1:7401": 8, "10.0.0.2:7401": 8, "10.0.0.3:7401": 8}

RINGS = {
    "none": Ring({}),
    "drained": Ring({"10.0.0.1:7401": 0}),
    "one": Ring({"10.0.0.1:7401": 128}),
    "one-token": Ring({"10.0.0.1:7401": 1}),
    "edges": Ring({LOWEST: 1, HIGHEST: 1}),
    "lowest": Ring({LOWEST: 1, "10.0.0.1:7401": 1}),
    "highest": Ring({HIGHEST: 1, "10.0.0.1:7401": 1}),
    "one-key": Ring({LEFT: 1, RIGHT: 1}),
    "twins": Ring({TWINS[0]: 1, TWINS[1]: 1}),
    "twins-and-other": Ring({TWINS[1]: 1, TWINS[0]: 1, "10.0.0.1:7401": 1}),
    "three": Ring(THREE),
    "weights": Ring({"10.0.0.1:7401": 2, "[2001:db8::1]:7401": 6, "db.example.org:443": 3}),
    "four": Ring({**THREE, "10.0.0.4:7401": 8}),
    "leaving": Ring({**THREE, "10.0.0.2:7401": 0}),
    "held": Ring(
        {**THREE, "10.0.0.4:7401": 8},
        [(4026531840, 268435456, "10.0.0.1:7401"), (1000, 1001, "10.0.0.2:7401"), (TOP, 0, "10.0.0.3:7401")],
    ),
    "held-only": Ring({}, [(TOP - 5, 5, "10.0.0.1:7401")]),
    "default": Ring({f"10.0.0.{i}:7401": 128 for i in range(1, 6)}),
}
PLANS = [
    ("three", "four"), ("four", "three"), ("three", "leaving"), ("three", "held"), ("held", "four"),
    ("one-token", "twins"), ("twins", "lowest"), ("none", "three"), ("three", "three"),
]


def main():
    print("# Written by golden.py. Keys are in hex; '-' stands for nobody and for the empty key.")
    for key in KEYS:
        print("position", key.hex() or "-", position(key))
    for address in ("10.0.0.1:7401", "[2001:db8::1]:7401", LOWEST, HIGHEST, LEFT, RIGHT, *TWINS):
        for i in (0, 1, 2, 10, 127, 4095):
            print("token", address, i, token(address, i))
    for name, ring in RINGS.items():
        print_ring(name, ring)
    for a, b in PLANS:
        print("plan", a, b)
        for start, end, change in labelled(RINGS[a].cuts() | RINGS[b].cuts(), change_between(RINGS[a], RINGS[b])):
            if change:
                print("move", start, end, *change)


def change_between(a, b):
    def change(p):
        source, target = a.owner(p), b.owner(p)
        return (source, target) if source != target and "-" not in (source, target) else None

    return change


def print_ring(name, ring):
    print("ring", name, *[f"{a}/{n}" for a, n in ring.nodes.items()])
    for start, end, owner in ring.held:
        print("held", start, end, owner)
    near = sorted(ring.cuts())
    samples = {0, 1, 2**31, TOP - 1, TOP}
    for cut in near[:: max(1, len(near) // 8)]:
        samples |= {(cut - 1) % 2**32, cut, (cut + 1) % 2**32}
    for p in sorted(samples):
        print("owner", p, ring.owner(p))
    for key in KEYS[:4]:
        print("key", key.hex() or "-", ring.owner(position(key)))
    if len(near) <= 64:
        for start, end, owner in labelled(near, ring.owner):
            if owner != "-":
                print("arc", start, end, owner)


if __name__ == "__main__":
    main()
