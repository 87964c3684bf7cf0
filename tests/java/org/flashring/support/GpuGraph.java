package org.flashring.support;

import static org.assertj.core.api.Assertions.assertThat;
import static org.bytedeco.cuda.global.cudart.*;

import org.bytedeco.cuda.cudart.CUgraphExec_st;
import org.bytedeco.cuda.cudart.CUgraph_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.Pointer;

/** A CUDA graph of what streams were given, captured through the CUDA preset as a user of the library would. */
public final class GpuGraph implements AutoCloseable {
    private final CUgraph_st graph;
    private final CUgraphExec_st replay = new CUgraphExec_st();

    private GpuGraph(CUgraph_st graph) {
        this.graph = graph;
        require("cudaGraphInstantiate", cudaGraphInstantiate(replay, graph, 0));
    }

    /** Has what {@code stream} is given from now on go into a graph, with that of streams that wait for it. */
    public static void begin(long stream) {
        require("cudaStreamBeginCapture", cudaStreamBeginCapture(handle(stream), cudaStreamCaptureModeThreadLocal));
    }

    /** Returns the graph of what {@code stream} was given since {@link #begin}. */
    public static GpuGraph end(long stream) {
        CUgraph_st graph = new CUgraph_st();
        require("cudaStreamEndCapture", cudaStreamEndCapture(handle(stream), graph));
        return new GpuGraph(graph);
    }

    /** Runs the graph in the order of a stream. */
    public void launch(long stream) {
        require("cudaGraphLaunch", cudaGraphLaunch(replay, handle(stream)));
    }

    private static CUstream_st handle(long stream) {
        return new CUstream_st(new Pointer() {
            {
                address = stream;
            }
        });
    }

    private static void require(String call, int status) {
        assertThat(status)
                .as("%s: %s", call, cudaGetErrorString(status).getString())
                .isEqualTo(cudaSuccess);
    }

    @Override
    public void close() {
        require("cudaGraphExecDestroy", cudaGraphExecDestroy(replay));
        require("cudaGraphDestroy", cudaGraphDestroy(graph));
    }
}
