/**
 * Flash attention and context-parallel attention. Start at {@code org.flashring.attention}; the natives come with it.
 * For GPUs the module graph also needs {@code org.bytedeco.cuda.linux.x86_64}, for events of Flight Recorder
 * {@code jdk.jfr}.
 */
module org.flashring {
    requires transitive org.bytedeco.javacpp;
    requires org.bytedeco.javacpp.linux.x86_64;
    requires org.flashring.natives;
    requires static org.bytedeco.cuda;
    requires static jdk.jfr;
    requires jdk.unsupported;

    exports org.flashring;
    exports org.flashring.attention;
    exports org.flashring.comm;
    exports org.flashring.comm.local;
    exports org.flashring.comm.nccl;
    exports org.flashring.comm.peer;
    exports org.flashring.comm.process;
    exports org.flashring.device;
    exports org.flashring.kernel;
    exports org.flashring.launch;
    exports org.flashring.plan;
    exports org.flashring.serve;
    exports org.flashring.sync;
    exports org.flashring.internal to org.flashring.cli, org.flashring.djl;
}
