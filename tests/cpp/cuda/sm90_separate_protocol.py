#!/usr/bin/env python3
"""Can the Hopper backward kernels that compute dQ apart hang, or overwrite what is still read?
sm90_separate_protocol.py [--seeds N]

Models of their barriers, as in sm90_backward_protocol.py: the kernels for dK and dV (cuda/sm90/wide_keys.cuh and
narrow_keys.cuh) and the one for dQ (cuda/sm90/separate_queries.cuh). Exit status 1 where some order goes wrong, or
where a design that is known to be wrong does not.
"""
from dataclasses import dataclass

from sm90_backward_protocol import Barrier, Memory, always, play

CONSUMERS = 2


@dataclass(frozen=True)
class KeyDesign:
    """hopperWideTile() in cuda/sm90/tiles.h."""
    name: str
    stages: int
    dout_stages: int
    held_forgotten: bool = False     # queries come before K and V have gone on to registers
    weights_forgotten: bool = False  # P is written before the last one was read
    released_before_dk: bool = False  # queries, once their dK is under way
    rows_forgotten: bool = False     # the second consumer waits for dO alone


@dataclass(frozen=True)
class NarrowDesign:
    """hopperNarrowTile()."""
    name: str
    consumers: int
    row_warps: int
    stages: int = 4
    rows_forgotten: bool = False       # queriesFull counts one warp that writes rows
    released_before_dk: bool = False   # queries, once their dK is under way
    released_by_one: bool = False      # a tile of queries is free once one consumer has used it


@dataclass(frozen=True)
class QueryDesign:
    """hopperQueryTile()."""
    name: str
    key_stages: int
    value_stages: int
    consumers: int = 2
    released_before_dq: bool = False   # keys, once their dQ is under way
    released_by_scores: bool = False   # keys, once their scores are there
    values_by_one: bool = False        # values are free once one consumer has used them


DESIGNS = (KeyDesign("keys, dims 256", 3, 2), KeyDesign("keys, dims 192", 4, 3), NarrowDesign("keys, dims 64", 3, 1),
           NarrowDesign("keys, dims 96 and 128", 2, 2), QueryDesign("queries, dims 256", 2, 1),
           QueryDesign("queries, dims 192", 3, 2),
           QueryDesign("queries, dims 192 and 128", 3, 3), QueryDesign("queries, dims 96 and 128", 4, 4),
           QueryDesign("queries, dims 64", 6, 6, consumers=3))
WRONG = (
    KeyDesign("keys, K and V in registers not waited for", 3, 2, held_forgotten=True),
    KeyDesign("keys, P overwritten", 3, 2, weights_forgotten=True),
    KeyDesign("keys, queries given back before dK is there", 3, 2, released_before_dk=True),
    KeyDesign("keys, rows not waited for", 3, 2, rows_forgotten=True),
    NarrowDesign("keys, dims 128, one warp of rows waited for", 2, 2, rows_forgotten=True),
    NarrowDesign("keys, dims 128, queries given back before dK is there", 2, 2, released_before_dk=True),
    NarrowDesign("keys, dims 64, queries given back by one consumer", 3, 1, released_by_one=True),
    QueryDesign("queries, keys given back before dQ is there", 2, 1, released_before_dq=True),
    QueryDesign("queries, keys given back after scores", 2, 1, released_by_scores=True),
    QueryDesign("queries, values given back by one consumer", 2, 1, values_by_one=True),
    QueryDesign("queries, one stage of keys", 1, 1),
)


class Turn:
    """A named barrier that one consumer arrives at and the other waits at."""

    def __init__(self):
        self.open = 0

    def arrive(self):
        assert not self.open, "a turn given twice"
        self.open += 1

    def take(self):
        while not self.open:
            yield lambda: self.open > 0
        self.open -= 1


