package org.flashring.comm;

import java.util.Map;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;

/**
 * One rank's view of a group of ranks: a few verbs, as in a small MPI. Every rank of the group calls the same
 * collectives in the same order. Addresses are those of the rank's device. One thread at a time uses a communicator.
 *
 * <p>On a CUDA device verbs queue their work in the order of a stream, see {@link #stream}, and return: what is said of
 * a verb's end holds for later work of that stream. {@link #synchronize} brings the host to the same point.
 *
 * <p>Every verb throws {@link CommunicationException}, on every surviving rank, when a peer failed, disagrees about
 * sizes or does not come within the deadline. A group that has failed stays so: make a new one. Arguments that break a
 * rule are an {@link IllegalArgumentException} before anything is sent; a closed communicator, or one that another
 * thread is inside, is an {@link IllegalStateException}.
 */
public interface Communicator extends AutoCloseable {
    /** Returns this rank, in [0, worldSize()). */
    int rank();

    /** Returns the number of ranks. */
    int worldSize();

    /** Returns the device that this rank's memory lies on. */
    Device device();

    /**
     * Returns {@code bytes} bytes on {@link #device}, not cleared, that this group's exchanges are at their best with.
     * Where NCCL is told to register memory, what one rank sends from such memory others are to receive in such memory,
     * and what is closed is free for other programs once the communicator is closed, or, if the group has failed, for
     * later groups of this process. Any thread may call it.
     *
     * @throws IllegalArgumentException if {@code bytes} is negative
     * @throws IllegalStateException after close
     * @throws OutOfMemoryError if the device has no such memory
     */
    default OwnedMemory allocate(long bytes) {
        return OwnedMemory.allocate(device(), bytes);
    }

    /**
     * Sets the stream in whose order the verbs that follow work; it starts as the default stream.
     *
     * @param stream {@code cudaStream_t} of {@link #device}, or 0 for the default stream, the only one of the host
     * @throws IllegalArgumentException if a stream is given to the host
     * @throws UnsupportedOperationException if the stream is captured in a CUDA graph and the group works over NCCL or
     *     over peer copies between processes
     */
    void stream(long stream);

    /** Waits on the host until all work of the stream is done, this group's included, or the group has failed. */
    void synchronize();

    /**
     * Says what the verbs that follow are for, such as step 2 of "forward": a failure's message repeats it. Null ends
     * that.
     */
    void at(String phase, int step);

    /**
     * Starts to send {@code sendBytes} at {@code send} to rank {@code to} and to receive {@code receiveBytes} at
     * {@code receive} from rank {@code from}. Neither buffer may be touched before {@link #await}. Zero bytes are
     * allowed. Returns a ticket: {@link #post(Transfers)} with one message each way.
     */
    long post(long send, long sendBytes, int to, long receive, long receiveBytes, int from);

    /**
     * Starts all messages of {@code batch}, together. None of their memory may be touched before {@link #await}; the
     * batch itself may be changed or posted again at once. Every rank posts as many, in one order, an empty batch too
     * where others' are not. At most 8 batches are under way.
     *
     * @return the number of batches posted before this one: its ticket
     * @throws IllegalArgumentException if a message names a rank that there is not
     * @throws IllegalStateException if 8 batches have been posted and not awaited
     */
    long post(Transfers batch);

    /** Completes everything posted: what was sent may be overwritten, what was received be read. */
    void await();

    /**
     * Completes what {@code ticket} was given for and everything posted before it, as {@link #await()} does. What was
     * posted later goes on. Does nothing if that has been awaited.
     *
     * @throws IllegalArgumentException if no such ticket has been given
     */
    void await(long ticket);

    /**
     * Gathers {@code bytes} from every rank at {@code receive}, in rank order. May be in place: send = receive + rank *
     * bytes.
     */
    void allGather(long send, long bytes, long receive);

    /**
     * Gathers a part from every rank at {@code receive}, in rank order, one behind the other. May be in place: send =
     * where this rank's part goes.
     *
     * @param bytes of each rank's part, the same array of worldSize() sizes on all ranks; 0 is allowed
     */
    void allGather(long send, long[] bytes, long receive);

    /**
     * Sends the r-th {@code bytes} at {@code send} to rank r, and puts what rank r sent here r-th at {@code receive}.
     */
    void allToAll(long send, long bytes, long receive);

    /** Sums {@code count} elements over all ranks, in place. All ranks get the same bits. */
    void allReduce(long data, long count, DType dtype);

    /**
     * Sums {@code count} elements per rank over all ranks: rank r gets the r-th {@code count} of the sum at
     * {@code receive}. {@code send} holds worldSize() * count elements. May be in place: receive is where this rank's
     * part of send lies.
     */
    void reduceScatter(long send, long count, DType dtype, long receive);

    /**
     * Sums parts over all ranks: rank r gets the r-th part of the sum at {@code receive}. {@code send} holds a part for
     * each rank, one behind the other. May be in place: receive is where this rank's part of send lies.
     *
     * @param counts elements of each rank's part, the same array of worldSize() counts on all ranks; 0 is allowed
     */
    void reduceScatter(long send, long[] counts, DType dtype, long receive);

    /** Returns on the host once every rank has come here and done all work of its stream. */
    void barrier();

    /**
     * Returns on the host once every rank has come here, if all gave the same {@code terms}: names and values that must
     * be the same on all ranks for what comes next. Else it ends the group: every rank gets one and the same
     * {@link CommunicationException}, which names the first term that differs, in rank 0's order, with the two values
     * and the two ranks. A rank that is at another verb, or has left, is named too. It waits for no work of the stream.
     * {@link org.flashring.attention.RingAttention} calls it once for each plan that it runs; the n-th call is called
     * "agree on plan n" in messages.
     */
    void agree(Map<String, String> terms);

    /**
     * Returns this rank's communicator in the group of all ranks that gave the same {@code color}, ordered by
     * {@code key}, then by rank here. Collective; the new group lives on its own. A color is at least 0.
     */
    default Communicator split(int color, int key) {
        return split("", color, key);
    }

    /**
     * As {@link #split(int, int)}, of a group that has a name, such as "cp (ranks 2, 3)": the messages of its failures
     * begin with it. The name that the first rank of the group gave is the group's.
     */
    Communicator split(String name, int color, int key);

    /**
     * Ends the group, and those split off from it, because this rank cannot go on: every verb of every rank, begun or
     * to come, throws a {@link CommunicationException} that names this rank and the cause. Once this returns no peer
     * touches this rank's memory. The one method for any thread; does nothing to a group that has failed already.
     */
    void abort(Throwable cause);

    /** Leaves the group. Peers that still wait for this rank fail at once. Closing twice is harmless. */
    @Override
    void close();
}
