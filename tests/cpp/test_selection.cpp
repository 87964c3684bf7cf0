// Who runs a step, by the table's own rules over kernels that are made up: the first row that serves it and takes its
// operands, the same when planned as when run; and workspace that is enough for whoever it will be. Links the table
// without the library.
#include <set>
#include <string>

#include "buffers.h"
#include "capabilities.h"
#include "failure.h"
#include "kernel_cap.h"
#include "workspace.h"

namespace {

std::set<std::string> lacking;  // names of kernels that this machine cannot run
int32_t otherDevice = -1;       // that wgmma does not run on

template <char kFirst>
bool isThere() {
    for (const std::string& name : lacking) {
        if (name[0] == kFirst) return false;
    }
    return true;
}

void nothing(const flashring::Problem&) {}

template <int kTimes>
int64_t bytesOf(const flashring_step& step, flashring_direction direction) {
    return kTimes * step.q_len + (direction == FLASHRING_BACKWARD ? step.kv_len : 0);
}

// Takes rows on 16 bytes, of dims of 8, and no state.
const char* unmet(const flashring_step& step, flashring_direction direction) {
    if (step.head_dim % 8 != 0) return "rows of q are not whole";
    if (reinterpret_cast<uintptr_t>(step.q.data) % 16 != 0) return "rows of q do not start on 16 bytes";
    return direction == FLASHRING_FORWARD && step.flags & FLASHRING_RESUME ? "it takes no state" : nullptr;
}

const char* manyRows(const flashring_step& step, flashring_direction) {
    return step.q_len > 64 ? "it takes few rows" : nullptr;
}

bool runsOn(int32_t device) { return device != otherDevice; }

}  // namespace

namespace flashring {

using ::bytesOf;
using ::isThere;
using ::nothing;

const Kernel kDecode{FLASHRING_KERNEL_DECODE, "decode", "AVX2",  isThere<'a'>, nothing, nullptr,
                     bytesOf<40>,             false,    nullptr, ::manyRows,   true};
const Kernel kAmx{FLASHRING_KERNEL_AMX, "amx", "AMX", isThere<'a'>, nothing, nothing, nullptr};
const Kernel kAvx512{FLASHRING_KERNEL_AVX512, "avx512", "AVX-512", isThere<'a'>, nothing, nothing, nullptr};
const Kernel kAvx512Bf16{FLASHRING_KERNEL_AVX512BF16, "avx512bf16", "BF16", isThere<'a'>, nothing, nothing, nullptr};
const Kernel kAvx2 =
    Kernel{FLASHRING_KERNEL_AVX2, "avx2", "AVX2", isThere<'a'>, nothing, nothing, bytesOf<3>}.serving(kAllScores);
const Kernel kSimd128{FLASHRING_KERNEL_SIMD128, "simd128", "SSE2", isThere<'s'>, nothing, nothing, bytesOf<700>};
const Kernel kReference =
    Kernel{FLASHRING_KERNEL_REFERENCE, "reference", "nothing", isThere<'r'>, nothing, nothing, nullptr,
           false,                      nullptr,     nullptr,   true}.forAnyDims();
const Kernel kCudaDecode{FLASHRING_KERNEL_DECODE, "decode", "a GPU", isThere<'d'>, nothing, nullptr,
                         bytesOf<30>,             true,     nullptr, ::manyRows,   true};
const Kernel kCudaWgmma{FLASHRING_KERNEL_WGMMA, "wgmma",     "Hopper", isThere<'w'>, nothing, nothing,
                        bytesOf<10>,            true,        ::runsOn, ::unmet};
const Kernel kCudaMma =
    Kernel{FLASHRING_KERNEL_MMA, "mma", "a GPU", isThere<'m'>, nothing, nothing, bytesOf<20>, true}
        .serving(FLASHRING_SINKS)
        .wideForward();
const Kernel kCudaReference =
    Kernel{FLASHRING_KERNEL_REFERENCE, "reference", "a GPU", isThere<'r'>, nothing, nothing, bytesOf<500>, true}
        .forAnyDims();

}  // namespace flashring

int32_t flashring_device_count(void) { return 2; }

const char* flashring_device_cause(void) { return ""; }

