package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import javax.xml.parsers.DocumentBuilderFactory;
import org.flashring.cli.train.CurveSvg.Curve;
import org.flashring.cli.train.dense.Phase;
import org.flashring.cli.train.dense.PlacedBlock;
import org.junit.jupiter.api.Test;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** Pictures are SVG in which things lie where they belong. */
class DensePicturesTest {
    static Element parse(String svg) throws Exception {
        return DocumentBuilderFactory.newInstance()
                .newDocumentBuilder()
                .parse(new ByteArrayInputStream(svg.getBytes(StandardCharsets.UTF_8)))
                .getDocumentElement();
    }

    private static List<Element> all(Element root, String name) {
        NodeList nodes = root.getElementsByTagName(name);
        List<Element> elements = new ArrayList<>();
        for (int i = 0; i < nodes.getLength(); i++) {
            elements.add((Element) nodes.item(i));
        }
        return elements;
    }

    private static double number(Element element, String name) {
        return Double.parseDouble(element.getAttribute(name));
    }

    @Test
    void curvesFillTheirAxesAndGapsStayOpen() throws Exception {
        double[] x = {1, 2, 3, 4, 5, 6};
        Curve curve = new Curve("a < b & c", Svg.BLUE, x, new double[] {8, 2, Double.NaN, 4, Double.NaN, 3});
        Element svg = parse(CurveSvg.of("Title", "step", "loss", List.of(curve)));
        List<Element> paths = all(svg, "path");
        assertThat(paths).hasSize(1);
        assertThat(paths.get(0).getAttribute("d")).isEqualTo("M78.0 76.0L249.6 496.0"); // whole height: 8 to 2
        assertThat(all(svg, "circle")).hasSize(2); // points that are alone
        assertThat(number(all(svg, "circle").get(1), "cx")).isEqualTo(936);
        assertThat(all(svg, "text").stream().map(Element::getTextContent).toList())
                .contains("Title", "step", "loss", "a < b & c", "2", "8");
    }

    @Test
    void whatNeverChangesAndWhatIsNowhereIsDrawn() throws Exception {
        Curve flat = new Curve("flat", Svg.BLUE, new double[] {1, 2}, new double[] {0, 0});
        assertThat(CurveSvg.of("", "", "", List.of(flat))).doesNotContain("NaN", "Infinity");
        Curve none = new Curve("none", Svg.BLUE, new double[] {1}, new double[] {Double.NaN});
        Element svg = parse(CurveSvg.of("", "", "", List.of(none)));
        assertThat(all(svg, "path")).isEmpty();
    }

    @Test
    void blocksLieByOffsetAndPhase() throws Exception {
        List<PlacedBlock> blocks = List.of(
                new PlacedBlock("weights", 0, 256, EnumSet.allOf(Phase.class)),
                new PlacedBlock("qkv", 256, 512, EnumSet.of(Phase.INPUT, Phase.ATTENTION, Phase.ATTENTION_BACK)),
                new PlacedBlock("tile: act", 256, 128, EnumSet.of(Phase.UPDATE)));
        Element svg = parse(MemorySvg.of("Memory", blocks));
        List<Element> groups = all(svg, "g");
        assertThat(groups).hasSize(3);
        assertThat(all(groups.get(0), "title").get(0).getTextContent()).isEqualTo("weights: 256 B from 0 B on, always");
        assertThat(all(groups.get(1), "title").get(0).getTextContent()).endsWith("input, attention, attention back");
        Element weights = all(groups.get(0), "rect").get(0);
        List<Element> qkv = all(groups.get(1), "rect"); // two spells
        assertThat(qkv).hasSize(2);
        assertThat(number(weights, "width")).isEqualTo(1000);
        assertThat(number(weights, "height")).isEqualTo(200);
        assertThat(number(qkv.get(0), "height")).isEqualTo(400);
        assertThat(number(qkv.get(0), "y") + 400).isEqualTo(number(weights, "y"));
        assertThat(number(qkv.get(0), "width")).isEqualTo(166.7);
        assertThat(all(groups.get(2), "rect")).hasSize(1);
        assertThat(number(all(groups.get(2), "rect").get(0), "x")).isEqualTo(1012.7);
    }
}
