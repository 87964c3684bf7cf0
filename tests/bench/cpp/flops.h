// Floating-point operations of attention, as flashring.h counts them.
#ifndef FLASHRING_BENCH_FLOPS_H
#define FLASHRING_BENCH_FLOPS_H

// `pairs` of a query and a key that it sees, over all heads and the batch; dims of queries and of values alike.
inline double forwardFlops(double pairs, double dim) { return 4 * pairs * dim; }
inline double backwardFlops(double pairs, double dim) { return 2.5 * forwardFlops(pairs, dim); }

#endif
