package org.flashring.cli.verify;

import java.util.ArrayList;
import java.util.List;
import org.flashring.DType;
import org.flashring.Positions;
import org.flashring.device.Device;
import org.flashring.kernel.TensorMath;

/** The tensors of one rank, all at the same positions and in the same order of dimensions. */
final class Shards implements AutoCloseable {
    private final Device device;
    private final long batch;
    private final Positions positions;
    private final boolean headsFirst;
    private final TensorMath math = new TensorMath(Device.HOST);
    private final List<Shard> shards = new ArrayList<>();

    Shards(Device device, long batch, Positions positions, boolean headsFirst) {
        this.device = device;
        this.batch = batch;
        this.positions = positions;
        this.headsFirst = headsFirst;
    }

    /** Returns a new tensor [batch, local length, heads, dim] on the rank's device. */
    Shard make(DType dtype, long heads, long dim) {
        Shard shard = new Shard(device, math, dtype, batch, positions, heads, dim, headsFirst);
        shards.add(shard);
        return shard;
    }

    @Override
    public void close() {
        shards.forEach(Shard::close);
        math.close();
    }
}
