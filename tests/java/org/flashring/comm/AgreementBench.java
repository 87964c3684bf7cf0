package org.flashring.comm;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.local.LocalGroup;
import org.flashring.launch.Environment;
import org.flashring.launch.Rendezvous;
import org.flashring.launch.Session;
import org.flashring.plan.Plan;

/**
 * How long ranks take to agree on a new plan of 64 packed documents, the making of its terms included: over threads,
 * and, started by {@code flashring launch --nproc N -- org.flashring.comm.AgreementBench}, over processes.
 */
final class AgreementBench {
    private static final int PLANS = 2_000;
    private static final int WARM_UP = 1_000;
    private static final Duration DEADLINE = Duration.ofSeconds(60);

    private AgreementBench() {}

    private interface Agree {
        void on(int number, Map<String, String> terms) throws ExecutionException, InterruptedException;
    }

    public static void main(String[] args) throws Exception {
        if (System.getenv("RANK") == null) {
            for (int world : new int[] {2, 4, 8}) {
                List<String> report =
                        LocalGroup.run(world, DEADLINE, ranks -> measure((number, terms) -> ranks.agree(terms)));
                System.out.println(world + " threads: " + report.get(0));
            }
            return;
        }
        try (Session session = Rendezvous.join(Environment.current(), Map.of(), DEADLINE)) {
            session.listen(System.out::println);
            String report = measure((number, terms) -> {
                String problem = session.agree("", number, session.rank(), session.worldSize(), terms)
                        .get();
                if (!problem.isEmpty()) {
                    throw new AssertionError(problem);
                }
            });
            if (session.rank() == 0) {
                System.out.println(session.worldSize() + " processes: " + report);
            }
        }
    }

    private static String measure(Agree agree) {
        Plan[] plans = new Plan[PLANS];
        for (int i = 0; i < PLANS; i++) {
            plans[i] = plan(i);
        }
        long[] nanos = new long[PLANS];
        try {
            for (int i = 0; i < PLANS; i++) {
                long start = System.nanoTime();
                agree.on(i, plans[i].terms());
                nanos[i] = System.nanoTime() - start;
            }
        } catch (ExecutionException | InterruptedException e) {
            throw new AssertionError(e);
        }
        long[] warm = Arrays.copyOfRange(nanos, WARM_UP, PLANS);
        Arrays.sort(warm);
        return String.format(
                Locale.ROOT,
                "median %.1f us, mean %.1f us, 90 of 100 within %.1f us",
                warm[warm.length / 2] / 1e3,
                Arrays.stream(warm).average().orElseThrow() / 1e3,
                warm[warm.length * 9 / 10] / 1e3);
    }

    private static Plan plan(int number) {
        long[] cuSeqlens = new long[65];
        for (int i = 1; i < cuSeqlens.length; i++) {
            cuSeqlens[i] = cuSeqlens[i - 1] + 8 + (i * 31 + number) % 17;
        }
        return Plan.of(
                AttentionShape.of(1, 4, 2, 16, DType.BFLOAT16),
                Layout.of(Layout.Policy.ZIGZAG, cuSeqlens, 4),
                Mask.causal().documents(cuSeqlens),
                AttentionOptions.defaults());
    }
}
