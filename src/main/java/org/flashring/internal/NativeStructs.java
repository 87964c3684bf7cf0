package org.flashring.internal;

import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.annotation.ByRef;
import org.bytedeco.javacpp.annotation.Cast;
import org.bytedeco.javacpp.annotation.MemberGetter;
import org.bytedeco.javacpp.annotation.MemberSetter;
import org.bytedeco.javacpp.annotation.Name;
import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;

/** The structs of {@code flashring.h}, made by methods of {@link Native} alone; the annotation is for both classes. */
@Properties(
        inherit = org.bytedeco.javacpp.presets.javacpp.class,
        value =
                @Platform(
                        value = "linux-x86_64",
                        compiler = "cpp17",
                        include = "flashring.h",
                        link = "flashring",
                        library = "jniNative"))
@NoException
public abstract class NativeStructs {
    NativeStructs() {}

    // spotless:off: a line for each field of the C interface
    /** {@code flashring_tensor}. */
    @Name("flashring_tensor")
    @NoException
    public static final class TensorView extends Pointer {
        public TensorView(Pointer p) {
            super(p);
        }

        public native @Cast("void*") long data();
        public native TensorView data(@Cast("void*") long address);
        @Name("stride_batch") public native long strideBatch();
        @Name("stride_batch") public native TensorView strideBatch(long elements);
        @Name("stride_seq") public native long strideSeq();
        @Name("stride_seq") public native TensorView strideSeq(long elements);
        @Name("stride_head") public native long strideHead();
        @Name("stride_head") public native TensorView strideHead(long elements);
    }

    /** {@code flashring_positions}. */
    @Name("flashring_positions")
    @NoException
    public static final class PositionList extends Pointer {
        public PositionList(Pointer p) {
            super(p);
        }

        @MemberGetter public native @Cast("const flashring_range*") long ranges();
        @MemberSetter public native PositionList ranges(@Cast("const flashring_range*") long address);
        public native long count();
        public native PositionList count(long ranges);
    }

    /** {@code flashring_mask}. */
    @Name("flashring_mask")
    @NoException
    public static final class MaskView extends Pointer {
        public MaskView(Pointer p) {
            super(p);
        }

        public native long left();
        public native MaskView left(long keys);
        public native long right();
        public native MaskView right(long keys);
        @MemberGetter @Name("cu_seqlens") public native @Cast("const int64_t*") long cuSeqlens();
        @MemberSetter @Name("cu_seqlens") public native MaskView cuSeqlens(@Cast("const int64_t*") long address);
        public native long documents();
        public native MaskView documents(long count);
        @MemberGetter @Name("prefix_lengths") public native @Cast("const int64_t*") long prefixLengths();
        @MemberSetter @Name("prefix_lengths")
        public native MaskView prefixLengths(@Cast("const int64_t*") long address);
    }

    /** {@code flashring_step}. */
    @Name("flashring_step")
    @NoException
    public static final class Step extends Struct {
        Step() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

