package org.flashring.robustness;

import java.util.List;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;

/**
 * A call that must be refused.
 *
 * @param name what is wrong
 * @param type the exception that the documentation promises
 * @param mentions what its message must contain: the argument and its value
 * @param call the call
 */
record BadCase(String name, Class<? extends Throwable> type, List<String> mentions, ThrowingCallable call) {

    /** Returns a case refused with {@link IllegalArgumentException}. */
    static BadCase argument(String name, ThrowingCallable call, String argument, Object value) {
        return new BadCase(
                name, IllegalArgumentException.class, List.of(argument, String.valueOf(value), "must"), call);
    }

    /** Returns a case refused with {@link IllegalStateException}. */
    static BadCase state(String name, ThrowingCallable call, String... mentions) {
        return new BadCase(name, IllegalStateException.class, List.of(mentions), call);
    }

    /** Returns a case refused with {@link UnsupportedOperationException}. */
    static BadCase unsupported(String name, ThrowingCallable call, String... mentions) {
        return new BadCase(name, UnsupportedOperationException.class, List.of(mentions), call);
    }

    @Override
    public String toString() {
        return name;
    }
}
