package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.Backward;
import org.flashring.attention.FlashAttention;
import org.flashring.attention.Forward;
import org.flashring.attention.RingAttention;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.Division;
import org.flashring.comm.Divisions;
import org.flashring.comm.Transfers;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Event;
import org.flashring.device.HostBuffer;
import org.flashring.device.OwnedMemory;
import org.flashring.launch.Session;
import org.flashring.plan.Plan;
import org.flashring.serve.Cache;
import org.flashring.serve.CachePlan;
import org.flashring.sync.GradientSync;
import org.flashring.sync.OutputGather;
import org.flashring.sync.TokenLoss;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every public owner: closing twice is harmless, use after close throws, and no close pulls memory from under a running
 * call.
 */
@Timeout(60)
class LifecycleTest {
    private static final AttentionShape SHAPE = new AttentionShape(Operand.BATCH, 4, 2, 8, 6, DType.BFLOAT16);
    private static final Plan PLAN =
            Plan.of(SHAPE, Layout.contiguous(Operand.LENGTH, 1), Mask.causal(), AttentionOptions.defaults());
    private static final Plan RING =
            Plan.of(SHAPE, Layout.contiguous(2 * Operand.LENGTH, 2), Mask.full(), AttentionOptions.defaults());

    /** How to make one of each public owner. */
    private static final Map<Class<?>, Supplier<AutoCloseable>> OWNERS = Map.of(
            HostBuffer.class, () -> HostBuffer.allocate(64),
            Communicator.class, LocalGroup::single,
            RingAttention.class, () -> new RingAttention(PLAN, LocalGroup.single()),
            ShardedAttention.class, () -> new ShardedAttention(PLAN, LocalGroup.single()),
            FlashAttention.class, () -> new FlashAttention(PLAN),
            GradientSync.class, () -> new GradientSync(LocalGroup.single(), DType.FLOAT32, new long[] {3, 4}, 64),
            TokenLoss.class, () -> new TokenLoss(LocalGroup.single()),
            Divisions.class, () -> new Divisions(LocalGroup.single()),
            Cache.class, () -> new Cache(CachePlan.contiguous(SHAPE, 1, 16), Device.HOST),
            OutputGather.class,
                    () -> OutputGather.of(LocalGroup.single(), Layout.contiguous(4, 1), DType.FLOAT32, 1, 1, 2));

    /** What answers after close too: facts that no memory is needed for. */
    private static final Set<String> FACTS = Set.of(
            "close",
            "abort",
            "isClosed",
            "bytes",
            "bytesHeld",
            "plan",
            "rank",
            "worldSize",
            "buckets",
            "owned",
            "rows",
            "device",
            "at");

    /** Owners that {@code DeviceTest} and {@code RendezvousTest} close: they take a GPU or a network. */
    private static final Set<Class<?>> ELSEWHERE = Set.of(
            OwnedMemory.class, DeviceBuffer.class, org.flashring.device.Stream.class, Event.class, Session.class);

    static Stream<Class<?>> owners() {
        return OWNERS.keySet().stream();
    }

    /** Owners of adapters are tested with their frameworks. */
    @Test
    void everyPublicOwnerIsTestedHere() throws Exception {
        Path classes = Path.of(RingAttention.class
                .getProtectionDomain()
                .getCodeSource()
                .getLocation()
                .toURI());
        try (Stream<Path> files = Files.walk(classes.resolve("org/flashring"))) {
            Set<Class<?>> found = files.map(file -> classes.relativize(file).toString())
                    .filter(name -> name.endsWith(".class")
                            && !name.matches(".*/(internal|kernel|cli|comm/transport|djl|nd4j|pytorch)/.*"))
                    .map(name -> load(name.replace('/', '.').replaceAll("\\.class$", "")))
                    .filter(type ->
                            AutoCloseable.class.isAssignableFrom(type) && Modifier.isPublic(type.getModifiers()))
                    .filter(type -> !ELSEWHERE.contains(type))
                    .collect(Collectors.toSet());
            assertThat(found).isEqualTo(OWNERS.keySet());
        }
    }

    private static Class<?> load(String name) {
        try {
            return Class.forName(name, false, LifecycleTest.class.getClassLoader());
        } catch (ClassNotFoundException e) {
            throw new AssertionError(e);
        }
    }

    @ParameterizedTest
    @MethodSource("owners")
    void closingTwiceIsHarmless(Class<?> type) throws Exception {
        AutoCloseable owner = OWNERS.get(type).get();
        owner.close();
        assertThatCode(owner::close).doesNotThrowAnyException();
    }

