package org.flashring.internal;

import static org.bytedeco.cuda.global.nccl.*;

import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.cuda.nccl.ncclConfig_t;
import org.bytedeco.cuda.nccl.ncclUniqueId;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;

/**
 * The few calls of NCCL that this library makes. A call that fails throws {@link IllegalStateException} with NCCL's
 * words for it. But for {@link #register} no call here is newer than NCCL 2.18, so that any release from there on
 * serves, older than the preset's headers or not. Element types are given by their numbers in the native interface.
 */
public final class Nccl {
    /** The first release that knows {@link #register}. */
    public static final int REGISTERS = 21_900;

    /** Bytes of a group's id. */
    public static final int ID_BYTES = NCCL_UNIQUE_ID_BYTES;

    /** What stands for NCCL's own choice among a communicator's settings. */
    public static final int UNDEFINED = Integer.MIN_VALUE;

    // The settings as of NCCL 2.18, a prefix of what later releases have, which fill in the rest
    private static final int CONFIG_VERSION = 21_800;
    private static final int CONFIG_BYTES = 48;

    private static final int[] TYPES = {ncclFloat64, ncclFloat32, ncclBfloat16, ncclFloat16
    }; // by number in the native interface

    private Nccl() {}

    /** Returns NCCL's release, such as 22803; throws {@link LinkageError} if there is no NCCL. */
    public static int load() {
        NativeLoader.load(nccl.class);
        int[] version = new int[1];
        check(ncclGetVersion(version), "ncclGetVersion");
        return version[0];
    }

    /** Returns the id of a new group, which its ranks pass to {@link #initRank}. */
    public static byte[] newId() {
        try (Scratch memory = new Scratch(ID_BYTES)) {
            ncclUniqueId id = new ncclUniqueId(Handles.target(memory.address()));
            check(ncclGetUniqueId(id), "ncclGetUniqueId");
            byte[] bytes = new byte[ID_BYTES];
            new BytePointer(id).get(bytes);
            return bytes;
        }
    }

    /**
     * Returns this rank's communicator on the current device, once all ranks have called this.
     *
     * @param minCtas least blocks of NCCL's kernels, {@link #UNDEFINED} for NCCL's choice, as maxCtas then
     * @param maxCtas most blocks
     * @param clusterSize blocks to a cluster, 0 for none, or {@link #UNDEFINED}
     */
    public static ncclComm initRank(
            byte[] idBytes, int rank, int worldSize, int minCtas, int maxCtas, int clusterSize) {
        ncclComm comm = new ncclComm();
        try (Scratch memory = new Scratch(ID_BYTES);
                ncclConfig_t config = new ncclConfig_t()) {
            ncclUniqueId id = new ncclUniqueId(Handles.target(memory.address()));
            new BytePointer(id).put(idBytes);
            config.size(CONFIG_BYTES).magic(NCCL_API_MAGIC).version(CONFIG_VERSION);
            config.blocking(UNDEFINED).splitShare(UNDEFINED).netName(null);
            config.minCTAs(minCtas).maxCTAs(maxCtas).cgaClusterSize(clusterSize);
            check(ncclCommInitRankConfig(comm, worldSize, id, rank, config), "ncclCommInitRankConfig");
        }
        return comm;
    }

    public static ncclComm split(ncclComm comm, int color, int key) {
        ncclComm part = new ncclComm();
        check(ncclCommSplit(comm, color, key, part, (ncclConfig_t) null), "ncclCommSplit");
        return part;
    }

    public static int rank(ncclComm comm) {
        int[] rank = new int[1];
        check(ncclCommUserRank(comm, rank), "ncclCommUserRank");
        return rank[0];
    }

    public static int size(ncclComm comm) {
        int[] size = new int[1];
        check(ncclCommCount(comm, size), "ncclCommCount");
        return size[0];
    }

    /**
     * Returns the address of {@code bytes} bytes on the current device that can be registered; throws
     * {@link OutOfMemoryError} if there are none.
     */
    public static long allocate(long bytes) {
        try (PointerPointer<Pointer> answer = new PointerPointer<>(1)) {
            int status = ncclMemAlloc(answer, bytes);
            if (status != ncclSuccess) {
                throw new OutOfMemoryError("NCCL has no memory for " + bytes + " bytes: " + words(status));
            }
            return answer.get(0).address();
        }
    }

