#!/usr/bin/env python3
"""Can the Hopper backward kernel hang, or a warpgroup overwrite what another still reads?   sm90_backward_protocol.py
[--seeds N]

A model of its barriers: the producer's warps (copyQueries and copyRows) and the consumers (class BackwardConsumer in
cuda/sm90/backward.cuh), each a coroutine that yields what it waits for, run in random order. A barrier knows its phases
by their parity alone, as on the chip. Products read from when they are issued until they are waited for, and check what
they read at both ends. Exit status 1 where some order goes wrong, or where the model does not find what it is known to
find.
"""
import argparse
import random
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Design:
    """hopperBackwardTile() in cuda/sm90/tiles.h."""
    name: str
    consumers: int
    in_turn: bool  # consumers take turns with dQ; else each computes a share of it, a tile later, before its dV and dK
    row_warps: int = 1
    stages: int = 2
    released_early: bool = False  # a tile of queries, before the dQ of a turn has been waited for
    boxes_shared: bool = False    # one staging of dQ for all consumers
    rows_forgotten: bool = False  # queriesFull counts one warp that writes rows
    released_before_dk: bool = False  # a tile of queries, once dQ is there
    ds_stages: int = 0                # of dS, where not as many as gradientStages() says

    @property
    def gradient_stages(self):
        return self.ds_stages or (self.stages if self.in_turn else 3)


DESIGNS = (Design("two consumers", 2, False, row_warps=2), Design("two consumers in turn", 2, True),
           Design("three consumers in turn", 3, True))
WRONG = (
    Design("three in turn, three stages of queries and two of dS", 3, True, stages=3, ds_stages=2),
    Design("two consumers, two stages of dS", 2, False, row_warps=2, ds_stages=2),
    Design("three in turn, queries given back before dQ is there", 3, True, released_early=True),
    Design("three in turn, one staging of dQ", 3, True, boxes_shared=True),
    Design("two consumers, one warp of rows waited for", 2, False, row_warps=2, rows_forgotten=True),
    Design("two consumers, queries given back before dK is there", 2, False, row_warps=2, released_before_dk=True),
)


class Barrier:
    def __init__(self, count):
        self.count, self.arrived, self.ended = count, 0, 0

    def arrive(self):
        self.arrived += 1
        if self.arrived == self.count:
            self.arrived, self.ended = 0, self.ended + 1

    def wait(self, turn):
        """For the end of the phase of this parity: of the turn-th use, if nobody is two phases away."""
        return lambda: self.ended % 2 != turn % 2


class Memory:
    """A buffer in parts; whoever reads it says so."""

    def __init__(self, parts=1):
        self.content, self.readers = [None] * parts, set()

    def write(self, part, content):
        assert not self.readers, f"{content} written while {sorted(self.readers)} read {self.content}"
        self.content[part] = content

    def begin(self, reader, expected):
        self.check(expected)
        self.readers.add(reader)

    def end(self, reader, expected):
        self.check(expected)
        self.readers.remove(reader)

    def check(self, expected):
        assert all(content == expected for content in self.content), f"{self.content} instead of {expected}"


def always():
    return True