    @ParameterizedTest
    @MethodSource("owners")
    void closingFromManyThreadsAtOnceFreesOnce(Class<?> type) throws Exception {
        int threads = 2;
        List<AutoCloseable> owners =
                Stream.generate(OWNERS.get(type)).limit(1000).toList();
        AtomicInteger arrived = new AtomicInteger();
        Runnable closeAll = () -> {
            for (int i = 0; i < owners.size(); i++) {
                arrived.incrementAndGet();
                while (arrived.get() < threads * (i + 1)) {
                    Thread.onSpinWait(); // until all are at this owner
                }
                Throwable unused = catchThrowable(
                        owners.get(i)::close); // may refuse while another thread closes; must not free twice
            }
        };
        List<Thread> closers =
                Stream.generate(() -> new Thread(closeAll)).limit(threads).toList();
        closers.forEach(Thread::start);
        for (Thread closer : closers) {
            closer.join();
        }
        for (AutoCloseable owner : owners) {
            owner.close();
        }
    }

    @ParameterizedTest
    @MethodSource("owners")
    void useAfterCloseThrows(Class<?> type) throws Exception {
        AutoCloseable owner = OWNERS.get(type).get();
        owner.close();
        List<Method> uses = Arrays.stream(type.getMethods())
                .filter(method -> !Modifier.isStatic(method.getModifiers())
                        && method.getDeclaringClass() != Object.class
                        && !FACTS.contains(method.getName()))
                .toList();
        assertThat(uses).isNotEmpty();
        for (Method use : uses) {
            assertThatThrownBy(() -> invoke(owner, use))
                    .as(use.toString())
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("closed");
        }
    }

    /** Calls a method with arguments that an open owner would take. */
    private static void invoke(AutoCloseable owner, Method method) throws Throwable {
        Tensor[] good = Stream.of(Operand.values()).map(Operand::good).toArray(Tensor[]::new);
        Forward forward = new Forward(good[0], good[1], good[2], good[3], good[4]);
        Object[] arguments = new Object[method.getParameterCount()];
        int tensors = 0;
        for (int i = 0; i < arguments.length; i++) {
            Class<?> type = method.getParameterTypes()[i];
            arguments[i] = type == Tensor.class ? good[tensors++] : argument(type, i, forward, good);
        }
        method.setAccessible(true);
        try {
            method.invoke(owner, arguments);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    private static Object argument(Class<?> type, int place, Forward forward, Tensor[] good) {
        Map<Class<?>, Object> ofType = Map.of(
                DType.class,
                DType.FLOAT32,
                long.class,
                place == 1 || place == 4 ? 16L : 4096L << place, // sizes, addresses
                int.class,
                0,
                long[].class,
                new long[] {16},
                String.class,
                "name",
                Map.class,
                Map.of(),
                Transfers.class,
                new Transfers(),
                Division.class,
                Division.of(1),
                Forward.class,
                forward,
                Backward.class,
                new Backward(forward, good[5], good[6], good[7], good[8]));
        return type == int[].class ? new int[] {0} : ofType.getOrDefault(type, 1.0);
    }

    @Test
    void aSecondThreadInsideARingIsRefusedAndSoIsClosingIt() throws Exception {
        List<Communicator> ranks = LocalGroup.create(2, Duration.ofSeconds(20));
        RingAttention ring = new RingAttention(RING, ranks.get(0)); // waits inside forward: rank 1 never comes
        AtomicReference<Throwable> first = new AtomicReference<>();
        Thread inside =
                new Thread(() -> first.set(catchThrowable(() -> Operand.call(ring, false, null, null))), "inside");
        inside.start();
        while (inside.getState() != Thread.State.TIMED_WAITING) {
            Thread.sleep(1);
        }
        assertThatThrownBy(() -> Operand.call(ring, false, null, null))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("another thread");
        assertThatThrownBy(() -> Operand.call(ring, true, null, null))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("another thread");
        assertThatThrownBy(ring::close)
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("another thread");
        ranks.get(1).close();
        inside.join(10_000);
        assertThat(first.get()).isInstanceOf(CommunicationException.class).hasMessageContaining("rank 1 has left");
        ring.close();
        ranks.get(0).close();
    }

    /** Calls and close race; whoever comes second throws, and no call runs on freed memory. */
    @RepeatedTest(3)
    void closeWhileRunningNeitherCrashesNorHangs() throws Exception {
        for (int trial = 0; trial < 20; trial++) {
            RingAttention ring = new RingAttention(PLAN, LocalGroup.single());
            Tensor[] tensors = Stream.of(Operand.values()).map(Operand::good).toArray(Tensor[]::new);
            CountDownLatch go = new CountDownLatch(1);
            AtomicReference<Throwable> thrown = new AtomicReference<>();
            Thread worker = new Thread(() -> {
                await(go);
                thrown.set(catchThrowable(() -> {
                    while (true) {
                        Operand.call(ring, false, tensors);
                    }
                }));
            });
            worker.start();
            go.countDown();
            while (catchThrowable(ring::close) != null) {
                Thread.onSpinWait(); // refused while a call runs
            }
            worker.join(10_000);
            assertThat(thrown.get()).isInstanceOf(IllegalStateException.class);
        }
    }

    @Test
    void theRingLeavesTheCommunicatorOpen() {
        try (Communicator communicator = LocalGroup.single()) {
            new RingAttention(PLAN, communicator).close();
            communicator.barrier();
        }
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }
}
