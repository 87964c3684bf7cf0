package org.flashring.frameworks;

import java.util.ArrayList;
import java.util.List;
import org.flashring.Mask;
import org.flashring.nd4j.AttentionGradients;
import org.flashring.nd4j.AttentionPass;
import org.flashring.nd4j.Nd4jAttention;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.api.ops.DynamicCustomOp;
import org.nd4j.linalg.factory.Nd4j;

/**
 * Multi-head attention with ND4J, projections and all: its {@code multiHeadDotProductAttention}, or the same products
 * about the adapter. Queries, keys and values are [1, size, length], as ND4J wants them; all tokens are seen, since its
 * masks know no order.
 */
final class Nd4jContestant implements Contestant {
    private static final int SIZE = Numbers.HEADS * Numbers.DIM;

    private final int length;
    private final boolean flashring;
    private final INDArray[] inputs = new INDArray[3];
    private final INDArray[] weights = new INDArray[4]; // of queries, keys, values, and of the result
    private final INDArray dout;
    private final double[] sums = new double[4];
    private final List<INDArray> open = new ArrayList<>();

    Nd4jContestant(int length, boolean flashring) {
        this.length = length;
        this.flashring = flashring;
        for (int i = 0; i < inputs.length; i++) {
            inputs[i] = draw(i, 1, 1, SIZE, length);
            weights[i] = draw(10 + i, 1 / Math.sqrt(SIZE), Numbers.HEADS, Numbers.DIM, SIZE);
        }
        weights[3] = draw(13, 1 / Math.sqrt(SIZE), SIZE, SIZE);
        dout = draw(inputs.length, 1, 1, SIZE, length);
    }

    private static INDArray draw(int seed, double size, int... shape) {
        int count = 1;
        long[] sizes = new long[shape.length];
        for (int i = 0; i < shape.length; i++) {
            count *= shape[i];
            sizes[i] = shape[i];
        }
        return Nd4j.create(Numbers.draw(seed, count, size), sizes, 'c');
    }

    private INDArray closed(INDArray array) {
        open.add(array);
        return array;
    }

    private void close() {
        open.forEach(INDArray::close);
        open.clear();
    }

    @Override
    public void forward() {
        if (flashring) {
            result(Nd4jAttention.scaledDotProductAttention(projected(0), projected(1), projected(2), Mask.full()));
        } else {
            closed(Nd4j.nn()
                    .multiHeadDotProductAttention(
                            inputs[0],
                            inputs[1],
                            inputs[2],
                            weights[0],
                            weights[1],
                            weights[2],
                            weights[3],
                            null,
                            true));
        }
        close();
    }

    @Override
    public void step() {
        List<INDArray> found = flashring ? ours() : own();
        for (int i = 0; i < sums.length; i++) {
            sums[i] = sample(found.get(i));
        }
        close();
    }

    private List<INDArray> own() {
        INDArray out = closed(Nd4j.nn()
                .multiHeadDotProductAttention(
                        inputs[0], inputs[1], inputs[2], weights[0], weights[1], weights[2], weights[3], null, true));
        INDArray[] gradients = Nd4j.exec(DynamicCustomOp.builder("multi_head_dot_product_attention_bp")
                .addInputs(inputs[0], inputs[1], inputs[2], weights[0], weights[1], weights[2], weights[3], dout)
                .addIntegerArguments(1) // scaled
                .build());
        open.addAll(List.of(gradients));
        return List.of(out, gradients[0], gradients[1], gradients[2]);
    }

    private List<INDArray> ours() {
        AttentionPass pass = Nd4jAttention.forward(projected(0), projected(1), projected(2), Mask.full());
        INDArray rows = tokens(pass.out());
        INDArray out = result(pass.out());
        INDArray gradient = matrix(dout);
        product(rows.transpose(), gradient.transpose()); // that of the result's weights
        INDArray drows = product(weights[3], gradient); // [heads * dim, length], column after column
        AttentionGradients gradients = pass.backward(heads(drows));
        List<INDArray> all = new ArrayList<>(List.of(out));
        INDArray[] projections = {gradients.dq(), gradients.dk(), gradients.dv()};
        for (int i = 0; i < projections.length; i++) {
            INDArray dprojected = tokens(closed(projections[i])); // [length, heads * dim]
            product(dprojected.transpose(), matrix(inputs[i]).transpose()); // that of the weights
            all.add(product(flat(weights[i]).transpose(), dprojected.transpose()));
        }
        return all;
    }

    /** Returns the product, column after column in memory. */
    private INDArray product(INDArray left, INDArray right) {
        INDArray result = Nd4j.createUninitialized(DataType.FLOAT, new long[] {left.size(0), right.size(1)}, 'f');
        return left.mmuli(right, closed(result));
    }

    /** Returns [1, heads, length, dim] where the product has put it. */
    private INDArray projected(int input) {
        return heads(product(flat(weights[input]), matrix(inputs[input])));
    }

    private INDArray heads(INDArray columns) {
        return columns.transpose()
                .reshape(1, length, Numbers.HEADS, Numbers.DIM)
                .permute(0, 2, 1, 3);
    }

    private INDArray result(INDArray attended) {
        return product(weights[3].transpose(), tokens(closed(attended)).transpose());
    }

    /** Returns [length, heads * dim] of [1, heads, length, dim] in memory of the order length, heads. */
    private INDArray tokens(INDArray attended) {
        return attended.permute(0, 2, 1, 3).reshape(length, SIZE);
    }

    private INDArray matrix(INDArray array) {
        return array.reshape(SIZE, length);
    }

    private static INDArray flat(INDArray weight) {
        return weight.reshape(SIZE, SIZE);
    }

    /** Returns the sum over one token. */
    private double sample(INDArray found) {
        INDArray column = matrix(found).getColumn(length / 2).dup();
        double sum = 0;
        for (int i = 0; i < SIZE; i++) {
            sum += Math.abs(column.getDouble(i));
        }
        return sum;
    }

    @Override
    public double[] sums() {
        return sums;
    }
}
