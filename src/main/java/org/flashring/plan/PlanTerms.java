package org.flashring.plan;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import org.flashring.AttentionShape;
import org.flashring.internal.Terms;

/** What all ranks must agree on to run a plan together, by name. */
final class PlanTerms {
    private PlanTerms() {}

    static Map<String, String> of(Plan plan) {
        Map<String, String> all = new LinkedHashMap<>();
        AttentionShape shape = plan.shape();
        all.put("batch", String.valueOf(shape.batch()));
        all.put("queryHeads", String.valueOf(shape.queryHeads()));
        all.put("kvHeads", String.valueOf(shape.kvHeads()));
        all.put("headDim", String.valueOf(shape.headDim()));
        all.put("valueDim", String.valueOf(shape.valueDim()));
        all.put("dtype", shape.dtype().name());
        plan.queries().describe("layout of the queries", all);
        plan.keys().describe("layout of the keys", all);
        plan.mask().describe("mask", all);
        all.put("softmaxScale", String.valueOf(plan.problem().scale()));
        all.put("softcap", String.valueOf(plan.problem().score().softcap()));
        all.put("sinks", String.valueOf(plan.problem().score().sinks()));
        if (!plan.problem().score().alibiSlopes().isEmpty()) {
            all.put("alibiSlopes", Terms.list(plan.problem().score().alibiSlopes()));
        }
        all.put("strategy", plan.strategy().toString());
        all.put("backward", String.valueOf(plan.options().backward()));
        all.put("wireDType", plan.wireDType().name());
        all.put("kernel", plan.options().kernel().name());
        all.put("deterministic", String.valueOf(plan.options().deterministic()));
        all.put("device", plan.options().cuda() ? "cuda" : "host");
        return Collections.unmodifiableMap(all);
    }
}
