#!/usr/bin/env python3
"""Can the Hopper forward kernel hang?   sm90_forward_protocol.py [--seeds N]

A model of its barriers: the producer (copyTiles), the warp that fetches tiles (schedule) and the consumers (class
Consumer in cuda/sm90/forward.cuh), each a coroutine that yields what it waits for, run in random order over random
tiles. Every consumer checks that the stage it reads holds what it expects. Exit status 1 where some order ends with
everybody waiting, or where the model does not find the hangs that it is known to find.
"""
import argparse
import random
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """hopperTile() in cuda/sm90/tiles.h."""
    name: str
    consumers: int
    query_stages: int
    stages: int
    turns: bool = False
    state_in_ring: bool = False
    passes_first: bool = True  # a consumer may pass blocks at a tile's start
    passes_last: bool = False  # even the tile's last one
    queries_in_registers: bool = True
    # the memory of queries is given back once output has gone through it, else as soon as they are not needed there
    stages_output: bool = True
    gives_back_late: bool = False  # that memory, after waiting for the values of the next tile's first block

    def waits_ahead(self):
        return self.stages > 2

    def most_passed(self):
        return self.stages // 2


TILES = (
    Tile("dim 64", 3, 2, 4, queries_in_registers=False),
    Tile("dim 64, resumed", 3, 2, 4, queries_in_registers=False, stages_output=False),
    Tile("dims 96 and 128", 2, 1, 3),
    Tile("dims 96 and 128, resumed", 2, 1, 3, state_in_ring=True, passes_first=False, stages_output=False),
    Tile("dim 192", 2, 2, 2, turns=True, passes_first=False, queries_in_registers=False),
    Tile("dim 192, resumed", 2, 2, 2, turns=True, passes_first=False, queries_in_registers=False, stages_output=False),
    Tile("dim 256", 2, 1, 2, turns=True, passes_first=False, queries_in_registers=False, stages_output=False),
)
HANGS = (
    Tile("dim 256, passing at both ends", 2, 1, 2, turns=True, queries_in_registers=False, stages_output=False),
    Tile("dim 64, passing all of a tile", 3, 2, 4, passes_last=True, queries_in_registers=False),
    Tile("dim 64, queries' memory given back late", 3, 2, 4, queries_in_registers=False, gives_back_late=True),
    Tile("dim 128, queries' memory given back late", 2, 1, 3, gives_back_late=True),
)


class Ring:
    """Stages that one side fills and `readers` others give back; positions count up for ever."""

    def __init__(self, stages, readers):
        self.stages, self.readers = stages, readers
        self.filled, self.emptied, self.content = [0] * stages, [0] * stages, [None] * stages

    def free(self, position):
        return lambda: self.emptied[position % self.stages] >= position // self.stages * self.readers

    def full(self, position):
        return lambda: self.filled[position % self.stages] > position // self.stages

    def fill(self, position, content):
        self.filled[position % self.stages] += 1
        self.content[position % self.stages] = content

    def release(self, position, expected):
        content = self.content[position % self.stages]
        assert content == expected, f"{content} instead of {expected}"
        self.emptied[position % self.stages] += 1


