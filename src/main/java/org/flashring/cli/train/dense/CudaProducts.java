package org.flashring.cli.train.dense;

import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_TRANSA;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_TRANSB;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
import static org.bytedeco.cuda.global.cublas.CUBLAS_COMPUTE_32F;
import static org.bytedeco.cuda.global.cublas.CUBLAS_OP_N;
import static org.bytedeco.cuda.global.cublas.CUBLAS_OP_T;
import static org.bytedeco.cuda.global.cublas.CUBLAS_STATUS_SUCCESS;
import static org.bytedeco.cuda.global.cublas.cublasLtCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtDestroy;
import static org.bytedeco.cuda.global.cublas.cublasLtGetStatusName;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmul;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulAlgoGetHeuristic;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulDescCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulDescDestroy;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulDescSetAttribute;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulPreferenceCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulPreferenceDestroy;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulPreferenceSetAttribute;
import static org.bytedeco.cuda.global.cublas.cublasLtMatrixLayoutCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtMatrixLayoutDestroy;
import static org.bytedeco.cuda.global.cudart.CUDA_R_16BF;
import static org.bytedeco.cuda.global.cudart.CUDA_R_32F;

import java.util.HashMap;
import java.util.Map;
import org.bytedeco.cuda.cublas.cublasLtContext;
import org.bytedeco.cuda.cublas.cublasLtMatmulAlgo_t;
import org.bytedeco.cuda.cublas.cublasLtMatmulDescOpaque_t;
import org.bytedeco.cuda.cublas.cublasLtMatmulHeuristicResult_t;
import org.bytedeco.cuda.cublas.cublasLtMatmulPreferenceOpaque_t;
import org.bytedeco.cuda.cublas.cublasLtMatrixLayoutOpaque_t;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;
import org.flashring.DType;
import org.flashring.cli.train.dense.Ops.Form;

/**
 * Products of matrices by cuBLASLt on the current device, summed in float32. How a shape is computed is asked once and
 * kept. Symbols of CUDA 13.0 alone are called: one that the host's library lacks would end the process. Of one thread.
 */
final class CudaProducts implements AutoCloseable {
    private static final long MOST_ALIGNED = 256; // what cuBLASLt takes for granted unless told otherwise

    /** What decides how a product is computed; alignments are those of its operands' addresses, in bytes. */
    private record Shape(
            Form form,
            long m,
            long n,
            long k,
            boolean adds,
            boolean wideResult,
            long alignmentOfA,
            long alignmentOfB,
            long alignmentOfPlus,
            long alignmentOfD) {}

    /** How a shape is computed, for cuBLASLt, whose matrices lie by columns: of it, left is b and right is a. */
    private record Plan(
            cublasLtMatmulDescOpaque_t product,
            cublasLtMatrixLayoutOpaque_t left,
            cublasLtMatrixLayoutOpaque_t right,
            cublasLtMatrixLayoutOpaque_t result,
            cublasLtMatmulHeuristicResult_t chosen,
            cublasLtMatmulAlgo_t algorithm) {}

    private final cublasLtContext handle = new cublasLtContext();
    private final Map<Shape, Plan> plans = new HashMap<>();
    private final Owners owned = new Owners();
    private final DType type;
    private final long workspaceBytes;
    private final CUstream_st stream;
    private final DeviceAddress workspace;
    private final DeviceAddress left = new DeviceAddress();
    private final DeviceAddress right = new DeviceAddress();
    private final DeviceAddress plus = new DeviceAddress();
    private final DeviceAddress result = new DeviceAddress();
    private final FloatPointer one = new FloatPointer(1);
    private final FloatPointer zero = new FloatPointer(1);

    /** Makes those of operands of {@code type} in the order of a stream, with memory to work in. */
    CudaProducts(DType type, long stream, long workspace, long workspaceBytes) {
        this.type = type;
        this.workspaceBytes = workspaceBytes;
        this.stream = new CUstream_st(new DeviceAddress().at(stream));
        this.workspace = new DeviceAddress().at(workspace);
        one.put(1f);
        zero.put(0f);
        check(cublasLtCreate(handle), "cublasLtCreate");
        owned.add(() -> check(cublasLtDestroy(handle), "cublasLtDestroy"));
    }

    /** Queues a product, as {@link Ops#product} has it. */
    void product(Form form, long m, long n, long k, long a, long b, long added, long d, boolean wideResult) {
        long c = added == 0 ? d : added;
        Shape shape = new Shape(
                form, m, n, k, added != 0, wideResult, alignment(a), alignment(b), alignment(c), alignment(d));
        Plan plan = plans.get(shape);
        if (plan == null) {
            plan = plan(shape);
            plans.put(shape, plan);
        }
        int status = cublasLtMatmul(
                handle,
                plan.product(),
                one,
                left.at(b),
                plan.left(),
                right.at(a),
                plan.right(),
                added == 0 ? zero : one,
                plus.at(c),
                plan.result(),
                result.at(d),
                plan.result(),
                plan.algorithm(),
                workspace,
                workspaceBytes,
                stream);
        if (status != CUBLAS_STATUS_SUCCESS) {
            check(status, "cublasLtMatmul of " + shape);
        }
    }

