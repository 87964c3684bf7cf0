import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.internal.CudaPreset;

/** Asks for CUDA where its jars are not on the class path, and prints what is said: of the jars, then of a device. */
public final class WithoutCuda {
    private WithoutCuda() {}

    public static void main(String[] arguments) {
        System.out.println(CudaPreset.problem());
        try {
            DeviceBuffer.allocate(Device.cuda(0), 8).close();
        } catch (UnsupportedOperationException e) {
            System.out.println(e.getMessage());
        }
    }
}
