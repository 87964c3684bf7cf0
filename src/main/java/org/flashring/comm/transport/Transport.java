package org.flashring.comm.transport;

import java.util.Map;
import org.flashring.comm.Transfers;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;

/**
 * How one rank reaches the others: what {@link TransportCommunicator} leaves to do once it has checked what it was
 * given. Calls come from one thread at a time, with the device current, while the communicator is open; {@link #fail},
 * {@link #at} and {@link #allocate} come from any thread. What waits for peers throws
 * {@link org.flashring.comm.CommunicationException} on every rank once the group has failed.
 */
public interface Transport {
    /** Batches that a rank may have posted and not awaited. */
    int DEPTH = 8;

    int rank();

    int worldSize();

    Device device();

    /** Throws if the group has failed. */
    void requireAlive();

    /** Notes what this rank is at, for the message of a failure. */
    void at(String phase, int step);

    /** Sets the stream in whose order what follows works. */
    void stream(long stream);

    /** Returns memory that exchanges are at their best with. Any thread may call it. */
    default OwnedMemory allocate(long bytes) {
        return OwnedMemory.allocate(device(), bytes);
    }

    /**
     * Starts a batch, the {@code ticket}-th of this rank, of which at most {@link #DEPTH} are under way. It stays as it
     * is until released.
     */
    void post(long ticket, Transfers batch);

    /** Makes later work of the stream come after what the oldest batch that was not received has received. */
    void receive(long ticket, Transfers batch);

    /**
     * Makes later work of the stream come after the sends of the oldest batch that was not released; it has been
     * received.
     */
    void release(long ticket, Transfers batch);

    void collective(Collective collective);

    /** Waits on the host for all ranks to come here and for their streams. */
    void barrier();

    /** Waits on the host for the stream, throws if the group fails meanwhile or has failed. */
    void synchronize();

    /** Compares the terms of this group's {@code plan}-th plan, on the host. */
    void agree(long plan, Map<String, String> terms);

    /**
     * Returns this rank's transport in the group of those that gave the same color; its failures begin with this
     * group's name and {@code name}.
     */
    Transport split(String name, int color, int key);

    /**
     * Ends the group: this rank did {@code what}, because of {@code cause} unless null. Once it returns nobody touches
     * its memory.
     */
    void fail(String what, Throwable cause);

    /** Leaves the group and frees what this rank held. */
    void close();
}
