package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/** A scope round each test, which frees its tensors: no graph outlives them. */
final class TorchScope implements BeforeEachCallback, AfterEachCallback {
    private PointerScope scope;

    @Override
    public void beforeEach(ExtensionContext context) {
        torch.set_num_threads(1);
        scope = new PointerScope();
    }

    @Override
    public void afterEach(ExtensionContext context) {
        scope.close();
        assertThat(AttentionNode.alive()).as("graphs that are still held").isZero();
    }
}
