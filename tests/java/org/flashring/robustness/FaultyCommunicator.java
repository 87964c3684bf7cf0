package org.flashring.robustness;

import java.util.Map;
import java.util.function.IntConsumer;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.device.Device;

/** A communicator that tells someone the number of each call that waits or sends, before it makes it. */
final class FaultyCommunicator implements Communicator {
    private final Communicator real;
    private final IntConsumer before;
    private int calls;

    FaultyCommunicator(Communicator real, IntConsumer before) {
        this.real = real;
        this.before = before;
    }

    /** Returns how many calls were made or tried. */
    int calls() {
        return calls;
    }

    private Communicator next() {
        before.accept(calls++);
        return real;
    }

    @Override
    public int rank() {
        return real.rank();
    }

    @Override
    public int worldSize() {
        return real.worldSize();
    }

    @Override
    public Device device() {
        return real.device();
    }

    @Override
    public void stream(long stream) {
        real.stream(stream);
    }

    @Override
    public void at(String phase, int step) {
        real.at(phase, step);
    }

    @Override
    public void synchronize() {
        next().synchronize();
    }

    @Override
    public long post(long send, long sendBytes, int to, long receive, long receiveBytes, int from) {
        return next().post(send, sendBytes, to, receive, receiveBytes, from);
    }

    @Override
    public long post(Transfers batch) {
        return next().post(batch);
    }

    @Override
    public void await() {
        next().await();
    }

    @Override
    public void await(long ticket) {
        next().await(ticket);
    }

    @Override
    public void allGather(long send, long bytes, long receive) {
        next().allGather(send, bytes, receive);
    }

    @Override
    public void allGather(long send, long[] bytes, long receive) {
        next().allGather(send, bytes, receive);
    }

    @Override
    public void allToAll(long send, long bytes, long receive) {
        next().allToAll(send, bytes, receive);
    }

    @Override
    public void allReduce(long data, long count, DType dtype) {
        next().allReduce(data, count, dtype);
    }

    @Override
    public void reduceScatter(long send, long count, DType dtype, long receive) {
        next().reduceScatter(send, count, dtype, receive);
    }

    @Override
    public void reduceScatter(long send, long[] counts, DType dtype, long receive) {
        next().reduceScatter(send, counts, dtype, receive);
    }

    @Override
    public void barrier() {
        next().barrier();
    }

    @Override
    public void agree(Map<String, String> terms) {
        next().agree(terms);
    }

    @Override
    public Communicator split(String name, int color, int key) {
        return next().split(name, color, key);
    }

    @Override
    public void abort(Throwable cause) {
        real.abort(cause);
    }

    @Override
    public void close() {
        real.close();
    }
}