class KeyBlock:
    def __init__(self, design, tiles):
        self.d, self.tiles = design, tiles
        stages, douts = range(design.stages), range(design.dout_stages)
        self.queries, self.rows, self.douts = [Memory() for _ in stages], [Memory() for _ in stages], [Memory()
                                                                                                       for _ in douts]
        self.queries_full, self.queries_empty = [Barrier(2) for _ in stages], [Barrier(CONSUMERS) for _ in stages]
        self.douts_full, self.douts_empty = [Barrier(1) for _ in douts], [Barrier(CONSUMERS) for _ in douts]
        self.turns = [Turn() for _ in range(CONSUMERS)]
        self.held, self.weights = Barrier(CONSUMERS), Memory()
        self.weights_full, self.weights_empty = Barrier(1), Barrier(1)
        for number in range(CONSUMERS):
            self.queries[number - CONSUMERS].write(0, f"operand {number}")

    def start(self, spawn):
        for actor in (self.copy_queries(), self.copy_rows(), self.scores(), self.gradients()):
            spawn(actor)

    def at(self, t):
        return t % self.d.stages, t // self.d.stages

    def at_dout(self, t):
        return t % self.d.dout_stages, t // self.d.dout_stages

    def copy_queries(self):
        for t in range(self.tiles):
            (stage, turn), (dout, dout_turn) = self.at(t), self.at_dout(t)
            if stage + CONSUMERS == self.d.stages and not self.d.held_forgotten:
                yield self.held.wait(0)
            yield self.queries_empty[stage].wait(turn + 1)
            self.queries[stage].write(0, t)
            self.queries_full[stage].arrive()
            yield self.douts_empty[dout].wait(dout_turn + 1)
            self.douts[dout].write(0, t)
            self.douts_full[dout].arrive()

    def copy_rows(self):
        for t in range(self.tiles):
            stage, turn = self.at(t)
            yield self.queries_empty[stage].wait(turn + 1)
            self.rows[stage].write(0, t)
            self.queries_full[stage].arrive()

    def hold(self, number):
        operand = self.queries[number - CONSUMERS]
        operand.begin(number, f"operand {number}")
        yield always
        operand.end(number, f"operand {number}")
        self.held.arrive()

    def scores(self):
        def start(t):
            stage, turn = self.at(t)
            yield self.queries_full[stage].wait(turn)
            self.rows[stage].begin(0, t)
            self.queries[stage].begin(0, t)

        yield from self.hold(0)
        yield from start(0)
        yield always
        self.queries[0].end(0, 0)
        for t in range(self.tiles):
            (stage, _), (dout, dout_turn), more = self.at(t), self.at_dout(t), t + 1 < self.tiles
            if not self.d.weights_forgotten:
                yield self.weights_empty.wait(t + 1)
            self.weights.write(0, t)
            self.weights_full.arrive()
            yield self.douts_full[dout].wait(dout_turn)
            yield from self.turns[0].take()
            self.douts[dout].begin(0, t)
            self.rows[stage].end(0, t)
            self.queries_empty[stage].arrive()
            if more:
                yield from start(t + 1)
            self.turns[1].arrive()
            yield always
            self.douts[dout].end(0, t)
            self.douts_empty[dout].arrive()
            if more:
                self.queries[self.at(t + 1)[0]].end(0, t + 1)

    def gradients(self):
        def start(t):
            (stage, turn), (dout, dout_turn) = self.at(t), self.at_dout(t)
            if not self.d.rows_forgotten:
                yield self.queries_full[stage].wait(turn)
            yield self.douts_full[dout].wait(dout_turn)
            self.rows[stage].begin(1, t)
            self.douts[dout].begin(1, t)

        def finish(t):
            dout = self.at_dout(t)[0]
            self.douts[dout].end(1, t)
            self.douts_empty[dout].arrive()

        yield from self.hold(1)
        self.turns[0].arrive()
        yield from start(0)
        yield always
        finish(0)
        for t in range(self.tiles):
            (stage, _), more = self.at(t), t + 1 < self.tiles
            yield self.weights_full.wait(t)
            self.weights.begin(1, t)
            yield from self.turns[1].take()
            self.queries[stage].begin(1, t)
            self.weights.end(1, t)
            self.weights_empty.arrive()
            if self.d.released_before_dk:
                self.queries_empty[stage].arrive()
            if more:
                yield from start(t + 1)
                self.turns[0].arrive()
            yield always
            self.queries[stage].end(1, t)
            self.rows[stage].end(1, t)
            if not self.d.released_before_dk:
                self.queries_empty[stage].arrive()
            if more:
                finish(t + 1)


