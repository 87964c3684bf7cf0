package org.flashring.device;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import org.bytedeco.javacpp.LongPointer;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;

@RequiresGpu
class DeviceTest {
    private static final Device GPU = Device.cuda(0);

    private static LongPointer numbers(int count) {
        LongPointer numbers = new LongPointer(count);
        for (int i = 0; i < count; i++) {
            numbers.put(i, 1_000_003L * i);
        }
        return numbers;
    }

    @Test
    void bytesGoThereAndBack() {
        int count = 100_001;
        try (DeviceBuffer buffer = DeviceBuffer.allocate(GPU, 8L * count);
                LongPointer sent = numbers(count);
                LongPointer back = new LongPointer(count)) {
            buffer.upload(sent);
            buffer.download(back);
            for (int i = 0; i < count; i++) {
                assertThat(back.get(i)).isEqualTo(sent.get(i));
            }
            buffer.fill(0xAB, 0);
            buffer.download(back);
            assertThat(back.get(count - 1)).isEqualTo(0xABABABABABABABABL);
        }
    }

    @Test
    void streamsAreJoinedByEvents() {
        int count = 8 << 20;
        try (DeviceBuffer first = DeviceBuffer.allocate(GPU, 8L * count);
                DeviceBuffer second = DeviceBuffer.allocate(GPU, 8L * count);
                Stream one = Stream.create(GPU);
                Stream other = Stream.create(GPU);
                Event filled = Event.create(GPU);
                LongPointer back = new LongPointer(count)) {
            second.fill(0, other.handle());
            for (int i = 0; i < 20; i++) {
                first.fill(i, one.handle());
            }
            filled.record(one.handle());
            other.await(filled);
            second.copyFromHost(first.address(), first.bytes(), other.handle()); // any address the device can read
            other.synchronize();
            assertThat(filled.isDone()).isTrue();
            second.download(back);
            assertThat(back.get(0)).isEqualTo(0x1313131313131313L);
            assertThat(back.get(count - 1)).isEqualTo(0x1313131313131313L);
        }
    }

    @Test
    void memoryFiguresFollowAllocations() {
        long bytes = 1L << 30;
        long before = Cuda.memory(GPU).free();
        assertThat(Cuda.memory(GPU).total()).isGreaterThan(before);
        try (DeviceBuffer buffer = DeviceBuffer.allocate(GPU, bytes)) {
            assertThat(before - Cuda.memory(GPU).free()).isBetween(bytes, bytes + (64L << 20));
            assertThat(buffer.address() % 256).isZero();
        }
        assertThat(Cuda.memory(GPU).free()).isGreaterThanOrEqualTo(before - (64L << 20));
    }

    @Test
    void moreThanThereIsIsAnOutOfMemoryErrorAndTheDeviceStaysUsable() {
        assertThat(org.assertj.core.api.Assertions.catchThrowable(() -> DeviceBuffer.allocate(GPU, 1L << 50)))
                .isInstanceOf(OutOfMemoryError.class)
                .hasMessageContaining("cudaErrorMemoryAllocation");
        bytesGoThereAndBack();
    }

    @Test
    void aWrappedBufferStaysItsOwners() {
        try (DeviceBuffer owner = DeviceBuffer.allocate(GPU, 64);
                LongPointer back = new LongPointer(8)) {
            owner.fill(1, 0);
            DeviceBuffer.wrap(GPU, owner.address(), 64).close();
            owner.download(back);
            assertThat(back.get(7)).isEqualTo(0x0101010101010101L);
        }
    }

    @Test
    void useAfterCloseThrows() {
        DeviceBuffer buffer = DeviceBuffer.allocate(GPU, 8);
        buffer.close();
        buffer.close();
        assertThatIllegalStateException().isThrownBy(buffer::address).withMessageContaining("closed");
        Stream stream = Stream.create(GPU);
        stream.close();
        stream.close();
        assertThatIllegalStateException().isThrownBy(stream::handle);
        Event event = Event.create(GPU);
        event.close();
        event.close();
        assertThatIllegalStateException().isThrownBy(event::handle);
    }

    @Test
    void aDeviceThatIsNotThereIsRefusedByNumber() {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> DeviceBuffer.allocate(Device.cuda(99), 8))
                .withMessageContaining("99");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> DeviceBuffer.allocate(Device.HOST, 8))
                .withMessageContaining("CUDA device");
    }
}
