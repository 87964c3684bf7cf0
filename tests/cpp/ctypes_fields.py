#!/usr/bin/env python3
"""Do the benchmarks' ctypes structs have the fields of flashring.h and flashring_library.h, in their order?
ctypes_fields.py

Exit status 1 where they do not: a field that is missing shifts all that follow.
"""
import pathlib
import re
import sys
from unittest import mock

root = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "tests/bench"))
sys.modules["torch"] = mock.MagicMock()  # which a clean machine lacks
import flashring_ctypes  # noqa: E402

STRUCTS = {"flashring_step": flashring_ctypes.Step, "flashring_capability": flashring_ctypes.Capability,
           "flashring_mask": flashring_ctypes.Mask, "flashring_tensor": flashring_ctypes.Tensor}


def fields(header, struct):
    """Names of the struct's fields, in order."""
    body = re.search(r"typedef struct " + struct + r" \{(.*?)\n\} " + struct + ";", header, re.S).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    return [name for line in body.split(";") if line.strip() for name in re.findall(r"(\w+)\s*(?:,|$)", line.strip())]


def main():
    header = "".join((root / "src/main/cpp" / name).read_text() for name in ("flashring_library.h", "flashring.h"))
    wrong = False
    for struct, ours in STRUCTS.items():
        expected, found = fields(header, struct), [name for name, *_ in ours._fields_]
        if expected != found:
            wrong = True
            print(f"{struct}: the header has {expected}, tests/bench/flashring_ctypes.py {found}")
    print(f"{len(STRUCTS)} structs compared")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
