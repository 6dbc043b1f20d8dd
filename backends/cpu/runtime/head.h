#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#ifndef REAL
#define REAL float
#endif

namespace {

using real = REAL;
[[maybe_unused]] constexpr real INFINITE = std::numeric_limits<real>::infinity();
[[maybe_unused]] constexpr real NOT_A_NUMBER = std::numeric_limits<real>::quiet_NaN();
