package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.TensorBase;
import org.bytedeco.pytorch.VoidTensorHook;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.Mask;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** A graph owns what its backward needs, in whatever scope its forward ran, and nothing else does. */
@SuppressWarnings("try") // scopes work by being open
class TorchLifetimeTest {
    private static final long[] SHAPE = {2, 3, 13, 8};

    @BeforeEach
    void calm() {
        torch.set_num_threads(1);
    }

    private static Tensor input(int seed) {
        return Torch.random(seed, ScalarType.Double, SHAPE).requires_grad_(true);
    }

    /** Two layers, so that backward of one takes the gradient that the other gives. */
    private static Tensor loss(Tensor q, Tensor k) {
        Tensor once = TorchAttention.scaledDotProductAttention(q, k, k, Mask.causal());
        return TorchAttention.scaledDotProductAttention(once, k, k, Mask.full())
                .square()
                .sum();
    }

    private static void assertGradients(Tensor q, Tensor k) {
        try (PointerScope scope = new PointerScope()) {
            Tensor exactQ = Torch.exact(q);
            Tensor exactK = Torch.exact(k);
            Tensor once = Torch.attention(exactQ, exactK, exactK, true);
            Torch.attention(once, exactK, exactK, false).square().sum().backward();
            Torch.assertClose("dq", q.grad(), exactQ.grad(), 1e-12);
            Torch.assertClose("dk", k.grad(), exactK.grad(), 1e-12);
        }
    }

    /** Fills what has just been freed, so that who still reads it reads something else. */
    private static void overwriteFreedMemory() {
        try (PointerScope scope = new PointerScope()) {
            for (int i = 0; i < 200; i++) {
                torch.full(SHAPE, new Scalar(1e30));
                torch.full(new long[] {2, 3, 13}, new Scalar(-1e30));
            }
        }
    }

    private static void collect() throws InterruptedException {
        for (int i = 0; i < 3; i++) {
            System.gc();
            Thread.sleep(20);
        }
        overwriteFreedMemory();
    }

    private static void assertNoGraphIsLeft() throws InterruptedException {
        for (int i = 0; i < 200 && AttentionNode.alive() > 0; i++) { // the collector frees what no scope does
            System.gc();
            Thread.sleep(20);
        }
        assertThat(AttentionNode.alive()).as("graphs that are still held").isZero();
    }

    @Test
    void backwardWithoutAScope() throws InterruptedException {
        for (int step = 0; step < 3; step++) {
            Tensor q = input(1);
            Tensor k = input(2);
            Tensor loss = loss(q, k);
            collect();
            loss.backward();
            assertGradients(q, k);
        }
        assertNoGraphIsLeft();
    }

    @Test
    void backwardAfterTheScopeOfForward() throws InterruptedException {
        try (PointerScope outer = new PointerScope()) {
            Tensor q = input(1);
            Tensor k = input(2);
            Tensor loss;
            try (PointerScope forward = new PointerScope()) {
                loss = loss(q, k).retainReference();
            }
            collect();
            loss.backward();
            assertGradients(q, k);
            loss.close();
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    /** Scopes are a thread's: that of forward is none of the thread that runs backward. */
    @Test
    void backwardInAnotherThread() throws InterruptedException {
        try (PointerScope scope = new PointerScope()) {
            Tensor q = input(1);
            Tensor k = input(2);
            Tensor loss = loss(q, k);
            CompletableFuture.runAsync(() -> loss.backward()).join();
            collect();
            assertGradients(q, k);
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    @Test
    void inputsAndResultMayBeClosedBeforeBackward() throws InterruptedException {
        try (PointerScope scope = new PointerScope()) {
            Tensor x = input(1);
            Tensor y = x.add(x);
            Tensor out = TorchAttention.scaledDotProductAttention(y, y, y, Mask.causal());
            Tensor loss = out.sum();
            y.deallocate();
            out.deallocate();
            collect();
            loss.backward();
            Tensor exact = Torch.exact(x);
            Tensor twice = exact.add(exact);
            Torch.attention(twice, twice, twice, true).sum().backward();
            Torch.assertClose("gradient", x.grad(), exact.grad(), 1e-12);
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    @Test
    void graphsThatAreDroppedWithoutAScopeAreCollected() throws InterruptedException {
        for (int i = 0; i < 20; i++) {
            loss(input(1), input(2));
        }
        assertNoGraphIsLeft();
    }

    /** The node keeps no gradient, so the engine makes the one that it was given the leaf's, without a copy. */
    @Test
    void gradientOfALeafIsTheOneThatAttentionWrote() {
        try (PointerScope scope = new PointerScope()) {
            Tensor q = input(1);
            List<Long> given = new ArrayList<>();
            VoidTensorHook hook = new VoidTensorHook() {
                @Override
                public void call(TensorBase gradient) {
                    given.add(gradient.data_ptr().address());
                    gradient.close(); // or it is another's, too
                }
            };
            q.register_hook(hook);
            TorchAttention.scaledDotProductAttention(q, input(2), input(3), Mask.causal())
                    .sum()
                    .backward();
            assertThat(given).containsExactly(q.grad().data_ptr().address());
        }
    }

    /** What a backward gave stays as it is while the graph lives and is differentiated again. */
    @Test
    void gradientsThatAreKeptDoNotChange() {
        try (PointerScope scope = new PointerScope()) {
            Tensor q = input(1);
            Tensor loss = loss(q, input(2));
            loss.backward(new Tensor(), new BoolOptional(true), false, new TensorArrayRefOptional());
            Tensor kept = new Tensor(q.grad());
            Tensor copy = kept.clone();
            q.mutable_grad().put(new Tensor());
            loss.backward();
            assertThat(kept.equal(copy)).isTrue();
            assertThat(q.grad().equal(copy)).isTrue();
            assertThat(q.grad().data_ptr().address())
                    .isNotEqualTo(kept.data_ptr().address());
        }
    }
}