    private static long alignment(long address) {
        return Math.min(MOST_ALIGNED, Long.lowestOneBit(address));
    }

    private Plan plan(Shape shape) {
        boolean transposesB = shape.form() == Form.NT;
        boolean transposesA = shape.form() == Form.TN;
        long m = shape.m();
        long n = shape.n();
        long k = shape.k();
        cublasLtMatmulDescOpaque_t product = descriptor(transposesB, transposesA);
        cublasLtMatrixLayoutOpaque_t ofB = transposesB ? layout(type, k, n) : layout(type, n, k);
        cublasLtMatrixLayoutOpaque_t ofA = transposesA ? layout(type, m, k) : layout(type, k, m);
        cublasLtMatrixLayoutOpaque_t ofD = layout(shape.wideResult() ? type.accumulator() : type, n, m);
        cublasLtMatmulHeuristicResult_t chosen = owned.add(new cublasLtMatmulHeuristicResult_t());
        int[] found = new int[1];
        try (Owners preferences = new Owners()) {
            cublasLtMatmulPreferenceOpaque_t preference = preference(shape, preferences);
            check(
                    cublasLtMatmulAlgoGetHeuristic(handle, product, ofB, ofA, ofD, ofD, preference, 1, chosen, found),
                    "cublasLtMatmulAlgoGetHeuristic of " + shape);
        }
        if (found[0] == 0) {
            throw new IllegalStateException("cuBLASLt knows no way to compute " + shape);
        }
        return new Plan(product, ofB, ofA, ofD, chosen, chosen.algo());
    }

    private cublasLtMatmulPreferenceOpaque_t preference(Shape shape, Owners owners) {
        PointerPointer<Pointer> made = owners.add(new PointerPointer<>(1));
        check(cublasLtMatmulPreferenceCreate(made), "cublasLtMatmulPreferenceCreate");
        cublasLtMatmulPreferenceOpaque_t preference = new cublasLtMatmulPreferenceOpaque_t(made.get());
        owners.add(() -> check(cublasLtMatmulPreferenceDestroy(preference), "cublasLtMatmulPreferenceDestroy"));
        LongPointer bytes = owners.add(new LongPointer(1));
        set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes.put(workspaceBytes), Long.BYTES);
        IntPointer value = owners.add(new IntPointer(1));
        // Parts of a sum are added in float32 and in one order.
        value.put(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
        set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, value, Integer.BYTES);
        value.put((int) shape.alignmentOfB());
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, value, Integer.BYTES);
        value.put((int) shape.alignmentOfA());
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, value, Integer.BYTES);
        value.put((int) shape.alignmentOfPlus());
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, value, Integer.BYTES);
        value.put((int) shape.alignmentOfD());
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, value, Integer.BYTES);
        return preference;
    }

    private static void set(cublasLtMatmulPreferenceOpaque_t preference, int attribute, Pointer value, long bytes) {
        check(
                cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes),
                "cublasLtMatmulPreferenceSetAttribute of " + attribute);
    }

    private cublasLtMatmulDescOpaque_t descriptor(boolean transposesLeft, boolean transposesRight) {
        try (PointerPointer<Pointer> made = new PointerPointer<>(1);
                IntPointer operation = new IntPointer(1)) {
            check(cublasLtMatmulDescCreate(made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
            cublasLtMatmulDescOpaque_t product = new cublasLtMatmulDescOpaque_t(made.get());
            owned.add(() -> check(cublasLtMatmulDescDestroy(product), "cublasLtMatmulDescDestroy"));
            operation.put(transposesLeft ? CUBLAS_OP_T : CUBLAS_OP_N);
            check(
                    cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, operation, Integer.BYTES),
                    "cublasLtMatmulDescSetAttribute");
            operation.put(transposesRight ? CUBLAS_OP_T : CUBLAS_OP_N);
            check(
                    cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, operation, Integer.BYTES),
                    "cublasLtMatmulDescSetAttribute");
            return product;
        }
    }

    /** Returns the layout of a dense matrix that lies by columns. */
    private cublasLtMatrixLayoutOpaque_t layout(DType of, long rows, long columns) {
        try (PointerPointer<Pointer> made = new PointerPointer<>(1)) {
            int cudaType = of == DType.BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F;
            check(cublasLtMatrixLayoutCreate(made, cudaType, rows, columns, rows), "cublasLtMatrixLayoutCreate");
            cublasLtMatrixLayoutOpaque_t layout = new cublasLtMatrixLayoutOpaque_t(made.get());
            owned.add(() -> check(cublasLtMatrixLayoutDestroy(layout), "cublasLtMatrixLayoutDestroy"));
            return layout;
        }
    }

    private static void check(int status, String call) {
        if (status != CUBLAS_STATUS_SUCCESS) {
            throw new IllegalStateException(
                    call + " failed with " + cublasLtGetStatusName(status).getString());
        }
    }

    @Override
    public void close() {
        owned.close();
        one.close();
        zero.close();
    }
}
