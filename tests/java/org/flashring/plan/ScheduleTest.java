package org.flashring.plan;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.IntFunction;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.plan.Schedule.Block;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Held;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Rows;
import org.flashring.plan.Schedule.Run;
import org.flashring.plan.Schedule.Step;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Schedules of every strategy: every visible pair is computed once, what comes of it gets home, and nothing is
 * overwritten in use.
 */
class ScheduleTest {
    static final List<Strategy> STRATEGIES = List.of(
            new Ring(),
            new Ring(true),
            new Ring(1),
            new Ring(2),
            new Gather(1),
            new Gather(2),
            new Gather(Long.MAX_VALUE),
            new Halo());

    private static final Problem SMALL = Problem.of(shape(2), Layout.contiguous(4, 2), Mask.full());

    static AttentionShape shape(long kvHeads) {
        return AttentionShape.of(1, 2 * kvHeads, kvHeads, 3, DType.FLOAT32);
    }

    static List<Schedule> all(Problem problem, IntFunction<Schedule> schedules) {
        return IntStream.range(0, problem.worldSize()).mapToObj(schedules).toList();
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1})
    void ringIsTheOneWrittenByHand(int rank) {
        Schedule schedule = new Ring().schedules(SMALL).apply(rank);
        assertThat(List.of(schedule.forward(), schedule.backward())).isEqualTo(HandWritten.ringOfTwo(rank));
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1})
    void gatherIsTheOneWrittenByHand(int rank) {
        Schedule schedule = new Gather(1).schedules(SMALL).apply(rank);
        assertThat(List.of(schedule.forward(), schedule.backward())).isEqualTo(HandWritten.gatherOfTwo(rank));
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 3})
    void haloIsTheOneWrittenByHand(int rank) {
        Problem problem =
                Problem.of(shape(2), Layout.contiguous(17, 4), Mask.causal().window(3, 0));
        Schedule schedule = new Halo().schedules(problem).apply(rank);
        assertThat(List.of(schedule.forward(), schedule.backward())).isEqualTo(HandWritten.halo(problem, rank, 3));
    }

    /** A step ahead, the keys of step s + 2 come from their owner while step s is computed, into no slot in use. */
    @Test
    void aStepAheadKeysComeFromTheirOwnersTwoStepsBefore() {
        Problem problem = Problem.of(shape(1), Layout.zigzag(24, 6), Mask.causal());
        Schedule schedule = new Ring(true).schedules(problem).apply(4);
        assertThat(schedule.slots()).hasSize(4 + 2);
        for (List<Step> steps : List.of(schedule.forward(), schedule.backward())) {
            assertThat(steps.get(0).before().receives().get(0).peer()).isEqualTo(3);
            for (int step = 0; step < 6; step++) {
                assertThat(steps.get(step).before() == null).isEqualTo(step > 0);
                Exchange ahead = steps.get(step).ahead();
                assertThat(ahead == null).isEqualTo(step > 3);
                if (ahead != null) {
                    Message sent = ahead.sends().get(0);
                    Message received = ahead.receives().get(0);
                    assertThat(sent.peer()).isEqualTo((4 + step + 2) % 6);
                    assertThat(sent.held().piece().rows().owner()).isEqualTo(4);
                    assertThat(received.peer()).isEqualTo((4 - step - 2 + 6) % 6);
                    assertThat(received.held())
                            .isEqualTo(steps.get(step + 2).block().keys().get(0));
                }
            }
        }
        Schedule ofTwo = new Ring(true).schedules(SMALL).apply(0);
        assertThat(List.of(ofTwo.forward(), ofTwo.backward(), ofTwo.slots()))
                .as("of two there is nothing to fetch earlier")
                .isEqualTo(List.of(
                        HandWritten.ringOfTwo(0).get(0),
                        HandWritten.ringOfTwo(0).get(1),
                        new Ring().schedules(SMALL).apply(0).slots()));
    }

    /**
     * Own keys are met at both ends; behind every step of others' keys something is computed while gradients travel.
     */
    @ParameterizedTest
    @ValueSource(ints = {2, 3, 5})
    void aRingOfSomeHeadsEndsWithOwnKeys(int world) {
        Problem problem = Problem.of(shape(3), Layout.zigzag(24, world), Mask.causal());
        for (Schedule schedule : all(problem, new Ring(1).schedules(problem))) {
            List<Step> steps = schedule.backward();
            assertThat(steps).hasSize(3 * world);
            assertThat(steps.get(steps.size() - 1).after()).isNull();
            for (int step = 0; step < steps.size(); step++) {
                boolean own = steps.get(step).block().keys().get(0).slot() == Schedule.OWN;
                assertThat(own).isEqualTo(step == 0 || step > world && (step + 1) % world == 0);
                assertThat(steps.get(step).after() == null).isEqualTo(own);
            }
        }
    }

    /** Forward is the plain ring's; its two slots of all heads are more than backward's of few. */
    @Test
    void aRingOfSomeHeadsCarriesAllForward() {
        Problem problem = Problem.of(shape(8), Layout.zigzag(24, 3), Mask.causal());
        AttentionOptions options = AttentionOptions.defaults().withKernel(Kernel.REFERENCE);
        Plan some = Plan.of(problem, new Ring(1), options);
        assertThat(List.of(some.steps(), some.backwardSteps())).containsExactly(3, 8 * 3);
        long lse = 24 / 3 * 16 * 4; // the caller's where there is backward
        for (int rank = 0; rank < 3; rank++) {
            assertThat(some.schedule(rank).forward())
                    .isEqualTo(new Ring().schedules(problem).apply(rank).forward());
            long forward = Plan.of(problem, new Ring(), options.forwardOnly()).bytesHeld(rank);
            assertThat(some.with(options.forwardOnly()).bytesHeld(rank)).isEqualTo(forward);
            assertThat(some.bytesHeld(rank)).isEqualTo(forward - lse);
        }
    }

    /** A third of the heads: three slots of keys and three of gradients of that size, and no block beside them. */
    @Test
    void aRingOfSomeHeadsHoldsAndMovesThose() {
        AttentionShape shape = AttentionShape.of(1, 6, 3, 4, DType.BFLOAT16);
        Problem problem = Problem.of(shape, Layout.contiguous(8, 2), Mask.full());
        Plan thirds = Plan.of(problem, new Ring(1), AttentionOptions.defaults().withKernel(Kernel.REFERENCE));
        Plan whole = Plan.of(problem, new Ring(), AttentionOptions.defaults().withKernel(Kernel.REFERENCE));
        long keys = 4 * 3 * (4 + 4) * 2L;
        assertThat(whole.bytesHeld(0) - thirds.bytesHeld(0))
                .isEqualTo(2 * keys + 3 * 2 * keys - 3 * keys / 3 - 4 * 2 * keys / 3);
        assertThat(thirds.forwardBytesSent(0)).isEqualTo(keys).isEqualTo(whole.forwardBytesSent(0));
        assertThat(thirds.backwardBytesSent(0)).as("gradients of own keys stay").isEqualTo(keys + 2 * keys);
        assertThat(whole.backwardBytesSent(0)).isEqualTo(keys + 2 * 2 * keys);
    }

    @Test
    void keysThatComeAheadIntoASlotInUseAreSeen() {
        Problem problem = Problem.of(shape(1), Layout.contiguous(9, 5), Mask.full());
        List<Schedule> schedules = new ArrayList<>(all(problem, new Ring(true).schedules(problem)));
        Schedule spoilt = schedules.get(1);
        schedules.set(
                1,
                new Schedule(
                        spoilt.sources(),
                        second(
                                spoilt.forward(),
                                step -> new Step(
                                        null, moved(step.ahead(), 1), step.block(), step.computes(), step.after())),
                        spoilt.backward(),
                        spoilt.slots(),
                        spoilt.room()));
        assertThatThrownBy(() -> ScheduleSimulation.run(problem, schedules))
                .isInstanceOf(AssertionError.class)
                .hasMessageContaining("is read before it has come");
    }

    @Test
    void everyPairIsComputedOnce() {
        for (int seed = 0; seed < 60; seed++) {
            Problem problem = random(new Random(seed), 5);
            for (Strategy strategy : STRATEGIES) {
                try {
                    ScheduleSimulation.run(problem, all(problem, strategy.schedules(problem)));
                } catch (AssertionError e) {
                    throw new AssertionError(strategy + ", seed " + seed + ": " + problem, e);
                }
            }
        }
    }

    /** The halo sends a key to whom it is seen by, and to nobody else; that all of those get it is shown above. */
    @Test
    void haloSendsNoKeyThatTheReceiverDoesNotSee() {
        for (int seed = 0; seed < 200; seed++) {
            Problem problem = random(new Random(seed), 8);
            for (Schedule schedule : all(problem, new Halo().schedules(problem))) {
                for (Step step : schedule.forward()) {
                    for (Message message : step.before() == null
                            ? List.<Message>of()
                            : step.before().sends()) {
                        Rows rows = message.held().piece().rows();
                        assertThat(rows.count()).isPositive();
                        Positions keys = problem.keys().positions(rows.owner());
                        for (Run run : rows.runs()) {
                            LongStream.range(run.from(), run.to())
                                    .forEach(row -> assertThat(sees(problem, message.peer(), keys.position(row)))
                                            .as("row %d of %s, %s", row, message, problem)
                                            .isTrue());
                        }
                    }
                }
            }
        }
    }

    @Test
    void manyRanksArePlanned() {
        manyRanksArePlanned(256);
    }

    @Tag("full")
    @Test
    @Timeout(60)
    void aThousandRanksArePlanned() {
        manyRanksArePlanned(1024);
    }

    private static void manyRanksArePlanned(int world) {
        Problem causal = Problem.of(shape(1), Layout.zigzag(1L << 20, world), Mask.causal());
        long piece = (1L << 20) / (2L * world);
        long seen = 0;
        for (long later = world; later < 2L * world; later++) {
            seen += later - 1; // of a rank's two pieces the later sees all before it, of which one is its own
        }
        assertThat(rowsSent(causal)).isEqualTo(seen * piece);
        Problem window = Problem.of(shape(1), causal.keys(), Mask.causal().window(piece - 1, 0));
        assertThat(rowsSent(window)).isEqualTo((2L * world - 2) * (piece - 1)); // the middle two are one rank's
    }

    private static long rowsSent(Problem problem) {
        return all(problem, new Halo().schedules(problem)).stream()
                .flatMap(schedule -> schedule.forward().stream())
                .filter(step -> step.before() != null)
                .flatMap(step -> step.before().sends().stream())
                .mapToLong(message -> message.held().piece().rows().count())
                .sum();
    }

    private static boolean sees(Problem problem, int rank, long key) {
        Positions queries = problem.queries().positions(rank);
        return LongStream.range(0, queries.length())
                .map(queries::position)
                .anyMatch(query ->
                        problem.mask().lo(query) <= key && key < problem.mask().hi(query));
    }

    static Problem random(Random random, int mostRanks) {
        int world = 1 + random.nextInt(mostRanks);
        int length = random.nextInt(15);
        Layout.Policy policy = Layout.Policy.values()[random.nextInt(3)];
        long[] documents = {0, length / 3, length / 3, length - length / 4};
        Mask mask = Mask.full().window(random.nextInt(6) - 1, random.nextInt(4) - 1);
        mask = random.nextBoolean() ? mask.documents(documents) : mask;
        Problem of = Problem.of(shape(1 + random.nextInt(3)), Layout.of(policy, length, world), mask);
        Layout queries = Layout.of(Layout.Policy.values()[random.nextInt(3)], random.nextInt(9), world)
                .startingAt(random.nextInt(5));
        return random.nextBoolean() ? of : new Problem(of.shape(), queries, of.keys(), mask, of.score());
    }

    /** The simulation would see these faults: each spoils one rank's schedule in one thing. */
    static Stream<Arguments> faults() {
        return Stream.of(
                Arguments.of("leaves out", change(step -> new Step(step.before(), step.block(), false, step.after()))),
                Arguments.of("is read before it has come", change(step -> keys(step, 0))),
                Arguments.of(
                        "which is in an exchange",
                        change(step -> new Step(
                                step.before() == null ? null : moved(step.before(), 1),
                                step.block(),
                                true,
                                step.after()))),
                Arguments.of(
                        "posts where others do not", change(step -> new Step(null, step.block(), true, step.after()))),
                Arguments.of(
                        "not get all of its keys' gradients",
                        change(step -> step.after() == null
                                ? step
                                : new Step(
                                        step.before(),
                                        new Block(
                                                step.block().source(),
                                                step.block().heads(),
                                                step.block().queries(),
                                                step.block().keys(),
                                                List.of()),
                                        true,
                                        step.after()))));
    }

    private static UnaryOperator<Step> change(UnaryOperator<Step> change) {
        return change;
    }

    private static Step keys(Step step, int slot) {
        List<Held> keys = List.of(new Held(step.block().keys().get(0).piece(), slot));
        return new Step(
                step.before(),
                new Block(
                        step.block().source(),
                        step.block().heads(),
                        step.block().queries(),
                        keys,
                        step.block().results()),
                true,
                step.after());
    }

    private static Exchange moved(Exchange exchange, int slot) {
        Message message = exchange.receives().get(0);
        return new Exchange(
                exchange.sends(), List.of(new Message(new Held(message.held().piece(), slot), message.peer())));
    }

    @ParameterizedTest
    @MethodSource("faults")
    void faultsAreSeen(String what, UnaryOperator<Step> change) {
        Problem problem = Problem.of(shape(1), Layout.contiguous(9, 3), Mask.full());
        List<Schedule> schedules = new ArrayList<>(all(problem, new Ring().schedules(problem)));
        Schedule spoilt = schedules.get(1);
        schedules.set(
                1,
                new Schedule(
                        spoilt.sources(),
                        second(spoilt.forward(), change),
                        second(spoilt.backward(), change),
                        spoilt.slots(),
                        spoilt.room()));
        assertThatThrownBy(() -> ScheduleSimulation.run(problem, schedules))
                .isInstanceOf(AssertionError.class)
                .hasMessageContaining(what);
    }

    private static List<Step> second(List<Step> steps, UnaryOperator<Step> change) {
        List<Step> changed = new ArrayList<>(steps);
        changed.set(1, change.apply(steps.get(1)));
        return changed;
    }
}
