package org.flashring.kernel;

import org.flashring.Tensor;
import org.flashring.internal.Native;

/** Fills in the native view of a tensor. */
final class Views {
    private Views() {}

    static void set(Native.TensorView view, Tensor tensor) {
        set(view, tensor.address(), tensor.strideBatch(), tensor.strideLength(), tensor.strideHead());
    }

    static void set(Native.TensorView view, long address, long strideBatch, long strideLength, long strideHead) {
        view.data(address).strideBatch(strideBatch).strideSeq(strideLength).strideHead(strideHead);
    }
}