        public native @Cast("uint32_t") int size();
        public native Step size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Step device(int device);
        public native int dtype();
        public native Step dtype(int dtype);
        public native int kernel();
        public native Step kernel(int kernel);
        public native int flags();
        public native Step flags(int flags);
        public native int deterministic();
        public native Step deterministic(int deterministic);
        public native long batch();
        public native Step batch(long batch);
        @Name("q_len") public native long queryLength();
        @Name("q_len") public native Step queryLength(long tokens);
        @Name("kv_len") public native long keyLength();
        @Name("kv_len") public native Step keyLength(long tokens);
        @Name("q_heads") public native long queryHeads();
        @Name("q_heads") public native Step queryHeads(long heads);
        @Name("kv_heads") public native long kvHeads();
        @Name("kv_heads") public native Step kvHeads(long heads);
        @Name("head_dim") public native long headDim();
        @Name("head_dim") public native Step headDim(long dim);
        @Name("value_dim") public native long valueDim();
        @Name("value_dim") public native Step valueDim(long dim);
        @Name("softmax_scale") public native double softmaxScale();
        @Name("softmax_scale") public native Step softmaxScale(double scale);
        @MemberGetter @Name("q_positions") public native @ByRef PositionList queryPositions();
        @MemberGetter @Name("kv_positions") public native @ByRef PositionList keyPositions();
        @MemberGetter public native @ByRef MaskView mask();
        public native @Cast("void*") long workspace();
        public native Step workspace(@Cast("void*") long address);
        @Name("workspace_bytes") public native long workspaceBytes();
        @Name("workspace_bytes") public native Step workspaceBytes(long bytes);
        public native @Cast("void*") long stream();
        public native Step stream(@Cast("void*") long stream);
        @MemberGetter public native @ByRef TensorView q();
        @MemberGetter public native @ByRef TensorView k();
        @MemberGetter public native @ByRef TensorView v();
        @MemberGetter public native @ByRef TensorView out();
        @MemberGetter public native @ByRef TensorView acc();
        @MemberGetter public native @ByRef TensorView lse();
        @MemberGetter public native @ByRef TensorView dout();
        @MemberGetter public native @ByRef TensorView delta();
        @MemberGetter public native @ByRef TensorView dq();
        @MemberGetter public native @ByRef TensorView dk();
        @MemberGetter public native @ByRef TensorView dv();
        @MemberGetter @Name("lse_low") public native @ByRef TensorView lseLow();
        public native double softcap();
        public native Step softcap(double softcap);
        @MemberGetter public native @Cast("const void*") long sinks();
        @MemberSetter public native Step sinks(@Cast("const void*") long address);
        @MemberGetter @Name("alibi_slopes") public native @Cast("const void*") long alibiSlopes();
        @MemberSetter @Name("alibi_slopes") public native Step alibiSlopes(@Cast("const void*") long address);
        public native @Cast("void*") long dsinks();
        public native Step dsinks(@Cast("void*") long address);
        @MemberGetter @Name("kv_lengths") public native @Cast("const int32_t*") long keyLengths();
        @MemberSetter @Name("kv_lengths") public native Step keyLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("kv_begins") public native @Cast("const int32_t*") long keyBegins();
        @MemberSetter @Name("kv_begins") public native Step keyBegins(@Cast("const int32_t*") long address);
        @MemberGetter @Name("q_lengths") public native @Cast("const int32_t*") long queryLengths();
        @MemberSetter @Name("q_lengths") public native Step queryLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("page_table") public native @Cast("const int32_t*") long pageTable();
        @MemberSetter @Name("page_table") public native Step pageTable(@Cast("const int32_t*") long address);
        @MemberGetter @Name("k_pages") public native @Cast("const void* const*") long keyPages();
        @MemberSetter @Name("k_pages") public native Step keyPages(@Cast("const void* const*") long address);
        @MemberGetter @Name("v_pages") public native @Cast("const void* const*") long valuePages();
        @MemberSetter @Name("v_pages") public native Step valuePages(@Cast("const void* const*") long address);
        @Name("page_size") public native long pageSize();
        @Name("page_size") public native Step pageSize(long tokens);
        public native long pages();
        public native Step pages(long count);
        @Name("page_table_stride") public native long pageTableStride();
        @Name("page_table_stride") public native Step pageTableStride(long entries);
        public native long shard();
        public native Step shard(long number);
        public native long shards();
        public native Step shards(long count);
        @Name("kv_dtype") public native int cacheDType();
        @Name("kv_dtype") public native Step cacheDType(int kvDType);
        @Name("batch_invariant") public native int batchInvariant();
        @Name("batch_invariant") public native Step batchInvariant(int batchInvariant);
        @MemberGetter @Name("k_scales") public native @Cast("const float*") long keyScales();
        @MemberSetter @Name("k_scales") public native Step keyScales(@Cast("const float*") long address);
        @MemberGetter @Name("v_scales") public native @Cast("const float*") long valueScales();
        @MemberSetter @Name("v_scales") public native Step valueScales(@Cast("const float*") long address);
    }

    /** {@code flashring_combine_args}. */
    @Name("flashring_combine_args")
    @NoException
    public static final class Combine extends Struct {
        Combine() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

        public native @Cast("uint32_t") int size();
        public native Combine size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Combine device(int device);
        @Name("dst_dtype") public native int dstDType();
        @Name("dst_dtype") public native Combine dstDType(int dtype);
        @Name("a_dtype") public native int aDType();
        @Name("a_dtype") public native Combine aDType(int dtype);
        @Name("b_dtype") public native int bDType();
        @Name("b_dtype") public native Combine bDType(int dtype);
        public native long batch();
        public native Combine batch(long batch);
        public native long length();
        public native Combine length(long tokens);
        public native long heads();
        public native Combine heads(long heads);
        public native long dim();
        public native Combine dim(long dim);
        @MemberGetter public native @ByRef TensorView dst();
        @MemberGetter public native @ByRef TensorView a();
        @MemberGetter public native @ByRef TensorView b();
        public native @Cast("void*") long stream();
        public native Combine stream(@Cast("void*") long stream);
    }

    /** {@code flashring_append_args}. */
    @Name("flashring_append_args")
    @NoException
    public static final class Append extends Struct {
        Append() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

