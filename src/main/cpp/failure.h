// How a rule that is broken leaves the library: thrown inside, turned into a status and a message by abi.cpp.
#ifndef FLASHRING_FAILURE_H
#define FLASHRING_FAILURE_H

#include <cstdarg>
#include <cstdio>

#include "flashring.h"

namespace flashring {

struct Failure {
    flashring_status status;
    char message[400];
};

[[noreturn]] __attribute__((format(printf, 2, 3))) inline void fail(flashring_status status, const char* format, ...) {
    Failure failure{status, {}};
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(failure.message, sizeof failure.message, format, arguments);
    va_end(arguments);
    throw failure;
}

}  // namespace flashring

#endif
