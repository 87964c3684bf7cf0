package org.flashring.internal;

/** JavaCPP's CUDA preset, which a program for the CPU does without. */
public final class CudaPreset {
    private CudaPreset() {}

    /** Returns why the preset cannot be used, in a sentence that says what helps; empty if it is loaded. */
    public static String problem() {
        try {
            Class.forName("org.bytedeco.cuda.global.cudart", false, CudaPreset.class.getClassLoader());
            Cudart.load();
            return "";
        } catch (ClassNotFoundException | NoClassDefFoundError e) {
            return "JavaCPP's CUDA preset is not there: add the jars cuda-<version>.jar and"
                    + " cuda-<version>-linux-x86_64.jar"
                    + " of org.bytedeco, in the version that FlashRing was built with";
        } catch (LinkageError e) {
            Throwable root = e;
            while (root.getCause() != null) {
                root = root.getCause();
            }
            return "the CUDA runtime's Java preset cannot be loaded: " + root.getMessage();
        }
    }
}