class NarrowBlock:
    def __init__(self, design, tiles):
        self.d, self.tiles = design, tiles
        stages, free = range(design.stages), 1 if design.released_by_one else design.consumers
        self.queries, self.douts = [Memory() for _ in stages], [Memory() for _ in stages]
        self.rows = [Memory(design.row_warps) for _ in stages]
        self.queries_full = [Barrier(1 + (1 if design.rows_forgotten else design.row_warps)) for _ in stages]
        self.douts_full = [Barrier(1) for _ in stages]
        self.queries_empty, self.douts_empty = [Barrier(free) for _ in stages], [Barrier(free) for _ in stages]

    def start(self, spawn):
        spawn(self.copy_queries())
        for part in range(self.d.row_warps):
            spawn(self.copy_rows(part))
        for number in range(self.d.consumers):
            spawn(self.consume(number))

    def at(self, t):
        return t % self.d.stages, t // self.d.stages

    def copy_queries(self):
        for t in range(self.tiles):
            stage, turn = self.at(t)
            yield self.queries_empty[stage].wait(turn + 1)
            self.queries[stage].write(0, t)
            self.queries_full[stage].arrive()
            yield self.douts_empty[stage].wait(turn + 1)
            self.douts[stage].write(0, t)
            self.douts_full[stage].arrive()

    def copy_rows(self, part):
        for t in range(self.tiles):
            stage, turn = self.at(t)
            yield self.queries_empty[stage].wait(turn + 1)
            self.rows[stage].write(part, t)
            self.queries_full[stage].arrive()

    def consume(self, number):
        def multiply_queries(t):
            stage, turn = self.at(t)
            yield self.queries_full[stage].wait(turn)
            self.rows[stage].begin(number, t)
            self.queries[stage].begin((number, "scores"), t)

        def multiply_douts(t):
            stage, turn = self.at(t)
            yield self.douts_full[stage].wait(turn)
            self.douts[stage].begin((number, "dp"), t)

        yield from multiply_queries(0)
        yield from multiply_douts(0)
        for t in range(self.tiles):
            (stage, _), more = self.at(t), t + 1 < self.tiles
            yield always
            self.queries[stage].end((number, "scores"), t)
            self.douts[stage].end((number, "dp"), t)
            yield always
            self.rows[stage].end(number, t)
            self.douts[stage].begin((number, "dv"), t)
            self.queries[stage].begin((number, "dk"), t)
            if self.d.released_before_dk:
                self.queries_empty[stage].arrive()
            if more:
                yield from multiply_queries(t + 1)
            yield always
            self.douts[stage].end((number, "dv"), t)
            self.queries[stage].end((number, "dk"), t)
            if not self.d.released_before_dk:
                self.queries_empty[stage].arrive()
            self.douts_empty[stage].arrive()
            if more:
                yield from multiply_douts(t + 1)


class QueryBlock:
    def __init__(self, design, tiles):
        self.d, self.tiles = design, tiles
        keys, values = range(design.key_stages), range(design.value_stages)
        self.keys, self.values = [Memory() for _ in keys], [Memory() for _ in values]
        self.keys_full, self.keys_empty = [Barrier(1) for _ in keys], [Barrier(design.consumers) for _ in keys]
        self.values_full = [Barrier(1) for _ in values]
        self.values_empty = [Barrier(1 if design.values_by_one else design.consumers) for _ in values]

    def start(self, spawn):
        for actor in [self.copy_keys()] + [self.consume(number) for number in range(self.d.consumers)]:
            spawn(actor)

    def at_key(self, t):
        return t % self.d.key_stages, t // self.d.key_stages

    def at_value(self, t):
        return t % self.d.value_stages, t // self.d.value_stages

    def copy_keys(self):
        for t in range(self.tiles):
            (key, key_turn), (value, value_turn) = self.at_key(t), self.at_value(t)
            yield self.keys_empty[key].wait(key_turn + 1)
            self.keys[key].write(0, t)
            self.keys_full[key].arrive()
            yield self.values_empty[value].wait(value_turn + 1)
            self.values[value].write(0, t)
            self.values_full[value].arrive()

    def consume(self, number):
        d, dq_first = self.d, number % 2 == 0

        def multiply_keys(t):
            stage, turn = self.at_key(t)
            yield self.keys_full[stage].wait(turn)
            self.keys[stage].begin((number, "scores"), t)

        def multiply_values(t):
            stage, turn = self.at_value(t)
            yield self.values_full[stage].wait(turn)
            self.values[stage].begin(number, t)

        def finish_keys(t):
            stage = self.at_key(t)[0]
            self.keys[stage].end((number, "scores"), t)
            if d.released_by_scores:
                self.keys_empty[stage].arrive()

        def finish_values(t):
            stage = self.at_value(t)[0]
            self.values[stage].end(number, t)
            self.values_empty[stage].arrive()

        def multiply_gradients(t):
            self.keys[self.at_key(t)[0]].begin((number, "dq"), t)
            if d.released_before_dq:
                self.keys_empty[self.at_key(t)[0]].arrive()

        def finish_gradients(t):
            self.keys[self.at_key(t)[0]].end((number, "dq"), t)
            if not d.released_before_dq and not d.released_by_scores:
                self.keys_empty[self.at_key(t)[0]].arrive()

        yield from multiply_keys(0)
        yield from multiply_values(0)
        yield always
        finish_keys(0)
        finish_values(0)
        for t in range(self.tiles):
            more = t + 1 < self.tiles
            yield always
            if dq_first or not more:
                multiply_gradients(t)
            if more:
                yield from multiply_values(t + 1)
                if not dq_first:
                    multiply_gradients(t)
                yield from multiply_keys(t + 1)
            yield always
            if dq_first or not more:
                finish_gradients(t)
                yield always
            if more:
                finish_values(t + 1)
                yield always
                if not dq_first:
                    finish_gradients(t)
                    yield always
                finish_keys(t + 1)


BLOCKS = {KeyDesign: KeyBlock, NarrowDesign: NarrowBlock, QueryDesign: QueryBlock}

if __name__ == "__main__":
    play(__doc__, DESIGNS, WRONG, lambda design, tiles: BLOCKS[type(design)](design, tiles))
