package org.flashring.launch;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.flashring.internal.Checks;

/**
 * Who this process is among those that were started together: what torchrun, {@code flashring launch}, SLURM and Open MPI put
 * into the environment.
 *
 * @param rank          of this process, in [0, worldSize)
 * @param localRank     among the processes of this host; by custom the CUDA device that it uses
 * @param worldSize     number of processes
 * @param masterAddress host of rank 0
 * @param masterPort    where rank 0 listens
 * @param runId         the same in all processes of a run and in no others; empty where the launcher gives none
 */
public record Environment(int rank, int localRank, int worldSize, String masterAddress, int masterPort, String runId) {
    private static final int DEFAULT_PORT = 29_500; // torchrun's
    private static final int PORTS = 4_096;         // SLURM jobs are told apart by port

    /** A launcher, by the variables that say rank, local rank and world size. */
    private record Launcher(String name, String rank, String localRank, String worldSize) {}

    private static final Launcher TORCHRUN = new Launcher("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE");
    private static final Launcher SLURM = new Launcher("SLURM", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS");
    private static final Launcher OPEN_MPI = new Launcher("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE");

    /**
     * @throws IllegalArgumentException unless 0 ≤ rank &lt; worldSize, 0 ≤ localRank, 1 ≤ masterPort ≤ 65535 and there is an address
     */
    public Environment {
        Checks.atLeast("worldSize", worldSize, 1);
        Checks.between("rank", rank, 0, worldSize - 1L);
        Checks.atLeast("localRank", localRank, 0);
        if (Checks.notNull("masterAddress", masterAddress).isBlank()) {
            throw Checks.broken("masterAddress", "empty", "name the host of rank 0");
        }
        Checks.between("masterPort", masterPort, 1, 65_535);
        Checks.notNull("runId", runId);
    }

    /** Returns what this process's environment says, see {@link #of}. */
    public static Environment current() {
        return of(System.getenv());
    }

    /**
     * Returns what {@code variables} say: torchrun's if one of them is there, else SLURM's, else Open MPI's. MASTER_ADDR and
     * MASTER_PORT count under all three. Under SLURM they default to the job's first host and a port made from its number; under
     * the others the port defaults to 29500 and the address must be given.
     *
     * @throws IllegalArgumentException if there is no launcher, a variable is missing, or it is not what it must be; the message
     *         names the variable
     */
    public static Environment of(Map<String, String> variables) {
        Launcher launcher = launcher(variables);
        String address = variables.get("MASTER_ADDR");
        String port = variables.get("MASTER_PORT");
        String runId = variables.getOrDefault("TORCHELASTIC_RUN_ID", "");
        if (launcher == SLURM) {
            String job = variables.getOrDefault("SLURM_JOB_ID", "");
            runId = job + "." + variables.getOrDefault("SLURM_STEP_ID", "");
            address = address != null ? address : firstHost(required(variables, "SLURM_JOB_NODELIST", launcher));
            port = port != null || job.isEmpty() ? port : String.valueOf(DEFAULT_PORT + number("SLURM_JOB_ID", job) % PORTS);
        }
        if (address == null) {
            address = required(variables, "MASTER_ADDR", launcher);
        }
        return new Environment(number(launcher.rank(), required(variables, launcher.rank(), launcher)),
                number(launcher.localRank(), required(variables, launcher.localRank(), launcher)),
                number(launcher.worldSize(), required(variables, launcher.worldSize(), launcher)),
                address, port == null ? DEFAULT_PORT : number("MASTER_PORT", port), runId);
    }

    private static Launcher launcher(Map<String, String> variables) {
        List<String> wanted = new ArrayList<>();
        for (Launcher launcher : List.of(TORCHRUN, SLURM, OPEN_MPI)) {
            if (variables.containsKey(launcher.rank()) || variables.containsKey(launcher.worldSize())) {
                return launcher;
            }
            wanted.add(launcher.rank() + " (" + launcher.name() + ")");
        }
        throw new IllegalArgumentException("no launcher's variables are set: one of " + String.join(", ", wanted)
                + " is needed; flashring launch sets the first");
    }

    private static String required(Map<String, String> variables, String name, Launcher launcher) {
        String value = variables.get(name);
        if (value == null || value.isBlank()) {
            throw new IllegalArgumentException(name + " is not set; " + launcher.name() + " started this process and it is needed besides "
                    + launcher.rank());
        }
        return value;
    }

    private static int number(String name, String value) {
        try {
            return Integer.parseInt(value.strip());
        } catch (NumberFormatException e) {
            throw Checks.broken(name, "'" + value + "'", "be a whole number");
        }
    }

    /** Returns the first host of a SLURM list such as {@code gpu[003-006,009],login1}: gpu003. */
    static String firstHost(String nodes) {
        int open = nodes.indexOf('[');
        int comma = nodes.indexOf(',');
        if (open < 0 || comma >= 0 && comma < open) {
            return comma < 0 ? nodes : nodes.substring(0, comma);
        }
        int end = open + 1;
        while (end < nodes.length() && Character.isDigit(nodes.charAt(end))) {
            end++;
        }
        int close = nodes.indexOf(']', open);
        int after = close < 0 ? nodes.length() : close + 1;
        int next = nodes.indexOf(',', after);
        return nodes.substring(0, open) + nodes.substring(open + 1, end) + nodes.substring(after, next < 0 ? nodes.length() : next);
    }
}
