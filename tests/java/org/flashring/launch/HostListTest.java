package org.flashring.launch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.List;
import java.util.Locale;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.Combinators;
import net.jqwik.api.EdgeCasesMode;
import net.jqwik.api.Example;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;

class HostListTest {
    /** A piece of a list as SLURM writes it, and what it stands for in the first host. */
    record Piece(String written, String first) {
        Piece then(Piece next) {
            return new Piece(written + next.written, first + next.first);
        }
    }

    @Provide
    Arbitrary<Piece> hosts() {
        Arbitrary<Piece> word = Arbitraries.strings()
                .withChars("abz0_.-")
                .ofMinLength(1)
                .ofMaxLength(6)
                .map(text -> new Piece(text, text));
        Arbitrary<String> number = Combinators.combine(
                        Arbitraries.integers().between(0, 3000),
                        Arbitraries.integers().between(1, 6))
                .as((value, width) -> String.format(Locale.ROOT, "%0" + width + "d", value));
        Arbitrary<String> range = Combinators.combine(number, number, Arbitraries.of(true, false))
                .as((from, to, single) -> single ? from : from + "-" + to);
        Arbitrary<Piece> bracket = Combinators.combine(
                        number,
                        number.map(to -> "-" + to).injectNull(0.5),
                        range.list().ofMaxSize(3))
                .as((first, to, more) -> new Piece(
                        "[" + first + (to == null ? "" : to) + (more.isEmpty() ? "" : "," + String.join(",", more))
                                + "]",
                        first));
        return Arbitraries.oneOf(word, bracket).list().ofMinSize(1).ofMaxSize(6).map(pieces -> pieces.stream()
                .reduce(Piece::then)
                .orElseThrow());
    }

    @Property(tries = 200, edgeCases = EdgeCasesMode.NONE)
    void theFirstHostIsThatOfTheFirstNumbers(@ForAll("hosts") Piece host, @ForAll("hosts") Piece next) {
        assertThat(HostList.first("LIST", host.written())).isEqualTo(host.first());
        assertThat(HostList.first("LIST", host.written() + "," + next.written()))
                .isEqualTo(host.first());
    }

    @Example
    void listsOfRealClusters() {
        assertThat(HostList.first("LIST", "rack1-[1-2]-gpu[3-4]")).isEqualTo("rack1-1-gpu3");
        assertThat(HostList.first("LIST", "n[1-2]g[08-11]")).isEqualTo("n1g08");
        assertThat(HostList.first("LIST", "[001,004]x[2-3].cluster,login")).isEqualTo("001x2.cluster");
    }

    @Example
    void whatIsNoListIsRefusedByName() {
        for (String list : List.of("", ",a", "a[", "a[]", "a]", "a[1-]", "a[x]", "a[1,]", "a[[1]]", "a b", "a[1-2,")) {
            assertThatIllegalArgumentException()
                    .as(list)
                    .isThrownBy(() -> HostList.first("SLURM_JOB_NODELIST", list))
                    .withMessageStartingWith("SLURM_JOB_NODELIST is '" + list + "'; it must begin with a host");
        }
    }
}