class Block:
    def __init__(self, design, tiles):
        self.d, self.tiles = design, tiles
        stages, consumers = range(design.stages), design.consumers
        self.queries, self.douts = ([Memory() for _ in stages] for _ in range(2))
        self.rows = [Memory(design.row_warps) for _ in stages]
        self.queries_full = [Barrier(2 if design.rows_forgotten else 1 + design.row_warps) for _ in stages]
        self.queries_empty = [Barrier(consumers) for _ in stages]
        self.douts_full, self.douts_empty = [Barrier(1) for _ in stages], [Barrier(consumers) for _ in stages]
        self.ds, self.ds_full = ([kind(consumers) for _ in range(design.gradient_stages)] for kind in (Memory, Barrier))
        self.staging = [Memory() for _ in range(1 if design.boxes_shared else consumers)]

    def copy_queries(self):
        for t in range(self.tiles):
            stage, turn = t % self.d.stages, t // self.d.stages
            yield self.queries_empty[stage].wait(turn + 1)
            self.queries[stage].write(0, t)
            self.queries_full[stage].arrive()
            yield self.douts_empty[stage].wait(turn + 1)
            self.douts[stage].write(0, t)
            self.douts_full[stage].arrive()

    def copy_rows(self, part):
        for t in range(self.tiles):
            stage, turn = t % self.d.stages, t // self.d.stages
            yield self.queries_empty[stage].wait(turn + 1)
            self.rows[stage].write(part, t)
            self.queries_full[stage].arrive()

    def reduce(self, staging, who, t):
        """The copy engine: reads the staging some time after it was written."""
        yield always
        staging.end(who, t)

    def consume(self, number, spawn):
        d = self.d

        def multiply(t, buffers, full):
            yield full[t % d.stages].wait(t // d.stages)
            for buffer in buffers:
                buffer[t % d.stages].begin(number, t)

        def finish(t, *buffers):
            for buffer in buffers:
                buffer[t % d.stages].end(number, t)

        def share(t):
            self.ds[t % d.gradient_stages].write(number, t)
            self.ds_full[t % d.gradient_stages].arrive()

        def multiply_gradients(t):
            yield self.ds_full[t % d.gradient_stages].wait(t // d.gradient_stages)
            if t >= 0:  # the product before the first tile means nothing
                self.ds[t % d.gradient_stages].begin(number, t)

        def finish_gradients(t):
            if t >= 0:
                self.ds[t % d.gradient_stages].end(number, t)

        def add_dq(t):
            staging = self.staging[0 if d.boxes_shared else number]
            yield lambda: number not in staging.readers  # what this thread has committed
            staging.write(0, t)
            staging.begin(number, t)
            spawn(self.reduce(staging, number, t))

        def give_back(t):
            self.queries_empty[t % d.stages].arrive()
            self.douts_empty[t % d.stages].arrive()

        def release(t):
            finish(t, self.queries, self.rows, self.douts)
            give_back(t)

        yield from multiply(0, (self.queries, self.rows), self.queries_full)
        yield from multiply(0, (self.douts,), self.douts_full)
        for t in range(self.tiles):
            more = t + 1 < self.tiles
            yield always  # weigh()
            if d.in_turn:
                share(t)
                mine = t % d.consumers == number
                if mine:
                    yield from multiply_gradients(t)
                yield always
                if mine and not d.released_early:
                    finish_gradients(t)
                release(t)
                if mine and d.released_early:
                    yield always
                    finish_gradients(t)
                if mine:
                    yield from add_dq(t)
            else:
                yield from multiply_gradients(t - 1)
                yield always
                share(t)
                yield always  # dQ
                finish_gradients(t - 1)
                if d.released_before_dk:
                    give_back(t)
                if t > 0:
                    yield from add_dq(t - 1)
            if more:
                yield from multiply(t + 1, (self.queries, self.rows), self.queries_full)
            elif not d.in_turn:
                yield from multiply_gradients(t)
                yield always
                finish_gradients(t)
                yield from add_dq(t)
            if not d.in_turn:
                yield always  # dK
                if d.released_before_dk:
                    finish(t, self.queries, self.rows, self.douts)
                else:
                    release(t)
            if more:
                yield from multiply(t + 1, (self.douts,), self.douts_full)

    def start(self, spawn):
        for actor in [self.copy_queries()] + [self.copy_rows(part) for part in range(self.d.row_warps)]:
            spawn(actor)
        for number in range(self.d.consumers):
            spawn(self.consume(number, spawn))


def goes_wrong(block, order):
    """Who waits for ever, or what was overwritten, or nothing."""
    waiting = {}

    def spawn(actor):
        waiting[actor] = always

    block.start(spawn)
    while waiting:
        ready = [actor for actor in waiting if waiting[actor]()]
        if not ready:
            return "waiting: " + ", ".join(actor.__name__ for actor in waiting)
        actor = order.choice(ready)
        try:
            waiting[actor] = next(actor)
        except StopIteration:
            del waiting[actor]
        except AssertionError as wrong:
            return str(wrong)
    return ""


def play(about, right, wrong, make):
    """Plays every design, of which make(design, tiles) is a block, in many orders; then exits."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=500)
    seeds = parser.parse_args().seeds
    failed = False
    for design in right + wrong:
        found = []
        for seed in range(seeds):
            order = random.Random(seed)
            problem = goes_wrong(make(design, order.randint(1, 9)), order)
            if problem:
                found.append(problem)
        surprising = bool(found) != (design in wrong)
        failed |= surprising
        print(f"{design.name}: {len(found)} of {seeds} go wrong"
              + ("; FAILED" + (f", the first: {found[0]}" if found else "") if surprising else ""))
    sys.exit(failed)


if __name__ == "__main__":
    play(__doc__, DESIGNS, WRONG, Block)