namespace {

flashring_step stepOf(int32_t kernel, int64_t dim = 64, int32_t device = 0, int32_t dtype = FLASHRING_BFLOAT16) {
    flashring_step step{};
    step.device = device;
    step.dtype = dtype;
    step.kernel = kernel;
    step.batch = step.q_heads = step.kv_heads = 1;
    step.q_len = 128;
    step.kv_len = 3000;
    step.head_dim = step.value_dim = dim;
    return step;
}

flashring_step at(flashring_step step, uintptr_t address) {
    step.q.data = reinterpret_cast<void*>(address);
    return step;
}

// The name of the kernel that runs, or why none does.
std::string chosen(const flashring_step& step, flashring_direction direction = FLASHRING_FORWARD) {
    try {
        return flashring::capability(flashring::select(step, direction)).kernel->name;
    } catch (const flashring::Failure& failure) {
        CHECK(failure.status == FLASHRING_UNSUPPORTED, "status %d: %s", failure.status, failure.message);
        return failure.message;
    }
}

long cases = 0;

void expect(const std::string& actual, const std::string& expected) {
    CHECK(actual == expected, "\"%s\" instead of \"%s\"", actual.c_str(), expected.c_str());
    ++cases;
}

void expectBytes(const flashring_step& step, flashring_direction direction, int64_t expected) {
    const int64_t actual = flashring::mostWorkspaceBytes(step, direction);
    CHECK(actual == expected, "%lld bytes instead of %lld", static_cast<long long>(actual),
          static_cast<long long>(expected));
    ++cases;
}

void auto_() {
    const flashring_step step = stepOf(FLASHRING_KERNEL_AUTO);
    expect(chosen(step), "wgmma");  // as planned: without addresses
    expect(chosen(at(step, 0x1000)), "wgmma");
    expect(chosen(at(step, 0x1008)), "mma");
    expect(chosen(at(step, 0x1008), FLASHRING_BACKWARD), "mma");
    expect(chosen(stepOf(FLASHRING_KERNEL_AUTO, 100)), "mma");  // the dims alone decide
    expect(chosen(stepOf(FLASHRING_KERNEL_AUTO, 64, 0, FLASHRING_FLOAT32)), "reference");
    expect(chosen(stepOf(FLASHRING_KERNEL_AUTO, 100, FLASHRING_HOST)), "amx");
    flashring_step few = step;
    few.q_len = 64;
    expect(chosen(few), "decode");  // the length alone decides, too
    expect(chosen(at(few, 0x1008)), "decode");
    expect(chosen(few, FLASHRING_BACKWARD), "wgmma");
    flashring_step host = few;
    host.device = FLASHRING_HOST;
    expect(chosen(host), "decode");
    expect(chosen(host, FLASHRING_BACKWARD), "amx");
    flashring_step resumed = step;
    resumed.flags = FLASHRING_RESUME;
    expect(chosen(resumed), "mma");
    expect(chosen(resumed, FLASHRING_BACKWARD), "wgmma");
}

// Rows of their own lengths, and pages: for the kernels that say so, forward alone.
void rows() {
    const int32_t lengths[] = {7};
    flashring_step few = stepOf(FLASHRING_KERNEL_AUTO);
    few.q_len = 64;
    few.kv_lengths = lengths;
    flashring_step many = few, paged = few, host = few;
    expect(chosen(few), "decode");
    paged.kv_lengths = nullptr;
    paged.page_size = 16;
    expect(chosen(paged), "decode");
    few.kernel = FLASHRING_KERNEL_MMA;
    expect(chosen(few), "kernel = 6 (mma): it takes neither rows of their own lengths nor pages");
    many.q_len = 65;
    expect(chosen(many), "kernel = 0 (decode): it takes few rows");  // not that those behind it take none
    many.dtype = FLASHRING_FLOAT32;
    expect(chosen(many),
           "no kernel serves kernel = 0 (any), dtype = float32, head_dim = 64, value_dim = 64, rows of their own "
           "lengths or pages, forward on CUDA");
    many.dtype = FLASHRING_BFLOAT16;
    expect(chosen(many, FLASHRING_BACKWARD),
           "kernel = 0 (reference): rows of their own lengths and pages are for forward steps");
    paged.head_dim = paged.value_dim = 320;  // which the reference serves, but not of rows
    expect(chosen(paged),
           "no kernel serves kernel = 0 (any), dtype = bfloat16, head_dim = 320, value_dim = 320, rows of their own "
           "lengths or pages, forward on CUDA");
    paged.kv_dtype = FLASHRING_KV_FLOAT8_E4M3;
    expect(chosen(paged),
           "no kernel serves kernel = 0 (any), dtype = bfloat16, head_dim = 320, value_dim = 320, a float8 cache, "
           "forward on CUDA");
    paged.page_size = 0;
    expect(chosen(paged, FLASHRING_BACKWARD), "kernel = 0 (reference): float8 caches are for forward steps");
    host.device = FLASHRING_HOST;
    expect(chosen(host), "decode");
    host.q_len = 65;
    expect(chosen(host), "reference");  // slow, and right
    expectBytes(host, FLASHRING_FORWARD, 2 * 576);  // lo and hi of the row, 520 bytes each
    host.batch = 3;
    expectBytes(host, FLASHRING_FORWARD, 2 * 1600);
}

void byName() {
    const flashring_step step = stepOf(FLASHRING_KERNEL_WGMMA);
    expect(chosen(step), "wgmma");
    expect(chosen(at(step, 0x1008)), "kernel = 7 (wgmma): rows of q do not start on 16 bytes");
    const flashring_step broken = stepOf(FLASHRING_KERNEL_WGMMA, 100);
    expect(chosen(broken, FLASHRING_BACKWARD), "kernel = 7 (wgmma): rows of q are not whole");
    expect(chosen(at(stepOf(FLASHRING_KERNEL_MMA), 0x1008)), "mma");
    otherDevice = 1;
    expect(chosen(stepOf(FLASHRING_KERNEL_WGMMA, 64, 1)), "kernel = 7 (wgmma): device = 1 lacks Hopper");
    expect(chosen(stepOf(FLASHRING_KERNEL_AUTO, 64, 1)), "mma");
    expect(chosen(stepOf(FLASHRING_KERNEL_AUTO, 64, 2)), "device = 2: there is no CUDA device of this number");
    otherDevice = -1;
    lacking = {"wgmma"};
    expect(chosen(step), "kernel = 7 (wgmma): this machine lacks Hopper");
    expect(chosen(stepOf(FLASHRING_KERNEL_AUTO)), "mma");
    lacking = {"mma", "reference"};
    expect(chosen(at(stepOf(FLASHRING_KERNEL_AUTO), 0x1008)), "kernel = 0 (wgmma): rows of q do not start on 16 bytes");
    lacking.clear();
}

// Dims beyond those of every kernel, and pairs that forward alone takes.
void wideHeads() {
    flashring_step step = stepOf(FLASHRING_KERNEL_AUTO, 512);
    expect(chosen(step), "mma");
    expectBytes(step, FLASHRING_FORWARD, 20 * 128);
    expect(chosen(step, FLASHRING_BACKWARD), "reference");
    expectBytes(step, FLASHRING_BACKWARD, 500 * 128 + 3000);
    step.head_dim = 576;  // of latent attention
    expect(chosen(step), "reference");
    expect(chosen(step, FLASHRING_BACKWARD),
           "head_dim = 576, value_dim = 512: kernels serve up to 512, and forward 576, 512");
    step.value_dim = 64;
    expect(chosen(step), "head_dim = 576, value_dim = 64: kernels serve up to 512, and forward 576, 512");
    step = stepOf(FLASHRING_KERNEL_MMA, 257);
    expect(chosen(step, FLASHRING_BACKWARD),
           "no kernel serves kernel = 6 (mma), dtype = bfloat16, head_dim = 257, value_dim = 257, backward on CUDA");
}

// Enough for those that may run, and nothing for those that cannot.
void workspace() {
    const flashring_step step = stepOf(FLASHRING_KERNEL_AUTO);
    expectBytes(step, FLASHRING_FORWARD, 20 * 128);
    expectBytes(step, FLASHRING_BACKWARD, 20 * 128 + 3000);
    expectBytes(at(step, 0x1000), FLASHRING_FORWARD, 20 * 128);
    expectBytes(at(step, 0x1008), FLASHRING_FORWARD, 20 * 128);
    expectBytes(stepOf(FLASHRING_KERNEL_WGMMA), FLASHRING_FORWARD, 10 * 128);
    expectBytes(stepOf(FLASHRING_KERNEL_MMA), FLASHRING_FORWARD, 20 * 128);
    expectBytes(stepOf(FLASHRING_KERNEL_AUTO, 64, 0, FLASHRING_FLOAT32), FLASHRING_FORWARD, 500 * 128);
    flashring_step few = step;
    few.q_len = 64;
    expectBytes(few, FLASHRING_FORWARD, 30 * 64);
    expectBytes(few, FLASHRING_BACKWARD, 20 * 64 + 3000);
    lacking = {"mma"};
    expectBytes(step, FLASHRING_FORWARD, 500 * 128);  // behind wgmma, which takes some steps alone, comes the reference
    expectBytes(stepOf(FLASHRING_KERNEL_AUTO, 100), FLASHRING_FORWARD, 500 * 128);
    lacking = {"wgmma"};
    expectBytes(step, FLASHRING_FORWARD, 20 * 128);
    lacking.clear();
    otherDevice = 0;  // the step may be planned on one device and run on another
    expectBytes(step, FLASHRING_FORWARD, 20 * 128);
    otherDevice = -1;
    lacking = {"amx"};
    const flashring_step host = stepOf(FLASHRING_KERNEL_AUTO, 64, FLASHRING_HOST);
    expectBytes(host, FLASHRING_FORWARD, 2 * 128 * 8 + 700 * 128);
    lacking.clear();
    expectBytes(host, FLASHRING_FORWARD, 2 * 128 * 8);
    flashring::capKernels("mma", "a test");
    expect(chosen(step), "mma");
    expect(chosen(stepOf(FLASHRING_KERNEL_WGMMA)), "kernel = 7 (wgmma): ruled out by a test = mma");
    flashring::capKernels("", "a test");
}

// Kernels that do not serve a score are passed over; sinks are forward's alone. A head of one number each.
void scores() {
    const double heads[1] = {};
    flashring_step host = stepOf(FLASHRING_KERNEL_AUTO, 64, FLASHRING_HOST);
    host.alibi_slopes = heads;
    expect(chosen(host), "avx2");
    expectBytes(host, FLASHRING_FORWARD, 2 * 128 * 8 + (128 + 3000) * 8 + 3 * 128);
    host.kernel = FLASHRING_KERNEL_AMX;
    expect(chosen(host),
           "no kernel serves kernel = 5 (amx), dtype = bfloat16, head_dim = 64, value_dim = 64, alibi_slopes, forward "
           "on the host");
    flashring_step step = stepOf(FLASHRING_KERNEL_AUTO);
    step.sinks = heads;
    expect(chosen(step), "mma");
    expect(chosen(step, FLASHRING_BACKWARD), "wgmma");
    expectBytes(step, FLASHRING_FORWARD, 20 * 128);
    flashring_step later = step;
    later.flags = FLASHRING_RESUME;  // from there on sinks are part of the state
    later.kernel = FLASHRING_KERNEL_REFERENCE;
    expect(chosen(later), "reference");
    later.flags = 0;
    expect(chosen(later),
           "no kernel serves kernel = 1 (reference), dtype = bfloat16, head_dim = 64, value_dim = 64, sinks, forward "
           "on CUDA");
    flashring_step few = step;
    few.q_len = 64;
    expect(chosen(few), "mma");
    few.flags = FLASHRING_RESUME;
    expect(chosen(few), "decode");
    few.flags = 0;
    expectBytes(few, FLASHRING_FORWARD, 30 * 64);  // enough for the steps that follow
    step.softcap = 30;
    expect(chosen(step),
           "no kernel serves kernel = 0 (any), dtype = bfloat16, head_dim = 64, value_dim = 64, softcap, sinks, "
           "forward on CUDA");
    step.kernel = FLASHRING_KERNEL_WGMMA;
    expect(chosen(step, FLASHRING_BACKWARD),
           "no kernel serves kernel = 7 (wgmma), dtype = bfloat16, head_dim = 64, value_dim = 64, softcap, backward on "
           "CUDA");
}

}  // namespace

int main() {
    auto_();
    scores();
    byName();
    rows();
    wideHeads();
    workspace();
    return finish("selection", cases);
}
