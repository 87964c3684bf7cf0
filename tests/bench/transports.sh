#!/usr/bin/env bash
# How much of the speed of attention alone does a ring keep over NCCL and over peer copies, on two GPUs:
# transports.sh BUNDLE [SECONDS [nccl]]
# BUNDLE is an unpacked bundle (./flashring bundle). Ten blocks in which all ways take turns; TransportBench says what
# is compared. "nccl" compares ways to set NCCL up instead, and shows what NCCL says of its channels and registrations.
set -euo pipefail
bundle=${1:?folder of an unpacked bundle}
nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
nvidia-smi topo -m | head -4
if [ -n "${3:-}" ]; then
    logs=$(mktemp -d)
    export NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,REG NCCL_DEBUG_FILE=$logs/%p
    trap 'grep -ho "[0-9]* coll channels.*\|IPC register[a-z]* buffer" "$logs"/* | sort | uniq -c; rm -r "$logs"' EXIT
fi
timeout -k 5 "${2:-170}" "$bundle/run" launch --nproc 2 -- org.flashring.numerics.TransportBench ${3:-}
