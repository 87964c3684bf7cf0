package org.flashring.frameworks;

/** An attention under the clock: a framework's own, or this library's in its place. */
interface Contestant {
    /** Computes the output, with no thought of gradients, and lets go of it. */
    void forward();

    /** Computes the output and the gradients of the inputs, and lets go of both. */
    void step();

    /** Returns sums over the last step's output and gradients, by which two contestants are told to agree. */
    double[] sums();

    /**
     * Returns one by its name: the framework, then "own" or "flashring".
     *
     * @throws IllegalArgumentException if there is none
     */
    static Contestant of(String name, int length, boolean causal) {
        return switch (name) {
            case "bytedeco own" -> new TorchContestant(length, causal, false);
            case "bytedeco flashring" -> new TorchContestant(length, causal, true);
            case "djl own" -> new DjlContestant(length, causal, false);
            case "djl flashring" -> new DjlContestant(length, causal, true);
            case "nd4j own" -> new Nd4jContestant(length, false);
            case "nd4j flashring" -> new Nd4jContestant(length, true);
            default -> throw new IllegalArgumentException("no contestant is called " + name);
        };
    }
}
