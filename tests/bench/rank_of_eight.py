"""What one rank of eight computes, in a ring and in a gather, on one GPU and without communication."""
import ctypes as c
import math

import torch

from flashring_ctypes import ADD_DQ, BACKWARD, FINISH, RESUME, attach, empty

RANKS, CHUNK = 8, 4096  # zigzag: a rank has two chunks of a causal sequence
LOCAL, TOKENS = 2 * CHUNK, 2 * CHUNK * RANKS
Q_HEADS, KV_HEADS, DIM = 64, 8, 128
GROUP = Q_HEADS // KV_HEADS
DIFFERENCE = 1e-2       # of the norm: out and dq of the ring and of the gather are rounded differently


def ranges(rank):
    return [(chunk * CHUNK, CHUNK, 1) for chunk in (rank, 2 * RANKS - 1 - rank)]


def draw(*shape):
    return torch.randn(shape, device="cuda").bfloat16()


class Steps:
    """Steps that run one after the other, each a (step, flags of forward, flags of backward), and what they write."""

    def __init__(self, ring, steps, out, dq):
        self.ring, self.steps, self.out, self.dq = ring, steps, out, dq
        self.kernel = ring.kernel_name(steps[0][0], BACKWARD)

    def forward(self):
        for step, flags, _ in self.steps:
            step.flags = flags
            self.ring.call("flashring_forward_step", c.byref(step))

    def backward(self):
        """Delta is left out: it is the same in both."""
        for step, _, flags in self.steps:
            step.flags = flags
            self.ring.call("flashring_backward_step", c.byref(step))


class RankOfEight:
    PLAYED = (0, 3, 7)  # the rank that sees least and most, one amid, and the one whose chunks lie side by side

    def __init__(self, rank):
        self.rank = rank
        self.q, self.dout = draw(1, LOCAL, Q_HEADS, DIM), draw(1, LOCAL, Q_HEADS, DIM)
        # In order of positions, a head's rows side by side, as a gather puts them.
        self.k, self.v = (draw(1, KV_HEADS, TOKENS, DIM).transpose(1, 2) for _ in range(2))

    def flops(self, direction):
        pairs = sum(position + 1 for start, length, _ in ranges(self.rank) for position in range(start, start + length))
        return (4.0 if direction == "forward" else 10.0) * Q_HEADS * DIM * pairs

    def ring(self, ring):
        """Own keys, then those of the rank before, and so on; the state is resumed, dq added to."""
        sources = [(self.rank - step) % RANKS for step in range(RANKS)]
        acc, grads = empty(1, LOCAL, Q_HEADS, DIM), {name: empty(1, LOCAL, KV_HEADS, DIM) for name in ("dk", "dv")}

        def blocks(made):
            for n, source in enumerate(sources):
                k, v = (torch.cat([x[:, a:a + length] for a, length, _ in ranges(source)], 1) for x in (self.k, self.v))
                step = self._step(ring, slice(0, Q_HEADS), k, v, ranges(source), {**made, "acc": acc}, grads)
                yield step, (RESUME if n else 0) | (FINISH if n == RANKS - 1 else 0), ADD_DQ if n else 0

        return self._steps(ring, blocks)

    def gather(self, ring, heads):
        """All keys at once, `heads` key heads at a time."""
        grads = {name: empty(1, TOKENS, KV_HEADS, DIM) for name in ("dk", "dv")}

        def groups(made):
            for first in range(0, KV_HEADS, heads):
                keys, queries = slice(first, first + heads), slice(first * GROUP, (first + heads) * GROUP)
                mine = {name: x[:, :, keys] for name, x in grads.items()}
                k, v = (x[:, :, keys] for x in (self.k, self.v))
                yield self._step(ring, queries, k, v, [(0, TOKENS, 1)], made, mine), FINISH, 0

        return self._steps(ring, groups)

    def _step(self, ring, heads, k, v, kv_ranges, made, grads):
        step = ring.step(self.q[:, :, heads], k, v, ranges(self.rank), kv_ranges, 1 / math.sqrt(DIM), -1, 0)
        attach(step, dout=self.dout[:, :, heads], **{name: x[:, :, heads] for name, x in made.items()}, **grads)
        return step

    def _steps(self, ring, make):
        made = {name: empty(1, LOCAL, Q_HEADS, width) for name, width in (("dq", DIM), ("lse", 1), ("delta", 1))}
        made["out"] = empty(1, LOCAL, Q_HEADS, DIM, dtype=self.q.dtype)
        steps = Steps(ring, list(make(made)), made["out"], made["dq"])
        steps.forward()
        whole = self._step(ring, slice(0, Q_HEADS), self.k, self.v, [(0, TOKENS, 1)], made, {})
        ring.call("flashring_delta", c.byref(whole))
        return steps

    @staticmethod
    def require_equal(ring, gather):
        for steps in (ring, gather):
            steps.backward()
        for name, a, b in (("out", ring.out, gather.out), ("dq", ring.dq, gather.dq)):
            if not (a.float() - b.float()).norm() <= DIFFERENCE * b.float().norm():
                raise RuntimeError(f"{name} of the gather is not the ring's")
