"""Code that runs on every machine has baseline instructions alone: instruction_sets.py OBJDUMP NM OBJECT...

Files compiled for a wider instruction set may use it everywhere but in what decides whether they may run, and define
nothing that the linker could merge into other files: of the copies of an inline function it keeps any one.
"""
import os
import re
import subprocess
import sys

WIDE = re.compile(r".*flashring_(simd\.dir/.*/avx[^/]*|avx512bf16\.dir/.*|decode\.dir/.*"
                  r"|amx\.dir/.*/(forward|backward)\.[^/]*)$")
ENTERED_ANYWHERE = re.compile(r"available|_GLOBAL__sub_I|__static_init")
BEYOND_SSE2 = re.compile(  # the mnemonics that AVX and AVX-512 prefix, masks, tiles, then SSE3 to SSE4.2 and BMI
    r"v(?!er[rw]$|m)|vm(?!call|launch|resume|xo|read|write)|k(mov|and|or|not|x|shift|unpck|test|add)|tile|tdp"
    r"|ldtilecfg|sttilecfg"
    r"|addsub|h(add|sub)p[sd]|lddqu|mov(dd|shd|sld)up|ph(add|sub)|pmaddubsw|pmulhrsw|pshufb|psign[bwd]"
    r"|pabs[bwd]|palignr"
    r"|p?blend|dpp[sd]|extractps|insertps|movntdqa|mpsadbw|packusdw|pcmp(eqq|gtq|[ei]str)|p(ext|ins)r[bdq]|phminposuw"
    r"|pm(ax|in)(sb|sd|uw|ud)|pmov[sz]x|pmuldq|pmulld|ptest|round[ps][sd]|crc32|popcnt|lzcnt|andn\b|bextr|bls"
    r"|bzhi|mulx|p(dep|ext)\b"
    r"|rorx|sarx|sh[lr]x|movbe|ad[co]x")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def functions(objdump, path):
    """Yields the name of each function with its mnemonics."""
    name, mnemonics = None, []
    for line in output(objdump, "-d", "--no-show-raw-insn", path):
        start = re.match(r"[0-9a-f]+ <(.*)>:$", line)
        if start:
            if name:
                yield name, mnemonics
            name, mnemonics = start[1], []
        else:
            code = re.match(r"\s*[0-9a-f]+:\s+(?:(?:lock|rep[nz]*|notrack|bnd|data16|cs|ds|[{]\w+[}])\s+)*(\w+)", line)
            if code:
                mnemonics.append(code[1])
    if name:
        yield name, mnemonics


def main(objdump, nm, objects):
    wrong, baseline, wide = [], 0, 0
    for path in objects:
        name = re.search(r"([^/]*)\.dir/", path).group(1) + "/" + os.path.basename(path)
        may = bool(WIDE.match(path))
        for function, mnemonics in functions(objdump, path):
            beyond = sorted({m for m in mnemonics if BEYOND_SSE2.match(m)})
            wide += bool(beyond)
            baseline += not may
            if beyond and (not may or ENTERED_ANYWHERE.search(function)):
                wrong.append(f"{name}: {function} has {', '.join(beyond[:8])}")
        if may:
            for symbol in output(nm, "--defined-only", path):
                kind, symbol = symbol.split()[-2:]
                if kind in "WVu" and not symbol.startswith("DW.ref."):
                    wrong.append(f"{name}: the linker may merge {symbol} into other files")
    print(f"{baseline} functions of the baseline; {wide} functions of wider instruction sets")
    if not (baseline > 100 and wide > 30):
        wrong.append("the disassembly was not understood")
    sys.exit("\n".join(wrong) or 0)


main(sys.argv[1], sys.argv[2], sys.argv[3:])
