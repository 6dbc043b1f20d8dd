// How far the elementary functions in single precision are from the exact result, in units of its last place, at every
// STRIDE-th of all numbers; prints a line a function.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>

namespace math {

#include FUNCTIONS

}  // namespace math

constexpr float BIG = std::numeric_limits<float>::infinity();

double units_apart(float found, double exact) {
    if (exact != exact) return found != found ? 0 : BIG;
    const float nearest = std::fabs(static_cast<float>(exact));
    if (nearest == BIG) return std::fabs(found) == BIG ? 0 : std::fabs(found - exact) / std::ldexp(1.0, 104);
    const float next = std::nextafter(nearest, BIG);
    return std::fabs(found - exact) / (next == BIG ? std::ldexp(1.0, 104) : double(next) - nearest);
}

template <class Found, class Exact>
void measure(const char* name, Found found, Exact exact) {
    double most = 0;
    float where = 0;
    for (std::uint64_t bits = 0; bits < std::uint64_t(1) << 32; bits += STRIDE) {
        const std::uint32_t low = static_cast<std::uint32_t>(bits);
        float x;
        std::memcpy(&x, &low, sizeof x);
        const double apart = units_apart(found(x), exact(static_cast<double>(x)));
        if (!(apart <= most)) {
            most = apart;
            where = x;
        }
    }
    std::printf("%s %.3f %.9g\n", name, most, where);
}

double softplus(double x) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x))); }

int main() {
#define ROW(name, exact) \
    measure(#name, [](float x) { return math::name(x); }, [](double x) -> double { return exact; })
    ROW(exp, std::exp(x));
    ROW(expm1, std::expm1(x));
    ROW(log, std::log(x));
    ROW(log1p, std::log1p(x));
    ROW(erf, std::erf(x));
    ROW(tanh, std::tanh(x));
    ROW(sigmoid, 1 / (1 + std::exp(-x)));
    ROW(softplus, x != x ? x : softplus(x));
    ROW(log_sigmoid, x != x ? x : -softplus(-x));
}
