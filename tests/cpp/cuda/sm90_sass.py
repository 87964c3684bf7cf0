#!/usr/bin/env python3
"""Checks the machine code of the Hopper kernels:   sm90_sass.py libflashring.so [cuobjdump]

Per kernel: the number of tensor-core instructions is the one its tile asks for, nothing is in local memory, and no
exponential lies between the start of a consumer's batch of products and its end, where the compiler likes to move
them and where they would hold up the tensor cores. (In the kernel for dQ: between the start of dQ and the end of its
batch. Every second consumer starts dP before; that needs none of this tile's exponentials, which may run beside it.)
Nor are the forward kernels' descriptors computed thread by thread, as they are where ptxas no longer sees that all
threads of a warp have the same indices: 8 % of the speed. Exit status 77 where there is no disassembler.
"""
import re
import shutil
import subprocess
import sys

DIMS = ((64, 64), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256))  # kHeadDims in head_dims.h
KEYS = (128, 128, 128, 96, 80, 80)  # hopperTile() in sm90/tiles.h
BACKWARD_KEYS = (192, 128, 128)     # hopperBackwardTile(), whose tiles have 64 queries
QUERY_CONSUMERS = (3, 2, 2, 2, 2, 2)  # hopperQueryTile(), whose tiles have 64 keys: each consumer has code of its own
MOST_MOVED = 8                      # 16 and more where descriptors are

disassembler = sys.argv[2] if len(sys.argv) > 2 else shutil.which("cuobjdump")
if not disassembler:
    print("skipped: there is no cuobjdump")
    sys.exit(77)
listing = subprocess.run([disassembler, "-sass", sys.argv[1]], check=True, capture_output=True, text=True).stdout
kernels = failures = 0
for function in re.split(r"\n\s*Function : ", listing)[1:]:
    found = re.match(r"\S*hopper(Forward|Backward|NarrowKeys|WideKeys|Queries)Kernel\S*"
                     r"Hopper(?:Backward|Narrow|Wide|Query)?ConfigILi(\d)E(?:Lb(\d)E)?(?:LNS_7ShapingE(\d)E)?",
                     function)
    if not found:
        continue
    kernels += 1
    backward, index = found.group(1) != "Forward", int(found.group(2))
    code, operands = zip(*re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)([^;]*)", function))
    products = [i for i, op in enumerate(code) if op.startswith("HGMMA")]
    both = sum(DIMS[index]) // 16  # scores and dP of a tile
    if found.group(1) == "Queries":  # before and in the loop; dQ there and in the last step
        expected = QUERY_CONSUMERS[index] * (2 * both + 2 * 64 // 16)
    # the same, and dK and dV; consumers that differ do half of it each
    elif found.group(1) in ("NarrowKeys", "WideKeys"):
        expected = 2 * both + 2 * 2 * 64 // 16
    # scores and dP before and in the loop; dV, dK and dQ in the loop and in a block's last step, which is code of its
    # own
    elif backward:
        expected = 2 * (both + 2 * 64 // 16 + BACKWARD_KEYS[index] // 16)
    # scores before and in the loop, values in the loop; where ptxas has the registers, a tile's last step is code of
    # its own
    else:
        scores, values, resumed = DIMS[index][0] // 16, KEYS[index] // 16, found.group(3) == "1"
        sloped = found.group(4) == "2"  # with ALiBi there is one code for all steps
        steps = 2 if DIMS[index][0] <= 128 and not (resumed and DIMS[index][0] == 64) and not sloped else 1
        expected = scores + steps * (scores + values)
    problems = []
    if len(products) != expected:
        problems.append(f"{len(products)} HGMMA instead of {expected}")
    local = sum(op.startswith(("LDL", "STL")) for op in code)
    if local:
        problems.append(f"{local} accesses to local memory")
    kind = found.group(1) if backward else "resumed" if found.group(3) == "1" else "forward"
    name = f"{DIMS[index][0]}/{DIMS[index][1]} {kind}"
    exponentials = [i for i, op in enumerate(code) if op == "MUFU.EX2"]
    arrivals = [i for i, op in enumerate(code) if op == "WARPGROUP.ARRIVE" and i < products[-1]]
    batches = [(begin, max(i for i in products if i < end)) for begin, end in zip(arrivals, arrivals[1:] + [len(code)])]
    # dQ alone takes keys across the rows that they lie in; a batch is waited for at its end
    if found.group(1) == "Queries":
        ends = [i for i, op in enumerate(code) if op.startswith("WARPGROUP.DEPBAR")]
        starts = [i for i in products if "tnspB" in operands[i]]
        late = sum(i < x < min(end for end in ends if end > i) for i in starts for x in exponentials)
        before = min(sum(max([0] + [end for end in ends if end < i]) < x < i for x in exponentials) for i in starts)
    elif backward:  # batches follow each other without exponentials, but for those of pairs that are computed alone
        between = [sum(begin < i < end for i in exponentials) for begin,
                   end in zip([0] + arrivals, arrivals + [len(code)])]
        late, before = sum(n for n in between if 2 < n < 32), max(between)
    else:
        late = sum(begin < i < end for begin, end in batches for i in exponentials)
        before = sum(i < batches[-1][0] for i in exponentials)
    moved = max(sum(op == "R2UR" for op in code[begin:end]) for begin, end in batches)
    if moved > MOST_MOVED and not backward:
        problems.append(f"{moved} values go from threads to the warp inside a batch")
    if late or before < (64 if backward else KEYS[index]) // 2:
        problems.append(f"{late} exponentials inside the batch, {before} before it")
    failures += bool(problems)
    print(f"{name}: {len(code)} instructions, {len(products)} HGMMA, {before} exponentials before the batch"
          + "".join("; FAILED: " + p for p in problems))
# Forward: with and without an earlier state. Backward: two kernels, and one where dQ is gathered.
# A softcap: both ways at two dims. ALiBi at one, forward in bfloat16 and of no earlier state.
SOFTCAP, ALIBI = 2 * (2 * 2 + 1 + 2), 1 + 2
wanted = 2 * (2 * len(DIMS) + 2 * len(DIMS) + len(BACKWARD_KEYS)) + SOFTCAP + ALIBI
if kernels != wanted:
    failures += 1
    print(f"FAILED: {kernels} Hopper kernels instead of {wanted}")
sys.exit(failures > 0)
