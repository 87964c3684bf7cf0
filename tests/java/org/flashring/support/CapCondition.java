package org.flashring.support;

import org.flashring.internal.Native;
import org.flashring.kernel.Capability;
import org.junit.jupiter.api.extension.ConditionEvaluationResult;
import org.junit.jupiter.api.extension.ExecutionCondition;
import org.junit.jupiter.api.extension.ExtensionContext;

/** What {@link Capped} asks. */
final class CapCondition implements ExecutionCondition {
    @Override
    public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
        String cap = Native.maxKernel();
        if (cap.isEmpty()) {
            return ConditionEvaluationResult.enabled("the machine's own kernels");
        }
        // Every cap takes the decode kernel, which serves forward alone.
        return Capability.all().stream()
                        .anyMatch(row -> row.backward() && row.cause().startsWith("ruled out"))
                ? ConditionEvaluationResult.enabled("capped at " + cap)
                : ConditionEvaluationResult.disabled("this machine runs nothing above " + cap);
    }
}
