package org.flashring.launch;

import java.net.InetAddress;
import java.util.List;
import java.util.Map;
import org.flashring.internal.Checks;

/**
 * Who this process is among those that were started together: what torchrun, {@code flashring launch}, SLURM and Open
 * MPI put into the environment.
 *
 * @param rank of this process, in [0, worldSize)
 * @param localRank among the processes of this host; by custom the CUDA device that it uses
 * @param worldSize number of processes
 * @param masterAddress host of rank 0
 * @param masterPort where rank 0 listens
 * @param runId the same in all processes of a run and in no others; empty where the launcher gives none
 * @param bindAddress where rank 0 listens, a name or an address of its host's; empty to leave it to {@link Rendezvous}
 * @param secret what only the processes of the run know, or {@link Secret#NONE}
 */
public record Environment(
        int rank,
        int localRank,
        int worldSize,
        String masterAddress,
        int masterPort,
        String runId,
        String bindAddress,
        Secret secret) {
    /** The variable that says where rank 0 listens. */
    public static final String BIND_VARIABLE = "FLASHRING_BIND_ADDRESS";

    private static final int DEFAULT_PORT = 29_500; // torchrun's
    private static final int PORTS = 4_096; // SLURM jobs are told apart by port

    /** A launcher, by the variables that say rank, local rank, world size and the number of processes on this host. */
    private record Launcher(String name, String rank, String localRank, String worldSize, String localWorldSize) {}

    private static final Launcher TORCHRUN =
            new Launcher("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE");
    private static final Launcher SLURM = new Launcher("SLURM", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "");
    private static final Launcher OPEN_MPI = new Launcher(
            "Open MPI",
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_LOCAL_SIZE");
    private static final List<Launcher> LAUNCHERS = List.of(TORCHRUN, SLURM, OPEN_MPI);

    /**
     * @throws IllegalArgumentException unless 0 ≤ rank &lt; worldSize, 0 ≤ localRank, 1 ≤ masterPort ≤ 65535 and there
     *     is an address
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
        Checks.notNull("bindAddress", bindAddress);
        Checks.notNull("secret", secret);
    }

    /** Makes one without a bind address or a secret. */
    public Environment(int rank, int localRank, int worldSize, String masterAddress, int masterPort, String runId) {
        this(rank, localRank, worldSize, masterAddress, masterPort, runId, "", Secret.NONE);
    }

    /** Returns whether a launcher that {@link #of} knows has set {@code variables}, right or not. */
    public static boolean isLaunched(Map<String, String> variables) {
        return found(variables) != null;
    }

    /** Returns whether rank 0 listens at the loopback, as it does where all processes are on one host. */
    public boolean meetsAtLoopback() {
        return bindAddress.isEmpty() && Route.isLoopback(masterAddress);
    }

    /** Returns what this process's environment says, see {@link #of}. */
    public static Environment current() {
        return of(System.getenv());
    }

    /**
     * Returns what {@code variables} say: torchrun's if one of them is there, else SLURM's, else Open MPI's.
     * MASTER_ADDR and MASTER_PORT count under all three. Under SLURM they default to the job's first host and a port
     * made from its number; under the others the port defaults to 29500 and the address must be given. Where all
     * processes are on one host, as LOCAL_WORLD_SIZE, SLURM_STEP_NUM_NODES, SLURM_JOB_NUM_NODES or
     * OMPI_COMM_WORLD_LOCAL_SIZE tell, the address is the loopback's, whatever MASTER_ADDR says, unless
     * {@value #BIND_VARIABLE} says where rank 0 listens. The secret is what {@link Secret#of(Map)} returns.
     *
     * @throws IllegalArgumentException if there is no launcher, a variable is missing, or it is not what it must be;
     *     the message names the variable
     */
    public static Environment of(Map<String, String> variables) {
        Launcher launcher = launcher(variables);
        String bind = variables.getOrDefault(BIND_VARIABLE, "").strip();
        boolean onOneHost = bind.isEmpty() && isOneHost(variables, launcher);
        String address = onOneHost ? InetAddress.getLoopbackAddress().getHostAddress() : variables.get("MASTER_ADDR");
        String port = variables.get("MASTER_PORT");
        String runId = variables.getOrDefault("TORCHELASTIC_RUN_ID", "");
        if (launcher == SLURM) {
            String job = variables.getOrDefault("SLURM_JOB_ID", "");
            runId = job + "." + variables.getOrDefault("SLURM_STEP_ID", "");
            address = address != null ? address : firstHost(variables);
            port = port != null || job.isEmpty()
                    ? port
                    : String.valueOf(DEFAULT_PORT + number("SLURM_JOB_ID", job) % PORTS);
        }
        if (address == null) {
            address = required(variables, "MASTER_ADDR", launcher);
        }
        return new Environment(
                number(launcher.rank(), required(variables, launcher.rank(), launcher)),
                number(launcher.localRank(), required(variables, launcher.localRank(), launcher)),
                number(launcher.worldSize(), required(variables, launcher.worldSize(), launcher)),
                address,
                port == null ? DEFAULT_PORT : number("MASTER_PORT", port),
                runId,
                bind,
                Secret.of(variables));
    }

    private static boolean isOneHost(Map<String, String> variables, Launcher launcher) {
        if (launcher == SLURM) {
            return variables
                    .getOrDefault("SLURM_STEP_NUM_NODES", variables.getOrDefault("SLURM_JOB_NUM_NODES", ""))
                    .strip()
                    .equals("1");
        }
        String here = variables.get(launcher.localWorldSize());
        return here != null
                && here.strip()
                        .equals(variables.getOrDefault(launcher.worldSize(), "").strip());
    }

    /** Returns the first host of the job step, or of the job where SLURM does not tell of steps. */
    private static String firstHost(Map<String, String> variables) {
        String variable = variables.containsKey("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST";
        return HostList.first(variable, required(variables, variable, SLURM));
    }

    private static Launcher found(Map<String, String> variables) {
        return LAUNCHERS.stream()
                .filter(each -> variables.containsKey(each.rank()) || variables.containsKey(each.worldSize()))
                .findFirst()
                .orElse(null);
    }

    private static Launcher launcher(Map<String, String> variables) {
        Launcher launcher = found(variables);
        if (launcher != null) {
            return launcher;
        }
        List<String> wanted = LAUNCHERS.stream()
                .map(each -> each.rank() + " (" + each.name() + ")")
                .toList();
        throw new IllegalArgumentException("no launcher's variables are set: one of " + String.join(", ", wanted)
                + " is needed; flashring launch sets the first");
    }

    private static String required(Map<String, String> variables, String name, Launcher launcher) {
        String value = variables.get(name);
        if (value == null || value.isBlank()) {
            throw new IllegalArgumentException(name + " is not set; " + launcher.name()
                    + " started this process and it is needed besides " + launcher.rank());
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
}
