package org.flashring.support;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Runs again under caps on the kernels ({@code FLASHRING_MAX_KERNEL}), as on lesser machines, so that what it checks
 * does not depend on this one. Skipped where a cap takes nothing from this machine.
 */
@Target({ElementType.TYPE, ElementType.METHOD})
@Retention(RetentionPolicy.RUNTIME)
@Tag("capped")
@ExtendWith(CapCondition.class)
public @interface Capped {}
