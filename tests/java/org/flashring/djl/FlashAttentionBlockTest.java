package org.flashring.djl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.Block;
import ai.djl.nn.Parameter;
import ai.djl.nn.SequentialBlock;
import ai.djl.nn.core.Linear;
import ai.djl.nn.transformer.ScaledDotProductAttentionBlock;
import ai.djl.training.DefaultTrainingConfig;
import ai.djl.training.EasyTrain;
import ai.djl.training.GradientCollector;
import ai.djl.training.ParameterStore;
import ai.djl.training.Trainer;
import ai.djl.training.dataset.ArrayDataset;
import ai.djl.training.dataset.Batch;
import ai.djl.training.initializer.XavierInitializer;
import ai.djl.training.loss.Loss;
import ai.djl.training.optimizer.Optimizer;
import ai.djl.training.tracker.Tracker;
import java.util.ArrayList;
import java.util.List;
import org.flashring.Mask;
import org.junit.jupiter.api.Test;

/** The block beside DJL's own, and in a model that DJL trains. */
class FlashAttentionBlockTest {
    private static final int SIZE = 24;

    /** DJL's block has the same four projections in another order, and no mask of its own. */
    @Test
    void equalsDjlsBlockWithTheSameWeights() {
        try (NDManager manager = Djl.manager()) {
            Shape shape = new Shape(2, 13, SIZE);
            FlashAttentionBlock ours =
                    FlashAttentionBlock.builder().setSize(SIZE).setHeads(4).build();
            ScaledDotProductAttentionBlock theirs = ScaledDotProductAttentionBlock.builder()
                    .setEmbeddingSize(SIZE)
                    .setHeadCount(4)
                    .optAttentionProbsDropoutProb(0)
                    .build();
            for (Block block : List.of(ours, theirs)) {
                block.setInitializer(new XavierInitializer(), Parameter.Type.WEIGHT);
                block.initialize(manager, DataType.FLOAT32, shape);
            }
            List<Block> from = List.of(
                    theirs.getQueryProjection(),
                    theirs.getKeyProjection(),
                    theirs.getValueProjection(),
                    theirs.getResultProjection());
            for (int i = 0; i < 4; i++) {
                copy(from.get(i), ours.getChildren().valueAt(i));
            }
            NDArray x = Djl.random(manager, 3, DataType.FLOAT32, shape.getShape());
            NDArray towards = Djl.random(manager, 4, DataType.FLOAT32, shape.getShape());
            ParameterStore store = new ParameterStore(manager, false);
            List<NDArray> outs = new ArrayList<>();
            for (Block block : List.of(ours, theirs)) {
                try (GradientCollector collector = Engine.getEngine("PyTorch").newGradientCollector()) {
                    NDArray out = block.forward(store, new NDList(x), true).singletonOrThrow();
                    outs.add(out.stopGradient());
                    collector.backward(out.mul(towards).sum());
                    outs.add(gradients(from.get(0), ours.getChildren().valueAt(0), block == ours));
                }
            }
            Djl.assertClose("out", outs.get(0), outs.get(2), 1e-6, 0);
            Djl.assertClose("gradient of the queries' projection", outs.get(1), outs.get(3), 2e-6, 0);
        }
    }

    private static NDArray gradients(Block theirs, Block ours, boolean own) {
        return (own ? ours : theirs)
                .getParameters()
                .get(0)
                .getValue()
                .getArray()
                .getGradient()
                .duplicate();
    }

    private static void copy(Block from, Block to) {
        for (int i = 0; i < from.getParameters().size(); i++) {
            from.getParameters()
                    .valueAt(i)
                    .getArray()
                    .copyTo(to.getParameters().valueAt(i).getArray());
        }
    }

