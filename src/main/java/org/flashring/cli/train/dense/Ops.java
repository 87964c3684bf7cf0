package org.flashring.cli.train.dense;

import org.flashring.DType;

/**
 * What a dense step is made of, on one device and in the order of one stream. All arguments are raw addresses of that
 * device and sizes; arrays are dense and row-major. Activations and weights are of {@link #type}, gradients of weights
 * and the optimizer's state of {@link #wide}; token ids, positions and labels are int64.
 */
interface Ops extends AutoCloseable {
    /** Which operands of a product lie transposed in memory. */
    enum Form {
        /** a is [m, k], b is [k, n]. */
        NN,
        /** a is [m, k], b is [n, k]: a layer's forward, weights being [out, in]. */
        NT,
        /** a is [k, m], b is [k, n]: the gradient of a weight. */
        TN
    }

    /** Returns the type of activations and weights. */
    DType type();

    /** Returns the type of weights' gradients and of the optimizer's state. */
    default DType wide() {
        return type().accumulator();
    }

    /** Returns the clock of the steps that are made of these; one that is off where work is only asked for in time. */
    default PhaseClock clock() {
        return PhaseClock.off();
    }

    /** Returns the {@code cudaStream_t} in whose order all is done; 0 on the host. */
    default long stream() {
        return 0;
    }

    /** Copies bytes from host memory, which may be reused on return. */
    void upload(long to, long from, long bytes);

    /** Copies bytes to host memory, where they have arrived on return. */
    void download(long to, long from, long bytes);

    /** As {@link #upload}, in the order of another stream and without waiting where the memory is pinned. */
    default void upload(long to, long from, long bytes, long otherStream) {
        upload(to, from, bytes);
    }

    /** As {@link #download}, in the order of another stream and without waiting where the memory is pinned. */
    default void download(long to, long from, long bytes, long otherStream) {
        download(to, from, bytes);
    }

    /** Sets bytes to 0. */
    void clear(long at, long bytes);

    /** Sets {@code count} elements (wide) to the initial values of a parameter, from its element {@code first} on. */
    void initial(InitialValues values, long first, long to, long count);

    /** Sets {@code count} elements of {@link #type} to those of {@link #wide}, rounded. */
    void round(long from, long to, long count);

    /** Sets row i of out [rows, width] to row tokens[i] of the table. */
    void embed(long tokens, long table, long out, long rows, long width);

    /**
     * Adds the gradients of an embedding's rows: to row tokens[order[j]] of dtable (wide) those of all dout[order[j]].
     *
     * @param order rows of dout, equal tokens side by side
     * @param starts where in order each token's begin, and where the last ones end: segments + 1
     */
    void embedGrad(long tokens, long order, long starts, long segments, long dout, long dtable, long width);

    /**
     * Sets out to x / rms(x) * weight, and inverse [rows] (wide) to 1 / rms(x).
     *
     * @param epsilon added to the mean square
     */
    void rmsNorm(long x, long weight, long out, long inverse, long rows, long width, double epsilon);

    /**
     * Adds the norm's gradient by its weight to dweight (wide), and sets dx to {@code plus} + the gradient by x.
     *
     * @param plus as dx, 0 for none; it may be dx
     * @param dx as x; it may be x itself
     */
    void rmsNormGrad(
            long dout, long x, long weight, long inverse, long plus, long dx, long dweight, long rows, long width);

    /**
     * Sets table [rows, headDim] (wide) to the cosines, then the sines of positions * base^(-2 pair / headDim); the
     * angles are float64.
     */
    void angles(long positions, long table, long rows, long headDim, double base);

    /**
     * Turns the first {@code heads} heads of each row by the row's angles, in place: pairs (i, i + headDim / 2).
     *
     * @param stride elements from row to row
     * @param back whether to turn back, which is the gradient
     */
    void rope(long qkv, long table, long rows, long heads, long stride, long headDim, boolean back);

    /** Sets out [rows, width] to silu(gate) * up, where a row of gateUp is gate, then up. */
    void swiglu(long gateUp, long out, long rows, long width);

    /** Replaces gateUp by its gradient, given dout. */
    void swigluGrad(long gateUp, long dout, long rows, long width);

    /**
     * Sets d [m, n] to a b, or to {@code plus} + a b.
     *
     * @param plus as d, 0 for none; it may be d itself unless a GPU stores bfloat16 there, which it would round twice
     * @param wideResult whether plus and d are of {@link #wide} instead of {@link #type}
     */
    void product(Form form, long m, long n, long k, long a, long b, long plus, long d, boolean wideResult);

    /**
     * Sets losses [rows] (float64) to the cross-entropy of each row, and replaces logits by its gradient times
     * {@code scale}. Both are 0 where a label is negative.
     */
    void crossEntropy(long logits, long labels, long losses, long rows, long vocabulary, double scale);

    /** Sets result to the sum of {@code count} values, all float64. */
    void sum(long values, long count, long result);

    /** Sets result (float64) to the sum of the squares of {@code count} values (wide). */
    void squareSum(long values, long count, long result);

    /**
     * Takes a step of AdamW, unless {@code norm2} is not finite.
     *
     * @param update number of this update, from 1 on
     * @param gradients of the loss, wide as master, m and v; longer ones than the clip are shortened
     * @param weights master rounded
     * @param norm2 address of the gradients' square sum over all ranks, float64
     */
    void adamW(
            AdamW settings,
            long update,
            long gradients,
            long master,
            long m,
            long v,
            long weights,
            long count,
            long norm2);

    /** Frees what these own, if anything. */
    @Override
    default void close() {}
}