class Block:
    def __init__(self, tile, work):
        # work: (blocks of keys, per consumer the [first, last) it sees or None) of each tile
        self.tile, self.work = tile, work
        self.keys, self.values = Ring(tile.stages, tile.consumers), Ring(tile.stages, tile.consumers)
        self.queries = [Ring(tile.query_stages, 1) for _ in range(tile.consumers)]
        self.slots = Ring(2, tile.consumers + 1)
        self.wanted, self.turns = 0, [0] * tile.consumers

    def schedule(self):
        for n in range(len(self.work) + 1):
            yield self.slots.free(n)
            self.slots.fill(n, n)
            if n < len(self.work):
                yield lambda n=n: self.wanted > n

    def produce(self):
        key = value = 0
        pending = None

        def fill(ring, position, content):
            yield ring.free(position)
            ring.fill(position, content)

        for n, (blocks, _) in enumerate(self.work):
            yield self.slots.full(n)
            self.slots.release(n, n)
            for ring in self.queries:
                yield from fill(ring, n, n)
            for block in range(blocks):
                self.wanted += block + 1 == blocks
                yield from fill(self.keys, key, (n, block))
                key += 1
                if pending:
                    yield from fill(self.values, value, pending)
                    value += 1
                if self.tile.state_in_ring and block == 0:
                    yield from fill(self.keys, key, (n, "state"))
                    yield from fill(self.values, value, (n, "state"))
                    key, value = key + 1, value + 1
                pending = (n, block)
        if pending:
            yield from fill(self.values, value, pending)

    def consume(self, number):
        tile, key, value, slot = self.tile, 0, 0, 0
        to_pass, row, end, more, state_came, taken = [], 0, 0, False, False, 0

        def take_turn():
            nonlocal taken
            if tile.turns:
                mine, taken = taken, taken + 1
                yield lambda: self.turns[number] > mine

        def end_turn(again):
            if tile.turns and (again or number + 1 < tile.consumers):
                self.turns[(number + 1) % tile.consumers] += 1

        def pass_keys():
            nonlocal key, row
            yield from take_turn()
            end_turn(True)
            yield self.keys.full(key)
            self.keys.release(key, (slot, row))
            to_pass.append((slot, row))
            key, row = key + 1, row + 1

        def pass_values():
            nonlocal value
            while to_pass:
                yield self.values.full(value)
                self.values.release(value, to_pass.pop(0))
                value += 1

        def enter_tile():
            nonlocal row, end, more
            yield self.slots.full(slot)
            more = slot < len(self.work)
            if more:
                blocks, seen = self.work[slot][0], self.work[slot][1][number]
                row, end = 0, max(seen[1] if seen else 1, blocks - tile.most_passed())
                while tile.passes_first and seen and row < min(seen[0], tile.most_passed()) and (tile.passes_last
                                                                                                 or row + 1 < blocks):
                    yield from pass_keys()
                yield self.queries[number].full(slot)

        def wait_for_values():
            yield from pass_values()
            yield self.values.full(value)

        def begin():
            nonlocal value, state_came
            if tile.state_in_ring and more:
                yield self.keys.full(key + 1)
                yield from wait_for_values()
                self.keys.release(key + 1, (slot, "state"))
                self.values.release(value, (slot, "state"))
                value, state_came = value + 1, True

        def wait_ahead(keys):
            if tile.waits_ahead() and more:
                yield from wait_for_values()
                if row + 1 < end:
                    yield self.keys.full(keys)

        def release_keys():
            nonlocal key, state_came
            self.keys.release(key, (slot, row))
            key, state_came = key + 1 + state_came, False

        if tile.turns and number + 1 == tile.consumers:
            self.turns[0] += 1
        yield from enter_tile()
        yield self.keys.full(key)
        if tile.queries_in_registers:
            self.queries[number].release(slot, slot)
        yield from begin()
        release_keys()
        yield from wait_ahead(key)
        while more:
            here = (slot, row)
            last = row + 1 >= end
            if last and not tile.stages_output and not tile.queries_in_registers:
                self.queries[number].release(slot, slot)
            if not tile.waits_ahead():
                yield from wait_for_values()
            row += 1
            if last:
                while row < self.work[slot][0]:
                    yield from pass_keys()
                slot += 1
                yield from enter_tile()
            if more and (last or not tile.waits_ahead()):
                yield self.keys.full(key)
            yield from take_turn()
            end_turn(more)
            self.values.release(value, here)
            value += 1
            if last:
                if tile.queries_in_registers and not tile.stages_output and more:
                    self.queries[number].release(slot, slot)
                self.slots.release(slot - 1, slot - 1)
                yield from begin()
            late = last and tile.stages_output and not tile.gives_back_late
            if not late:
                yield from wait_ahead(key + 1 + state_came)
            if more:
                release_keys()
            if last and tile.stages_output:
                if not tile.queries_in_registers:
                    self.queries[number].release(slot - 1, slot - 1)
                elif more:
                    self.queries[number].release(slot, slot)
            if late:
                yield from wait_ahead(key)
        yield from pass_values()

    def hangs(self, order):
        """Who waits for ever, or reads what it should not, or nothing."""
        actors = [self.schedule(), self.produce()] + [self.consume(n) for n in range(self.tile.consumers)]
        waiting = {actor: (lambda: True) for actor in actors}
        while waiting:
            ready = [actor for actor in waiting if waiting[actor]()]
            if not ready:
                return [actor.__name__ for actor in waiting]
            actor = order.choice(ready)
            try:
                waiting[actor] = next(actor)
            except StopIteration:
                del waiting[actor]
            except AssertionError as wrong:
                return [str(wrong)]
        return []


def draw_work(r, consumers):
    """Tiles whose consumers see runs of blocks that do not decrease, and all of them together every block; some see
    nothing."""
    work = []
    for _ in range(r.randint(1, 6)):
        seeing = sorted(r.sample(range(consumers), r.randint(0, consumers)))
        blocks = r.randint(1, r.choice((6, 12))) if seeing else 1
        seen = [None] * consumers
        if seeing:
            first, last = (sorted(r.randint(low, blocks - 1 + low) for _ in seeing) for low in (0, 1))
            first[0], last[-1] = 0, blocks
            for n, a, b in zip(seeing, first, last):
                seen[n] = (a, max(a + 1, b))
        if r.random() < 0.2:  # behind a gap: its keys would begin and end where the tile's do
            seen[-1] = (blocks, blocks)
        work.append((blocks, seen))
    return work


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1500)
    seeds = parser.parse_args().seeds
    failed = False
    for tile in TILES + HANGS:
        hung = []
        for seed in range(seeds):
            r = random.Random(seed)
            work = draw_work(r, tile.consumers)
            if Block(tile, work).hangs(r):
                hung.append(work)
        wrong = bool(hung) != (tile in HANGS)
        failed |= wrong
        print(f"{tile.name}: {len(hung)} of {seeds} hang"
              + ("; FAILED" + (f", the first with {hung[0]}" if hung else "") if wrong else ""))
    sys.exit(failed)


if __name__ == "__main__":
    main()
