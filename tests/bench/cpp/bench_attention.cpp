// Times the kernels without a JVM: bench_attention [kernels] [dtypes] [threads] [seconds per row] [bshd|bhsd], names as
// the library prints them, several with commas between them, "all" for any; 0 threads for the library's own number. B1
// H8 S4096, head dims 64 and 128, full and causal; the best of the runs that fit in the time, by the clock and by the
// CPU time of all threads together, which tells more on a busy machine.
#include <chrono>
#include <ctime>
#include <string>

#include "attention_case.h"
#include "flops.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Seconds {
    double wall = INFINITY, cpu = INFINITY;
};

template <class Body>
Seconds best(double budget, const Body& body) {
    body();
    Seconds least;
    const auto end = Clock::now() + std::chrono::duration<double>(budget);
    do {
        const std::clock_t cpu = std::clock();
        const auto start = Clock::now();
        body();
        least.wall = std::min(least.wall, std::chrono::duration<double>(Clock::now() - start).count());
        least.cpu = std::min(least.cpu, static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC);
    } while (Clock::now() < end);
    return least;
}

void require(int32_t status) {
    if (status != FLASHRING_OK) {
        std::fprintf(stderr, "%s\n", flashring_last_error());
        std::exit(1);
    }
}

void bench(const flashring_capability& row, int64_t dim, bool causal, double budget, Order order) {
    Case c;
    c.dtype = row.dtype;
    c.shape = {1, 4096, 4096, 8, 8, dim, dim};
    c.order = order;
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
    c.qRanges = c.kvRanges = {{0, 4096, 1}};
    c.mask.right = causal ? 0 : -1;
    std::mt19937_64 random(1);
    c.draw(random);
    Results r(c);
    Step step(c, r, row.kernel, 0, c.shape.kvLen);
    const Seconds forward = best(budget, [&] { require(step.forward(FLASHRING_FINISH)); });
    require(step.delta());
    const Seconds backward = best(budget, [&] { require(step.backward(0)); });
    const double pairs = 8 * (causal ? 4096.0 * 4097 / 2 : 4096.0 * 4096), width = static_cast<double>(dim);
    const double forwardWork = 1e-9 * forwardFlops(pairs, width), backwardWork = 1e-9 * backwardFlops(pairs, width);
    std::printf("%-10s %-9s D%-4lld %-7s", row.name, nameOf(row.dtype), static_cast<long long>(dim),
                causal ? "causal" : "full");
    std::printf("  forward %8.2f ms %7.1f GFLOP/s %7.1f per CPU", forward.wall * 1e3, forwardWork / forward.wall,
                forwardWork / forward.cpu);
    std::printf("  backward %8.2f ms %7.1f GFLOP/s %7.1f per CPU\n", backward.wall * 1e3, backwardWork / backward.wall,
                backwardWork / backward.cpu);
    std::fflush(stdout);
}

// Whether a list with commas between its names has this one.
bool has(const std::string& names, const std::string& name) {
    return ("," + names + ",").find("," + name + ",") != std::string::npos;
}

}  // namespace

int main(int count, char** arguments) {
    const auto argument = [&](int i, const char* otherwise) {
        return std::string(i < count ? arguments[i] : otherwise);
    };
    const std::string kernels = argument(1, "all"), dtypes = argument(2, "float32");
    if (std::atoi(argument(3, "0").c_str()) != 0) {
        require(flashring_set_threads(std::atoi(arguments[3])));
    }
    const double budget = std::atof(argument(4, "1").c_str());
    const Order order = argument(5, "bshd") == "bhsd" ? Order::BHSD : Order::BSHD;
    std::printf("%d threads\n", flashring_threads());
    for (int32_t i = 0; i < flashring_capability_count(); ++i) {
        flashring_capability row{};
        row.size = sizeof row;
        require(flashring_capability_get(i, &row));
        const bool wanted = (kernels == "all" && row.kernel != FLASHRING_KERNEL_REFERENCE) || has(kernels, row.name);
        if (!row.available || row.cuda || !wanted || (dtypes != "all" && !has(dtypes, nameOf(row.dtype)))) {
            continue;
        }
        for (const int64_t dim : {64, 128}) {
            for (const bool causal : {false, true}) {
                bench(row, dim, causal, budget, order);
            }
        }
    }
    return 0;
}
