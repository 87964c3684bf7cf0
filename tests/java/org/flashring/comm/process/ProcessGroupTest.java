package org.flashring.comm.process;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.io.IOException;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.comm.Ranks.Ending;
import org.flashring.comm.Transfers;
import org.flashring.comm.local.LocalGroup;
import org.flashring.internal.Native;
import org.flashring.support.Leaks;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What groups of processes promise beyond the contracts; threads play the processes. */
@Timeout(120)
@EnabledOnOs(value = OS.LINUX, disabledReason = "/dev/shm is Linux's")
class ProcessGroupTest {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final int WORLD = 3;
    private static final int BIG = 2_000_003; // bytes: many times what lies between two ranks

    private static List<Ending> run(Medium medium, Duration deadline, Ranks.Body body) {
        return Ranks.run(ProcessRanks.group(WORLD, deadline, medium), body);
    }

    private static void succeeds(List<Ending> endings) {
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    private static ByteBuffer bytes(int count) {
        return ByteBuffer.allocateDirect(count).order(ByteOrder.nativeOrder());
    }

    /** Returns numbers whose sums depend on the order of their terms. */
    private static ByteBuffer floats(int rank, int count) {
        ByteBuffer floats = bytes(count * Float.BYTES);
        for (int i = 0; i < count; i++) {
            floats.putFloat(i * Float.BYTES, (float) Math.exp(12 * Math.sin(i * (rank + 1.7))));
        }
        return floats;
    }

    private static List<ByteBuffer> sums(Communicator communicator) {
        int count = 50_001;
        ByteBuffer all = floats(communicator.rank(), count);
        communicator.allReduce(Native.address(all), count, DType.FLOAT32);
        ByteBuffer parts = floats(communicator.rank(), count);
        ByteBuffer part = bytes(count / WORLD * Float.BYTES);
        communicator.reduceScatter(Native.address(parts), count / WORLD, DType.FLOAT32, Native.address(part));
        return List.of(all, part);
    }

    @ParameterizedTest
    @EnumSource
    void sumsHaveTheBitsOfThreads(Medium medium) {
        List<List<ByteBuffer>> expected = LocalGroup.run(WORLD, ProcessGroupTest::sums);
        succeeds(run(medium, LONG, communicator -> assertThat(sums(communicator))
                .isEqualTo(expected.get(communicator.rank()))));
    }

    /** What is long goes on while its receiver computes, here: does nothing until the sender has come through. */
    @ParameterizedTest
    @EnumSource
    void messagesMoveWhileTheirReceiverIsElsewhere(Medium medium) {
        CountDownLatch sent = new CountDownLatch(2);
        succeeds(run(medium, LONG, c -> {
            int rank = c.rank();
            ByteBuffer own = bytes(BIG);
            ByteBuffer received = bytes(BIG);
            for (int i = 0; i < BIG; i++) {
                own.put(i, (byte) (i % 251 + rank));
            }
            c.post(Native.address(own), BIG, (rank + 1) % WORLD, Native.address(received), BIG, (rank + 2) % WORLD);
            if (rank == 2) {
                assertThat(sent.await(15, TimeUnit.SECONDS)).isTrue();
                c.await();
            } else {
                c.await();
                sent.countDown();
            }
            for (int i = 0; i < BIG; i++) {
                if (received.get(i) != (byte) (i % 251 + (rank + 2) % WORLD)) {
                    throw new AssertionError("byte " + i);
                }
            }
        }));
    }

    @ParameterizedTest
    @EnumSource
    void fiftyGroupsThatFailLeaveNothing(Medium medium) throws InterruptedException {
        List<WeakReference<Object>> groups = new ArrayList<>();
        Leaks.leavesNothing(groups, () -> {
            List<Ending> endings = run(medium, LONG, communicator -> {
                synchronized (groups) {
                    groups.add(new WeakReference<>(communicator));
                }
                try (Communicator part = communicator.split(communicator.rank() / 2, 0)) {
                    part.barrier();
                    communicator.agree(Map.of("mask", communicator.rank() == 1 ? "full" : "causal"));
                }
            });
            assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContaining("mask is full on rank 1"));
        });
        assertThat(files()).isEmpty();
    }

