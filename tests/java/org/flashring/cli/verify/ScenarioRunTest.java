package org.flashring.cli.verify;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.flashring.Kernel;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.Test;

class ScenarioRunTest {
    /** What ranks put together by sums is what ranks put together in one array: threads play the processes. */
    @Test
    void ranksThatShareNoArraysPutTheSameTogether() {
        Scenarios scenarios = new Scenarios(1, 3);
        for (int index = 10; index < 14; index++) {
            Scenario scenario = scenarios.scenario(index);
            Inputs inputs = Inputs.draw(scenario, scenarios.numbers(index));
            Results together = ScenarioRun.run(scenario, new Ring(), inputs, Kernel.REFERENCE, List.of(Device.HOST));
            List<Results> apart =
                    LocalGroup.run(3, ranks -> ScenarioRun.run(scenario, new Ring(), inputs, Kernel.REFERENCE, ranks));
            for (Results results : apart) {
                for (Results.Name name : Results.Name.values()) {
                    assertThat(results.get(name)).as("%s of %s", name, scenario).isEqualTo(together.get(name));
                }
            }
        }
    }
}
