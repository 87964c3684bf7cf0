package org.flashring.launch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.flashring.comm.CommunicationException;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A job secret: where it comes from, and that nobody takes part without it. */
@Timeout(60)
class SecretTest {
    private static final Duration DEADLINE = Duration.ofSeconds(30);
    private static final Duration SHORT = Duration.ofSeconds(2);
    private static final Secret RIGHT = Secret.of("the right one");
    private static final byte[] ONE = {1};
    private static final byte[] TWO = {2};

    @TempDir
    Path folder;

    private final int port = RankProcesses.freePort();

    private Environment rank(int rank, Secret secret) {
        return new Environment(rank, rank, 2, "127.0.0.1", port, "run", "", secret);
    }

    private static Throwable join(Environment environment, Duration deadline) {
        return catchThrowable(
                () -> Rendezvous.join(environment, Map.of(), deadline).close());
    }

    /**
     * Lets {@code wrong} knock, then the right one; returns how those three ended: rank 0, the wrong one, the right
     * one.
     */
    private List<Throwable> meet(Secret ofRank0, Secret wrong) {
        CompletableFuture<Throwable> leader = CompletableFuture.supplyAsync(() -> join(rank(0, ofRank0), DEADLINE));
        Throwable turnedAway = join(rank(1, wrong), DEADLINE);
        Throwable right = join(rank(1, ofRank0), DEADLINE);
        List<Throwable> endings = new ArrayList<>();
        endings.add(leader.join());
        endings.add(turnedAway);
        endings.add(right);
        return endings;
    }

    private static void onlyTheSecondFails(List<Throwable> endings, String why) {
        assertThat(endings.get(0)).isNull();
        assertThat(endings.get(1))
                .isInstanceOf(CommunicationException.class)
                .hasMessageContainingAll("rank 1 was turned away by rank 0", why);
        assertThat(endings.get(2)).isNull();
    }

    @Test
    void whoKnowsAnotherSecretIsTurnedAwayAndTheRightOneWaitedFor() {
        onlyTheSecondFails(meet(RIGHT, Secret.of("another")), "the job secret of the process is not rank 0's");
    }

    @Test
    void whoBringsNoSecretIsTurnedAwayAndTheRightOneWaitedFor() {
        onlyTheSecondFails(
                meet(RIGHT, Secret.NONE), "the process brings no job secret and rank 0 has one; set FLASHRING_SECRET");
    }

    @Test
    void whoBringsASecretToARankThatHasNoneIsTurnedAway() {
        onlyTheSecondFails(meet(Secret.NONE, RIGHT), "the process brings a job secret and rank 0 has none");
    }

    @Test
    void rankZeroSaysWhomItTurnedAwayWhenTheRightOneDoesNotCome() {
        CompletableFuture<Throwable> leader = CompletableFuture.supplyAsync(() -> join(rank(0, RIGHT), SHORT));
        join(rank(1, Secret.of("another")), SHORT);
        assertThat(leader.join())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContainingAll(
                        "rank 1 has not come",
                        "1 process was turned away (one at 127.0.0.1: the job secret of the process is not rank 0's)");
    }

    /**
     * A program that sits on the port and does not know the secret can neither play rank 0 nor turn what it is told to
     * its use.
     */
    @Test
    void anImpostorOfRankZeroIsFoundOut() throws Exception {
        try (ServerSocket impostor = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
            CompletableFuture<Throwable> follower = CompletableFuture.supplyAsync(() -> join(rank(1, RIGHT), DEADLINE));
            try (Socket socket = impostor.accept();
                    Frames link = new Frames(socket)) {
                Throwable seen = catchThrowable(() -> Handshake.admit(link, Secret.of("a guess"), 5_000));
                assertThat(seen).hasMessageContaining("is not rank 0's");
            }
            assertThat(follower.get(20, TimeUnit.SECONDS))
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContaining("turned away");
        }
        assertThat(RIGHT.accepts(RIGHT.proof("follower", ONE, TWO), "follower", ONE, TWO))
                .isTrue();
        assertThat(RIGHT.accepts(RIGHT.proof("follower", ONE, TWO), "rank 0", ONE, TWO))
                .as("sent back")
                .isFalse();
        assertThat(RIGHT.accepts(RIGHT.proof("follower", ONE, TWO), "follower", TWO, TWO))
                .as("sent again, to another nonce")
                .isFalse();
        assertThat(RIGHT.accepts(new byte[0], "follower", ONE, TWO)).isFalse();
    }

    /** Whoever does not know the secret and lets everybody in is found out by the follower itself. */
    @Test
    void anImpostorThatLetsEverybodyInIsFoundOut() throws Exception {
        try (ServerSocket impostor = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
            CompletableFuture<Throwable> follower = CompletableFuture.supplyAsync(() -> join(rank(1, RIGHT), DEADLINE));
            try (Socket socket = impostor.accept();
                    Frames link = new Frames(socket)) {
                link.send(Frames.CHALLENGE, out -> {
                    out.writeInt(0x464c5247); // the protocol's own first word, and its version
                    out.writeInt(3);
                    out.write(new byte[32]);
                    out.write(1);
                });
                link.receive(Frames.PROOF, 5_000);
                link.send(Frames.WELCOME, out -> {
                    out.writeUTF("");
                    out.write(new byte[32]);
                });
                assertThat(follower.get(20, TimeUnit.SECONDS))
                        .isInstanceOf(CommunicationException.class)
                        .hasMessageContaining("does not know the job secret");
            }
        }
    }

    @Test
    void comesFromAVariableOrAFile() throws IOException {
        Path file = folder.resolve("secret");
        Files.writeString(file, "the right one\n");
        assertThat(Secret.of(Map.of("FLASHRING_SECRET", " the right one "))).isEqualTo(RIGHT);
        assertThat(Secret.of(Map.of("FLASHRING_SECRET_FILE", file.toString()))).isEqualTo(RIGHT);
        assertThat(Secret.of(Map.of())).isEqualTo(Secret.NONE).isNotEqualTo(RIGHT);
        assertThat(Secret.random()).hasSize(64).isNotEqualTo(Secret.random());
    }

    @Test
    void whatCannotBeIsRefusedByName() throws IOException {
        Path empty = Files.createFile(folder.resolve("empty"));
        refused(Map.of("FLASHRING_SECRET", "  "), "FLASHRING_SECRET is blank");
        refused(Map.of("FLASHRING_SECRET", "a", "FLASHRING_SECRET_FILE", "b"), "are both set");
        refused(Map.of("FLASHRING_SECRET_FILE", folder.resolve("none").toString()), "FLASHRING_SECRET_FILE is '");
        refused(Map.of("FLASHRING_SECRET_FILE", folder.toString()), "FLASHRING_SECRET_FILE is '");
        refused(Map.of("FLASHRING_SECRET_FILE", empty.toString()), "the file of FLASHRING_SECRET_FILE is blank");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Secret.of((String) null))
                .withMessageContaining("secret is null");
    }

    private static void refused(Map<String, String> variables, String why) {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Secret.of(variables))
                .withMessageContaining(why);
    }

    @Test
    void isInNobodysWords() {
        assertThat(rank(0, RIGHT).toString()).doesNotContain("right").contains("secret=a secret");
        assertThatThrownBy(() -> Rendezvous.join(rank(1, RIGHT), Map.of(), Duration.ofMillis(200)))
                .message()
                .doesNotContain("right one");
    }
}
