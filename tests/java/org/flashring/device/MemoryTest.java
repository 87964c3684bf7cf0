package org.flashring.device;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import org.bytedeco.javacpp.FloatPointer;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.internal.RawPointer;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledForJreRange;
import org.junit.jupiter.api.condition.JRE;

/** Whose a piece of memory is, and which part of it a slice has. */
class MemoryTest {
    private static final Device GPU = Device.cuda(3);

    @Test
    void aSliceIsAPartOfTheSameMemory() {
        Memory slice = Memory.of(4096, 100, GPU, "owner").slice(12, 80).slice(4, 76);
        assertThat(slice.address()).isEqualTo(4112);
        assertThat(slice.bytes()).isEqualTo(76);
        assertThat(slice.device()).isEqualTo(GPU);
        assertThat(slice.isWritable()).isTrue();
        ByteBuffer readOnly = ByteBuffer.allocateDirect(8).asReadOnlyBuffer().order(ByteOrder.nativeOrder());
        assertThat(Memory.of(readOnly).slice(0, 4).isWritable()).isFalse();
    }

    @Test
    void memoryOfUnknownSizeHasSlicesOfKnownSize() {
        Memory slice = Memory.of(4096).slice(1L << 40, 24);
        assertThat(slice.address()).isEqualTo(4096 + (1L << 40));
        assertThat(slice.bytes()).isEqualTo(24);
    }

    @Test
    void nothingCanBeTakenOfNothing() {
        Memory slice = Memory.of(0).slice(0, 0);
        assertThat(slice.address()).isZero();
        assertThat(slice.bytes()).isZero();
    }

    @Test
    void closingTheOwnerClosesItsMemoryAndSlices() {
        FloatPointer pointer = new FloatPointer(8);
        HostBuffer buffer = HostBuffer.allocate(32);
        List<Memory> memories = List.of(
                Memory.of(pointer.address(), 32, Device.HOST, pointer),
                Memory.of(pointer).slice(4, 8),
                Memory.of(buffer.address(), 32, Device.HOST, buffer),
                buffer.memory().slice(0, 32));
        assertThat(memories).noneMatch(Memory::isClosed);
        pointer.close();
        buffer.close();
        assertThat(memories).allMatch(Memory::isClosed);
    }

    @Test
    void aPointerIsLabelledAsCudaSays() {
        FloatPointer pointer = new FloatPointer(8).position(2);
        long[] asked = new long[1];
        Whereabouts gpu = new Whereabouts(address -> {
            asked[0] = address;
            return 3;
        });
        assertThat(Memory.of(pointer, gpu).slice(4, 4).device()).isEqualTo(GPU);
        assertThat(asked[0]).isEqualTo(pointer.address() + 8);
        assertThat(Memory.of(pointer, new Whereabouts(address -> -1)).device()).isEqualTo(Device.HOST);
        assertThat(Memory.of(pointer).device()).isEqualTo(Device.HOST);
    }

    @Test
    void anAddressOfADeviceIsNotTheHosts() {
        Whereabouts gpu = new Whereabouts(address -> 3);
        assertThatThrownBy(() -> Memory.at(4096, 8, Device.HOST, "owner", gpu))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("address is 0x1000 on cuda:3; it must lie on the host, or be given with its device");
        assertThat(Memory.at(4096, 8, GPU, "owner", gpu).device()).isEqualTo(GPU);
        assertThat(Memory.at(4096, 8, Device.cuda(1), null, gpu).device()).isEqualTo(Device.cuda(1)); // a peer's
        assertThat(Memory.at(0, 0, Device.HOST, null, gpu).bytes()).isZero();
    }

    @Test
    @RequiresGpu
    void cudaKnowsItsOwnMemory() {
        try (DeviceBuffer buffer = DeviceBuffer.allocate(Device.cuda(0), 64);
                FloatPointer host = new FloatPointer(8)) {
            FloatPointer pointer = new FloatPointer(new RawPointer().at(buffer.address()));
            assertThat(Memory.of(pointer).device()).isEqualTo(Device.cuda(0));
            assertThat(Memory.of(host).device()).isEqualTo(Device.HOST);
            assertThatThrownBy(() -> Memory.of(buffer.address(), 64))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("on cuda:0");
        }
    }

    @Test
    @EnabledForJreRange(max = JRE.JAVA_21)
    void anOldJavaSaysThatItHasNoSegments() {
        assertThatThrownBy(() -> Memory.ofSegment("any"))
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessage("a MemorySegment needs Java 22 or newer; this is Java "
                        + Runtime.version().feature());
    }

    @Test
    @Timeout(60)
    void theOwnerIsReachableAsLongAsATensorIs() throws InterruptedException {
        Tensor[] tensor = new Tensor[1];
        WeakReference<Object> owner = ownedTensor(tensor);
        WeakReference<Object> other = ownedTensor(new Tensor[1]);
        collect(other); // shows that a collection frees what nobody has
        assertThat(owner.get()).isNotNull();
        assertThat(tensor[0].memory().bytes()).isEqualTo(48); // the tensor was there until here
        tensor[0] = null;
        collect(owner);
    }

    /** Puts a tensor in a slice of an owner's memory into {@code tensor}; nothing else has that owner. */
    private static WeakReference<Object> ownedTensor(Tensor[] tensor) {
        Object owner = new Object();
        Memory memory = Memory.of(4096, 64, Device.HOST, owner);
        tensor[0] = Tensor.packed(memory.slice(16, 48), DType.FLOAT32, 3, 2, 2);
        return new WeakReference<>(owner);
    }

    private static void collect(WeakReference<Object> owner) throws InterruptedException {
        while (owner.get() != null) {
            System.gc();
            Thread.sleep(1);
        }
    }
}
