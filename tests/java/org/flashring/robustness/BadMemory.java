package org.flashring.robustness;

import static org.flashring.robustness.BadCase.argument;
import static org.flashring.robustness.BadCase.state;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.HostBuffer;
import org.flashring.device.Memory;

/** Memory and tensors that break a rule. */
final class BadMemory {
    private static final ByteOrder FOREIGN =
            ByteOrder.nativeOrder() == ByteOrder.LITTLE_ENDIAN ? ByteOrder.BIG_ENDIAN : ByteOrder.LITTLE_ENDIAN;
    private static final DType F32 = DType.FLOAT32;
    private static final Memory ANY = Memory.of(1 << 12); // never followed
    private static final long[] SIZES = {2, 3, 4, 5};
    private static final long HUGE = Long.MAX_VALUE / 2;

    private BadMemory() {}

    private static ByteBuffer direct(int bytes) {
        return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
    }

    private static Memory of(Buffer buffer) {
        return Memory.of(buffer);
    }

    private static <T extends AutoCloseable> T closed(T resource) throws Exception {
        resource.close();
        return resource;
    }

    private static Tensor strided(
            long batch, long length, long heads, long dim, long strideBatch, long strideLength, long strideHead) {
        return Tensor.strided(ANY, F32, batch, length, heads, dim, strideBatch, strideLength, strideHead);
    }

    private static Tensor shaped(long[] shape, long... strides) {
        return Tensor.of(ANY, F32, shape, strides);
    }

    /** A tensor of 2 x 3 x 4 x 5 elements of {@code dtype} in {@code memory}. */
    private static Tensor dense(Memory memory, DType dtype) {
        return Tensor.bshd(memory, dtype, 2, 3, 4, 5);
    }

