package org.flashring.comm.process;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.flashring.comm.Communicator;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;

/** Threads that play processes: each has its own end of every connection and its own mapping of what is shared. */
final class ProcessRanks {
    private ProcessRanks() {}

    /** Returns the communicators of a new group. */
    static List<Communicator> group(int world, Duration deadline, Medium medium) {
        String master = medium == Medium.SOCKETS ? "127.0.0.2" : "127.0.0.1"; // the others are at 127.0.0.1
        int port = RankProcesses.freePort();
        List<CompletableFuture<Communicator>> joining = new ArrayList<>();
        for (int rank = 0; rank < world; rank++) {
            Environment environment = new Environment(rank, rank, world, master, port, "");
            joining.add(CompletableFuture.supplyAsync(
                    () -> ProcessGroup.join(environment, Map.of(), deadline, medium),
                    command -> new Thread(command).start()));
        }
        return joining.stream().map(CompletableFuture::join).toList();
    }
}
