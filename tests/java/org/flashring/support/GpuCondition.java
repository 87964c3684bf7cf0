package org.flashring.support;

import static org.junit.platform.commons.support.AnnotationSupport.findAnnotation;

import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.Cuda;
import org.junit.jupiter.api.extension.ConditionEvaluationResult;
import org.junit.jupiter.api.extension.ExecutionCondition;
import org.junit.jupiter.api.extension.ExtensionContext;

/** What {@link RequiresGpu} asks. */
final class GpuCondition implements ExecutionCondition {
    @Override
    public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
        return findAnnotation(context.getElement(), RequiresGpu.class)
                .map(GpuCondition::evaluate)
                .orElse(ConditionEvaluationResult.enabled("needs no GPU"));
    }

    private static ConditionEvaluationResult evaluate(RequiresGpu needed) {
        if (!Cuda.isAvailable()) {
            return ConditionEvaluationResult.disabled(Cuda.unavailabilityCause());
        }
        if (Cuda.deviceCount() < needed.value()) {
            return ConditionEvaluationResult.disabled(
                    "takes " + needed.value() + " CUDA devices, there is " + Cuda.deviceCount());
        }
        String cause = needed.nccl() ? NcclGroup.unavailabilityCause() : "";
        return cause.isEmpty()
                ? ConditionEvaluationResult.enabled("the devices are there")
                : ConditionEvaluationResult.disabled(cause);
    }
}
