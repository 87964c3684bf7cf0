#!/usr/bin/env python3
"""Do the sources keep to the house's rules?   rooms.py REPOSITORY

No line is wider than 120 columns, of scripts too. No native or Java source is longer than 400 lines, but what a program
has made.

Includes are written from a root (src/main/cpp or cuda), so that each shows the room it reaches into. A room uses those
that ROOMS names for it and nothing else; what it names stands above it, so there is no cycle.
"""
import pathlib
import re
import sys

ROOMS = {
    "src/main/cpp": (),
    "src/main/cpp/reference": ("src/main/cpp",),
    "src/main/cpp/simd": ("src/main/cpp",),
    "src/main/cpp/decode": ("src/main/cpp", "src/main/cpp/simd"),
    "src/main/cpp/avx512bf16": ("src/main/cpp", "src/main/cpp/simd"),
    "src/main/cpp/amx": ("src/main/cpp",),
    "cuda/common": ("src/main/cpp",),
    "cuda/reference": ("src/main/cpp", "cuda/common"),
    "cuda/sm80": ("src/main/cpp", "cuda/common"),
    "cuda/sm90": ("src/main/cpp", "cuda/common", "cuda/sm80"),
    "cuda/train": (),
}
ROOTS = ("src/main/cpp/", "cuda/")
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".c"}
FOLDERS = (*ROOTS, "tests/cpp", "tests/bench", "examples/c")  # of all native sources
SCRIPTS = {".java", ".py", ".sh"}
SCRIPT_FOLDERS = ("src/main/java", "adapters", "examples", "tests", "cmake")
MOST_COLUMNS, MOST_LINES = 120, 400


def room(path):
    return path.rpartition("/")[0]


def faults(sources):
    """Yields what is wrong with {path: text}."""
    for path, text in sources.items():
        if room(path) not in ROOMS:
            yield f"{path}: {room(path)} is no room of rooms.py"
            continue
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE):
            found = [root + name for root in ROOTS if root + name in sources]
            if len(found) != 1:
                where = "in both roots" if found else "in neither root"
                yield f'{path}: "{name}" is {where}; includes are written from {" or ".join(ROOTS)}'
            elif room(found[0]) not in (room(path), *ROOMS[room(path)]):
                yield f'{path}: "{name}" leads to {room(found[0])}, which {room(path)} may not use'


def calls(sources):
    """Yields rooms of kernels that name a kernel of another room: the table chooses, and none calls another."""
    kernel = r"\bk(?:Amx|Avx\w*|Simd128|Decode|Reference|Cuda(?:Decode|Wgmma|Mma|Reference))\b"
    made = rf"^const Kernel ({kernel}) = "
    homes = {name: room(path) for path, text in sources.items() if room(path) != "src/main/cpp"
             for name in re.findall(made, text, re.MULTILINE)}
    for path, text in sources.items():
        if room(path) in homes.values():
            for name in sorted(set(re.findall(kernel, text))):
                if homes.get(name) != room(path):
                    yield f"{path}: {name} is {homes.get(name)}'s kernel; who runs a step is chosen by the table"


def widths(sources):
    """Yields lines that are too wide."""
    for path, text in sources.items():
        yield from (f"{path}:{number}: {len(line)} columns, at most {MOST_COLUMNS}"
                    for number, line in enumerate(text.splitlines(), 1) if len(line) > MOST_COLUMNS)


def lengths(sources):
    """Yields files that are too long."""
    for path, text in sources.items():
        lines = text.splitlines()
        if len(lines) > MOST_LINES and not text.startswith("// Made by "):
            yield f"{path}: {len(lines)} lines, at most {MOST_LINES}"


def read(base, folders, suffixes):
    return {path.relative_to(base).as_posix(): path.read_text(encoding="utf-8")
            for folder in folders for path in sorted((base / folder).rglob("*")) if path.suffix in suffixes}


def check_the_check():
    common, sm80 = "cuda/common/a.h", "cuda/sm80/b.cuh"
    good = {common: '#include "flashring.h"', sm80: '#include "common/a.h"\n#include <cmath>',
            "src/main/cpp/flashring.h": ""}
    assert not list(faults(good))
    assert len(list(faults({**good, common: '#include "sm80/b.cuh"'}))) == 1
    assert len(list(faults({**good, sm80: '  # include "a.h"'}))) == 1
    assert len(list(faults({**good, "cuda/sm100/c.cu": ""}))) == 1
    own = {"cuda/sm80/a.cu": "const Kernel kCudaMma = {};", "cuda/sm90/a.cu": "const Kernel kCudaWgmma = {};"}
    assert not list(calls(own))
    assert len(list(calls({**own, "cuda/sm90/b.cu": "kCudaMma.forward(problem);"}))) == 1
    assert not list(widths({"a.h": "x" * 120 + "\n"})) and len(list(widths({"a.h": "\n" + "x" * 121}))) == 1
    assert not list(lengths({"a.h": "\n" * 400, "b.h": "// Made by c.py.\n" * 401}))
    assert len(list(lengths({"b.h": "\n" * 401}))) == 1
    for names, uses in zip([list(ROOMS)[:i] for i in range(len(ROOMS))], ROOMS.values()):
        assert set(uses) <= set(names), "a cycle between rooms"


def main(repository):
    check_the_check()
    base = pathlib.Path(repository)
    sources, native = read(base, ROOTS, SUFFIXES), read(base, FOLDERS, SUFFIXES)
    scripts = read(base, SCRIPT_FOLDERS, SCRIPTS)
    java = {path: text for path, text in scripts.items() if path.endswith(".java")}
    wrong = [*faults(sources), *calls(sources), *lengths({**native, **java}), *widths(native), *widths(scripts)]
    empty = ROOMS.keys() - {room(path) for path in sources}
    wrong += [f"{name}: an empty room" for name in sorted(empty)]
    print(f"{len(sources)} sources in {len(ROOMS)} rooms")
    sys.exit("\n".join(wrong) or 0)


main(sys.argv[1])
