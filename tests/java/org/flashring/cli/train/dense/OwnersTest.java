package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What is owned is closed, whatever fails. */
class OwnersTest {
    private final List<String> closed = new ArrayList<>();

    private AutoCloseable closing(String name, Exception failure) {
        return () -> {
            closed.add(name);
            if (failure != null) {
                throw failure;
            }
        };
    }

    @Test
    void whatFailsKeepsNothingOpen() {
        Exception last = new Exception("last");
        IllegalStateException middle = new IllegalStateException("middle");
        Owners owners = new Owners();
        owners.add(closing("first", null));
        owners.add(closing("middle", middle));
        owners.add(closing("last", last));
        assertThatThrownBy(owners::close).hasCause(last).hasSuppressedException(middle);
        assertThat(closed).containsExactly("last", "middle", "first");
    }

    @Test
    void whatIsKeptIsClosedLater() {
        Owners made = new Owners();
        made.add(closing("one", null));
        Owners kept = made.keep();
        made.close();
        assertThat(closed).isEmpty();
        kept.close();
        assertThat(closed).containsExactly("one");
    }
}
