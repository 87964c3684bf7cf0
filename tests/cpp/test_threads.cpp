// The number of workers: what the environment may ask for, and who decides. Each question is asked in a process of its
// own, because the first answer lasts.
#include <sys/wait.h>
#include <unistd.h>

#include "attention_case.h"

namespace {

long cases = 0;

template <class Body>
void inChild(const char* what, const char* environment, const Body& holds) {
    const pid_t child = fork();
    if (child == 0) {
        environment ? setenv("FLASHRING_THREADS", environment, 1) : unsetenv("FLASHRING_THREADS");
        _exit(holds() ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: does not hold with FLASHRING_THREADS = %s", what,
          environment ? environment : "(not set)");
    ++cases;
}

bool says(const std::string& sentence) {
    if (sentence == flashring_last_error()) return true;
    std::fprintf(stderr, "message: %s\n", flashring_last_error());
    return false;
}

Case small() {
    Case c;
    c.shape = {1, 5, 5, 1, 1, 4, 4};
    c.qRanges = c.kvRanges = {{0, 5, 1}};
    std::mt19937_64 random(1);
    c.draw(random);
    return c;
}

}  // namespace

int main() {
    for (const char* bad :
         {"abc", "0", "-1", "99999999", "1025", "4 ", " 4", "+4", "4x", "2.5", "99999999999999999999"}) {
        const std::string sentence =
            std::string("FLASHRING_THREADS = ") + bad + " must be a whole number from 1 to 1024";
        inChild("refused", bad, [&] { return flashring_threads() == 0 && says(sentence); });
        inChild("refused by a step", bad, [&] {
            Case c = small();
            Results r(c);
            Step step(c, r, FLASHRING_KERNEL_AUTO, 0, 5);
            return step.forward(FLASHRING_FINISH) == FLASHRING_INVALID_ARGUMENT && says(sentence);
        });
        inChild("refused when planned", bad, [&] {
            Case c = small();
            Results r(c);
            Step step(c, r, FLASHRING_KERNEL_AUTO, 0, 5);
            int32_t row = 0;
            return flashring_select(&step.raw, FLASHRING_FORWARD, &row) == FLASHRING_INVALID_ARGUMENT && says(sentence);
        });
        inChild("a program's own number serves", bad,
                [&] { return flashring_set_threads(2) == FLASHRING_OK && flashring_threads() == 2; });
    }
    inChild("taken", "7", [] { return flashring_threads() == 7; });
    inChild("taken", "1024", [] { return flashring_threads() == 1024; });
    inChild("empty is not set", "", [] { return flashring_threads() >= 1; });
    inChild("the program's default yields to the environment", "7",
            [] { return flashring_default_threads(3) == FLASHRING_OK && flashring_threads() == 7; });
    inChild("the program's default", nullptr,
            [] { return flashring_default_threads(3) == FLASHRING_OK && flashring_threads() == 3; });
    inChild("the program's default comes too late", nullptr, [] {
        const int32_t before = flashring_threads();
        return flashring_default_threads(before + 1) == FLASHRING_OK && flashring_threads() == before;
    });
    inChild("set, then defaulted", nullptr, [] {
        return flashring_set_threads(5) == FLASHRING_OK && flashring_default_threads(3) == FLASHRING_OK &&
               flashring_threads() == 5;
    });
    for (const int32_t bad : {0, -1, 1025, INT32_MAX}) {
        const std::string sentence = "threads = " + std::to_string(bad) + " must be from 1 to 1024";
        inChild("set", nullptr,
                [&] { return flashring_set_threads(bad) == FLASHRING_INVALID_ARGUMENT && says(sentence); });
        inChild("default", nullptr,
                [&] { return flashring_default_threads(bad) == FLASHRING_INVALID_ARGUMENT && says(sentence); });
    }
    return finish("threads", cases);
}