    /** The mean of what a token has seen, which attention of equal scores gives. */
    @Test
    void trainerTrainsIt() throws Exception {
        try (Model model = Model.newInstance("means", "PyTorch");
                NDManager manager = Djl.manager()) {
            model.setBlock(new SequentialBlock()
                    .add(FlashAttentionBlock.builder()
                            .setSize(SIZE)
                            .setHeads(4)
                            .optKvHeads(2)
                            .optBias(false)
                            .optMask(Mask.causal())
                            .build())
                    .add(Linear.builder().setUnits(1).build()));
            NDArray x = Djl.random(manager, 1, DataType.FLOAT32, 32, 13, SIZE);
            NDArray seen = manager.arange(1f, 14f).reshape(1, 13);
            NDArray y = x.get(":, :, 0").cumSum(1).div(seen).expandDims(2);
            ArrayDataset data = new ArrayDataset.Builder()
                    .setData(x)
                    .optLabels(y)
                    .setSampling(8, false)
                    .build();
            DefaultTrainingConfig config = new DefaultTrainingConfig(Loss.l2Loss())
                    .optOptimizer(Optimizer.adam()
                            .optLearningRateTracker(Tracker.fixed(0.01f))
                            .build());
            try (Trainer trainer = model.newTrainer(config)) {
                trainer.initialize(new Shape(8, 13, SIZE));
                double before = loss(trainer, x, y);
                for (int epoch = 0; epoch < 30; epoch++) {
                    for (Batch batch : trainer.iterateDataset(data)) {
                        EasyTrain.trainBatch(trainer, batch);
                        trainer.step();
                        batch.close();
                    }
                }
                assertThat(loss(trainer, x, y)).isLessThan(before / 4);
            }
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    private static double loss(Trainer trainer, NDArray x, NDArray y) {
        try (NDList out = trainer.evaluate(new NDList(x))) {
            return Loss.l2Loss().evaluate(new NDList(y), out).getFloat();
        }
    }

    @Test
    void savesAndLoadsItsParameters() throws Exception {
        try (NDManager manager = Djl.manager()) {
            Shape shape = new Shape(1, 5, SIZE);
            FlashAttentionBlock one =
                    FlashAttentionBlock.builder().setSize(SIZE).setHeads(3).build();
            one.initialize(manager, DataType.FLOAT32, shape);
            java.io.ByteArrayOutputStream bytes = new java.io.ByteArrayOutputStream();
            one.saveParameters(new java.io.DataOutputStream(bytes));
            FlashAttentionBlock other =
                    FlashAttentionBlock.builder().setSize(SIZE).setHeads(3).build();
            other.loadParameters(
                    manager, new java.io.DataInputStream(new java.io.ByteArrayInputStream(bytes.toByteArray())));
            NDArray x = Djl.random(manager, 1, DataType.FLOAT32, shape.getShape());
            ParameterStore store = new ParameterStore(manager, false);
            assertThat(Djl.values(other.forward(store, new NDList(x), false).singletonOrThrow()))
                    .isEqualTo(
                            Djl.values(one.forward(store, new NDList(x), false).singletonOrThrow()));
            assertThat(one.getOutputShapes(new Shape[] {shape})).containsExactly(shape);
        }
    }

    @Test
    void whatCannotBeABlockIsRefused() {
        FlashAttentionBlock.Builder builder = FlashAttentionBlock.builder();
        assertThatThrownBy(builder::build)
                .hasMessage("size is 0, but must be a multiple of heads, which is 0, and both at least 1");
        assertThatThrownBy(() -> builder.setSize(24).setHeads(5).build()).hasMessageStartingWith("size is 24");
        assertThatThrownBy(() -> builder.setHeads(4).optKvHeads(3).build())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("kvHeads is 3, but must divide heads = 4");
        assertThatThrownBy(() -> builder.optMask(null)).hasMessage("mask is null");
        assertThatThrownBy(() -> builder.optAttention(null)).hasMessage("attention is null");
    }

    @Test
    void anotherInputIsRefusedByName() {
        FlashAttentionBlock block =
                FlashAttentionBlock.builder().setSize(16).setHeads(2).build();
        try (NDManager manager = NDManager.newBaseManager()) {
            assertThatThrownBy(() -> block.initialize(manager, DataType.FLOAT32, new Shape(2, 5, 12)))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("must be [batch, length, size = 16]");
        }
    }
}
