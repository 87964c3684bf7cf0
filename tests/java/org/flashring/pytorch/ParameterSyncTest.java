package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Parameters are the sync's own references, and gradients those that they have when it sums. */
@SuppressWarnings("try") // scopes work by being open
class ParameterSyncTest {
    @RegisterExtension
    final TorchScope scope = new TorchScope();

    private static Tensor parameter() {
        return torch.ones(1000).requires_grad_(true);
    }

    private static void backward(Tensor parameter, double factor) {
        try (PointerScope step = new PointerScope()) {
            parameter.mul(new Scalar(factor)).sum().backward();
        }
    }

    /** As with {@code new ParameterSync(module.parameters(), communicator)}: nobody holds that vector. */
    @Test
    void parametersOfAVectorThatIsGone() {
        List<Double> sums = LocalGroup.run(2, communicator -> {
            try (PointerScope all = new PointerScope()) {
                Tensor parameter = parameter();
                try (ParameterSync sync = syncOfATemporary(parameter, communicator)) {
                    for (int i = 0; i < 100; i++) { // where the vector lay
                        new TensorVector(new Tensor(), new Tensor());
                    }
                    backward(parameter, 1 + communicator.rank());
                    sync.sum();
                    return parameter.grad().sum().item_double();
                }
            }
        });
        assertThat(sums).containsExactly(3000.0, 3000.0);
    }

    private static ParameterSync syncOfATemporary(Tensor parameter, Communicator communicator) {
        try (PointerScope inner = new PointerScope()) {
            Tensor reference = new Tensor(parameter);
            return new ParameterSync(new TensorVector(reference, parameter()), communicator);
        }
    }

    @Test
    void gradientsThatAreReplacedBetweenSums() {
        List<List<Double>> sums = LocalGroup.run(2, communicator -> {
            try (PointerScope all = new PointerScope()) {
                Tensor parameter = parameter();
                try (ParameterSync sync = new ParameterSync(List.of(parameter), communicator)) {
                    backward(parameter, 1);
                    sync.sum();
                    Tensor first = new Tensor(parameter.grad());
                    parameter.mutable_grad().put(new Tensor()); // as zero_grad does by default
                    backward(parameter, 5);
                    sync.sum();
                    return List.of(
                            first.sum().item_double(), parameter.grad().sum().item_double());
                }
            }
        });
        assertThat(sums).containsOnly(List.of(2000.0, 10_000.0));
    }

    @Test
    void gradientThatDoesNotFitIsRefusedBeforeAnythingIsSent() {
        try (Communicator alone = LocalGroup.single()) {
            Tensor one = parameter();
            Tensor other = torch.ones(3, 4).requires_grad_(true);
            try (ParameterSync sync = new ParameterSync(List.of(one, other), alone)) {
                backward(one, 2);
                for (Tensor wrong :
                        List.of(torch.ones(3, 4).to_sparse(), torch.ones(4, 3).t())) {
                    other.mutable_grad().put(wrong);
                    assertThatThrownBy(sync::sum)
                            .isInstanceOf(IllegalStateException.class)
                            .hasMessageStartingWith("the gradient of a parameter [3, 4] is sparse, not contiguous");
                }
                other.mutable_grad().put(torch.ones(3, 4));
                sync.sum();
                assertThat(one.grad().sum().item_double()).isEqualTo(2000);
            }
        }
    }

    @Test
    void parametersThatCannotBeSummedAreRefusedByName() {
        try (Communicator alone = LocalGroup.single()) {
            Tensor closed = parameter();
            closed.close();
            assertRefused(parameter().to_sparse(), alone, "parameters[1].layout() is Sparse");
            assertRefused(new Tensor(), alone, "parameters[1] is undefined");
            assertRefused(closed, alone, "parameters[1] is closed");
            assertRefused(torch.ones(3).to(ScalarType.Long), alone, "parameters[1].scalar_type() is Long");
        }
    }

    private static void assertRefused(Tensor parameter, Communicator communicator, String message) {
        assertThatThrownBy(() -> new ParameterSync(List.of(parameter(), parameter), communicator))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith(message);
    }
}
