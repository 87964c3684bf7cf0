#!/usr/bin/env bash
# How much of the speed of attention alone does a ring keep over NCCL and over peer copies, on two GPUs: transports.sh BUNDLE [SECONDS [channels|registered]]
# BUNDLE is an unpacked bundle (./flashring bundle). Ten blocks in which all ways take turns; TransportBench says what is compared.
# "channels" and "registered" compare ways to set NCCL up instead, and show what NCCL says of its channels and registrations.
set -euo pipefail
bundle=${1:?folder of an unpacked bundle}
nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
nvidia-smi topo -m | head -4
if [ -n "${3:-}" ]; then
    logs=$(mktemp -d)
    export NCCL_LEGACY_CUDA_REGISTER=1 # or cudaMalloc's memory is not registered
    export NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,REG NCCL_DEBUG_FILE=$logs/%p
    trap 'grep -ho "[0-9]* coll channels.*\|IPC register[a-z]* buffer" "$logs"/* | sort | uniq -c; rm -r "$logs"' EXIT
fi
timeout -k 5 "${2:-170}" "$bundle/run" launch --nproc 2 -- org.flashring.numerics.TransportBench ${3:-}