        public native @Cast("uint32_t") int size();
        public native Append size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Append device(int device);
        public native int dtype();
        public native Append dtype(int dtype);
        @Name("kv_dtype") public native int cacheDType();
        @Name("kv_dtype") public native Append cacheDType(int kvDType);
        public native long batch();
        public native Append batch(long batch);
        @Name("new_len") public native long newLength();
        @Name("new_len") public native Append newLength(long tokens);
        @Name("kv_len") public native long keyLength();
        @Name("kv_len") public native Append keyLength(long tokens);
        @Name("kv_heads") public native long kvHeads();
        @Name("kv_heads") public native Append kvHeads(long heads);
        @Name("head_dim") public native long headDim();
        @Name("head_dim") public native Append headDim(long dim);
        @Name("value_dim") public native long valueDim();
        @Name("value_dim") public native Append valueDim(long dim);
        @MemberGetter @Name("new_k") public native @ByRef TensorView newKeys();
        @MemberGetter @Name("new_v") public native @ByRef TensorView newValues();
        @MemberGetter public native @ByRef TensorView k();
        @MemberGetter public native @ByRef TensorView v();
        @MemberGetter @Name("kv_lengths") public native @Cast("const int32_t*") long keyLengths();
        @MemberSetter @Name("kv_lengths") public native Append keyLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("new_lengths") public native @Cast("const int32_t*") long newLengths();
        @MemberSetter @Name("new_lengths") public native Append newLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("lengths_after") public native @Cast("int32_t*") long lengthsAfter();
        @MemberSetter @Name("lengths_after") public native Append lengthsAfter(@Cast("int32_t*") long address);
        @MemberGetter @Name("page_table") public native @Cast("const int32_t*") long pageTable();
        @MemberSetter @Name("page_table") public native Append pageTable(@Cast("const int32_t*") long address);
        @MemberGetter @Name("k_pages") public native @Cast("void* const*") long keyPages();
        @MemberSetter @Name("k_pages") public native Append keyPages(@Cast("void* const*") long address);
        @MemberGetter @Name("v_pages") public native @Cast("void* const*") long valuePages();
        @MemberSetter @Name("v_pages") public native Append valuePages(@Cast("void* const*") long address);
        @Name("page_size") public native long pageSize();
        @Name("page_size") public native Append pageSize(long tokens);
        public native long pages();
        public native Append pages(long count);
        @Name("page_table_stride") public native long pageTableStride();
        @Name("page_table_stride") public native Append pageTableStride(long entries);
        public native @Cast("void*") long stream();
        public native Append stream(@Cast("void*") long stream);
        public native long shard();
        public native Append shard(long number);
        public native long shards();
        public native Append shards(long count);
        @MemberGetter @Name("k_scales") public native @Cast("const float*") long keyScales();
        @MemberSetter @Name("k_scales") public native Append keyScales(@Cast("const float*") long address);
        @MemberGetter @Name("v_scales") public native @Cast("const float*") long valueScales();
        @MemberSetter @Name("v_scales") public native Append valueScales(@Cast("const float*") long address);
    }

    /** {@code flashring_merge_args}. */
    @Name("flashring_merge_args")
    @NoException
    public static final class Merge extends Struct {
        Merge() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

        public native @Cast("uint32_t") int size();
        public native Merge size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Merge device(int device);
        public native int dtype();
        public native Merge dtype(int dtype);
        public native long states();
        public native Merge states(long count);
        @Name("state_stride") public native long stateStride();
        @Name("state_stride") public native Merge stateStride(long elements);
        public native long batch();
        public native Merge batch(long batch);
        public native long length();
        public native Merge length(long tokens);
        public native long heads();
        public native Merge heads(long heads);
        public native long dim();
        public native Merge dim(long dim);
        @MemberGetter public native @ByRef TensorView acc();
        @MemberGetter @Name("state_lse") public native @ByRef TensorView stateLse();
        @MemberGetter public native @ByRef TensorView out();
        @MemberGetter public native @ByRef TensorView lse();
        public native @Cast("void*") long stream();
        public native Merge stream(@Cast("void*") long stream);
    }

    /** {@code flashring_capability}. */
    @Name("flashring_capability")
    @NoException
    public static final class CapabilityRow extends Struct {
        CapabilityRow() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

        @MemberGetter public native @Cast("uint32_t") int size();
        @MemberSetter public native CapabilityRow size(@Cast("uint32_t") int bytes);
        @MemberGetter public native int kernel();
        @MemberGetter public native int cuda();
        @MemberGetter public native int dtype();
        @MemberGetter @Name("max_head_dim") public native int maxHeadDim();
        @MemberGetter @Name("max_value_dim") public native int maxValueDim();
        @MemberGetter public native int forward();
        @MemberGetter public native int backward();
        @MemberGetter @Name("unequal_dims") public native int unequalDims();
        @MemberGetter public native int available();
        @MemberGetter public native @Cast("const char*") String name();
        @MemberGetter public native @Cast("const char*") String requirement();
        @MemberGetter public native int scores();
        @MemberGetter @Name("forward_dim") public native int forwardDim();
        @MemberGetter public native int latent();
    }
    // spotless:on
}
