#!/usr/bin/env python3
"""Prints a digest of the machine code of every kernel:   kernel_digest.py libflashring.so

One line a kernel and architecture: digest, architecture, name. A change that only moves or renames sources prints the
same lines before and after:   diff <(kernel_digest.py old.so) <(kernel_digest.py new.so)

Reads the library itself, without NVIDIA's tools: the fat binaries in it, each a list of ELF files that may be
compressed by zstd. Names lose what nvcc makes of a file's path for what is in an unnamed namespace.
"""
import ctypes
import hashlib
import re
import struct
import sys

FAT_BINARY = struct.pack("<I", 0xBA55ED50)
ELF_ENTRY = 2
LOCAL = re.compile(r"\d+_GLOBAL__N__[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}(?:_\d+)?")


def decompressed(data, size):
    zstd = ctypes.CDLL("libzstd.so.1")
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    target = ctypes.create_string_buffer(size)
    if zstd.ZSTD_decompress(target, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data))) != size:
        sys.exit("an ELF file does not decompress")
    return target.raw


def elves(library):
    """Yields each ELF file with its architecture."""
    place = library.find(FAT_BINARY)
    while place >= 0:
        _, version, header, size = struct.unpack_from("<IHHQ", library, place)
        entry, place = place + header, place + header + size
        while version == 1 and entry < place:
            kind, _, header, size, packed, _, _, architecture = struct.unpack_from("<HHIQIIII", library, entry)
            unpacked, = struct.unpack_from("<Q", library, entry + 56)
            data = library[entry + header:entry + header + size]
            if kind == ELF_ENTRY:
                yield decompressed(data[:packed], unpacked) if unpacked else data, architecture
            entry += header + size
        place = library.find(FAT_BINARY, place)


def kernels(elf):
    """Yields the name and the code of each kernel."""
    start, = struct.unpack_from("<Q", elf, 40)
    width, count, names = struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQII", elf, start + i * width) for i in range(count)]
    for name, _, _, _, offset, size, _, _ in sections:
        at = sections[names][4] + name
        text = elf[at:elf.index(b"\0", at)].decode()
        if text.startswith(".text."):
            yield LOCAL.sub("_GLOBAL__N_", text[len(".text."):]), elf[offset:offset + size]


def main(path):
    with open(path, "rb") as file:
        library = file.read()
    lines = sorted((name, architecture, hashlib.sha256(code).hexdigest()[:16])
                   for elf, architecture in elves(library) for name, code in kernels(elf))
    for name, architecture, digest in lines:
        print(f"{digest} sm_{architecture} {name}")
    sys.exit(0 if lines else f"{path} holds no kernels")


main(sys.argv[1])
