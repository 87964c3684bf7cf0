package org.flashring.support;

import java.util.ArrayList;
import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Positions;
import org.flashring.Score;
import org.flashring.device.Device;
import org.flashring.device.HostBuffer;
import org.flashring.internal.Native;
import org.flashring.kernel.StepKernel;

/** A problem run step by step on one device, over blocks of keys in any order, without the ring. */
public final class StepRun {
    private static final Positions NONE = Positions.contiguous(0, 0);

    private StepRun() {}

    /** Returns what comes of resuming from block to block; each block says which key positions it holds. */
    public static Result run(Problem problem, List<Positions> blocks, Kernel kernel) {
        AttentionShape shape = problem.shape();
        DType wide = shape.dtype().accumulator();
        Positions queries = Positions.contiguous(0, problem.queryLength());
        Problem.Inputs inputs = problem.inputs();
        RankTensors own = new RankTensors(shape, queries, NONE, Placement.DENSE, wide);
        own.scatter(inputs);
        List<RankTensors> held = new ArrayList<>();
        for (Positions block : blocks) {
            RankTensors tensors = new RankTensors(shape, NONE, block, Placement.DENSE, wide);
            tensors.scatter(inputs);
            held.add(tensors);
        }
        TestTensor state =
                TestTensor.dense(wide, shape.batch(), problem.queryLength(), shape.queryHeads(), shape.valueDim());
        TestTensor lseLow = TestTensor.dense(wide, shape.batch(), problem.queryLength(), shape.queryHeads(), 1);
        TestTensor delta = TestTensor.dense(wide, shape.batch(), problem.queryLength(), shape.queryHeads(), 1);
        AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
        try (StepKernel step = new StepKernel(
                        shape,
                        Score.scaledBy(problem.effectiveScale()),
                        options,
                        problem.mask().mask(),
                        queries,
                        blocks);
                HostBuffer workspace = HostBuffer.allocate(
                        Math.max(step.workspaceBytes(Native.FORWARD), step.workspaceBytes(Native.BACKWARD)))) {
            step.place(Device.HOST);
            step.workspace(workspace.address(), workspace.bytes());
            step.bindForward(
                    own.q.tensor(),
                    own.out.tensor(),
                    own.lse.tensor(),
                    held.size() == 1 ? null : state.tensor(),
                    held.size() == 1 ? null : lseLow.tensor(),
                    null,
                    0);
            for (int i = 0; i < held.size(); i++) {
                RankTensors block = held.get(i);
                step.meet(i, block.k.tensor(), block.v.tensor(), 0);
                step.forward(i > 0, i == held.size() - 1);
            }
            step.bindBackward(
                    own.q.tensor(),
                    own.out.tensor(),
                    own.lse.tensor(),
                    own.dout.tensor(),
                    delta.tensor(),
                    own.dq.tensor());
            step.delta(null, null);
            for (int i = 0; i < held.size(); i++) {
                RankTensors block = held.get(i);
                step.meet(i, block.k.tensor(), block.v.tensor(), 0);
                step.backward(block.dk.tensor(), block.dv.tensor(), i > 0);
            }
        }
        Result result = Result.none(problem);
        own.requireFencesWhole();
        own.gather(result);
        for (RankTensors block : held) {
            block.requireFencesWhole();
            block.gather(result);
        }
        return result;
    }
}