    private static List<Path> files() {
        try (Stream<Path> files = Files.list(Segment.FOLDER)) {
            return files.filter(file -> file.getFileName()
                            .toString()
                            .startsWith("flashring-" + ProcessHandle.current().pid() + "-"))
                    .toList();
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void memoryIsSharedUnlessSocketsAreForced() {
        for (Medium medium : Medium.values()) {
            succeeds(run(medium, LONG, communicator -> {
                assertThat(Leaks.mappings() > 0).isEqualTo(medium == Medium.AUTO);
                assertThat(files()).isEmpty();
                communicator.barrier();
            }));
        }
    }

    @Test
    void aFileThatHasNoRoomIsRefusedBeforeItIsWritten() throws IOException {
        long room = Files.getFileStore(Segment.FOLDER).getUsableSpace();
        assertThatThrownBy(() -> Segment.create(new byte[Segment.NONCE], room + (1L << 40)))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("/dev/shm has room for ")
                .hasMessageEndingWith(" are needed");
        assertThat(files()).isEmpty();
    }

    @ParameterizedTest
    @EnumSource
    void aRankThatLeavesEarlyIsNamedByThoseWhoNeedIt(Medium medium) {
        List<Ending> endings = run(medium, LONG, communicator -> {
            communicator.barrier();
            if (communicator.rank() == 0) {
                communicator.barrier();
            } else if (communicator.rank() == 2) {
                ByteBuffer memory = bytes(16);
                communicator.post(Native.address(memory), 8, 0, Native.address(memory) + 8, 8, 1);
                communicator.await();
            }
        });
        assertThat(endings.get(1).thrown()).isNull();
        assertThat(endings.get(0).thrown()).isInstanceOf(CommunicationException.class);
        assertThat(endings.get(2).thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageMatching("rank 0 waits in barrier, but rank 1 has left the group"
                        + "|rank 2 waits in receive, but rank 1 has left the group");
    }

    @ParameterizedTest
    @EnumSource
    void aMessageThatNobodyExpectsFailsTheGroup(Medium medium) {
        List<Ending> endings = run(medium, LONG, communicator -> {
            ByteBuffer memory = bytes(8);
            Transfers batch = new Transfers();
            if (communicator.rank() == 0) {
                batch.send(Native.address(memory), 8, 1);
            }
            communicator.await(communicator.post(batch));
            Thread.sleep(100);
            communicator.barrier();
            communicator.barrier();
        });
        assertThat(endings.get(1).thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessage("rank 1 expected no more messages from rank 0, which sends 1");
    }

    @Test
    void ranksThatCallDifferentVerbsFailAtOnce() {
        List<Ending> endings = run(Medium.AUTO, LONG, communicator -> {
            ByteBuffer memory = bytes(64);
            if (communicator.rank() == 1) {
                communicator.allReduce(Native.address(memory), 3, DType.FLOAT64);
            } else {
                communicator.barrier();
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("allReduce of FLOAT64")
                .hasMessageContaining("barrier"));
    }

    @Test
    void abortFromAnotherThreadEndsAWaitAndReachesParts() throws InterruptedException {
        List<Communicator> ranks = ProcessRanks.group(2, LONG, Medium.AUTO);
        AtomicReference<Throwable> seen = new AtomicReference<>();
        Thread splitting = new Thread(() -> ranks.get(1).split(0, 1).close(), "splitting");
        splitting.start();
        Communicator part = ranks.get(0).split(0, 0);
        Ranks.join(splitting);
        Thread thread = new Thread(() -> seen.set(catchThrowable(ranks.get(0)::barrier)), "waiting");
        thread.start();
        Thread.sleep(50);
        ranks.get(0).abort(new IllegalStateException("watchdog"));
        Ranks.join(thread);
        assertThat(seen.get()).isInstanceOf(CommunicationException.class).hasMessageContaining("watchdog");
        assertThatThrownBy(part::barrier)
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("watchdog");
        part.close();
        ranks.forEach(Communicator::close);
    }

    @Test
    void anInterruptEndsTheWaitOfAll() {
        List<Ending> endings = run(Medium.AUTO, LONG, communicator -> {
            if (communicator.rank() == 1) {
                Thread.currentThread().interrupt();
                communicator.barrier();
            }
            Thread.sleep(200);
            communicator.barrier();
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 1 was interrupted in barrier"));
    }

    @Test
    void theVariableSaysWhichMedium() {
        assertThat(Medium.of(Map.of())).isEqualTo(Medium.AUTO);
        assertThat(Medium.of(Map.of(Medium.VARIABLE, "auto"))).isEqualTo(Medium.AUTO);
        assertThat(Medium.of(Map.of(Medium.VARIABLE, " sockets "))).isEqualTo(Medium.SOCKETS);
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Medium.of(Map.of(Medium.VARIABLE, "pigeons")))
                .withMessage("FLASHRING_MEDIUM is 'pigeons'; it must be auto or sockets");
    }
}
