"""The library from Python with ctypes alone: causal attention and its gradients against a few lines of float64."""
import ctypes
import math
import os
import random
import signal
import sys
import threading
import time

INT, LONG, REAL, ADDRESS = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class Tensor(ctypes.Structure):
    _fields_ = [("data", ADDRESS), ("stride_batch", LONG), ("stride_seq", LONG), ("stride_head", LONG)]


class Range(ctypes.Structure):
    _fields_ = [("start", LONG), ("length", LONG), ("stride", LONG)]


class Positions(ctypes.Structure):
    _fields_ = [("ranges", ctypes.POINTER(Range)), ("count", LONG)]


class Mask(ctypes.Structure):
    _fields_ = [("left", LONG), ("right", LONG), ("cu_seqlens", ADDRESS), ("documents", LONG),
                ("prefix_lengths", ADDRESS)]


TENSORS = "q k v out acc lse dout delta dq dk dv lse_low".split()


class Step(ctypes.Structure):
    _fields_ = (
        [("size", ctypes.c_uint32)]
        + [(name, INT) for name in "device dtype kernel flags deterministic".split()]
        + [(name, LONG) for name in "batch q_len kv_len q_heads kv_heads head_dim value_dim".split()]
        + [("softmax_scale", REAL), ("q_positions", Positions), ("kv_positions", Positions), ("mask", Mask)]
        + [("workspace", ADDRESS), ("workspace_bytes", LONG), ("stream", ADDRESS)]
        + [(name, Tensor) for name in TENSORS]
    )


def load(path):
    library = ctypes.CDLL(path)
    library.flashring_last_error.restype = ctypes.c_char_p
    library.flashring_host_allocate.restype = ADDRESS
    library.flashring_host_allocate.argtypes = [LONG]
    library.flashring_host_free.argtypes = [ADDRESS]
    return library


def formula(q, k, v, dout, scale):
    """out, dq, dk, dv of causal attention for one head, as lists of rows."""
    length, dim = len(q), len(q[0])
    zeros = lambda: [[0.0] * dim for _ in range(length)]
    dot = lambda a, b: math.fsum(x * y for x, y in zip(a, b))
    out, dq, dk, dv = zeros(), zeros(), zeros(), zeros()
    for i in range(length):
        weights = [math.exp(scale * dot(q[i], k[j])) for j in range(i + 1)]
        p = [weight / math.fsum(weights) for weight in weights]
        out[i] = [math.fsum(p[j] * v[j][d] for j in range(i + 1)) for d in range(dim)]
        delta = dot(out[i], dout[i])
        for j in range(i + 1):
            ds = scale * p[j] * (dot(dout[i], v[j]) - delta)
            for d in range(dim):
                dq[i][d] += ds * k[j][d]
                dk[j][d] += ds * q[i][d]
                dv[j][d] += p[j] * dout[i][d]
    return {"out": out, "dq": dq, "dk": dk, "dv": dv}


class Problem:
    """Operands and results of one attention; each thread needs its own."""

    def __init__(self, library, rows, length, dim, scale):
        self.library = library
        self.step = Step(size=ctypes.sizeof(Step), device=-1, dtype=0, flags=2, batch=1, q_len=length, kv_len=length,
                         q_heads=1,
                         kv_heads=1, head_dim=dim, value_dim=dim, softmax_scale=scale)
        self.whole = Range(0, length, 1)
        self.step.q_positions = self.step.kv_positions = Positions(ctypes.pointer(self.whole), 1)
        self.step.mask = Mask(left=-1, right=0)
        self.memory = {}
        for name in TENSORS:
            width = 1 if name in ("lse", "delta") else dim
            flat = [x for row in rows.get(name, []) for x in row] or [math.nan] * (length * width)
            self.memory[name] = (REAL * len(flat))(*flat)
            setattr(self.step, name, Tensor(ctypes.addressof(self.memory[name]), length * width, width, width))

    def run(self):
        self.call(self.library.flashring_forward_step, 0)
        self.call(self.library.flashring_delta, 0)
        self.call(self.library.flashring_backward_step, 1)
        return {name: bytes(self.memory[name]) for name in ("out", "dq", "dk", "dv")}

    def call(self, function, direction):
        needed = LONG()
        self.require(self.library.flashring_workspace_bytes(ctypes.byref(self.step), direction, ctypes.byref(needed)))
        self.step.workspace, self.step.workspace_bytes = self.library.flashring_host_allocate(needed), needed
        self.require(function(ctypes.byref(self.step)))
        self.library.flashring_host_free(self.step.workspace)

    def require(self, status):
        if status:
            sys.exit(f"status {status}: {self.library.flashring_last_error().decode()}")


def check_forks(make, count):
    """Children of os.fork compute the same bits while another thread is in calls."""
    problem, busy, done = make(), make(), threading.Event()
    expected = problem.run()

    def compute():
        while not done.is_set():
            busy.run()

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for number in range(count):
            child = os.fork()
            if child == 0:
                os._exit(0 if problem.run() == expected else 1)
            deadline = time.monotonic() + 30
            while (answer := os.waitpid(child, os.WNOHANG))[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    sys.exit(f"fork {number}: the child hangs")
                time.sleep(0.0005)
            if answer[1]:
                sys.exit(f"fork {number}: wait status {answer[1]}")
    finally:
        done.set()
        thread.join()
    print(f"{count} forks")


def main(path):
    library = load(path)
    generator = random.Random(1)
    length, dim, scale = 37, 5, 0.4
    rows = {name: [[generator.gauss(0, 1) for _ in range(dim)] for _ in range(length)] for name in "q k v dout".split()}
    problem = Problem(library, rows, length, dim, scale)
    problem.run()
    for name, expected in formula(scale=scale, **rows).items():
        worst = max(abs(problem.memory[name][i * dim + d] - expected[i][d]) for i in range(length) for d in range(dim))
        print(f"{name}: largest error {worst:.3g}")
        if not worst <= 1e-12:
            sys.exit(f"{name} is wrong")
    problem.step.head_dim = 0
    status = library.flashring_forward_step(ctypes.byref(problem.step))
    if status != 1 or b"head_dim = 0" not in library.flashring_last_error():
        sys.exit("a bad step is not refused")
    library.flashring_set_threads(3)
    check_forks(lambda: Problem(library, rows, length, dim, scale), 50)


main(sys.argv[1])
