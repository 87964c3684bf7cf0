package org.flashring.device;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import org.flashring.internal.Checks;

/**
 * A {@code java.lang.foreign.MemorySegment}, known by handles alone: the library is compiled for Java 17, which has no
 * such type. So one class serves every Java, also in a jar merged of several, where classes for newer ones get lost.
 */
final class ForeignSegment {
    private static final String NAME = "java.lang.foreign.MemorySegment";
    private static final int SINCE = 22;
    private static final Class<?> TYPE = type(NAME);
    private static final MethodHandle ADDRESS = method("address", long.class);
    private static final MethodHandle BYTES = method("byteSize", long.class);
    private static final MethodHandle IS_NATIVE = method("isNative", boolean.class);
    private static final MethodHandle IS_READ_ONLY = method("isReadOnly", boolean.class);
    private static final MethodHandle IS_ACCESSIBLE_BY = method("isAccessibleBy", boolean.class, Thread.class);
    private static final MethodHandle IS_ALIVE = ofScope();

    private final Object segment;

    /**
     * @throws IllegalArgumentException unless it is an open native segment that the current thread may use
     * @throws UnsupportedOperationException before Java 22
     */
    ForeignSegment(Object segment) {
        this.segment = Checks.notNull("segment", segment);
        if (TYPE == null) {
            throw new UnsupportedOperationException("a MemorySegment needs Java " + SINCE + " or newer; this is Java "
                    + Runtime.version().feature());
        }
        if (!TYPE.isInstance(segment)) {
            throw Checks.broken("segment", "a " + segment.getClass().getName(), "be a " + NAME);
        }
        if (!is(IS_NATIVE)) {
            throw Checks.broken("segment", "on the Java heap", "be native");
        }
        if (isClosed()) {
            throw Checks.broken("segment", "closed", "be open");
        }
        if (!isAccessible()) {
            throw Checks.broken("segment", "confined to another thread", "be accessible from the current one");
        }
    }

    private static Class<?> type(String name) {
        try {
            return Runtime.version().feature() < SINCE ? null : Class.forName(name);
        } catch (ClassNotFoundException e) {
            throw new LinkageError("Java " + SINCE + " has " + name, e);
        }
    }

    /** Returns the method of that name, of an Object; null where there are no segments. */
    private static MethodHandle method(String name, Class<?> result, Class<?>... arguments) {
        return TYPE == null ? null : method(TYPE, name, result, arguments);
    }

    private static MethodHandle method(Class<?> type, String name, Class<?> result, Class<?>... arguments) {
        try {
            MethodHandle found =
                    MethodHandles.publicLookup().findVirtual(type, name, MethodType.methodType(result, arguments));
            return found.asType(found.type().changeParameterType(0, Object.class));
        } catch (ReflectiveOperationException e) {
            throw new LinkageError("Java " + SINCE + " has " + type.getName() + '.' + name, e);
        }
    }

    /** Returns the method that asks a segment's scope whether it is alive. */
    private static MethodHandle ofScope() {
        if (TYPE == null) {
            return null;
        }
        Class<?> scope = type(NAME + "$Scope");
        MethodHandle isAlive = method(scope, "isAlive", boolean.class);
        return MethodHandles.filterReturnValue(
                method("scope", scope), isAlive.asType(isAlive.type().changeParameterType(0, scope)));
    }

    long address() {
        return number(ADDRESS);
    }

    long bytes() {
        return number(BYTES);
    }

    boolean isReadOnly() {
        return is(IS_READ_ONLY);
    }

    boolean isClosed() {
        return !is(IS_ALIVE);
    }

    private boolean isAccessible() {
        try {
            return (boolean) IS_ACCESSIBLE_BY.invokeExact(segment, Thread.currentThread());
        } catch (Throwable e) {
            throw unexpected(e);
        }
    }

    private boolean is(MethodHandle method) {
        try {
            return (boolean) method.invokeExact(segment);
        } catch (Throwable e) {
            throw unexpected(e);
        }
    }

    private long number(MethodHandle method) {
        try {
            return (long) method.invokeExact(segment);
        } catch (Throwable e) {
            throw unexpected(e);
        }
    }

    /** None of these methods throws. */
    private static IllegalStateException unexpected(Throwable e) {
        return new IllegalStateException(e);
    }
}