    static List<BadCase> cases() {
        return List.of(
                argument("memory: negative address", () -> Memory.of(-1), "address", -1),
                argument("memory: negative sized address", () -> Memory.of(-64, 8), "address", -64),
                argument("memory: bytes at null", () -> Memory.of(0, 8), "address", 0),
                argument("memory: negative bytes", () -> Memory.of(64, -1), "bytes", -1),
                argument("memory: owner null", () -> Memory.of(64, 8, Device.HOST, null), "owner", null),
                argument("memory: owner of no device", () -> Memory.of(64, 8, null, "owner"), "device", null),
                argument("memory: owner of negative bytes", () -> Memory.of(64, -8, Device.HOST, "owner"), "bytes", -8),
                argument("memory: owner of null", () -> Memory.of(0, 8, Device.HOST, "owner"), "address", 0),
                argument("memory: slice before it", () -> Memory.of(64, 8).slice(-1, 4), "offset", -1),
                argument("memory: slice behind it", () -> Memory.of(64, 8).slice(9, 0), "offset", 9),
                argument(
                        "memory: slice of negative bytes",
                        () -> Memory.of(64, 8).slice(4, -4),
                        "bytes",
                        -4),
                argument("memory: slice beyond its end", () -> Memory.of(64, 8).slice(4, 5), "bytes", 5),
                argument("memory: endless slice", () -> Memory.of(64, 8).slice(4, HUGE), "[0, 4]", HUGE),
                argument(
                        "memory: slice of a slice",
                        () -> Memory.of(64, 8).slice(4, 2).slice(1, 2),
                        "bytes",
                        2),
                argument(
                        "memory: slice beyond the address space",
                        () -> Memory.of(Long.MAX_VALUE - 7).slice(8, 0),
                        "address",
                        8),
                argument("memory: pointer null", () -> Memory.of((Pointer) null), "pointer", null),
                argument(
                        "memory: pointer to null",
                        () -> Memory.of(new FloatPointer((Pointer) null)),
                        "pointer",
                        "null"),
                argument("memory: pointer closed", () -> Memory.of(closed(new FloatPointer(8))), "pointer", "closed"),
                argument("memory: buffer null", () -> of(null), "buffer", null),
                argument("memory: heap bytes", () -> of(ByteBuffer.allocate(64)), "buffer", "heap"),
                argument("memory: heap floats", () -> of(FloatBuffer.wrap(new float[8])), "buffer", "heap"),
                argument("memory: longs", () -> of(direct(64).asLongBuffer()), "buffer", "Long"),
                argument("memory: ints", () -> of(direct(64).asIntBuffer()), "buffer", "Int"),
                argument("memory: chars", () -> of(direct(64).asCharBuffer()), "buffer", "Char"),
                argument(
                        "memory: bytes of foreign order", () -> of(direct(64).order(FOREIGN)), "buffer order", FOREIGN),
                argument(
                        "memory: shorts of foreign order",
                        () -> of(direct(64).order(FOREIGN).asShortBuffer()),
                        "buffer order",
                        FOREIGN),
                argument(
                        "memory: floats of foreign order",
                        () -> of(direct(64).order(FOREIGN).asFloatBuffer()),
                        "buffer order",
                        FOREIGN),
                argument(
                        "memory: doubles of foreign order",
                        () -> of(direct(64).order(FOREIGN).asDoubleBuffer()),
                        "buffer order",
                        FOREIGN),
                argument("memory: segment null", () -> Memory.ofSegment(null), "segment", null),
                argument("memory: host buffer null", () -> Memory.of((HostBuffer) null), "buffer", null),
                state(
                        "memory: host buffer closed",
                        () -> closed(HostBuffer.allocate(64)).memory(),
                        "64",
                        "closed"),
                state(
                        "memory: address of a closed host buffer",
                        () -> closed(HostBuffer.allocate(65)).address(),
                        "65",
                        "closed"),
                argument("host buffer: negative bytes", () -> HostBuffer.allocate(-1), "bytes", -1),
                argument("tensor: memory null", () -> dense(null, F32), "memory", null),
                argument("tensor: dtype null", () -> dense(ANY, null), "dtype", null),
                argument("tensor: no batch", () -> strided(0, 3, 4, 5, 60, 20, 5), "batch", 0),
                argument("tensor: negative batch", () -> strided(-2, 3, 4, 5, 60, 20, 5), "batch", -2),
                argument("tensor: negative length", () -> strided(2, -3, 4, 5, 60, 20, 5), "length", -3),
                argument("tensor: no heads", () -> strided(2, 3, 0, 5, 60, 20, 5), "heads", 0),
                argument("tensor: negative heads", () -> strided(2, 3, -4, 5, 60, 20, 5), "heads", -4),
                argument("tensor: no dim", () -> strided(2, 3, 4, 0, 60, 20, 5), "dim", 0),
                argument("tensor: negative dim", () -> strided(2, 3, 4, -5, 60, 20, 5), "dim", -5),
                argument("tensor: negative batch stride", () -> strided(2, 3, 4, 5, -60, 20, 5), "strideBatch", -60),
                argument("tensor: negative length stride", () -> strided(2, 3, 4, 5, 60, -20, 5), "strideLength", -20),
                argument("tensor: negative head stride", () -> strided(2, 3, 4, 5, 60, 20, -5), "strideHead", -5),
                argument("tensor: batch and length overflow", () -> strided(HUGE, 3, 4, 5, 0, 0, 0), "elements", HUGE),
                argument(
                        "tensor: heads overflow",
                        () -> strided(1L << 31, 1L << 31, 4, 5, 0, 0, 0),
                        "elements",
                        1L << 62),
                argument(
                        "tensor: dim overflows",
                        () -> strided(1, 1L << 31, 1L << 31, 2, 0, 0, 0),
                        "elements",
                        1L << 62),
                argument("tensor: batch stride overflows", () -> strided(4, 3, 4, 5, HUGE, 20, 5), "reach", HUGE),
                argument("tensor: length stride overflows", () -> strided(2, 5, 4, 5, 60, HUGE, 5), "reach", HUGE),
                argument("tensor: head stride overflows", () -> strided(2, 3, 5, 5, 60, 20, HUGE), "reach", HUGE),
                argument(
                        "tensor: strides overflow together",
                        () -> strided(2, 2, 2, 5, HUGE, HUGE, 5),
                        "reach",
                        Long.MAX_VALUE - 1),
                argument("tensor: bytes overflow", () -> strided(2, 3, 4, 5, 1L << 61, 20, 5), "bytes", 4),
                argument(
                        "tensor: end of memory overflows",
                        () -> dense(Memory.of(Long.MAX_VALUE - 7), F32),
                        "end address",
                        Long.MAX_VALUE - 7),
                argument(
                        "tensor: heads and dim overflow",
                        () -> Tensor.bshd(ANY, F32, 1, 1, HUGE, 4),
                        "strideLength",
                        HUGE),
                argument(
                        "tensor: length and token overflow",
                        () -> Tensor.bshd(ANY, F32, 1, HUGE, 2, 4),
                        "strideBatch",
                        HUGE),
                argument("tensor: shape null", () -> shaped(null, 60, 20, 5, 1), "shape", null),
                argument("tensor: shape of three", () -> shaped(new long[] {3, 4, 5}, 60, 20, 5, 1), "shape.length", 3),
                argument("tensor: strides null", () -> shaped(SIZES, (long[]) null), "strides", null),
                argument("tensor: three strides", () -> shaped(SIZES, 60, 20, 5), "strides.length", 3),
                argument("tensor: heads with gaps", () -> shaped(SIZES, 120, 40, 10, 2), "strides[3]", 2),
                argument("tensor: reversed tokens", () -> shaped(SIZES, 60, -20, 5, 1), "strideLength", -20),
                argument("tensor: no such batch", () -> shaped(new long[] {0, 3, 4, 5}, 60, 20, 5, 1), "batch", 0),
                argument(
                        "tensor: strides beyond the memory",
                        () -> Tensor.of(Memory.of(64, 480), F32, SIZES, new long[] {60, 20, 6, 1}),
                        "memory",
                        "480 bytes"),
                argument("qkv: no heads", () -> Tensor.qkv(ANY, F32, 2, 3, 0, 2, 5), "heads", 0),
                argument("qkv: no key heads", () -> Tensor.qkv(ANY, F32, 2, 3, 4, 0, 5), "kvHeads", 0),
                argument("qkv: heads overflow", () -> Tensor.qkv(ANY, F32, 2, 3, HUGE, HUGE, 5), "heads", HUGE),
                argument("qkv: memory null", () -> Tensor.qkv(null, F32, 2, 3, 4, 2, 5), "memory", null),
                argument(
                        "qkv: memory one byte short",
                        () -> Tensor.qkv(Memory.of(64, 959), F32, 2, 3, 4, 2, 5),
                        "memory",
                        "959 bytes"),
                argument("qkv per head: no heads", () -> Tensor.qkvPerHead(ANY, F32, 2, 3, 0, 5), "heads", 0),
                argument(
                        "qkv per head: heads overflow",
                        () -> Tensor.qkvPerHead(ANY, F32, 2, 3, HUGE, 5),
                        "heads",
                        HUGE),
                argument(
                        "qkv per head: memory one byte short",
                        () -> Tensor.qkvPerHead(Memory.of(64, 1439), F32, 2, 3, 4, 5),
                        "memory",
                        "1439 bytes"),
                argument(
                        "tensor: heads first overflow", () -> Tensor.bhsd(ANY, F32, 1, 2, HUGE, 4), "strideHead", HUGE),
                argument("tensor: negative packed tokens", () -> Tensor.packed(ANY, F32, -7, 2, 4), "length", -7),
                argument("tensor: lse without heads", () -> Tensor.lse(ANY, F32, 2, 0, 3), "heads", 0),
                argument("tensor: memory null of length 1", () -> dense(Memory.of(0), F32), "memory", "0 bytes"),
                argument(
                        "tensor: address space one byte short",
                        () -> dense(Memory.of(64, 479), F32),
                        "memory",
                        "479 bytes"),
                argument(
                        "tensor: host buffer too small",
                        () -> dense(HostBuffer.allocate(400).memory(), F32),
                        "memory",
                        "400 bytes"),
                argument("tensor: direct buffer too small", () -> dense(of(direct(476)), F32), "memory", "476 bytes"),
                argument(
                        "tensor: direct buffer past its position",
                        () -> dense(of(direct(480).position(4)), F32),
                        "memory",
                        "476 bytes"),
                argument(
                        "tensor: direct buffer before its limit",
                        () -> dense(of(direct(480).limit(472)), F32),
                        "memory",
                        "472 bytes"),
                argument(
                        "tensor: floats past their position",
                        () -> dense(of(direct(480).asFloatBuffer().position(1)), F32),
                        "memory",
                        "476 bytes"),
                argument(
                        "tensor: pointer too small",
                        () -> dense(Memory.of(new FloatPointer(119)), F32),
                        "memory",
                        "476 bytes"),
                argument(
                        "tensor: pointer past its position",
                        () -> dense(Memory.of(new FloatPointer(120).position(2)), F32),
                        "memory",
                        "472 bytes"),
                argument(
                        "tensor: pointer before its limit",
                        () -> dense(Memory.of(new BytePointer(480).limit(479)), F32),
                        "memory",
                        "479 bytes"),
                argument(
                        "tensor: gaps reach beyond",
                        () -> Tensor.strided(Memory.of(64, 480), F32, 2, 3, 4, 5, 61, 20, 5),
                        "memory",
                        "480 bytes"),
                argument(
                        "tensor: float64 misaligned", () -> dense(Memory.of(4100), DType.FLOAT64), "address", "0x1004"),
                argument("tensor: float32 misaligned", () -> dense(Memory.of(4098), F32), "address", "0x1002"),
                argument(
                        "tensor: bfloat16 misaligned",
                        () -> dense(Memory.of(4097), DType.BFLOAT16),
                        "address",
                        "0x1001"),
                argument(
                        "tensor: float16 misaligned",
                        () -> dense(Memory.of(4097), DType.FLOAT16),
                        "address",
                        "0x1001"));
    }
}
