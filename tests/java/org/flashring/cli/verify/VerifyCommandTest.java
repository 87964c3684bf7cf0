package org.flashring.cli.verify;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.flashring.cli.Cli;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class VerifyCommandTest {
    @TempDir
    private Path folder;

    @Test
    void oneCaseSaysWhatItIsAndPasses() throws IOException {
        Path file = folder.resolve("verify.json");
        Cli run = Cli.run("verify", "--seed", "3", "--case", "150", "--json", file.toString());
        assertThat(run.err()).isEmpty();
        assertThat(run.exitCode()).isZero();
        assertThat(run.out()).startsWith("case 150: B").contains("all passed");
        JsonObject result = Cli.json(file);
        assertThat(result.get("checks").getAsInt()).isPositive();
        assertThat(result.getAsJsonArray("failures")).isEmpty();
        JsonObject tensors = result.getAsJsonObject("worst")
                .entrySet()
                .iterator()
                .next()
                .getValue()
                .getAsJsonObject();
        assertThat(tensors.keySet()).containsExactly("OUT", "LSE", "DQ", "DK", "DV", "DSINKS");
    }

    @Test
    void theSameSeedGivesTheSameCase() {
        String first = Cli.run("verify", "--seed", "9", "--case", "180")
                .out()
                .lines()
                .findFirst()
                .orElseThrow();
        assertThat(Cli.run("verify", "--seed", "9", "--case", "180").out()).startsWith(first);
        assertThat(Cli.run("verify", "--seed", "10", "--case", "180").out()).doesNotStartWith(first);
    }

    @Test
    void everyCaseHasAsManyRanksAsAskedFor() {
        for (String index : new String[] {"20", "180"}) {
            Cli run = Cli.run("verify", "--ranks", "5", "--case", index);
            assertThat(run.exitCode()).isZero();
            assertThat(run.out().lines().findFirst().orElseThrow()).contains("over 5 ranks");
        }
    }

    @Test
    void ulyssesIsVerifiedLikeTheRing() {
        for (String[] options : new String[][] {
            {"--case", "47"}, {"--case", "61", "--ulysses-ranks", "2"}, {"--case", "161", "--between", "gather"}
        }) {
            List<String> words = new ArrayList<>(List.of("verify", "--strategy", "ulysses", "--ranks", "4"));
            words.addAll(List.of(options));
            Cli run = Cli.run(words.toArray(String[]::new));
            assertThat(run.err()).isEmpty();
            assertThat(run.out()).contains("all passed");
            assertThat(run.exitCode()).isZero();
        }
    }

    @Test
    void haloIsVerifiedLikeTheRing() {
        for (String index : new String[] {"47", "161"}) {
            Cli run = Cli.run("verify", "--strategy", "halo", "--ranks", "4", "--case", index);
            assertThat(run.err()).isEmpty();
            assertThat(run.out()).contains("all passed");
            assertThat(run.exitCode()).isZero();
        }
    }

    @Test
    void gatherIsVerifiedLikeTheRing() {
        for (String index : new String[] {"47", "61", "161"}) {
            Cli run = Cli.run("verify", "--strategy", "gather", "--gather-heads", "2", "--ranks", "4", "--case", index);
            assertThat(run.err()).isEmpty();
            assertThat(run.out()).contains("all passed");
            assertThat(run.exitCode()).isZero();
        }
    }
}
