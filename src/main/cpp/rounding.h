// Division that rounds up. `static`, see elements.h; in the type that the operators give, in device code too.
#ifndef FLASHRING_ROUNDING_H
#define FLASHRING_ROUNDING_H

namespace flashring {

// value / unit rounded up, for value >= 0.
template <class Value, class Unit>
static constexpr auto ceilDiv(Value value, Unit unit) {
    return (value + unit - 1) / unit;
}

// The least multiple of unit that is at least value, for value >= 0.
template <class Value, class Unit>
static constexpr auto roundUp(Value value, Unit unit) {
    return ceilDiv(value, unit) * unit;
}

}  // namespace flashring

#endif