    /** Frees what {@link #allocate} gave. */
    public static void free(long address) {
        check(ncclMemFree(Handles.target(address)), "ncclMemFree");
    }

    /**
     * Lets peers copy to and from these bytes without buffers of NCCL's between. Returns what {@link #deregister}
     * takes.
     */
    public static long register(ncclComm comm, long address, long bytes) {
        try (PointerPointer<Pointer> registration = new PointerPointer<>(1)) {
            check(ncclCommRegister(comm, Handles.target(address), bytes, registration), "ncclCommRegister");
            return registration.get(0).address();
        }
    }

    /** Ends a registration, of which the peers hear. Returns whether that is done. */
    public static boolean deregister(ncclComm comm, long registration) {
        return ncclCommDeregister(comm, Handles.target(registration)) == ncclSuccess;
    }

    public static void destroy(ncclComm comm) {
        check(ncclCommDestroy(comm), "ncclCommDestroy");
    }

    /** Ends work under way on {@code comms} and frees them. What NCCL says of it does not matter any more. */
    public static void abort(Iterable<ncclComm> comms) {
        ncclGroupStart();
        comms.forEach(nccl::ncclCommAbort);
        ncclGroupEnd();
    }

    /** Returns NCCL's words for a failure noticed in the background, or null. */
    public static String asyncError(ncclComm comm) {
        int[] error = new int[1];
        int status = ncclCommGetAsyncError(comm, error);
        int worst = status != ncclSuccess ? status : error[0];
        return worst == ncclSuccess || worst == ncclInProgress ? null : words(worst);
    }

    public static void groupStart() {
        check(ncclGroupStart(), "ncclGroupStart");
    }

    public static void groupEnd() {
        check(ncclGroupEnd(), "ncclGroupEnd");
    }

    public static void send(long address, long bytes, int to, ncclComm comm, long stream) {
        check(ncclSend(Handles.source(address), bytes, ncclInt8, to, comm, Handles.stream(stream)), "ncclSend");
    }

    public static void receive(long address, long bytes, int from, ncclComm comm, long stream) {
        check(ncclRecv(Handles.target(address), bytes, ncclInt8, from, comm, Handles.stream(stream)), "ncclRecv");
    }

    public static void allGather(long send, long receive, long bytes, ncclComm comm, long stream) {
        check(
                ncclAllGather(
                        Handles.source(send), Handles.target(receive), bytes, ncclInt8, comm, Handles.stream(stream)),
                "ncclAllGather");
    }

    public static void allReduce(long data, long count, int dtype, ncclComm comm, long stream) {
        check(
                ncclAllReduce(
                        Handles.source(data),
                        Handles.target(data),
                        count,
                        TYPES[dtype],
                        ncclSum,
                        comm,
                        Handles.stream(stream)),
                "ncclAllReduce");
    }

    public static void reduceScatter(long send, long receive, long count, int dtype, ncclComm comm, long stream) {
        check(
                ncclReduceScatter(
                        Handles.source(send),
                        Handles.target(receive),
                        count,
                        TYPES[dtype],
                        ncclSum,
                        comm,
                        Handles.stream(stream)),
                "ncclReduceScatter");
    }

    /**
     * Sums {@code count} elements at {@code send} of every rank at {@code receive} of rank {@code root}, which others
     * do not read.
     */
    public static void reduce(long send, long receive, long count, int dtype, int root, ncclComm comm, long stream) {
        check(
                ncclReduce(
                        Handles.source(send),
                        Handles.target(receive),
                        count,
                        TYPES[dtype],
                        ncclSum,
                        root,
                        comm,
                        Handles.stream(stream)),
                "ncclReduce");
    }

    private static void check(int status, String call) {
        if (status != ncclSuccess) {
            throw new IllegalStateException(call + " failed: " + words(status));
        }
    }

    private static String words(int status) {
        BytePointer detail = ncclGetLastError(null);
        String last = detail == null || detail.isNull() ? "" : detail.getString();
        return ncclGetErrorString(status).getString() + (last.isEmpty() ? "" : " (" + last + ")");
    }
}
