package org.flashring.kernel;

import org.flashring.Tensor;
import org.flashring.internal.NativeStructs;

/** Fills in the native view of a tensor. */
final class Views {
    private Views() {}

    static void set(NativeStructs.TensorView view, Tensor tensor) {
        set(view, tensor.address(), tensor.strideBatch(), tensor.strideLength(), tensor.strideHead());
    }

    /**
     * As {@link #set(NativeStructs.TensorView, Tensor)}, of the part that begins at a row of the batch, a token and a
     * head.
     */
    static void set(NativeStructs.TensorView view, Tensor tensor, long row, long token, long head) {
        long elements = row * tensor.strideBatch() + token * tensor.strideLength() + head * tensor.strideHead();
        set(
                view,
                tensor.address() + elements * tensor.dtype().bytes(),
                tensor.strideBatch(),
                tensor.strideLength(),
                tensor.strideHead());
    }

    static void set(NativeStructs.TensorView view, long address, long strideBatch, long strideLength, long strideHead) {
        view.data(address).strideBatch(strideBatch).strideSeq(strideLength).strideHead(strideHead);
    }
}
