import org.flashring.Mask;
import org.flashring.nd4j.AttentionGradients;
import org.flashring.nd4j.AttentionPass;
import org.flashring.nd4j.Nd4jAttention;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** Attention of ND4J's arrays, forward and backward. */
public final class Nd4jLayer {
    private Nd4jLayer() {}

    static AttentionPass attend(INDArray q, INDArray k, INDArray v) { // [batch, heads, length, dim], any strides
        return Nd4jAttention.forward(q, k, v, Mask.causal());
    }

    public static void main(String[] arguments) {
        INDArray q = Nd4j.randn(DataType.FLOAT, 1, 8, 100, 64);
        INDArray k = Nd4j.randn(DataType.FLOAT, 1, 2, 100, 64);
        INDArray v = Nd4j.ones(DataType.FLOAT, 1, 2, 100, 64);
        AttentionPass pass = attend(q, k, v);
        System.out.println("means of ones: " + pass.out().meanNumber());
        INDArray dout = Nd4j.ones(DataType.FLOAT, 1, 8, 100, 64); // gradient of the sum of the result
        AttentionGradients gradients = pass.backward(dout);
        System.out.println("sum of their gradients: " + gradients.dv().sumNumber());
        v.subi(gradients.dv().mul(0.1));
        System.out.println("mean after a step: " + v.meanNumber());
    }
}
